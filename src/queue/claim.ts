/**
 * Which queued invocation starts next, and its durable claim.
 *
 * A claim takes a slot of a READY worker, a place under the lane's limit, and the next attempt number, in one
 * transaction; the worker sees the request only after the commit. Within a lane: keys take turns, then priority,
 * then the order of acceptance.
 *
 *   Q2  running per lane ≤ limit        Q3  the attempt number rises by one per claim
 */
import type { Environment } from "../core/environment.ts";
import type { ErrorRecord } from "../core/errors.ts";
import { invocationId } from "../core/ids.ts";
import type { Batch } from "./batch.ts";
import type { Blocks } from "./blocks.ts";
import type { Checksums } from "./checksum.ts";
import type { Lane, Lanes } from "./lanes.ts";
import type { Claim, Ticket } from "./outgoing.ts";
import type { ReadyRow, Statements } from "./statements.ts";

/** What the queue asks of the world to start something: the pool, behind the dispatcher. */
export interface Slots {
	/** A slot for this version, or undefined; then `Claimer.consider` is called when it is worth asking again. */
	reserve(lane: Lane, version: number, need: { readonly bytes: number; readonly solo: boolean }): Ticket | undefined;
	/** Whether this version has been replaced and cannot start: its work must not stand in the way of its successor's. */
	isStuck(version: number): boolean;
}

export interface ClaimerDeps {
	readonly environment: Environment;
	readonly statements: Statements;
	readonly blocks: Blocks;
	readonly checksums: Checksums;
	readonly lanes: Lanes;
	readonly slots: Slots;
	/** Ends a queued row whose deadline has passed; it must not start. */
	readonly expire: (
		batch: Batch,
		row: { seq: number; lane: Lane; laneKey: string; createdAt: number; ready: boolean },
	) => void;
	/** Ends a queued row whose stored request is damaged. */
	readonly fail: (batch: Batch, claim: Claim, error: ErrorRecord) => void;
	/** A row becomes due at this time (UTC ms). */
	readonly alarm: (at: number) => void;
	/** More lanes may be claimed from in the next turn. */
	readonly wake: () => void;
}

/**
 * Rows that one transaction claims, expires or finds damaged; more wait for the next turn, so that a large backlog
 * cannot block the loop.
 */
const CLAIMS_MAX = 256;
const NOTHING = new Uint8Array();
/** How long work of a replaced version that cannot start stands aside. */
const SET_ASIDE_MS = 10_000;

export class Claimer {
	readonly #deps: ClaimerDeps;
	/** Lanes that may have something to start, in the order in which they asked: nobody's backlog hides another's. */
	readonly #candidates = new Set<Lane>();
	/** Nothing is claimed before recovery is over: it would be taken for what the last daemon left running. */
	#begun = false;
	stopped = false;

	constructor(deps: ClaimerDeps) {
		this.#deps = deps;
	}

	/** Recovery is over. */
	begin(): void {
		this.#begun = true;
	}

	/** Something outside of the queue changed for this lane, e.g. there is a slot. */
	consider(lane: Lane): void {
		if (!this.#open || lane.ready === 0) return;
		this.#candidates.add(lane);
		this.#deps.wake();
	}

	get #open(): boolean {
		return this.#begun && !this.stopped;
	}

	get pending(): boolean {
		return this.#open && this.#candidates.size > 0;
	}

