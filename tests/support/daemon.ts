/** A real daemon in its own process, as a user starts it, with what a test needs to talk to it and to kill it. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { createClient, type Client } from "../../src/sources/client.ts";

const MAIN = join(import.meta.dirname, "../../src/main.ts");

/** Disposed, it is killed if it still runs: a test that fails half way leaves no daemon. */
export interface Daemon extends AsyncDisposable {
	readonly process: ChildProcess;
	readonly pid: number;
	readonly client: Client;
	readonly socketPath: string;
	readonly httpUrl: string;
	/** Everything it logged, a JSON line each. */
	readonly lines: string[];
	/** kill -9; resolves when the process is gone. */
	kill(): Promise<void>;
	/** SIGTERM; resolves with the exit code. */
	stop(): Promise<number | null>;
}

export interface DaemonOptions {
	readonly socketPath?: string;
	readonly args?: readonly string[];
	/** Another program than src/main.ts serve, e.g. one whose probe ends it; gets the same flags. */
	readonly program?: string;
	readonly env?: Readonly<Record<string, string>>;
	/** A command that starts it, e.g. `prlimit --nofile=100`. It must become the daemon (exec), or pass signals on. */
	readonly under?: readonly string[];
}

/** Starts it and waits for its ready line. Rejects with what it wrote if it exits before. */
export async function startDaemon(dataDir: string, options: DaemonOptions = {}): Promise<Daemon> {
	const socketPath = options.socketPath ?? `${dataDir}.sock`;
	const program = options.program === undefined ? [MAIN, "serve"] : [options.program];
	const flags = ["--data-dir", dataDir, "--socket", socketPath, "--http-port", "0", ...(options.args ?? [])];
	const [command = process.execPath, ...args] = [...(options.under ?? []), process.execPath, ...program, ...flags];
	const child = spawn(command, args, {
		stdio: ["ignore", "ignore", "pipe"],
		env: { ...process.env, ...options.env },
	});
	// A test process that ends half way leaves no daemon.
	const killed = (): void => void child.kill("SIGKILL");
	process.once("exit", killed);
	child.once("exit", () => process.off("exit", killed));
	const lines: string[] = [];
	const ready = new Promise<{ http: string }>((resolve, reject) => {
		createInterface({ input: child.stderr }).on("line", (line) => {
			lines.push(line);
			const entry = parse(line);
			if (entry["msg"] === "ready") resolve({ http: String(entry["http"]) });
		});
		child.once("exit", (code, signal) =>
			reject(new Error(`the daemon exited with ${code ?? signal}:\n${lines.join("\n")}`)),
		);
	});
	const { http } = await ready;
	const client = createClient(socketPath);
	const gone = once(child, "exit");
	gone.catch(() => undefined);
	return {
		process: child,
		pid: child.pid ?? 0,
		client,
		socketPath,
		httpUrl: http,
		lines,
		async kill() {
			client.close();
			child.kill("SIGKILL");
			await gone;
		},
		async stop() {
			client.close();
			child.kill("SIGTERM");
			await gone;
			return child.exitCode;
		},
		async [Symbol.asyncDispose]() {
			client.close();
			if (child.exitCode !== null || child.signalCode !== null) return;
			child.kill("SIGKILL");
			await gone;
		},
	};
}

function parse(line: string): Record<string, unknown> {
	try {
		return JSON.parse(line) as Record<string, unknown>;
	} catch {
		return {};
	}
}
