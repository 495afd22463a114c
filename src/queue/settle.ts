/**
 * What becomes of a running invocation, written behind the fence (seq, attempt): a stale answer changes nothing.
 * The decision is core/invocation.settle; this file only writes it, with the result in one commit.
 *
 *   Q4  a terminal row never changes      Q5  a stale fence changes nothing      Q6  a result exists exactly for succeeded
 */
import type { Random } from "../core/environment.ts";
import type { ErrorRecord } from "../core/errors.ts";
import type { ResolvedConfig } from "../core/function-config.ts";
import { settle, STATE_CODE, type Finding, type Outcome, type RunningRow, type State } from "../core/invocation.ts";
import { LIMITS } from "../core/limits.ts";
import { resultChecksum } from "./checksum.ts";
import type { Batch } from "./batch.ts";
import type { Blocks } from "./blocks.ts";
import type { Lane } from "./lanes.ts";
import type { EndedInvocation } from "./outgoing.ts";
import type { Statements } from "./statements.ts";
import type { Turns } from "./turns.ts";

/** A running row, from a Claim or, at boot, from the database. */
export interface Settleable extends RunningRow {
	readonly seq: number;
	readonly invocationId: string;
	readonly lane: Lane;
	readonly laneKey: string;
	readonly attempt: number;
	readonly startedAt: number;
	readonly createdAt: number;
	readonly runAt: number;
	readonly ticket: { readonly worker: string; readonly cold: boolean };
}

export interface SettlerDeps {
	readonly statements: Statements;
	readonly random: Random;
	readonly blocks: Blocks;
	readonly turns: Turns;
	readonly alarm: (at: number) => void;
}

/** `stale`: the fence had moved on; expected, and nothing was written. */
export type Settled = State | "stale";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Error texts are bounded, because they live in the row. */
function bounded(error: ErrorRecord): ErrorRecord {
	const cut = (text: string): string => {
		const bytes = encoder.encode(text);
		if (bytes.byteLength <= LIMITS.errorTextBytesMax) return text;
		return `${decoder.decode(bytes.subarray(0, LIMITS.errorTextBytesMax))}… (cut)`;
	};
	return {
		code: error.code,
		message: cut(error.message),
		...(error.name === undefined ? {} : { name: cut(error.name) }),
		...(error.stack === undefined ? {} : { stack: cut(error.stack) }),
	};
}

export class Settler {
	readonly #deps: SettlerDeps;

	constructor(deps: SettlerDeps) {
		this.#deps = deps;
	}

	/** Part of an open transaction. */
	settle(batch: Batch, row: Settleable, outcome: Outcome | Finding, retry: ResolvedConfig["retry"]): Settled {
		const { statements, random } = this.#deps;
		const { lane } = row;
		const decided = settle(row, outcome, batch.now, retry, random);
		const error = decided.error === undefined ? undefined : bounded(decided.error);
		const errorJson = error === undefined ? null : JSON.stringify(error);
		const fence = [row.seq, row.attempt] as const;
		let changes: number;
		if (decided.to === "succeeded" && outcome.kind === "succeeded") {
			changes = this.#succeed(batch, row, outcome, decided.charged);
		} else if (decided.to === "queued") {
			const runAt = decided.runAt ?? 0;
			const ready = runAt <= batch.now;
			changes = statements.invocationRequeue.run(
				ready ? 1 : 0,
				runAt,
				decided.charged,
				decided.workerDeaths,
				decided.daemonDeaths,
				decided.solo ? 1 : 0,
				errorJson,
				...fence,
			).changes;
			if (changes === 1) this.#superseded(batch, row, outcome, errorJson, ready, runAt);
		} else {
			changes = statements.invocationEnd.run(
				STATE_CODE[decided.to],
				decided.charged,
				decided.workerDeaths,
				decided.daemonDeaths,
				batch.now,
				errorJson,
				...fence,
			).changes;
		}
		if (changes === 0) return "stale";
		batch.touch(lane);
		lane.running -= 1;
		if (decided.to !== "queued") this.#end(batch, row, outcome, decided.to, error);
		return decided.to;
	}

	#succeed(batch: Batch, row: Settleable, outcome: Extract<Outcome, { kind: "succeeded" }>, charged: number): number {
		const { statements } = this.#deps;
		const body = outcome.body;
		const bytes = body.byteLength;
		const inline = bytes <= LIMITS.bodyInlineBytesMax;
		const headers = JSON.stringify(outcome.headers);
		const { changes } = statements.invocationSucceed.run(
			charged,
			batch.now,
			outcome.status,
			headers,
			inline && bytes > 0 ? body : null,
			bytes,
			resultChecksum({ status: outcome.status, headers }, body),
			row.seq,
			row.attempt,
		);
		row.lane.room.saw(headers.length, inline ? bytes : 0);
		if (changes === 1 && !inline) statements.bodyInsert.run(row.seq * 2 + 1, body);
		return changes;
	}

	#superseded(
		batch: Batch,
		row: Settleable,
		outcome: Outcome | Finding,
		errorJson: string | null,
		ready: boolean,
		runAt: number,
	): void {
		const { lane, ticket } = row;
		this.#deps.statements.attemptInsert.run(
			row.seq,
			row.attempt,
			outcome.kind,
			row.startedAt,
			batch.now,
			ticket.worker,
			ticket.cold ? 1 : 0,
			errorJson,
		);
		batch.touch(lane);
		if (ready) lane.ready += 1;
		else lane.delayed += 1;
		if (row.laneKey !== "") lane.keyed += 1;
		batch.afterCommit(() => {
			if (!ready) this.#deps.alarm(runAt);
			if (row.deadlineAt !== null) this.#deps.alarm(row.deadlineAt);
		});
	}

	#end(batch: Batch, row: Settleable, outcome: Outcome | Finding, state: State, error: ErrorRecord | undefined): void {
		const { lane, ticket } = row;
		const runMs = Math.max(0, batch.now - row.startedAt);
		this.#out(batch, {
			seq: row.seq,
			invocationId: row.invocationId,
			lane,
			state,
			result: state === "succeeded" && outcome.kind === "succeeded" ? outcome : undefined,
			error,
			executionMs: runMs,
			queueWaitMs: Math.max(0, row.startedAt - Math.max(row.createdAt, row.runAt)),
			cold: ticket.cold,
		});
	}

	/** The end of a row that never started (cancelled or expired in the queue). */
	endQueued(
		batch: Batch,
		row: { seq: number; invocationId: string; lane: Lane },
		state: State,
		error: ErrorRecord,
	): void {
		this.#out(batch, {
			seq: row.seq,
			invocationId: row.invocationId,
			lane: row.lane,
			state,
			result: undefined,
			error,
			executionMs: 0,
			queueWaitMs: undefined,
			cold: false,
		});
	}

	/** The only way out: who waits for its turn behind it goes with the same transaction. */
	#out(batch: Batch, end: EndedInvocation): void {
		this.#deps.blocks.moved(batch, end.seq);
		this.#deps.turns.ended(batch, end.seq);
		batch.ended(end);
	}
}
