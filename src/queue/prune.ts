/**
 * Retention: ended invocations leave after `resultRetentionMs`, with their attempts, bodies and what points to them.
 *
 * It walks the rows in order of acceptance in steps of LIMITS.pruneStepRows, each inside a group commit (about 2 ms),
 * so serving is not disturbed and no index on the end time has to be kept for it. A pass stops at the first row that
 * was accepted within retention: nothing behind it can be older. Then it forgets what is not an invocation, by steps
 * too; none of its statements reads what is young. (With scans of the whole tables a pass over 100,000 events, slots
 * and metrics took 43 ms in one commit; so it takes 0.2 ms.)
 */
import { LIMITS } from "../core/limits.ts";
import { blockOf } from "../store/index.ts";
import type { Batch } from "./batch.ts";
import type { Blocks } from "./blocks.ts";
import type { Statements } from "./statements.ts";
import type { Tally } from "./tally.ts";

/** Where a pass stands: its phase, and the seq, lane or schedule up to which that phase is done. */
interface Cursor {
	readonly phase: "invocations" | "keys" | "metrics" | "slots";
	readonly after: number;
}

const START: Cursor = { phase: "invocations", after: 0 };
/** The mark that holds the newest slot of a schedule that was pruned. */
export function slotMark(schedule: number): string {
	return `cron_slot:${schedule}`;
}

/** Lanes or schedules of one step: each costs about 10 µs where nothing is old. */
const OWNERS_MAX = 100;

export class Pruner {
	readonly #statements: Statements;
	readonly #blocks: Blocks;
	readonly #tally: Tally;
	readonly #retentionMs: number;
	#cursor = START;

	constructor(statements: Statements, blocks: Blocks, tally: Tally, retentionMs: number) {
		this.#statements = statements;
		this.#blocks = blocks;
		this.#tally = tally;
		this.#retentionMs = retentionMs;
	}

	/** One step. True where the pass has more to look at. */
	step(batch: Batch): boolean {
		const from = this.#cursor;
		batch.onRollback(() => {
			this.#cursor = from;
		});
		this.#cursor = this.#next(from, batch.now, batch.now - this.#retentionMs);
		return this.#cursor !== START;
	}

	#next({ phase, after }: Cursor, now: number, before: number): Cursor {
		switch (phase) {
			case "invocations":
				return this.#invocations(after, now, before) ?? { phase: "keys", after: 0 };
			case "keys":
				return this.#keys(now, before) ? { phase, after } : { phase: "metrics", after: 0 };
			case "metrics": {
				const lane = this.#owners(after, this.#statements.metricLaneNext, (owner) => this.#metrics(owner, before));
				return lane === undefined ? { phase: "slots", after: 0 } : { phase, after: lane };
			}
			case "slots": {
				const schedule = this.#owners(after, this.#statements.cronSlotScheduleNext, (owner) =>
					this.#slots(owner, before),
				);
				return schedule === undefined ? START : { phase, after: schedule };
			}
		}
	}

	/** Undefined at the end of the rows that may be old enough. */
	#invocations(after: number, now: number, before: number): Cursor | undefined {
		const rows = this.#statements.pruneList.all(after, LIMITS.pruneStepRows);
		let looked = after;
		let deleted = 0;
		let reachedRecent = rows.length < LIMITS.pruneStepRows;
		const left = new Map<string, readonly [lane: number, block: number]>();
		for (const row of rows) {
			if (row.createdAt >= before && row.createdAt <= now) {
				reachedRecent = true;
				break;
			}
			// Also one from the future, accepted by a clock that was ahead: it says nothing about what came behind it.
			looked = row.seq;
			if (row.finishedAt === null || row.finishedAt >= before) continue;
			this.#statements.invocationDelete.run(row.seq);
			if (row.bodyBytes > LIMITS.bodyInlineBytesMax || (row.resultBytes ?? 0) > LIMITS.bodyInlineBytesMax) {
				this.#statements.bodyDelete.run(row.seq * 2, row.seq * 2 + 1);
			}
			// One that was tried once and ended in the queue has a row there too.
			if (row.attempt > 0) this.#statements.attemptDelete.run(row.seq);
			deleted = row.seq;
			const block = blockOf(row.seq);
			left.set(`${row.lane} ${block}`, [row.lane, block]);
		}
		for (const [lane, block] of left.values()) this.#blocks.left(lane, block);
		// Ids are never given out twice, also after the newest row was pruned.
		if (deleted > 0) {
			this.#statements.markRaise.run("seq", deleted);
			this.#tally.ask();
		}
		return reachedRecent ? undefined : { phase: "invocations", after: looked };
	}

	/** True where more may be old. */
	#keys(now: number, before: number): boolean {
		const keys = this.#statements.idempotencyDeleteExpired.run(now, LIMITS.pruneStepRows).changes;
		const events = this.#statements.eventDeleteBefore.run(LIMITS.pruneStepRows, before).changes;
		return Math.max(keys, events) === LIMITS.pruneStepRows;
	}

	/** Goes through lanes or schedules by steps; the last one that is done, or undefined after all of them. */
	#owners(
		after: number,
		next: { get(after: number): { owner: number | null } | undefined },
		forget: (owner: number) => boolean,
	): number | undefined {
		let done = after;
		for (let looked = 0; looked < OWNERS_MAX; looked += 1) {
			const owner = next.get(done)?.owner ?? null;
			if (owner === null) return undefined;
			if (forget(owner)) return done;
			done = owner;
		}
		return done;
	}

	#metrics(lane: number, before: number): boolean {
		const minute = Math.floor(before / 60_000);
		return this.#statements.metricDeleteBefore.run(lane, minute, LIMITS.pruneStepRows).changes === LIMITS.pruneStepRows;
	}

	/**
	 * A schedule's newest slot is its cursor, and the newest that fired is its overlap check: both stay. The newest that
	 * leaves is marked, so that a clock which goes back does not fire it again.
	 */
	#slots(schedule: number, before: number): boolean {
		const { cronSlotLast, cronSlotLastFired, cronSlotLastOfStep, cronSlotDeleteBefore, markRaise } = this.#statements;
		const newest = cronSlotLast.get(schedule)?.slot ?? 0;
		const fired = cronSlotLastFired.get(schedule, Number.MAX_SAFE_INTEGER)?.slot ?? newest;
		const until = Math.min(before, newest);
		const last = cronSlotLastOfStep.get(schedule, until, fired, LIMITS.pruneStepRows)?.slot ?? null;
		if (last === null) return false;
		markRaise.run(slotMark(schedule), last);
		const { changes } = cronSlotDeleteBefore.run(schedule, until, fired, LIMITS.pruneStepRows);
		return changes === LIMITS.pruneStepRows;
	}
}
