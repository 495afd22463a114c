/**
 * The durable order of work: what may run next, and what became of it.
 *
 * Owns queue.db's statements, the lanes, and the one group commit through which everything is written. Knows no
 * worker and no socket: slots come in through `Slots`, ends go out through `ended`.
 */
import type { Accepted, SlotDecision } from "../core/contracts.ts";
import type { Environment } from "../core/environment.ts";
import { EngineError } from "../core/errors.ts";
import type { ResolvedConfig } from "../core/function-config.ts";
import { invocationId } from "../core/ids.ts";
import { stateOf, type Outcome, type State } from "../core/invocation.ts";
import { NumberMap } from "../core/number-map.ts";
import type { Database, QueueLevel } from "../store/index.ts";
import type { Disk } from "./acknowledge.ts";
import type { Batch } from "./batch.ts";
import { Blocks } from "./blocks.ts";
import { Checksums, WHOLE_CHECKSUMS_MARK } from "./checksum.ts";
import { Claimer, type Slots } from "./claim.ts";
import { CronSlots, type SlotToDecide } from "./cron-slots.ts";
import { Due, leaveQueue } from "./due.ts";
import { Enqueuer, type Submission } from "./enqueue.ts";
import { GroupCommit, type Item } from "./group-commit.ts";
import { Lanes, type Lane } from "./lanes.ts";
import type { Claim, EndedInvocation } from "./outgoing.ts";
import { Pruner } from "./prune.ts";
import { Reader, eventRecord, type Names } from "./read.ts";
import { recover, type Recovered } from "./recover.ts";
import { Settler, type Settled } from "./settle.ts";
import { prepareStatements, type Statements } from "./statements.ts";
import { Tally } from "./tally.ts";
import { Turns } from "./turns.ts";

export interface QueueDeps {
	readonly database: Database;
	/** Puts its commits on disk. */
	readonly disk: Disk;
	readonly environment: Environment;
	readonly slots: Slots;
	readonly names: Names;
	readonly resultRetentionMs: number;
	/** Calls back at the end of this turn of the event loop. */
	readonly defer: (flush: () => void) => void;
	/** Committed claims: send them. */
	readonly claimed: (claims: readonly Claim[]) => void;
	/** Committed ends: tell waiters. */
	readonly ended: (end: EndedInvocation) => void;
	/** Whether anybody waits for it; by default somebody does. */
	readonly awaited?: (end: EndedInvocation) => boolean;
	/** Retry policy of a version, also of one that is not active any more. */
	readonly retryOf: (lane: number, version: number) => ResolvedConfig["retry"];
	readonly freeBallast: () => boolean;
	/** The disk has no space for new work. */
	readonly spaceLow?: () => boolean;
	readonly broken: (error: EngineError) => void;
}

export interface EventToCommit {
	readonly eventId: string;
	readonly type: string;
	readonly source: string;
	/** JSON text. */
	readonly data: string;
	/** One for each subscribed function. */
	readonly submissions: readonly Submission[];
}

export class Queue {
	readonly lanes = new Lanes();
	readonly read: Reader;
	readonly #deps: QueueDeps;
	readonly #statements: Statements;
	readonly #commit: GroupCommit;
	readonly #claimer: Claimer;
	readonly #enqueuer: Enqueuer;
	readonly #settler: Settler;
	readonly #due: Due;
	readonly #blocks: Blocks;
	readonly #turns: Turns;
	readonly #cronSlots: CronSlots;
	readonly #pruner: Pruner;
	/** Claims that are not settled yet, by seq: a cancel marks them. */
	readonly #running = new NumberMap<Claim>();

