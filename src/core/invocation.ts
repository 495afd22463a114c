/**
 * The life of an Invocation: its states, what may move it, and what an Outcome makes of it.
 *
 * This file is the only place that decides a move. The queue writes what `settle` returns behind the
 * (id, attempt) fence, and the schema's CHECKs repeat the rule. A terminal state has no exits.
 *
 *   Q3  the attempt number rises by one per claim; charged ≤ maxAttempts
 *   Q4  a terminal row never changes
 *   Q5  an answer with a stale fence changes nothing (enforced in queue/)
 */
import type { Random } from "./environment.ts";
import type { ErrorCode, ErrorRecord } from "./errors.ts";
import type { ResolvedConfig } from "./function-config.ts";
import { LIMITS } from "./limits.ts";
import type { Pairs } from "./request.ts";
import { retryDelayMs } from "./retry.ts";

/** In the order of their codes in the database. */
export const STATES = [
	"queued",
	"running",
	"succeeded",
	"failed",
	"timed_out",
	"crashed",
	"cancelled",
	"expired",
	"lost",
] as const;
export type State = (typeof STATES)[number];

export const STATE_CODE = Object.fromEntries(STATES.map((state, code) => [state, code])) as Readonly<
	Record<State, number>
>;

export function stateOf(code: number): State {
	const state = STATES[code];
	if (state === undefined) throw new Error(`no invocation state has the code ${code}`);
	return state;
}

export function isTerminal(state: State): boolean {
	return state !== "queued" && state !== "running";
}

/** What an Attempt came to. A value, never an exception. */
export type Outcome =
	| { readonly kind: "succeeded"; readonly status: number; readonly headers: Pairs; readonly body: Uint8Array }
	/** The handler threw or answered unusably. Charged. */
	| { readonly kind: "failed"; readonly error: ErrorRecord }
	/** Ran into its time limit. Charged. */
	| { readonly kind: "timed_out"; readonly error: ErrorRecord }
	/** Its worker died, or broke a bound, with nobody else aboard. Charged. */
	| { readonly kind: "crashed"; readonly error: ErrorRecord }
	/** Cancel was asked, and the handler has ended or its process is gone. */
	| { readonly kind: "cancelled" }
	/**
	 * Nobody is to blame: drain, a worker that died before it had the request, or a death with several aboard.
	 * Uncharged. `started`: the worker may have begun it. `solo`: it is a suspect and next runs alone.
	 */
	| { readonly kind: "released"; readonly why: ReleaseReason; readonly started: boolean; readonly solo: boolean };

export type ReleaseReason = "drain" | "worker_gone" | "neighbour_died";

/** Recovery's finding at boot: the row was running when the daemon died. */
export type Finding = { readonly kind: "daemon_died" };

type Event = "claim" | "cancel" | "expire" | Outcome["kind"] | Finding["kind"];

/** Every legal move. `settle` asserts its answer against this table, and tests walk it. */
export const TRANSITIONS: Readonly<Record<State, Partial<Readonly<Record<Event, readonly State[]>>>>> = {
	queued: { claim: ["running"], cancel: ["cancelled"], expire: ["expired"] },
	running: {
		succeeded: ["succeeded", "queued"], // queued: its status is one that `retryOn` names
		failed: ["queued", "failed", "cancelled"],
		timed_out: ["queued", "timed_out", "cancelled"],
		crashed: ["queued", "crashed", "lost", "cancelled"],
		cancelled: ["cancelled"],
		released: ["queued", "lost", "cancelled"],
		daemon_died: ["queued", "crashed", "lost", "cancelled"],
	},
	succeeded: {},
	failed: {},
	timed_out: {},
	crashed: {},
	cancelled: {},
	expired: {},
	lost: {},
};

/** What `settle` needs to know of the running row. */
export interface RunningRow {
	readonly charged: number;
	readonly maxAttempts: number;
	/** Deaths of a worker with this invocation alone aboard. */
	readonly workerDeaths: number;
	/** Daemons in a row that died while it ran. */
	readonly daemonDeaths: number;
	readonly solo: boolean;
	readonly atMostOnce: boolean;
	readonly cancelAsked: boolean;
	readonly deadlineAt: number | null;
}

export interface Settlement {
	readonly to: State;
	readonly charged: number;
	readonly workerDeaths: number;
	readonly daemonDeaths: number;
	readonly solo: boolean;
	/** Set exactly where `to` is queued: 0 for "at once, at its old place", else UTC ms. */
	readonly runAt: number | undefined;
	/** Why this attempt did not succeed. */
	readonly error: ErrorRecord | undefined;
}

