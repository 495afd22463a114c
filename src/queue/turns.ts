/**
 * Schedules with `overlap: "queue"`: what they fire runs one after another, in the order in which it fired.
 *
 * Every invocation of such a schedule that has not ended stands in its line, the table `turn`. The first of a line is like
 * any other; those behind it are queued and not due (HELD_AT). Whatever ends one lets the next one go, in the same
 * transaction.
 *
 *   Q8  behind one of its line that has not ended, an invocation is not due
 */
import type { Batch } from "./batch.ts";
import type { Lanes } from "./lanes.ts";
import type { Statements } from "./statements.ts";

/** The `run_at` of a row that waits for its turn and not for a time. */
export const HELD_AT = Number.MAX_SAFE_INTEGER;

export class Turns {
	readonly #statements: Statements;
	readonly #lanes: Lanes;
	/** By seq, of all in a line: nearly nothing that ends is in one. */
	readonly #scheduleOf = new Map<number, number>();

	constructor(statements: Statements, lanes: Lanes) {
		this.#statements = statements;
		this.#lanes = lanes;
		for (const { seq, schedule } of statements.turnList.all()) this.#scheduleOf.set(seq, schedule);
	}

	/** Something of this schedule has not ended. */
	isTaken(schedule: number): boolean {
		return this.#statements.turnFirst.get(schedule) !== undefined;
	}

	/** Part of an open transaction. The row is written, and held where the line was taken. One that is in it stays where it is. */
	join(batch: Batch, schedule: number, seq: number): void {
		if (this.#scheduleOf.has(seq)) return;
		this.#statements.turnInsert.run(schedule, seq);
		this.#scheduleOf.set(seq, schedule);
		batch.onRollback(() => this.#scheduleOf.delete(seq));
	}

	/** Part of the transaction that ends it. */
	ended(batch: Batch, seq: number): void {
		const schedule = this.#scheduleOf.get(seq);
		if (schedule === undefined) return;
		this.#statements.turnDelete.run(schedule, seq);
		this.#scheduleOf.delete(seq);
		batch.onRollback(() => this.#scheduleOf.set(seq, schedule));
		this.#letGo(batch, this.#statements.turnFirst.get(schedule)?.seq);
	}

	/** Held, and first of their lines: what stood before them left without an end, with a version that was lost in an accepted rollback. */
	get stuck(): readonly number[] {
		return this.#statements.turnFirstsHeld.all(HELD_AT).map(({ seq }) => seq);
	}

	/** Lets those go. The lanes must be counted. */
	mend(batch: Batch): void {
		for (const seq of this.stuck) this.#letGo(batch, seq);
	}

	/** Does nothing where it is under way already. */
	#letGo(batch: Batch, seq: number | undefined): void {
		const row = seq === undefined ? undefined : this.#statements.turnLetGo.get(batch.now, seq, HELD_AT);
		if (row === undefined) return;
		const lane = this.#lanes.get((row as { lane: number }).lane);
		batch.touch(lane);
		lane.delayed -= 1;
		lane.ready += 1;
	}
}
