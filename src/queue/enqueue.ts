/**
 * Acceptance: an InvokeRequest becomes a row. Nobody is told before the commit.
 *
 * An invocation whose lane has room is accepted and claimed in one row write, but only when no ready row waits in
 * its lane: it must not overtake.
 */
import { createHash } from "node:crypto";
import type { Accepted } from "../core/contracts.ts";
import { EngineError } from "../core/errors.ts";
import type { ResolvedConfig } from "../core/function-config.ts";
import { invocationId } from "../core/ids.ts";
import { stateOf } from "../core/invocation.ts";
import { LIMITS } from "../core/limits.ts";
import { SOURCES, type InvokeRequest } from "../core/request.ts";
import { requestChecksum } from "./checksum.ts";
import type { Batch } from "./batch.ts";
import type { Blocks } from "./blocks.ts";
import type { Slots } from "./claim.ts";
import type { Lane } from "./lanes.ts";
import type { Ticket } from "./outgoing.ts";
import type { Statements } from "./statements.ts";

/** A checked request with what it resolved to. */
export interface Submission {
	readonly lane: Lane;
	/** Integer id of the pinned version. */
	readonly version: number;
	readonly config: ResolvedConfig;
	readonly request: InvokeRequest;
	/** The schedule or event that made it. */
	readonly origin: string | null;
}

export interface EnqueuerDeps {
	readonly statements: Statements;
	readonly blocks: Blocks;
	readonly slots: Slots;
	/** A row was written that is due, or expires, at this time (UTC ms). */
	readonly alarm: (at: number) => void;
	readonly stopped: () => boolean;
	readonly spaceLow: () => boolean;
}

const NOTHING = new Uint8Array();

export class Enqueuer {
	readonly #deps: EnqueuerDeps;
	#nextSeq: number;
	accepted = 0;

	constructor(deps: EnqueuerDeps, nextSeq: number) {
		this.#deps = deps;
		this.#nextSeq = nextSeq;
	}

	/** The highest that was given out, ever. Between two transactions: that is committed. */
	get lastSeq(): number {
		return this.#nextSeq - 1;
	}

