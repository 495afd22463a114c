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

/** Of one schedule, in the order of acceptance. */
type Line = readonly number[];

export class Turns {
	readonly #statements: Statements;
	readonly #lanes: Lanes;
	readonly #lines = new Map<number, Line>();
	readonly #scheduleOf = new Map<number, number>();

	constructor(statements: Statements, lanes: Lanes) {
		this.#statements = statements;
		this.#lanes = lanes;
		for (const { seq, schedule } of statements.turnList.all()) {
			this.#lines.set(schedule, [...this.#line(schedule), seq]);
			this.#scheduleOf.set(seq, schedule);
		}
	}

	/** Something of this schedule has not ended. */
	isTaken(schedule: number): boolean {
		return this.#line(schedule).length > 0;
	}

	/** Part of an open transaction: its row is written, held where the line was taken. */
	join(batch: Batch, schedule: number, seq: number): void {
		this.#statements.turnInsert.run(seq, schedule);
		this.#change(batch, schedule, [...this.#line(schedule), seq]);
		this.#scheduleOf.set(seq, schedule);
		batch.onRollback(() => this.#scheduleOf.delete(seq));
	}

	/** Part of the transaction that ends it. */
	ended(batch: Batch, seq: number): void {
		const schedule = this.#scheduleOf.get(seq);
		if (schedule === undefined) return;
		this.#statements.turnDelete.run(seq);
		this.#scheduleOf.delete(seq);
		batch.onRollback(() => this.#scheduleOf.set(seq, schedule));
		const left = this.#line(schedule).filter((each) => each !== seq);
		this.#change(batch, schedule, left);
		this.#letGo(batch, left);
	}

	/** The first of a line is held: that before it left without an end, with a version that was lost in an accepted rollback. */
	get isStuck(): boolean {
		return this.#statements.turnFirstHeld.get(HELD_AT) !== undefined;
	}

	/** Lets the first of each line go. The lanes must be counted. */
	mend(batch: Batch): void {
		for (const line of this.#lines.values()) this.#letGo(batch, line);
	}

	/** Does nothing where the first is under way already. */
	#letGo(batch: Batch, line: Line): void {
		const [first] = line;
		if (first === undefined) return;
		const row = this.#statements.turnLetGo.get(batch.now, first, HELD_AT) as { lane: number } | undefined;
		if (row === undefined) return;
		const lane = this.#lanes.get(row.lane);
		batch.touch(lane);
		lane.delayed -= 1;
		lane.ready += 1;
	}

	#line(schedule: number): Line {
		return this.#lines.get(schedule) ?? [];
	}

	#change(batch: Batch, schedule: number, line: Line): void {
		const before = this.#line(schedule);
		this.#set(schedule, line);
		batch.onRollback(() => this.#set(schedule, before));
	}

	#set(schedule: number, line: Line): void {
		if (line.length === 0) this.#lines.delete(schedule);
		else this.#lines.set(schedule, line);
	}
}
