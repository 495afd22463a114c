/** The programs under test, each in a process of its own: the floor, and the daemon as a user starts it. */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { connectControl, type Control } from "./control.ts";

const FLOOR = join(import.meta.dirname, "floor/floor.ts");
export const MAIN = join(import.meta.dirname, "../src/main.ts");
const FUNCTIONS = join(import.meta.dirname, "functions");

export interface Floor extends AsyncDisposable {
	readonly socketPath: string;
}

export interface Daemon extends AsyncDisposable {
	readonly process: ChildProcess;
	readonly pid: number;
	readonly socketPath: string;
	readonly http: { readonly host: string; readonly port: number };
	readonly control: Control;
	/** From spawn to the ready line. */
	readonly bootMs: number;
	/** Builds and deploys bench/functions/{file}.ts under `name`. */
	deploy(file: "echo" | "wait", name: string, overrides?: Record<string, unknown>): Promise<void>;
	kill(): Promise<void>;
}

/** None of them outlives this process, however it ends. */
const children = new Set<ChildProcess>();
process.once("exit", () => {
	for (const child of children) child.kill("SIGKILL");
});

function tracked(child: ChildProcess): void {
	children.add(child);
	child.once("exit", () => children.delete(child));
}

export async function startFloor(folder: string, bunPath: string): Promise<Floor> {
	const socketPath = join(folder, "floor.sock");
	const child = spawn(process.execPath, [FLOOR, join(folder, "floor.db"), socketPath, bunPath], {
		stdio: ["ignore", "pipe", "inherit"],
	});
	tracked(child);
	await firstLine(child, (line) => line === "ready");
	return { socketPath, [Symbol.asyncDispose]: () => end(child, "SIGTERM") };
}

/**
 * `program` stands in for `src/main.ts serve`; it takes the same flags and logs the same ready line. `main` is another
 * main file, e.g. the compiled one.
 */
export async function startDaemon(
	dataDir: string,
	options: {
		readonly main?: string;
		readonly program?: string;
		readonly ipc?: boolean;
		/** Beside those of this process. */
		readonly env?: Readonly<Record<string, string>>;
		/** A command that runs it, e.g. strace; it must become the daemon itself. */
		readonly under?: readonly string[];
	} = {},
): Promise<Daemon> {
	const socketPath = `${dataDir}.sock`;
	const program = options.program === undefined ? [options.main ?? MAIN, "serve"] : [options.program];
	const from = performance.now();
	const flags = ["--data-dir", dataDir, "--socket", socketPath, "--http-port", "0"];
	const [command = "", ...args] = [...(options.under ?? []), process.execPath, ...program, ...flags];
	const child = spawn(command, args, {
		stdio: ["ignore", "ignore", "pipe", ...(options.ipc === true ? (["ipc"] as const) : [])],
		env: { ...process.env, ...options.env },
	});
	tracked(child);
	const ready = await firstLine(child, (line) => line.includes('"msg":"ready"'));
	const bootMs = performance.now() - from;
	const http = new URL((JSON.parse(ready) as { http: string }).http);
	const control = await connectControl(socketPath);
	const daemon: Daemon = {
		process: child,
		pid: child.pid ?? 0,
		socketPath,
		http: { host: http.hostname, port: Number(http.port) },
		control,
		bootMs,
		async deploy(file, name, overrides) {
			await control.call("functions.register", { name });
			if (overrides !== undefined) await control.call("functions.configure", { function: name, overrides });
			await control.call("functions.deploy", { function: name, path: join(FUNCTIONS, `${file}.ts`) });
		},
		async kill() {
			control.close();
			await end(child, "SIGKILL");
		},
		async [Symbol.asyncDispose]() {
			control.close();
			await end(child, "SIGTERM");
		},
	};
	return daemon;
}

/** Resolves with the line that `wanted` picks; rejects with everything that was written where the process ends before. */
async function firstLine(child: ChildProcess, wanted: (line: string) => boolean): Promise<string> {
	const stream = child.stdout ?? child.stderr;
	if (stream === null) throw new Error("nothing to read from the process");
	const lines: string[] = [];
	const { promise, resolve, reject } = Promise.withResolvers<string>();
	// Kept open afterwards: a daemon must not stop at a full pipe.
	createInterface({ input: stream }).on("line", (line) => {
		if (wanted(line)) resolve(line);
		else if (lines.length < 100) lines.push(line);
	});
	child.once("error", reject);
	child.once("exit", (code, signal) =>
		reject(new Error(`the process ended with ${code ?? signal} before it was ready:\n${lines.join("\n")}`)),
	);
	return promise;
}

async function end(child: ChildProcess, signal: "SIGTERM" | "SIGKILL"): Promise<void> {
	if (child.exitCode !== null || child.signalCode !== null) return;
	const gone = once(child, "exit");
	child.kill(signal);
	await gone;
}

/** Resident memory in MB. Linux only, where the figures are taken; NaN elsewhere. */
export function residentMb(pid: number): number {
	try {
		const kb = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
		return Number(kb) / 1024;
	} catch {
		return Number.NaN;
	}
}
