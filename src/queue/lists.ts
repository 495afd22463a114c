/** Which rows a list of invocations shows, newest first: of all, of a function, of a state, and the page before an id. */
import { STATE_CODE, type State } from "../core/invocation.ts";
import { BLOCK_ROWS, blockOf, type Database, type Statement } from "../store/index.ts";
import type { Claim } from "./outgoing.ts";
import { SUMMARY_COLUMNS, type InvocationRow, type Statements } from "./statements.ts";

/** Rows that a list of one state looks through before it asks the index: 0.5 ms. */
const LOOKED_THROUGH = 10_000;
/** Blocks of a lane that are read at once. */
const LANE_BLOCKS = 64;
/** So many rows of a block are of the lane that to look at all 256 costs no more than to look each of them up (3 µs). */
const DENSE_ROWS = 16;

export interface ListsDeps {
	readonly database: Database;
	readonly statements: Statements;
	/** Claims that are committed and not known to be settled, by seq. */
	readonly running: () => readonly Claim[];
	/** Its rows are not named for their lanes yet; all before it are (blocks.ts). */
	readonly newestBlock: () => number;
}

export class Lists {
	readonly #deps: ListsDeps;
	readonly #highestSeq: () => number;
	readonly #listByState = new Map<string, Statement<unknown[], InvocationRow>>();

	constructor(deps: ListsDeps, highestSeq: () => number) {
		this.#deps = deps;
		this.#highestSeq = highestSeq;
	}

	/** Throws what SQLite says. */
	rows(lane: number | undefined, state: State | undefined, before: number, limit: number): InvocationRow[] {
		if (state === "running") return this.#rowsRunning(lane, before, limit);
		if (state !== undefined) return this.#rowsOfState(state, lane, before, limit);
		return lane === undefined
			? this.#deps.statements.invocationList.all(before, limit)
			: this.#rowsOfLane(lane, undefined, 0, before, limit);
	}

	/** Newest first, of those with `from <= seq < until`. */
	#rowsOfLane(lane: number, state: State | undefined, from: number, until: number, limit: number): InvocationRow[] {
		const { invocationListLane, invocationOfLane, laneBlockList } = this.#deps.statements;
		const [low, high] =
			state === undefined ? [0, Math.max(...Object.values(STATE_CODE))] : [STATE_CODE[state], STATE_CODE[state]];
		const newest = this.#deps.newestBlock();
		const rows = invocationListLane.all(Math.max(from, newest * BLOCK_ROWS), until, lane, low, high, limit);
		for (let below = Math.min(newest, blockOf(until) + 1); ;) {
			const blocks = laneBlockList.all(lane, below, LANE_BLOCKS);
			for (const { block, offsets } of blocks) {
				const first = block * BLOCK_ROWS;
				if (first + BLOCK_ROWS <= from || rows.length === limit) return rows;
				const [start, end] = [Math.max(from, first), Math.min(until, first + BLOCK_ROWS)];
				if (offsets.length >= DENSE_ROWS) {
					rows.push(...invocationListLane.all(start, end, lane, low, high, limit - rows.length));
				} else {
					for (const offset of offsets.toReversed()) {
						const seq = first + offset;
						if (seq < start || seq >= end || rows.length === limit) continue;
						const row = invocationOfLane.get(seq, lane, low, high);
						if (row !== undefined) rows.push(row);
					}
				}
				below = block;
			}
			if (blocks.length < LANE_BLOCKS) return rows;
		}
	}

	/** Memory knows which, and holds some more: those whose end is not told yet. */
	#rowsRunning(lane: number | undefined, before: number, limit: number): InvocationRow[] {
		const rows: InvocationRow[] = [];
		for (const claim of this.#deps.running().toReversed()) {
			if (rows.length === limit) break;
			if (claim.seq >= before || (lane !== undefined && claim.lane.id !== lane)) continue;
			const row = this.#deps.statements.invocationRunning.get(claim.seq);
			if (row !== undefined) rows.push(row);
		}
		return rows;
	}

	/**
	 * Among the newest rows by looking at each, then through the index of the state: a state that many rows have fills
	 * the page from the first, and one that few rows have is a small index. Without it, a look at what is queued read every
	 * row that ever ended: 7 ms for 200,000 small ones.
	 */
	#rowsOfState(
		state: Exclude<State, "running">,
		lane: number | undefined,
		before: number,
		limit: number,
	): InvocationRow[] {
		const until = Math.min(before, this.#highestSeq() + 1);
		// By lane, the index of those that did not succeed has them in this order.
		const isIndexed = state !== "queued" && state !== "succeeded";
		if (lane !== undefined && isIndexed) return this.#listState(state, true, "older").all(lane, until, limit);
		const from = state === "succeeded" ? 0 : Math.max(0, until - LOOKED_THROUGH);
		const recent =
			lane === undefined
				? this.#listState(state, false, "recent").all(from, until, limit)
				: this.#rowsOfLane(lane, state, from, until, limit);
		if (from === 0 || recent.length === limit) return recent;
		const older = this.#listState(state, lane !== undefined, "older");
		const part = [...(lane === undefined ? [] : [lane]), from];
		return recent.concat(older.all(...part, ...(state === "queued" ? part : []), limit - recent.length));
	}

	/** One statement for each, with the state as a literal, so that its partial index may serve it. */
	#listState(state: State, byLane: boolean, which: "recent" | "older"): Statement<unknown[], InvocationRow> {
		const key = `${state} ${byLane} ${which}`;
		let statement = this.#listByState.get(key);
		if (statement === undefined) {
			statement = this.#deps.database.prepare(which === "recent" ? listRecent(state) : listOlder(state, byLane));
			this.#listByState.set(key, statement);
		}
		return statement;
	}
}

function listRecent(state: State): string {
	return `SELECT ${SUMMARY_COLUMNS} FROM invocation NOT INDEXED
		WHERE seq >= ? AND seq < ? AND state = ${STATE_CODE[state]} ORDER BY seq DESC LIMIT ?`;
}

function listOlder(state: State, byLane: boolean): string {
	const where = `${byLane ? "AND lane = ?" : ""} AND seq < ?`;
	if (state === "queued") {
		return `SELECT ${SUMMARY_COLUMNS} FROM invocation WHERE seq IN (
			SELECT seq FROM (
				SELECT seq FROM invocation INDEXED BY invocation_ready WHERE state = 0 AND ready = 1 ${where}
				UNION ALL SELECT seq FROM invocation INDEXED BY invocation_due WHERE state = 0 AND ready = 0 ${where})
			ORDER BY seq DESC LIMIT ?) ORDER BY seq DESC`;
	}
	return `SELECT ${SUMMARY_COLUMNS} FROM invocation INDEXED BY invocation_unsuccessful
		WHERE state = ${STATE_CODE[state]} AND state >= 3 ${where} ORDER BY seq DESC LIMIT ?`;
}
