/**
 * What becomes of a slot of a schedule: at most once, ever, by its row (unique key), in the transaction that enqueues it.
 *
 * The newest slot that was decided decides all before it, missed ones too. But where it lies ahead of the clock, the
 * clock was ahead when it was decided: then only those are decided that have a row, or had one before pruning.
 */
import type { Accepted, SlotDecision } from "../core/contracts.ts";
import { EngineError } from "../core/errors.ts";
import type { Overlap } from "../core/function-config.ts";
import { parseInvocationId } from "../core/ids.ts";
import { isTerminal, stateOf } from "../core/invocation.ts";
import { LIMITS } from "../core/limits.ts";
import type { Batch } from "./batch.ts";
import type { Submission } from "./enqueue.ts";
import { slotMark } from "./prune.ts";
import type { Statements } from "./statements.ts";
import { HELD_AT, type Turns } from "./turns.ts";

export interface SlotToDecide {
	readonly schedule: number;
	/** UTC ms. */
	readonly slot: number;
	readonly overlap: Overlap;
	/** Undefined: the slot is only recorded as misfired. */
	readonly submission: Submission | undefined;
}

export interface CronSlotsDeps {
	readonly statements: Statements;
	readonly turns: Turns;
	readonly accept: (batch: Batch, submission: Submission) => Accepted;
}

/** The mark that holds the seq of the invocation that a schedule made last. */
function firedMark(schedule: number): string {
	return `cron_fired:${schedule}`;
}

export class CronSlots {
	readonly #deps: CronSlotsDeps;

	constructor(deps: CronSlotsDeps) {
		this.#deps = deps;
	}

	/**
	 * Part of an open transaction; undefined where it was decided before. While the invocation of an earlier slot has not ended,
	 * `overlap: "skip"` records the slot as overlapped, and with `queue` its invocation waits for its turn.
	 */
	decide(batch: Batch, { schedule, slot, overlap, submission }: SlotToDecide): SlotDecision | undefined {
		const { accept, statements, turns } = this.#deps;
		if (this.#isDecided(schedule, slot, batch.now)) return undefined;
		const record = (decision: SlotDecision, seq: number | null): SlotDecision => {
			statements.cronSlotInsert.run(schedule, slot, decision, seq, batch.now);
			return decision;
		};
		if (submission === undefined) return record("misfired", null);
		const unfinished = overlap === "allow" ? [] : this.#unfinishedBefore(schedule, slot);
		const isBusy = overlap !== "allow" && (unfinished.length > 0 || turns.isTaken(schedule));
		if (overlap === "skip" && isBusy) return record("overlapped", null);
		const { request } = submission;
		const held =
			overlap === "queue" && isBusy ? { ...submission, request: { ...request, runAt: HELD_AT } } : submission;
		try {
			const { invocationId: id, replayed } = accept(batch, held);
			const seq = parseInvocationId(id)?.seq ?? 0;
			// With what was fired under another policy, and is not over yet.
			if (overlap === "queue" && !replayed) for (const each of [...unfinished, seq]) turns.join(batch, schedule, each);
			statements.markRaise.run(firedMark(schedule), seq);
			return record("fired", seq);
		} catch (error) {
			// A full lane: the slot has had its one chance, and says so. A stopping daemon or a full disk has not given it
			// one: the slot stays undecided, and a later look finds it as missed.
			if (!(error instanceof EngineError) || error.code === "SHUTTING_DOWN" || error.code === "STORAGE_FULL")
				throw error;
			return record("refused", null);
		}
	}

	/** The newest that was decided, UTC ms; with `now`, the newest that is not ahead of it. */
	last(schedule: number, now?: number): number | undefined {
		const { cronSlotLast, cronSlotLastUntil } = this.#deps.statements;
		const row = now === undefined ? cronSlotLast.get(schedule) : cronSlotLastUntil.get(schedule, now);
		return row?.slot ?? undefined;
	}

	#isDecided(schedule: number, slot: number, now: number): boolean {
		const newest = this.last(schedule);
		if (newest === undefined || newest < slot) return false;
		const { cronSlotGet } = this.#deps.statements;
		return newest <= now || cronSlotGet.get(schedule, slot) !== undefined || slot <= this.#prunedUntil(schedule, now);
	}

	/** Slots up to here may have had a row. What was pruned by a clock more than a year ahead of this one says nothing. */
	#prunedUntil(schedule: number, now: number): number {
		const until = this.#deps.statements.markGet.get(slotMark(schedule))?.value ?? 0;
		return until > now + LIMITS.clockBackMsMax ? 0 : until;
	}

	/**
	 * Which have not ended of: the invocation that fired last, that of the slot before, and of the newest, which are others
	 * where the clock went back. In order.
	 */
	#unfinishedBefore(schedule: number, slot: number): readonly number[] {
		const { cronSlotLastFired, invocationState, markGet } = this.#deps.statements;
		const fired = [
			markGet.get(firedMark(schedule))?.value,
			cronSlotLastFired.get(schedule, slot)?.seq,
			cronSlotLastFired.get(schedule, Number.MAX_SAFE_INTEGER)?.seq,
		];
		const unfinished = fired.filter((seq): seq is number => {
			const row = seq === undefined ? undefined : invocationState.get(seq);
			return row !== undefined && !isTerminal(stateOf(row.state));
		});
		return [...new Set(unfinished)].sort((one, other) => one - other);
	}
}
