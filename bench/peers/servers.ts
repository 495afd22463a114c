/** The servers that peers need, each for one run: data on the measured disk, unix sockets in its folder. */
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";

export interface Server {
	end(): Promise<void>;
}

interface ServerOptions {
	readonly env?: Readonly<Record<string, string>>;
	/** Who it runs as. */
	readonly uid?: number;
	readonly gid?: number;
	/** Default SIGTERM. */
	readonly signal?: "SIGTERM" | "SIGINT";
}

const USER = "bench";
const END_MS_MAX = 5_000;

/** Resolves when a line is written that `ready` knows. The server stays in this process's group, which is killed as one. */
export async function startServer(
	command: string,
	args: readonly string[],
	ready: RegExp,
	options: ServerOptions = {},
): Promise<Server> {
	const { env, uid, gid, signal = "SIGTERM" } = options;
	const child = spawn(command, args, {
		stdio: ["ignore", "pipe", "pipe"],
		env: { ...process.env, ...env },
		...(uid === undefined ? {} : { uid }),
		...(gid === undefined ? {} : { gid }),
	});
	const { promise, resolve, reject } = Promise.withResolvers<undefined>();
	const lines: string[] = [];
	for (const input of [child.stdout, child.stderr]) {
		// Read to the end: a server must not stop at a full pipe.
		createInterface({ input }).on("line", (line) => {
			if (ready.test(line)) resolve(undefined);
			else if (lines.length < 40) lines.push(line);
		});
	}
	child.once("error", (error) => reject(new Error(`${command} cannot be started: ${error.message}`)));
	child.once("exit", (code, killed) =>
		reject(new Error(`${command} ended with ${code ?? killed}: ${lines.join(" | ")}`)),
	);
	await promise;
	return { end: () => end(child, signal) };
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
	if (child.exitCode !== null || child.signalCode !== null) return;
	const gone = once(child, "exit");
	child.kill(signal);
	const timer = setTimeout(() => child.kill("SIGKILL"), END_MS_MAX);
	await gone;
	clearTimeout(timer);
}

export function redisSocket(folder: string): string {
	return join(folder, "redis.sock");
}

export function startRedis(folder: string, appendfsync: string): Promise<Server> {
	const settings = {
		"--port": "0",
		"--unixsocket": redisSocket(folder),
		"--dir": folder,
		"--save": "",
		"--appendonly": "yes",
		"--appendfsync": appendfsync,
		// What BullMQ requires.
		"--maxmemory-policy": "noeviction",
	};
	return startServer("redis-server", Object.entries(settings).flat(), /ready to accept connections/i);
}

export function postgresConnection(folder: string): { host: string; user: string; database: string } {
	return { host: folder, user: USER, database: "postgres" };
}

/** With PostgreSQL's defaults (fsync and synchronous_commit on), apart from where it listens. Never runs as root. */
export async function startPostgres(folder: string): Promise<Server> {
	const bin = postgresFolder();
	const data = join(folder, "postgres");
	mkdirSync(data, { mode: 0o700 });
	const owner = process.getuid?.() === 0 ? postgresUser() : {};
	if (owner.uid !== undefined && owner.gid !== undefined) {
		chownSync(data, owner.uid, owner.gid);
		// Its socket is made here; the run's folder above is closed to others otherwise.
		chownSync(folder, owner.uid, owner.gid);
		chmodSync(dirname(folder), 0o711);
	}
	execFileSync(join(bin, "initdb"), ["-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"], {
		stdio: ["ignore", "ignore", "pipe"],
		cwd: folder,
		...owner,
	});
	const args = ["-D", data, "-c", "listen_addresses=", "-c", `unix_socket_directories=${folder}`];
	// SIGINT is its fast shutdown: connections are closed, not waited for.
	return startServer(join(bin, "postgres"), args, /ready to accept connections/, { ...owner, signal: "SIGINT" });
}

/** Debian keeps the server's programs out of PATH, one folder per version. */
export function postgresFolder(): string {
	const versions = "/usr/lib/postgresql";
	const found = existsSync(versions)
		? readdirSync(versions)
				.sort((a, b) => Number(b) - Number(a))
				.map((version) => join(versions, version, "bin"))
		: [];
	const folder = [...found, ...(process.env["PATH"] ?? "").split(":")].find((path) => existsSync(join(path, "initdb")));
	if (folder === undefined) throw new Error("PostgreSQL is not installed: there is no initdb");
	return folder;
}

function postgresUser(): { readonly uid?: number; readonly gid?: number } {
	const id = (flag: string): number => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
	return { uid: id("-u"), gid: id("-g") };
}
