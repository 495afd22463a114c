/** Ended invocations by function and minute: the sums that `metric` holds, and those that are not in it yet (tally.ts). */
import type { Statements } from "./statements.ts";

/** An end, as the sums want it. */
export interface CountedEnd {
	readonly lane: number;
	readonly failed: boolean;
	readonly runMs: number;
	readonly cold: boolean;
	/** Wall clock. */
	readonly at: number;
}

export interface Sum {
	readonly minute: number;
	invocations: number;
	errors: number;
	runMs: number;
	coldStarts: number;
	lastAt: number;
}

export class Sums {
	/** The minute that was added to last comes last. */
	readonly #ofLane = new Map<number, Sum[]>();

	add({ lane, failed, runMs, cold, at }: CountedEnd): void {
		const minute = Math.floor(at / 60_000);
		let sums = this.#ofLane.get(lane);
		if (sums === undefined) {
			sums = [];
			this.#ofLane.set(lane, sums);
		}
		let sum = sums.at(-1);
		if (sum?.minute !== minute) {
			sum = { minute, invocations: 0, errors: 0, runMs: 0, coldStarts: 0, lastAt: at };
			sums.push(sum);
		}
		sum.invocations += 1;
		if (failed) sum.errors += 1;
		sum.runMs += runMs;
		if (cold) sum.coldStarts += 1;
		sum.lastAt = Math.max(sum.lastAt, at);
	}

	/** Of a function. */
	of(lane: number): readonly Sum[] {
		return this.#ofLane.get(lane) ?? [];
	}

	clear(): void {
		this.#ofLane.clear();
	}

	/** Part of an open transaction. */
	write({ metricRaise, metricInsert }: Statements): void {
		for (const [lane, sums] of this.#ofLane) {
			for (const { minute, invocations, errors, runMs, coldStarts, lastAt } of sums) {
				const values = [invocations, errors, runMs, coldStarts, lastAt, lane, minute] as const;
				if (metricRaise.run(...values).changes === 0) metricInsert.run(...values);
			}
		}
	}
}
