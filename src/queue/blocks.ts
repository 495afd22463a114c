/**
 * Blocks: 256 invocations in a row, by seq. Two small tables stand in for two indexes that each invocation would be written
 * to, by function and while it runs: 1.1 times the throughput with 100 callers, and 0.94 of the wait of one.
 *
 *   lane_block     which rows of a block are of a function, a byte each (seq % 256): its list follows them. Written for all
 *                  functions at once by who begins the next block; the newest block has none, and is looked through
 *   running_block  in which blocks anything may run: what ran when a daemon died is found by looking through them
 *
 *   Q9  each row but those of the newest block is named for its lane; the block of each running row is named
 *
 * More may be named than there is: rows that left with retention, blocks in which nothing runs any more.
 */
import { BLOCK_ROWS, blockOf } from "../store/index.ts";
import type { Batch } from "./batch.ts";
import type { Claim } from "./outgoing.ts";
import type { Statements } from "./statements.ts";

/** Blocks in which something may run that are kept beyond need, so that claims which go to and fro write none. */
const KEPT = 32;

/** Claims that are committed, and not known to be settled. */
interface Running {
	readonly size: number;
	values(): readonly Claim[];
}

export class Blocks {
	readonly #statements: Statements;
	readonly #running: Running;
	/** Those in running_block. */
	readonly #named: Set<number>;
	#newest: number;

	constructor(statements: Statements, running: Running) {
		this.#statements = statements;
		this.#running = running;
		this.#named = new Set(statements.runningBlockList.all().map(({ block }) => block));
		this.#newest = blockOf(statements.seqLast.get()?.seq ?? 0);
	}

	/** The one that is looked through: all rows before it are named for their lanes. */
	get newest(): number {
		return this.#newest;
	}

	/** A row is written; in the order of seq. */
	accepted(batch: Batch, seq: number): void {
		const block = blockOf(seq);
		const before = this.#newest;
		if (block === before) return;
		this.#nameFor(before);
		this.#newest = block;
		batch.onRollback(() => {
			this.#newest = before;
		});
	}

	#nameFor(block: number): void {
		const { blockRows, laneBlockPut } = this.#statements;
		const offsets = new Map<number, number[]>();
		const first = block * BLOCK_ROWS;
		for (const [seq, lane] of blockRows.all(first, first + BLOCK_ROWS)) {
			const ofLane = offsets.get(lane);
			if (ofLane === undefined) offsets.set(lane, [seq - first]);
			else ofLane.push(seq - first);
		}
		for (const [lane, ofLane] of offsets) laneBlockPut.run(lane, block, Buffer.from(ofLane));
	}

	/** Rows of this lane were deleted: their block is forgotten if they were its last there. */
	left(lane: number, block: number): void {
		this.#statements.laneBlockDeleteEmpty.run(lane, block);
	}

	/** A row is claimed. */
	claimed(batch: Batch, seq: number): void {
		const block = blockOf(seq);
		if (this.#named.has(block)) return;
		this.#statements.runningBlockInsert.run(block);
		this.#named.add(block);
		batch.onRollback(() => this.#named.delete(block));
	}

	/**
	 * Forgets blocks in which nothing runs, where they have become many. Of a whole transaction, not of one item's savepoint;
	 * and after recovery, because until then nobody knows what runs.
	 */
	sweep(batch: Batch): void {
		if (this.#named.size < KEPT + 2 * this.#running.size) return;
		const needed = new Set([...this.#running.values(), ...batch.claims].map(({ seq }) => blockOf(seq)));
		const idle = [...this.#named].filter((block) => !needed.has(block));
		batch.onRollback(() => {
			for (const block of idle) this.#named.add(block);
		});
		for (const block of idle) {
			this.#statements.runningBlockDelete.run(block);
			this.#named.delete(block);
		}
	}
}