	/** Runs at the end of each transaction, and looks at every lane that the transaction changed. */
	claim(batch: Batch): void {
		if (!this.#open) return;
		// A row that became ready, a place that an end made free: whoever writes either has touched the lane.
		for (const lane of batch.lanes) if (lane.ready > 0) this.#candidates.add(lane);
		if (this.#candidates.size === 0) return;
		const looked: Lane[] = [];
		// Before the first claim: one that fails must not make a lane forgotten, nor one that has nothing ready remembered.
		batch.onRollback(() => {
			for (const lane of looked) this.#candidates.add(lane);
			for (const lane of this.#candidates) if (lane.ready === 0) this.#candidates.delete(lane);
		});
		let left = CLAIMS_MAX;
		for (const lane of this.#candidates) {
			if (left === 0) break;
			this.#candidates.delete(lane);
			looked.push(lane);
			left = this.#claimLane(batch, lane, left);
			// It may have more to start: behind those that have not been looked at.
			if (left === 0) this.#candidates.add(lane);
		}
		batch.afterCommit(() => {
			if (this.#candidates.size > 0) this.#deps.wake();
		});
	}

	/** Returns how many rows may still be taken in this transaction. */
	#claimLane(batch: Batch, lane: Lane, allowed: number): number {
		let left = allowed;
		while (left > 0 && lane.hasRoom && lane.ready > 0) {
			const row = this.#head(lane);
			if (row === undefined) throw new Error(`lane ${lane.id} counts ${lane.ready} ready rows and has none`);
			if (row.deadlineAt !== null && row.deadlineAt <= batch.now) {
				const { seq, laneKey, createdAt } = row;
				this.#deps.expire(batch, { seq, lane, laneKey, createdAt, ready: true });
				left -= 1;
				continue;
			}
			const ticket = this.#deps.slots.reserve(lane, row.version, { bytes: row.bodyBytes, solo: row.solo === 1 });
			if (ticket === undefined) {
				if (!this.#deps.slots.isStuck(row.version)) return left;
				this.#setAside(batch, lane, row);
				left -= 1;
				continue;
			}
			batch.onRollback(() => ticket.release());
			this.#take(batch, lane, row, ticket);
			left -= 1;
		}
		return left;
	}

	/** The row keeps its version and is looked at again later; what was accepted after it may start meanwhile. */
	#setAside(batch: Batch, lane: Lane, row: ReadyRow): void {
		const runAt = batch.now + SET_ASIDE_MS;
		this.#deps.statements.invocationSetAside.run(runAt, row.seq);
		batch.touch(lane);
		lane.ready -= 1;
		lane.delayed += 1;
		batch.afterCommit(() => this.#deps.alarm(runAt));
	}

	#take(batch: Batch, lane: Lane, row: ReadyRow, ticket: Ticket): void {
		const { statements, blocks } = this.#deps;
		const now = batch.now;
		blocks.moved(batch, row.seq);
		const claimed = statements.invocationClaim.get(now, ticket.worker, ticket.cold ? 1 : 0, row.seq) as {
			attempt: number;
		};
		batch.touch(lane);
		lane.ready -= 1;
		lane.running += 1;
		if (row.laneKey !== "") lane.keyed -= 1;
		lane.lastKey = row.laneKey;
		const body = this.#body(row);
		const claim: Claim = {
			seq: row.seq,
			invocationId: invocationId(row.createdAt, row.seq),
			lane,
			laneKey: row.laneKey,
			version: row.version,
			attempt: claimed.attempt,
			charged: row.charged,
			maxAttempts: row.maxAttempts,
			atMostOnce: row.atMostOnce === 1,
			workerDeaths: row.workerDeaths,
			daemonDeaths: row.daemonDeaths,
			solo: row.solo === 1,
			createdAt: row.createdAt,
			runAt: row.runAt,
			deadlineAt: row.deadlineAt,
			startedAt: now,
			ticket,
			method: row.method,
			path: row.path,
			headersJson: row.headers,
			queryJson: row.query,
			body: body ?? NOTHING,
			cancelAsked: false,
		};
		if (body === undefined) {
			// Never run a request other than the one that was accepted.
			const error: ErrorRecord = {
				code: "DATA_CORRUPT",
				message: "the stored request does not match its checksum",
			};
			this.#deps.environment.logger.error({ seq: row.seq, invocationId: claim.invocationId }, error.message);
			// Nor again: the next try would find the same bytes.
			this.#deps.fail(batch, { ...claim, maxAttempts: claim.charged + 1 }, error);
			batch.afterCommit(() => ticket.release());
			return;
		}
		batch.claimed(claim);
	}

	/** The request's body; undefined where what is stored of the request is not what was accepted. */
	#body(row: ReadyRow): Uint8Array | undefined {
		const { seq, bodyBytes, bodyCrc } = row;
		const body = bodyBytes === 0 ? NOTHING : (row.body ?? this.#deps.statements.bodyGet.get(seq * 2)?.bytes);
		if (body === undefined || body.byteLength !== bodyBytes) return undefined;
		return this.#deps.checksums.isRequestWhole(seq, row, body, bodyCrc) ? body : undefined;
	}

	#head(lane: Lane): ReadyRow | undefined {
		const { statements } = this.#deps;
		if (lane.keyed === 0) return statements.invocationReadyHead.get(lane.id, "");
		const next = statements.laneKeyNext.get(lane.id, lane.lastKey) ?? statements.laneKeyFirst.get(lane.id);
		return next === undefined ? undefined : statements.invocationReadyHead.get(lane.id, next.laneKey);
	}
}
