/**
 * The only file that starts and kills processes: Bun workers with their channel, and `bun` run once for a build.
 *
 *   P3  every spawned process is awaited to exit, also when its start fails
 *
 * A worker is its own process group, so that SIGKILL takes its children too; `--no-orphans` makes it die with the
 * daemon. It is told to be gone only after the exit and the end of all its pipes were seen: the exit event may come
 * before the last bytes of an answer.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rm, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Duplex, Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import type { Clock, Timer } from "../core/environment.ts";
import { ALLOCATOR_VARIABLES } from "../protocol/index.ts";
import { createMemoryReader } from "./memory.ts";

/** How long pipes may stay open after the exit: something that the worker started holds them. */
const PIPES_AFTER_EXIT_MS = 1_000;
const RUN_OUTPUT_BYTES_MAX = 1024 * 1024;
/** How often a `bun` that runs once is weighed: one that imports a huge file grows by about 1 GB a second. */
const MEMORY_LOOK_MS = 100;
/**
 * How long a pipe rests after so many bytes of chunks of which nothing was kept: at most 64 MB/s are read. Without a rest it was
 * up to 0.9 GB/s, which left up to 145 MB of garbage that was not collected yet. Counted in bytes, because a chunk may have one.
 */
const FLOOD_REST_MS = 1;
const FLOOD_BYTES = 65_536;
/** Of the daemon's own environment only these pass on. */
const INHERITED = ["PATH", "HOME", "TZ", "LANG"] as const;
/** Of −1000 to 1000; more is ended sooner. */
const OOM_SCORE_ADJ = "900";
/** Names the instance in the environment of its workers, so that a later daemon finds orphans. */
export const WORKER_MARKER = "BUNBASE_WORKER_OF";
/** How the names of workers' working folders begin. */
export const WORKER_FOLDER = "worker-";

const readMemory = createMemoryReader();

export type HostVariables = Readonly<Record<string, string | undefined>>;

export interface Exit {
	readonly code: number | null;
	readonly signal: string | null;
	/** Set where the process could not be started at all. */
	readonly error?: string;
}

/** A started process as the pool sees it; tests fake it. */
export interface WorkerProcess {
	readonly pid: number | undefined;
	/** One write, in order. Bytes to a process that is gone are dropped. */
	send(chunks: readonly Uint8Array[]): void;
	/** SIGKILL for the whole group. */
	kill(): void;
}

export interface WorkerProcessEvents {
	/** Bytes of the channel. */
	data(chunk: Uint8Array): void;
	/** Returns false where nothing of it was kept: a pipe with much of that rests at times. */
	output(stream: "stdout" | "stderr", chunk: Uint8Array): boolean;
	/** The channel closed; the process may still live. */
	channelClosed(): void;
	/** Once, last: it has exited and its pipes are read to their ends. */
	gone(exit: Exit): void;
}

export interface WorkerLaunch {
	readonly env: Readonly<Record<string, string>>;
}

export type SpawnWorker = (launch: WorkerLaunch, events: WorkerProcessEvents) => WorkerProcess;

export interface SpawnerOptions {
	readonly bunPath: string;
	readonly instanceId: string;
	/** Each worker gets its own folder in here as its working directory, removed when it is gone. Must exist. */
	readonly tempDir: string;
	readonly hostVariables: HostVariables;
	readonly clock: Clock;
}

/** The runtime program has the extension of the running file: `.ts` from source, `.js` from dist. */
export function runtimePath(): string {
	const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
	return fileURLToPath(new URL(`../runtime/main${extension}`, import.meta.url));
}

function inherited(hostVariables: HostVariables): Record<string, string> {
	const env: Record<string, string> = {};
	for (const name of INHERITED) {
		const value = hostVariables[name];
		if (value !== undefined) env[name] = value;
	}
	return env;
}

function killGroup(child: ChildProcess): void {
	if (child.pid === undefined) return;
	try {
		process.kill(-child.pid, "SIGKILL");
	} catch {
		// Already gone, or not yet a group of its own: the plain kill is for the second case.
		child.kill("SIGKILL");
	}
}

/**
 * When the machine, or a cgroup, is out of memory, the kernel ends a worker and not the daemon, also where the daemon
 * is larger. Anybody may raise this for his own children; it is the child's from its first instruction on (20 µs).
 */
function offerToOomKiller(pid: number): void {
	try {
		writeFileSync(`/proc/${pid}/oom_score_adj`, OOM_SCORE_ADJ);
	} catch {
		// Not on Linux, or the process has ended already.
	}
}

/**
 * Out of descriptors, Node makes no pipes: `stdio` is not there at all, and an "error" comes with the next tick. Whoever
 * does not listen to it by then ends the whole process.
 */
function hasNoPipes(child: { readonly stdio: unknown }): boolean {
	return child.stdio === undefined;
}