	constructor(deps: QueueDeps) {
		this.#deps = deps;
		const { environment, database } = deps;
		const statements = prepareStatements(database);
		this.#statements = statements;
		const checksums = new Checksums(statements.markGet.get(WHOLE_CHECKSUMS_MARK)?.value);
		const blocks = new Blocks(statements, this.#running);
		this.#blocks = blocks;
		const tally = new Tally(database, statements, blocks);
		const consider = (lane: Lane): void => this.#claimer.consider(lane);
		const alarm = (at: number): void => this.#due.alarm(at);
		this.#commit = new GroupCommit({
			database,
			disk: deps.disk,
			environment,
			defer: deps.defer,
			claim: (batch) => this.#claimer.claim(batch),
			claimable: () => this.#claimer.pending,
			tally,
			consider,
			running: (claims) => {
				for (const claim of claims) this.#running.set(claim.seq, claim);
			},
			claimed: deps.claimed,
			ended: deps.ended,
			awaited: deps.awaited ?? (() => true),
			lastSeq: () => this.#enqueuer.lastSeq,
			freeBallast: deps.freeBallast,
			broken: deps.broken,
		});
		this.#turns = new Turns(statements, this.lanes);
		this.#settler = new Settler({ statements, random: environment.random, blocks, turns: this.#turns, alarm });
		this.#due = new Due({
			environment,
			statements,
			lanes: this.lanes,
			settler: this.#settler,
			add: (item) => this.#commit.add(item),
		});
		this.#claimer = new Claimer({
			environment,
			statements,
			blocks,
			checksums,
			lanes: this.lanes,
			slots: deps.slots,
			expire: (batch, row) => this.#due.expire(batch, row),
			fail: (batch, claim, error) =>
				void this.#settler.settle(batch, claim, { kind: "failed", error }, deps.retryOf(claim.lane.id, claim.version)),
			alarm,
			wake: () => this.#commit.wake(),
		});
		const seqMax = Math.max(statements.seqLast.get()?.seq ?? 0, statements.markGet.get("seq")?.value ?? 0);
		this.#enqueuer = new Enqueuer(
			{
				statements,
				blocks,
				slots: deps.slots,
				alarm,
				stopped: () => this.#claimer.stopped,
				spaceLow: deps.spaceLow ?? (() => false),
			},
			seqMax + 1,
		);
		this.#cronSlots = new CronSlots({
			statements,
			turns: this.#turns,
			accept: (batch, submission) => this.#enqueuer.accept(batch, submission),
		});
		this.#commit.opened(seqMax);
		this.#pruner = new Pruner(statements, blocks, tally, deps.resultRetentionMs);
		this.read = new Reader({
			database,
			statements,
			checksums,
			names: deps.names,
			retentionMs: deps.resultRetentionMs,
			environment,
			running: () => this.#running.values(),
			newestBlock: () => blocks.newest,
			uncounted: (lane) => tally.uncounted(lane),
			ensureOnDisk: (at) => this.#commit.ensureOnDisk(at),
		});
	}

	get commits(): number {
		return this.#commit.commits;
	}

	get accepted(): number {
		return this.#enqueuer.accepted;
	}

	/** What queue.db must at least contain from now on: everything up to here is on disk. */
	get level(): QueueLevel {
		return this.#commit.level;
	}

	/** True where nothing waits to be written. */
	get idle(): boolean {
		return this.#commit.idle;
	}

	/** At boot, after the lanes were added and every old worker is gone; before anything else. */
	recover(): Recovered {
		const write = (item: Item): void => {
			this.#commit.add(item);
			this.#commit.flushNow();
		};
		const recovered = recover({
			environment: this.#deps.environment,
			statements: this.#statements,
			lanes: this.lanes,
			settler: this.#settler,
			turns: this.#turns,
			write,
			waiting: () =>
				this.#commit.locked
					? new EngineError(
							"STORE_BUSY",
							"another program has locked queue.db, so what was running when the last daemon died cannot be recovered; end its transaction, then start again",
						)
					: new EngineError(
							"STORAGE_FULL",
							"the disk is full, so what was running when the last daemon died cannot be recovered; free space, then start again",
						),
			retryOf: this.#deps.retryOf,
		});
		this.#commit.waitInSqlite(false);
		this.#due.rearm();
		this.#blocks.begin();
		this.#claimer.begin();
		for (const lane of this.lanes.all()) this.#claimer.consider(lane);
		return recovered;
	}

	/** `accepted` is called after the commit, before any claim of it is sent; so a waiter may be registered in it. */
	enqueue(submission: Submission, accepted: (accepted: Accepted) => void, refused: (error: EngineError) => void): void {
		let answer: Accepted | undefined;
		this.#commit.add({
			settles: false,
			apply: (batch) => {
				answer = this.#enqueuer.accept(batch, submission);
			},
			committed: () => {
				if (answer !== undefined) accepted(answer);
			},
			failed: refused,
		});
	}

	/** One commit for all; each is accepted or refused on its own. */
	enqueueBatch(submissions: readonly (Submission | EngineError)[]): Promise<(Accepted | EngineError)[]> {
		return this.#write((batch) =>
			submissions.map((submission) => {
				if (submission instanceof EngineError) return submission;
				try {
					return this.#enqueuer.accept(batch, submission);
				} catch (error) {
					if (error instanceof EngineError) return error;
					throw error;
				}
			}),
		);
	}

	/** The event and one invocation for each subscriber, in one transaction. A known event id answers as the first time. */
	emit(request: EventToCommit): Promise<{ replayed: boolean; invocationIds: readonly string[] }> {
		return this.#write((batch) => {
			const known = this.#statements.eventGet.get(request.eventId);
			if (known !== undefined) return { replayed: true, invocationIds: eventRecord(known).invocationIds };
			for (const { lane } of request.submissions) {
				if (lane.queued < lane.maxQueued) continue;
				throw new EngineError("LANE_FULL", `the lane of subscriber ${lane.functionId} is full; nothing was emitted`, {
					retryAfterSeconds: 1,
				});
			}
			const ids = request.submissions.map((submission) => this.#enqueuer.accept(batch, submission).invocationId);
			const { eventId, type, source, data } = request;
			this.#statements.eventInsert.run(eventId, type, source, data, batch.now, JSON.stringify(ids));
			return { replayed: false, invocationIds: ids };
		});
	}

	/** Decides one slot of a schedule, in the transaction that enqueues it; undefined where it was decided before. */
	fireSlot(request: SlotToDecide): Promise<SlotDecision | undefined> {
		return this.#write((batch) => this.#cronSlots.decide(batch, request));
	}

	/** The newest slot of a schedule that was decided, UTC ms; with `now`, the newest that is not ahead of it. */
	lastSlot(schedule: number, now?: number): number | undefined {
		return this.#cronSlots.last(schedule, now);
	}

	/** When the newest invocation was accepted, UTC ms: what the clock is held against at boot. */
	newestAt(): number | undefined {
		const { seqLast, invocationState } = this.#statements;
		return invocationState.get(seqLast.get()?.seq ?? 0)?.createdAt;
	}

	/** What a worker answered. A stale fence changes nothing. Never refused: it waits where the disk is full. */
	settle(claim: Claim, outcome: Outcome, settled: (settled: Settled) => void): void {
		const { environment } = this.#deps;
		const { invocationId: id, attempt } = claim;
		this.#settle(claim, outcome, settled, (error) => {
			if (!this.#commit.open) return;
			// SQLite will not take this answer. Without another one its row would be running for ever.
			environment.logger.error({ invocationId: id, attempt, err: error }, "an answer could not be stored");
			const failed = { code: "INTERNAL", message: `the answer could not be stored: ${error.message}` } as const;
			this.#settle(claim, { kind: "failed", error: failed }, settled, (again) => {
				if (!this.#commit.open) return;
				environment.logger.error({ invocationId: id, attempt, err: again }, "an attempt could not be ended");
			});
		});
	}

	#settle(
		claim: Claim,
		outcome: Outcome,
		settled: (settled: Settled) => void,
		failed: (error: EngineError) => void,
	): void {
		let answer: Settled = "stale";
		this.#commit.add({
			settles: true,
			apply: (batch) => {
				answer = this.#settler.settle(batch, claim, outcome, this.#deps.retryOf(claim.lane.id, claim.version));
			},
			committed: () => {
				if (this.#running.get(claim.seq) === claim) this.#running.delete(claim.seq);
				this.#deps.environment.probe.hit("settle.committed", claim.invocationId);
				settled(answer);
			},
			failed,
		});
	}

	/** Queued: ends now. Running: the wish is recorded; the caller tells the pool. Ended: answers its state. */
	cancel(id: string): Promise<{ readonly state: State; readonly attempt: number }> {
		const { seq } = this.read.row(id);
		return this.#write((batch) => {
			const row = this.#statements.invocationState.get(seq);
			if (row === undefined) throw new EngineError("INVOCATION_NOT_FOUND", `no invocation ${id}`);
			const state = stateOf(row.state);
			if (state === "running") {
				this.#statements.invocationAskCancel.run(seq);
				batch.afterCommit(() => {
					// Whatever its worker answers now, it does not run again.
					const claim = this.#running.get(seq);
					if (claim !== undefined) claim.cancelAsked = true;
				});
			}
			if (state !== "queued") return { state, attempt: row.attempt };
			const lane = this.lanes.get(row.lane);
			const error = { code: "CANCELLED", message: "cancelled before it started" } as const;
			this.#statements.invocationCancelQueued.run(batch.now, JSON.stringify(error), seq);
			leaveQueue(batch, { lane, laneKey: row.laneKey, ready: row.ready === 1 });
			this.#settler.endQueued(batch, { seq, invocationId: invocationId(row.createdAt, seq), lane }, "cancelled", error);
			return { state: "cancelled" as const, attempt: row.attempt };
		});
	}

	/** One step of retention; true where there is more. */
	prune(): Promise<boolean> {
		return this.#write((batch) => this.#pruner.step(batch));
	}

	/** Something that the lane waited for may be there: a worker, a higher limit, an end of a pause. */
	consider(lane: Lane): void {
		this.#claimer.consider(lane);
	}

	/** No new claims and no new work; answers of workers are still written. */
	stopClaims(): void {
		this.#claimer.stopped = true;
	}

	/** Writes what has gathered, then nothing more. */
	close(): void {
		this.#claimer.stopped = true;
		this.#due.close();
		this.#commit.drain();
		this.#commit.close();
	}

	#write<T>(decide: (batch: Batch) => T): Promise<T> {
		return new Promise((resolve, reject) => {
			let answer: T;
			this.#commit.add({
				settles: false,
				apply: (batch) => {
					answer = decide(batch);
				},
				committed: () => resolve(answer),
				failed: reject,
			});
		});
	}
}
