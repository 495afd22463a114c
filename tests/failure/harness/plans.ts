/**
 * The functions of a run, all of them tests/functions/ledger.ts under different limits, and what is asked of each.
 * Which ends are allowed depends on the faults, so a run says so itself.
 */
import type { State } from "../../../src/core/invocation.ts";
import type { FunctionFacts } from "./history.ts";

export interface Random {
	next(): number;
}

/** What the handler gets, beside the element's name. */
export interface Payload {
	readonly ms: number;
	/** Attempts up to this number throw. */
	readonly fail?: number;
	/** Bytes that come back. */
	readonly bytes?: number;
	/** Bytes that go in. */
	readonly padding?: string;
}

export interface FunctionPlan {
	readonly name: string;
	/** Overrides on the function, as functions.configure takes them. */
	readonly overrides: Readonly<Record<string, unknown>>;
	readonly facts: FunctionFacts;
	payload(random: Random): Payload;
	laneKey?(random: Random): string;
}

export function pick<T>(random: Random, values: readonly T[]): T {
	const value = values[Math.floor(random.next() * values.length)];
	if (value === undefined) throw new Error("nothing to pick from");
	return value;
}

export function between(random: Random, from: number, to: number): number {
	return Math.floor(from + random.next() * (to - from + 1));
}

/** Most are small, some pass 4 KiB (kept apart from the row), a few pass a socket's buffer. */
function sizes(random: Random): { bytes: number; padding: string } {
	const size = (): number => {
		const chance = random.next();
		if (chance < 0.9) return between(random, 0, 200);
		return chance < 0.98 ? between(random, 4_000, 9_000) : between(random, 60_000, 300_000);
	};
	return { bytes: size(), padding: "p".repeat(size()) };
}

/**
 * `more`: ends that the run's faults may bring about beside those of a quiet day, e.g. `crashed` where workers are
 * killed again and again.
 */
export function standardPlans(more: readonly State[] = []): readonly FunctionPlan[] {
	const ends = (...states: State[]): State[] => [...states, ...more];
	const retry = { maxAttempts: 5, baseMs: 5, capMs: 50 };
	return [
		{
			name: "steady",
			overrides: { retry },
			facts: { delivery: "at-least-once", limit: 100, ends: ends("succeeded") },
			payload: (random) => ({ ms: between(random, 0, 20), ...sizes(random) }),
		},
		{
			name: "once",
			overrides: { delivery: "at-most-once", concurrency: 8 },
			facts: { delivery: "at-most-once", limit: 8, ends: ends("succeeded", "lost") },
			payload: (random) => ({ ms: between(random, 0, 10), ...sizes(random) }),
		},
		{
			name: "single",
			overrides: { concurrency: 1, retry },
			facts: { delivery: "at-least-once", limit: 1, ends: ends("succeeded") },
			payload: (random) => ({ ms: between(random, 0, 5) }),
		},
		{
			name: "keyed",
			overrides: { concurrency: 3, retry },
			facts: { delivery: "at-least-once", limit: 3, ends: ends("succeeded") },
			payload: (random) => ({ ms: between(random, 0, 10) }),
			laneKey: (random) => pick(random, ["", "a", "b", "c"]),
		},
		{
			name: "flaky",
			overrides: { retry },
			// Each charged attempt throws, or one of them comes after those that do.
			facts: { delivery: "at-least-once", limit: 100, ends: ends("succeeded", "failed") },
			payload: (random) => ({ ms: between(random, 0, 10), fail: pick(random, [0, 1, 2, 100]) }),
		},
	];
}
