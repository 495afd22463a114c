/**
 * System calls that fail on purpose: strace is attached to a process that runs, injects, and is taken off again, so a
 * fault has a beginning and an end. Only the thread that runs SQLite is traced unless `allThreads`.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { createInterface } from "node:readline";

export interface FaultRule {
	/** "fsync", "pwrite64,fsync" */
	readonly calls: string;
	/** As strace takes it: "error=EIO:when=1", "delay_enter=50000", "retval=100". */
	readonly inject: string;
}

export interface AttachOptions {
	/** Only calls on these paths or their descriptors. */
	readonly paths?: readonly string[];
	readonly allThreads?: boolean;
	/** Every thread there is, but the one that runs JavaScript and SQLite. */
	readonly otherThreads?: boolean;
}

export interface Attached extends AsyncDisposable {
	/** Lines of strace: each traced call, with what it answered. */
	readonly calls: readonly string[];
	/** How many calls were tampered with so far. */
	injected(): number;
	/** Takes the fault away; the process goes on. Twice is once. */
	end(): Promise<void>;
}

/** Flags for `strace`, attached or as the parent. */
export function straceFlags(rules: readonly FaultRule[], options: AttachOptions = {}): string[] {
	const all = rules.map(({ calls }) => calls).join(",");
	const injections = rules.filter(({ inject }) => inject !== "");
	return [
		"-qq",
		...(options.allThreads === true ? ["-f"] : []),
		...(options.paths ?? []).flatMap((path) => ["-P", path]),
		"-e",
		`trace=${all}`,
		...injections.flatMap(({ calls, inject }) => ["-e", `inject=${calls}:${inject}`]),
		"-e",
		"signal=none",
		"-s",
		"0",
	];
}

/** Resolves when the process is traced. */
export async function attachFault(
	pid: number,
	rules: readonly FaultRule[],
	options: AttachOptions = {},
): Promise<Attached> {
	const flags = straceFlags(rules, options).filter((flag) => flag !== "-qq");
	const threads = readdirSync(`/proc/${pid}/task`).filter((thread) => thread !== String(pid));
	const traced = options.otherThreads === true ? threads : [String(pid)];
	const tracer = spawn("strace", [...flags, ...traced.flatMap((thread) => ["-p", thread])], {
		stdio: ["ignore", "ignore", "pipe"],
	});
	const end = (): Promise<void> => endOf(tracer);
	const killed = (): void => void tracer.kill("SIGKILL");
	process.once("exit", killed);
	tracer.once("exit", () => process.off("exit", killed));
	const calls: string[] = [];
	await new Promise<void>((resolve, reject) => {
		createInterface({ input: tracer.stderr }).on("line", (line) => {
			if (/Process \d+ attached/.test(line)) resolve();
			else calls.push(line);
		});
		tracer.once("exit", (code) => reject(new Error(`strace exited with ${code}:\n${calls.join("\n")}`)));
	});
	return {
		calls,
		injected: () => calls.filter((line) => /\((INJECTED|DELAYED)\)/.test(line)).length,
		end,
		[Symbol.asyncDispose]: end,
	};
}

/**
 * strace detaches at SIGTERM, and the process goes on. Where the process has died strace sometimes waits for ever (one
 * in thirty), and the dead process's parent with it; then it is killed.
 */
async function endOf(tracer: ChildProcess): Promise<void> {
	if (tracer.exitCode !== null || tracer.signalCode !== null) return;
	const gone = once(tracer, "exit");
	tracer.kill("SIGTERM");
	const timer = setTimeout(() => tracer.kill("SIGKILL"), 1000);
	await gone;
	clearTimeout(timer);
}