function refusal(code: ErrorCode, message: string): ErrorRecord {
	return { code, message };
}

/**
 * The one decision of what becomes of a running invocation.
 * `retry` is the policy of its version's configuration; `now` is wall time.
 */
export function settle(
	row: RunningRow,
	outcome: Outcome | Finding,
	now: number,
	retry: ResolvedConfig["retry"],
	random: Random,
): Settlement {
	const decided = decide(row, outcome, now, retry, random);
	const allowed = TRANSITIONS.running[outcome.kind] ?? [];
	if (!allowed.includes(decided.to)) throw new Error(`no move from running by ${outcome.kind} to ${decided.to}`);
	if (decided.charged > row.maxAttempts)
		throw new Error(`Q3: charged ${decided.charged} of ${row.maxAttempts} attempts`);
	return decided;
}

function decide(
	row: RunningRow,
	outcome: Outcome | Finding,
	now: number,
	retry: ResolvedConfig["retry"],
	random: Random,
): Settlement {
	const { charged, workerDeaths, solo } = row;
	// Daemon deaths count in a row: any answer from a worker ends the row.
	const same = { charged, workerDeaths, daemonDeaths: 0, solo, runAt: undefined, error: undefined };
	const cancelled = (): Settlement => ({
		...same,
		to: "cancelled",
		error: refusal("CANCELLED", "cancelled while it ran"),
	});
	/** Back to the queue after the retry delay, or to `end` when no attempt or no time is left. */
	const chargedEnd = (end: State, error: ErrorRecord, deaths = workerDeaths): Settlement => {
		const spent = { ...same, charged: charged + 1, workerDeaths: deaths, error };
		if (row.cancelAsked) return { ...cancelled(), charged: charged + 1 };
		const runAt = now + retryDelayMs(retry, charged + 1, random);
		const mayRetry =
			charged + 1 < row.maxAttempts &&
			deaths < LIMITS.workerDeathsMax &&
			(row.deadlineAt === null || runAt < row.deadlineAt);
		return mayRetry ? { ...spent, to: "queued", runAt } : { ...spent, to: end };
	};

	switch (outcome.kind) {
		case "succeeded": {
			const named = retry.retryOn.includes(outcome.status);
			if (!named || row.cancelAsked) return { ...same, to: "succeeded" };
			// The handler did answer: when no attempt is left, its answer stands.
			const retried = chargedEnd(
				"failed",
				refusal("HANDLER_ERROR", `the handler answered ${outcome.status}, which retryOn names`),
			);
			return retried.to === "queued" ? retried : { ...same, to: "succeeded" };
		}
		case "failed":
			return chargedEnd("failed", outcome.error);
		case "timed_out":
			return chargedEnd("timed_out", outcome.error);
		case "crashed":
			if (row.atMostOnce && !row.cancelAsked) {
				return {
					...same,
					charged: charged + 1,
					workerDeaths: workerDeaths + 1,
					to: "lost",
					error: { ...outcome.error, code: "LOST" },
				};
			}
			return chargedEnd("crashed", outcome.error, workerDeaths + 1);
		case "cancelled":
			return cancelled();
		case "released":
			if (row.cancelAsked) return cancelled();
			if (row.atMostOnce && outcome.started) {
				return {
					...same,
					to: "lost",
					error: refusal("LOST", `may have run and will not run again: ${RELEASED[outcome.why]}`),
				};
			}
			return { ...same, to: "queued", solo: solo || outcome.solo, runAt: 0 };
		case "daemon_died": {
			if (row.cancelAsked) return cancelled();
			const deaths = row.daemonDeaths + 1;
			if (row.atMostOnce) {
				return {
					...same,
					daemonDeaths: deaths,
					to: "lost",
					error: refusal("LOST", "may have run and will not run again: the daemon died"),
				};
			}
			if (deaths >= LIMITS.daemonDeathsMax) {
				return {
					...same,
					daemonDeaths: deaths,
					to: "crashed",
					error: refusal("DAEMON_DEATHS", `the daemon died ${deaths} times in a row while this invocation ran`),
				};
			}
			return { ...same, daemonDeaths: deaths, to: "queued", runAt: 0 };
		}
	}
}

const RELEASED: Readonly<Record<ReleaseReason, string>> = {
	drain: "the daemon stopped",
	worker_gone: "its worker was gone",
	neighbour_died: "its worker died",
};
