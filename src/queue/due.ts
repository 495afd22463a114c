/**
 * What time does to queued rows: a delayed row becomes ready at `run_at`, and a row that has not started by its
 * deadline expires. One timer is armed for the earliest of both; nothing polls.
 *
 * Due times are wall clock. The timer looks again at least every ALARM_MS_MAX, so a clock that jumped forward makes
 * rows due at most that much late.
 */
import type { Environment, Timer } from "../core/environment.ts";
import { invocationId } from "../core/ids.ts";
import type { Batch } from "./batch.ts";
import type { Item } from "./group-commit.ts";
import type { Lane, Lanes } from "./lanes.ts";
import type { Settler } from "./settle.ts";
import type { Statements } from "./statements.ts";
import { HELD_AT } from "./turns.ts";

const ALARM_MS_MAX = 10_000;
/** Rows moved by one transaction: about 3 ms. */
const PAGE = 500;

export interface DueDeps {
	readonly environment: Environment;
	readonly statements: Statements;
	readonly lanes: Lanes;
	readonly settler: Settler;
	readonly add: (item: Item) => void;
}

export class Due {
	readonly #deps: DueDeps;
	#timer: Timer | undefined;
	#armedFor = Number.POSITIVE_INFINITY;
	#closed = false;

	constructor(deps: DueDeps) {
		this.#deps = deps;
	}

	/** Something becomes due at this time (UTC ms). */
	alarm(at: number): void {
		if (this.#closed || at >= this.#armedFor || at === HELD_AT) return;
		this.#timer?.cancel();
		this.#armedFor = at;
		const wait = Math.min(Math.max(0, at - this.#deps.environment.clock.now()), ALARM_MS_MAX);
		this.#timer = this.#deps.environment.clock.setTimer(wait, () => this.#ring());
	}

	/** Looks at the rows: at boot, and after each pass. */
	rearm(): void {
		const { statements } = this.#deps;
		const due = statements.dueNext.get()?.at ?? null;
		const deadline = statements.deadlineNext.get()?.at ?? null;
		if (due !== null) this.alarm(due);
		if (deadline !== null) this.alarm(deadline);
	}

	close(): void {
		this.#closed = true;
		this.#timer?.cancel();
	}

	#ring(): void {
		this.#timer = undefined;
		this.#armedFor = Number.POSITIVE_INFINITY;
		this.#deps.add({
			settles: false,
			apply: (batch) => this.pass(batch),
			committed: () => this.rearm(),
			// The disk is full: the rows are still there; look again.
			failed: () => this.alarm(this.#deps.environment.clock.now() + 1000),
		});
	}

	/** Part of an open transaction: promotes and expires what is due now, a page at a time. */
	pass(batch: Batch): void {
		const { statements, lanes } = this.#deps;
		for (const row of statements.dueList.all(batch.now, PAGE)) {
			const lane = lanes.get(row.lane);
			statements.duePromote.run(row.seq);
			batch.touch(lane);
			lane.delayed -= 1;
			lane.ready += 1;
		}
		for (const row of statements.deadlineList.all(batch.now, PAGE)) {
			const { seq, laneKey, createdAt } = row;
			this.expire(batch, { seq, lane: lanes.get(row.lane), laneKey, createdAt, ready: row.ready === 1 });
		}
	}

	/** Part of an open transaction: a queued row ends `expired`. */
	expire(batch: Batch, row: { seq: number; lane: Lane; laneKey: string; createdAt: number; ready: boolean }): void {
		const { statements, settler } = this.#deps;
		const error = { code: "EXPIRED", message: "not started by its deadline" } as const;
		if (statements.invocationExpire.run(batch.now, JSON.stringify(error), row.seq).changes === 0) return;
		leaveQueue(batch, row);
		settler.endQueued(
			batch,
			{ seq: row.seq, invocationId: invocationId(row.createdAt, row.seq), lane: row.lane },
			"expired",
			error,
		);
	}
}

/** A queued row of this lane has ended. */
export function leaveQueue(batch: Batch, row: { lane: Lane; laneKey: string; ready: boolean }): void {
	const { lane } = row;
	batch.touch(lane);
	if (row.ready) lane.ready -= 1;
	else lane.delayed -= 1;
	if (row.laneKey !== "") lane.keyed -= 1;
}
