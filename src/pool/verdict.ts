/**
 * Who pays when a worker dies. The only file that decides it:
 *
 *   P2  an Outcome is reported only when the process can do no more for the attempt
 *   P5  several aboard and nobody known to be guilty: none is charged, each next runs alone
 */
import type { ErrorCode, ErrorRecord } from "../core/errors.ts";
import type { Outcome } from "../core/invocation.ts";
import type { AttemptSpec } from "./contract.ts";
import type { Exit } from "./process.ts";

/** Why a process is gone, or is being killed. */
export type Death =
	/** It ended by itself. */
	| { readonly kind: "exit"; readonly exit: Exit }
	| { readonly kind: "memory"; readonly bytes: number; readonly memoryMb: number }
	/** Its loop did not answer when an attempt's grace was over. */
	| { readonly kind: "silent" }
	/** Its loop answers, but an attempt ignores its abort signal: that one is guilty. */
	| { readonly kind: "overdue" }
	| { readonly kind: "protocol"; readonly problem: string }
	/** The daemon stops and the drain time is over. */
	| { readonly kind: "drain" }
	/** It did not become READY, or was asked to stop and did not; nobody was aboard. */
	| { readonly kind: "unneeded"; readonly why: string };

/** How far an attempt had come: told to stop by a timeout or a cancel, or not. */
export type Phase = "running" | "timed_out" | "cancelled";

export function timedOut(attempt: AttemptSpec): Outcome {
	const message =
		attempt.timeoutCode === "TIMED_OUT"
			? `ran longer than its timeoutMs of ${attempt.timeoutMs} ms`
			: "was still running at the deadline of its invocation";
	return { kind: "timed_out", error: { code: attempt.timeoutCode, message } };
}

export interface DeathScene {
	readonly death: Death;
	readonly worker: string;
	readonly pid: number | undefined;
	/** Attempts aboard when it died, or when the kill was decided. */
	readonly aboard: number;
	/** The last lines of its stderr. */
	readonly lastWords: string;
}

export function verdict(phase: Phase, attempt: AttemptSpec, scene: DeathScene): Outcome {
	if (phase === "cancelled") return { kind: "cancelled" };
	const alone = scene.aboard <= 1;
	switch (scene.death.kind) {
		case "drain":
			return phase === "timed_out" && alone
				? timedOut(attempt)
				: { kind: "released", why: "drain", started: true, solo: false };
		case "overdue":
			return phase === "timed_out"
				? timedOut(attempt)
				: { kind: "released", why: "neighbour_died", started: true, solo: false };
		case "exit":
		case "memory":
		case "silent":
		case "protocol":
		case "unneeded":
			if (!alone) return { kind: "released", why: "neighbour_died", started: true, solo: true };
			if (phase === "timed_out") return timedOut(attempt);
			return { kind: "crashed", error: describeDeath(scene) };
	}
}

/** One sentence about a death, for records and for our own log. */
export function describeDeath(scene: DeathScene): ErrorRecord {
	const { death, worker, pid, lastWords } = scene;
	const who = `worker ${worker} (pid ${pid ?? "none"})`;
	const tail = lastWords === "" ? "" : `; last output: ${lastWords}`;
	const record = (code: ErrorCode, text: string): ErrorRecord => ({ code, message: `${who} ${text}${tail}` });
	switch (death.kind) {
		case "exit":
			return record("WORKER_CRASHED", describeExit(death.exit) + hintOf(death.exit));
		case "memory":
			return record(
				"WORKER_MEMORY",
				`held ${Math.round(death.bytes / 1_048_576)} MB, over its memoryMb of ${death.memoryMb}, and was killed`,
			);
		case "protocol":
			return record("WORKER_PROTOCOL", `broke its channel and was killed: ${death.problem}`);
		case "silent":
			return record("WORKER_CRASHED", "did not answer and was killed");
		case "overdue":
			return record("WORKER_CRASHED", "was killed because an attempt ignored its abort signal");
		case "drain":
			return record("WORKER_CRASHED", "was killed because the daemon stopped");
		case "unneeded":
			return record("WORKER_CRASHED", `was killed: ${death.why}`);
	}
}

/** A SIGKILL that was not ours has one of two senders, and neither leaves another trace here. */
function hintOf(exit: Exit): string {
	return exit.signal === "SIGKILL" ? " (by the kernel, out of memory, or by somebody's kill -9)" : "";
}

export function describeExit(exit: Exit): string {
	if (exit.error !== undefined) return `could not be started: ${exit.error}`;
	if (exit.signal !== null) return `was ended by ${exit.signal}`;
	return `exited with code ${exit.code ?? "unknown"}`;
}
