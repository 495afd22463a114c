/**
 * One open transaction, as those see it who write in it: what it changed in memory, so that a rollback puts that back,
 * and what it lets out once it is committed and on disk.
 */
import type { Lane } from "./lanes.ts";
import type { Claim, EndedInvocation } from "./outgoing.ts";

/** The open transaction, as items see it. */
export interface Batch {
	/** Wall clock, the same for the whole batch. */
	readonly now: number;
	/** Lanes whose counts it changed: they may have something to start. */
	readonly lanes: readonly Lane[];
	/** What it has claimed so far. */
	readonly claims: readonly Claim[];
	/** Call before changing a lane's counts. */
	touch(lane: Lane): void;
	/** Runs if the transaction is rolled back, e.g. to give a reserved slot back. */
	onRollback(undo: () => void): void;
	/** Runs at the commit: for what memory must know before the next transaction. Tells nobody outside. */
	afterCommit(act: () => void): void;
	/** Its worker may see it when the transaction is on disk. */
	claimed(claim: Claim): void;
	/** An invocation ended: counted in the metrics, and told when it is on disk. */
	ended(end: EndedInvocation): void;
}

export class OpenBatch implements Batch {
	readonly now: number;
	readonly claims: Claim[] = [];
	readonly ends: EndedInvocation[] = [];
	/** For after the commit. */
	readonly acts: (() => void)[] = [];
	#lanes: Lane[] = [];
	#undos: (() => void)[] = [];

	constructor(now: number) {
		this.now = now;
	}

	get lanes(): readonly Lane[] {
		return this.#lanes;
	}

	touch(lane: Lane): void {
		if (lane.touch()) this.#lanes.push(lane);
	}

	onRollback(undo: () => void): void {
		this.#undos.push(undo);
	}

	afterCommit(act: () => void): void {
		this.acts.push(act);
	}

	claimed(claim: Claim): void {
		this.claims.push(claim);
	}

	ended(end: EndedInvocation): void {
		this.ends.push(end);
	}

	/** A batch for one savepoint. Lanes are touched once for the whole transaction, so it keeps their counts itself. */
	nested(): OpenBatch {
		return new SavepointBatch(this.now, this);
	}

	absorb(inner: OpenBatch): void {
		this.#undos.push(...inner.#undos);
		this.acts.push(...inner.acts);
		this.claims.push(...inner.claims);
		this.ends.push(...inner.ends);
	}

	keep(): void {
		for (const lane of this.#lanes) lane.keep();
	}

	undo(): void {
		for (const lane of this.#lanes) lane.rollback();
		for (const undo of this.#undos.toReversed()) undo();
		this.#lanes = [];
		this.#undos = [];
	}
}

class SavepointBatch extends OpenBatch {
	readonly #outer: OpenBatch;
	readonly #counts = new Map<Lane, [number, number, number, number, string]>();

	constructor(now: number, outer: OpenBatch) {
		super(now);
		this.#outer = outer;
	}

	override get lanes(): readonly Lane[] {
		return this.#outer.lanes;
	}

	override touch(lane: Lane): void {
		this.#outer.touch(lane);
		if (!this.#counts.has(lane)) {
			this.#counts.set(lane, [lane.running, lane.ready, lane.delayed, lane.keyed, lane.lastKey]);
		}
	}

	override undo(): void {
		for (const [lane, [running, ready, delayed, keyed, lastKey]] of this.#counts) {
			Object.assign(lane, { running, ready, delayed, keyed, lastKey });
		}
		super.undo();
	}
}