export function createSpawner(options: SpawnerOptions): SpawnWorker {
	const program = runtimePath();
	const base = inherited(options.hostVariables);
	return (launch, events) => {
		const cwd = mkdtempSync(join(options.tempDir, WORKER_FOLDER));
		const child = spawn(options.bunPath, ["--no-orphans", "--no-install", "--no-env-file", program], {
			cwd,
			detached: true,
			stdio: ["ignore", "pipe", "pipe", "pipe"],
			env: { ...base, ...ALLOCATOR_VARIABLES, ...launch.env, [WORKER_MARKER]: options.instanceId },
		});
		if (child.pid !== undefined) offerToOomKiller(child.pid);
		if (hasNoPipes(child)) {
			child.once("error", ({ message }) => {
				rm(cwd, { recursive: true, force: true }, () => undefined);
				events.gone({ code: null, signal: null, error: message });
			});
			return { pid: undefined, send: () => undefined, kill: () => undefined };
		}
		const channel = child.stdio[3] as Duplex;
		const [stdout, stderr] = [child.stdout as Readable, child.stderr as Readable];
		let failure: string | undefined;
		let lingering: Timer | undefined;
		let over = false;
		let exited = false;

		const finish = (code: number | null, signal: string | null): void => {
			if (over) return;
			over = true;
			lingering?.cancel();
			rm(cwd, { recursive: true, force: true }, () => undefined);
			events.gone(failure === undefined ? { code, signal } : { code, signal, error: failure });
		};
		channel.on("data", (chunk: Uint8Array) => events.data(chunk));
		channel.on("close", () => events.channelClosed());
		for (const [name, stream] of [
			["stdout", stdout],
			["stderr", stderr],
		] as const) {
			let unkept = 0;
			stream.on("data", (chunk: Uint8Array) => {
				// What is left after the exit is little, and its end is waited for.
				if (events.output(name, chunk) || exited) return;
				unkept += chunk.byteLength;
				if (unkept < FLOOD_BYTES) return;
				unkept = 0;
				stream.pause();
				options.clock.setTimer(FLOOD_REST_MS, () => stream.resume());
			});
		}
		// A broken pipe is seen as the exit or the close that caused it.
		for (const stream of [channel, stdout, stderr]) stream.on("error", () => undefined);
		child.on("error", (error) => {
			failure = error.message;
			if (child.pid === undefined) finish(null, null);
		});
		child.on("exit", () => {
			exited = true;
			// What it started in its group goes with it, and cannot hold the pipes open.
			killGroup(child);
			lingering = options.clock.setTimer(PIPES_AFTER_EXIT_MS, () => {
				for (const stream of [channel, stdout, stderr]) stream.destroy();
			});
		});
		child.on("close", finish);

		return {
			pid: child.pid,
			send(chunks) {
				if (!channel.writable) return;
				if (chunks.length > 1) channel.cork();
				for (const chunk of chunks) channel.write(chunk);
				if (chunks.length > 1) channel.uncork();
			},
			kill: () => killGroup(child),
		};
	};
}

export interface RunResult {
	/** Null where a signal ended it, or where it could not be started. */
	readonly exitCode: number | null;
	readonly stdout: string;
	readonly stderr: string;
	readonly timedOut: boolean;
	/** It was killed at `memoryBytesMax`. */
	readonly overMemory: boolean;
}

export interface RunOptions {
	readonly cwd: string;
	readonly timeoutMs: number;
	/** Resident; looked at ten times a second. Default: no bound. */
	readonly memoryBytesMax?: number;
	readonly hostVariables?: HostVariables;
}

/** Runs `bun` to its end, e.g. `["build", …]`. Never rejects: what went wrong is in the result. */
export function runBun(bunPath: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
	const { promise, resolve } = Promise.withResolvers<RunResult>();
	const child = spawn(bunPath, ["--no-orphans", ...args], {
		cwd: options.cwd,
		stdio: ["ignore", "pipe", "pipe"],
		env: inherited(options.hostVariables ?? process.env),
		// Its children die with it by --no-orphans.
		timeout: options.timeoutMs,
		killSignal: "SIGKILL",
	});
	if (hasNoPipes(child)) {
		child.once("error", ({ message }) => {
			resolve({ exitCode: null, stdout: "", stderr: message, timedOut: false, overMemory: false });
		});
		return promise;
	}
	const [stdout, stderr] = [collect(child.stdout), collect(child.stderr)];
	let failure = "";
	let overMemory = false;
	const watch = setInterval(() => {
		const { memoryBytesMax = Infinity } = options;
		if (child.pid === undefined || (readMemory(child.pid) ?? 0) <= memoryBytesMax) return;
		overMemory = true;
		child.kill("SIGKILL");
	}, MEMORY_LOOK_MS);
	child.on("error", (error) => {
		failure = error.message;
		if (child.pid !== undefined) return;
		clearInterval(watch);
		resolve({ exitCode: null, stdout: "", stderr: failure, timedOut: false, overMemory });
	});
	child.on("close", (exitCode) => {
		clearInterval(watch);
		// Nobody but its two limits kills it from here.
		const timedOut = child.killed && !overMemory;
		resolve({ exitCode, stdout: stdout(), stderr: stderr() + failure, timedOut, overMemory });
	});
	return promise;
}

/** Keeps the first part of a stream and reads on, so that the writer never blocks. */
function collect(stream: Readable): () => string {
	const chunks: Buffer[] = [];
	let bytes = 0;
	stream.on("error", () => undefined);
	stream.on("data", (chunk: Buffer) => {
		if (bytes < RUN_OUTPUT_BYTES_MAX) chunks.push(chunk.subarray(0, RUN_OUTPUT_BYTES_MAX - bytes));
		bytes += chunk.byteLength;
	});
	return () => Buffer.concat(chunks).toString("utf8");
}
