/**
 * What commits leave to be counted: the metrics, and how many there were, so that one that is lost later shows (commit-count.ts).
 *
 * Written by each commit that ends something, both cost one caller 5 % of its wait: two more pages, where the end itself is
 * one. So they are written for a thousand ends at once, or where the blocks of those become many. Until then an end is known
 * by its row: it lies in a block of running_block whose `counted` does not name it. A start adds up what the last daemon had
 * not written.
 *
 *   level: the count in the file + the ends that it does not count yet. Each commit that accepts nothing raises it.
 */
import { STATE_CODE } from "../core/invocation.ts";
import { CommitCount, type Database } from "../store/index.ts";
import type { OpenBatch } from "./batch.ts";
import type { Blocks } from "./blocks.ts";
import { Sums, type Sum } from "./metrics.ts";
import type { EndedInvocation } from "./outgoing.ts";
import type { Statements } from "./statements.ts";

/** Ends that are written at once. */
const ENDS_MAX = 1024;

/** The part of it that a transaction wrote. */
export interface Written {
	readonly raised: number;
	readonly all: boolean;
}

export class Tally {
	readonly #statements: Statements;
	readonly #blocks: Blocks;
	readonly #count: CommitCount;
	/** Rows whose ends are committed and not counted. */
	#seqs: number[] = [];
	readonly #sums = new Sums();
	#asked = false;

	constructor(database: Database, statements: Statements, blocks: Blocks) {
		this.#statements = statements;
		this.#blocks = blocks;
		this.#count = new CommitCount(database);
		for (const { seq, lane, state, startedAt, finishedAt, cold } of statements.uncountedList.all()) {
			const runMs = startedAt === null ? 0 : Math.max(0, finishedAt - startedAt);
			this.#seqs.push(seq);
			this.#sums.add({ lane, failed: state !== STATE_CODE.succeeded, runMs, cold: cold === 1, at: finishedAt });
		}
	}

	/** Of what is committed. */
	get level(): number {
		return this.#count.value + this.#seqs.length;
	}

	/** The next transaction counts all: rows that ended are about to leave, or nobody comes after it. */
	ask(): void {
		this.#asked = true;
	}

	/** All that ended is counted. */
	get isEmpty(): boolean {
		return this.#seqs.length === 0;
	}

	/** Sums of a function that `metric` does not hold yet. */
	uncounted(lane: number): readonly Sum[] {
		return this.#sums.of(lane);
	}

	/** Part of an open transaction, as its last act. `spare`: only what it must; the disk is full. */
	write(batch: OpenBatch, accepts: boolean, spare: boolean): Written {
		const { ends } = batch;
		const all = !spare && (this.#asked || this.#seqs.length + ends.length >= ENDS_MAX || this.#blocks.isCrowded);
		let raised = accepts || ends.length > 0 ? 0 : 1;
		if (all) {
			raised += this.#seqs.length + ends.length;
			this.#sums.write(this.#statements);
			const ofBatch = new Sums();
			for (const end of ends) ofBatch.add(counted(end, batch.now));
			ofBatch.write(this.#statements);
			this.#blocks.count(batch, [...this.#seqs, ...ends.map(({ seq }) => seq)]);
			this.#blocks.sweep(batch);
		}
		if (raised > 0) this.#count.write(raised);
		return { raised, all };
	}

	/** The transaction that `write` was part of is committed. */
	committed(batch: OpenBatch, { raised, all }: Written): void {
		this.#count.committed(raised);
		if (all) {
			this.#seqs = [];
			this.#sums.clear();
			this.#asked = false;
			return;
		}
		for (const end of batch.ends) {
			this.#seqs.push(end.seq);
			this.#sums.add(counted(end, batch.now));
		}
	}
}

function counted({ lane, state, executionMs, cold }: EndedInvocation, at: number) {
	return { lane: lane.id, failed: state !== "succeeded", runMs: executionMs, cold, at };
}
