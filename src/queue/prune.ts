/**
 * Retention: ended invocations leave after `resultRetentionMs`, with their attempts, bodies and what points to them.
 *
 * It walks the rows in order of acceptance in steps of LIMITS.pruneStepRows, each inside a group commit (about 2 ms),
 * so serving is not disturbed and no index on the end time has to be kept for it. A pass stops at the first row that
 * was accepted within retention: nothing behind it can be older.
 */
import { LIMITS } from "../core/limits.ts";
import type { Batch } from "./group-commit.ts";
import type { Statements } from "./statements.ts";

export class Pruner {
	readonly #statements: Statements;
	readonly #retentionMs: number;
	/** Rows up to here were looked at in this pass. */
	#cursor = 0;

	constructor(statements: Statements, retentionMs: number) {
		this.#statements = statements;
		this.#retentionMs = retentionMs;
	}

	/** One step. True where the pass has more to look at. */
	step(batch: Batch): boolean {
		const before = batch.now - this.#retentionMs;
		const rows = this.#statements.pruneList.all(this.#cursor, LIMITS.pruneStepRows);
		let last = 0;
		let reachedRecent = rows.length < LIMITS.pruneStepRows;
		for (const row of rows) {
			if (row.createdAt >= before) {
				reachedRecent = true;
				break;
			}
			this.#cursor = row.seq;
			if (row.finishedAt === null || row.finishedAt >= before) continue;
			this.#statements.invocationDelete.run(row.seq);
			if (row.bodyBytes > LIMITS.bodyInlineBytesMax || (row.resultBytes ?? 0) > LIMITS.bodyInlineBytesMax) {
				this.#statements.bodyDelete.run(row.seq * 2, row.seq * 2 + 1);
			}
			if (row.attempt > 1) this.#statements.attemptDelete.run(row.seq);
			last = row.seq;
		}
		// Ids are never given out twice, also after the newest row was pruned.
		if (last > 0) this.#statements.markRaise.run("seq", last);
		if (!reachedRecent) return true;
		this.#cursor = 0;
		this.#forget(batch.now, before);
		return false;
	}

	/** At the end of a pass: what is not an invocation. */
	#forget(now: number, before: number): void {
		this.#statements.idempotencyDeleteExpired.run(now, LIMITS.pruneStepRows);
		this.#statements.eventDeleteBefore.run(before, LIMITS.pruneStepRows);
		this.#statements.cronSlotDeleteBefore.run(before, LIMITS.pruneStepRows);
		this.#statements.metricDeleteBefore.run(Math.floor(before / 60_000));
	}
}