	/** Part of an open transaction. Throws an EngineError before it writes anything. */
	accept(batch: Batch, submission: Submission): Accepted {
		const { statements, blocks } = this.#deps;
		const { lane, request, config } = submission;
		const key = request.idempotencyKey;
		const fingerprint = key === undefined ? undefined : fingerprintOf(request);
		if (key !== undefined && fingerprint !== undefined) {
			const seen = this.#seen(batch, lane, key, fingerprint);
			if (seen !== undefined) return seen;
		}
		if (this.#deps.stopped()) {
			throw new EngineError("SHUTTING_DOWN", "the daemon is stopping; nothing was queued", { retryAfterSeconds: 5 });
		}
		if (this.#deps.spaceLow()) {
			throw new EngineError("STORAGE_FULL", "the disk is nearly full; nothing was queued; free space on it", {
				retryAfterSeconds: 5,
			});
		}
		if (lane.queued >= lane.maxQueued) {
			throw new EngineError(
				"LANE_FULL",
				`the lane of ${lane.functionId} holds its limit of ${lane.maxQueued} queued invocations; nothing was queued; try again later or raise maxQueued`,
				{ retryAfterSeconds: 1 },
			);
		}
		const atMostOnce = config.delivery === "at-most-once";
		const maxAttempts = request.maxAttempts ?? (request.waits ? 1 : config.retry.maxAttempts);
		if (atMostOnce && maxAttempts > 1) {
			throw new EngineError(
				"BAD_REQUEST",
				`max_attempts ${maxAttempts} contradicts delivery "at-most-once" of this function`,
			);
		}

		const now = batch.now;
		const seq = this.#nextSeq;
		const runAt = request.runAt ?? (request.delayMs === undefined || request.delayMs === 0 ? 0 : now + request.delayMs);
		const ready = runAt <= now;
		const deadlineAt = request.deadlineMs === undefined ? null : now + request.deadlineMs;
		const body = request.body;
		const bytes = body.byteLength;
		const headersJson = JSON.stringify(request.headers);
		const queryJson = request.query.length === 0 ? "[]" : JSON.stringify(request.query);
		const ticket = ready ? this.#ticket(lane, submission.version, bytes) : undefined;
		const laneKey = request.laneKey ?? "";
		const inline = bytes <= LIMITS.bodyInlineBytesMax;

		batch.touch(lane);
		batch.onRollback(() => {
			ticket?.release();
			this.#nextSeq = Math.min(this.#nextSeq, seq);
			this.accepted -= 1;
		});
		this.#nextSeq = seq + 1;
		this.accepted += 1;
		const source = SOURCES.indexOf(request.source);
		const stored = inline && bytes > 0 ? body : null;
		const crc = requestChecksum(
			{ method: request.method, path: request.path, headers: headersJson, query: queryJson },
			body,
		);
		const plain = !atMostOnce && isPlain(submission);
		if (plain && ticket === undefined) {
			statements.invocationInsertQueued.run(
				seq,
				lane.id,
				submission.version,
				now,
				maxAttempts,
				source,
				request.method,
				request.path,
				headersJson,
				queryJson,
				stored,
				bytes,
				crc,
			);
		} else if (plain && ticket?.cold === false) {
			statements.invocationInsertClaimed.run(
				seq,
				lane.id,
				submission.version,
				now,
				maxAttempts,
				now,
				ticket.worker,
				source,
				request.method,
				request.path,
				headersJson,
				queryJson,
				stored,
				bytes,
				crc,
				lane.room.zeros,
			);
		} else {
			statements.invocationInsert.run(
				seq,
				lane.id,
				submission.version,
				ticket === undefined ? 0 : 1,
				ready ? 1 : 0,
				request.priority ?? 0,
				laneKey,
				now,
				runAt,
				deadlineAt,
				ticket === undefined ? 0 : 1,
				maxAttempts,
				atMostOnce ? 1 : 0,
				ticket === undefined ? null : now,
				ticket === undefined ? null : ticket.worker,
				ticket === undefined ? null : ticket.cold ? 1 : 0,
				source,
				submission.origin,
				request.method,
				request.path,
				headersJson,
				queryJson,
				stored,
				bytes,
				crc,
				key ?? null,
				request.tags === undefined || request.tags.length === 0 ? null : JSON.stringify(request.tags),
				request.traceparent ?? null,
				ticket === undefined ? null : lane.room.zeros,
			);
		}
		if (!inline) statements.bodyInsert.run(seq * 2, body);
		blocks.accepted(batch, seq);
		if (ticket !== undefined) blocks.moved(batch, seq);
		if (key !== undefined && fingerprint !== undefined) {
			statements.idempotencyPut.run(lane.id, key, seq, fingerprint, now + LIMITS.idempotencyTtlMs);
		}

		const id = invocationId(now, seq);
		if (ticket === undefined) {
			if (ready) lane.ready += 1;
			else lane.delayed += 1;
			if (laneKey !== "") lane.keyed += 1;
			if (!ready || deadlineAt !== null) {
				batch.afterCommit(() => {
					if (!ready) this.#deps.alarm(runAt);
					if (deadlineAt !== null) this.#deps.alarm(deadlineAt);
				});
			}
		} else {
			lane.running += 1;
			lane.lastKey = laneKey;
			batch.claimed({
				seq,
				invocationId: id,
				lane,
				laneKey,
				version: submission.version,
				attempt: 1,
				charged: 0,
				maxAttempts,
				atMostOnce,
				workerDeaths: 0,
				daemonDeaths: 0,
				solo: false,
				createdAt: now,
				runAt,
				deadlineAt,
				startedAt: now,
				ticket,
				method: request.method,
				path: request.path,
				headersJson,
				queryJson,
				body: bytes === 0 ? NOTHING : body,
				cancelAsked: false,
			});
		}
		return { invocationId: id, state: ticket === undefined ? "queued" : "running", replayed: false };
	}

	/** A slot at once, where nobody waits before it. */
	#ticket(lane: Lane, version: number, bytes: number): Ticket | undefined {
		if (lane.ready > 0 || !lane.hasRoom || this.#deps.stopped()) return undefined;
		return this.#deps.slots.reserve(lane, version, { bytes, solo: false });
	}

	#seen(batch: Batch, lane: Lane, key: string, fingerprint: Buffer): Accepted | undefined {
		const { statements } = this.#deps;
		const row = statements.idempotencyGet.get(lane.id, key);
		if (row === undefined || row.expiresAt <= batch.now) return undefined;
		if (!row.fingerprint.equals(fingerprint)) {
			throw new EngineError(
				"IDEMPOTENCY_CONFLICT",
				`the idempotency key ${JSON.stringify(key)} was used with another method, path, query or body; use a new key for a new request`,
			);
		}
		const first = statements.invocationState.get(row.seq);
		// Its record is pruned: retention is shorter than the key's 24 h. A second run would break the promise.
		if (first === undefined) {
			throw new EngineError(
				"RESULT_PRUNED",
				`the invocation of idempotency key ${JSON.stringify(key)} ended and is past retention`,
			);
		}
		return { invocationId: invocationId(first.createdAt, first.seq), state: stateOf(first.state), replayed: true };
	}
}

/** Nothing optional is asked for: its row has every default. */
function isPlain({ request, origin }: Submission): boolean {
	return (
		origin === null &&
		request.runAt === undefined &&
		request.delayMs === undefined &&
		request.deadlineMs === undefined &&
		request.priority === undefined &&
		request.laneKey === undefined &&
		request.idempotencyKey === undefined &&
		request.tags === undefined &&
		request.traceparent === undefined
	);
}

/** Method, path, query and body; headers are left out, because clients vary them between tries. */
function fingerprintOf(request: InvokeRequest): Buffer {
	return createHash("sha256")
		.update(JSON.stringify([request.method, request.path, request.query]))
		.update("\0")
		.update(request.body)
		.digest();
}
