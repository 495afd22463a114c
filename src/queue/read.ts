/**
 * Reading rows: records, lists, events, metrics. Every read is a short, paged statement; none stays open.
 *
 * A read that the disk refuses is that request's error (IO_ERROR, DATA_CORRUPT), and no reason to stop: one bad sector
 * under an old record must not end the daemon each time that somebody looks at it. Writes stop it (group-commit.ts).
 */
import type {
	AttemptRecord,
	EventRecord,
	InvocationRecord,
	InvocationSummary,
	MetricsPeriod,
} from "../core/contracts.ts";
import type { Environment, Logger } from "../core/environment.ts";
import { EngineError, type ErrorRecord } from "../core/errors.ts";
import { invocationId, parseInvocationId } from "../core/ids.ts";
import { stateOf, type State } from "../core/invocation.ts";
import { LIMITS } from "../core/limits.ts";
import { SOURCES, type InvokeRequest, type Pairs, type SourceKind } from "../core/request.ts";
import { errnoOf, mapStoreError } from "../store/index.ts";
import type { Checksums } from "./checksum.ts";
import { Lists, type ListsDeps } from "./lists.ts";
import type { Sum } from "./metrics.ts";
import type { EventRow, InvocationRow, MetricRow, Statements } from "./statements.ts";
import { HELD_AT } from "./turns.ts";

/** What the rows do not hold: names of metadata.db. */
export interface Names {
	functionOf(lane: number): { readonly functionId: string; readonly name: string };
	versionOf(version: number): string;
}

const NOTHING = new Uint8Array();
const PERIOD_MINUTES: Readonly<Record<MetricsPeriod, number>> = { minute: 1, hour: 60, day: 24 * 60 };

export interface ReaderDeps extends ListsDeps {
	readonly checksums: Checksums;
	readonly names: Names;
	readonly retentionMs: number;
	readonly environment: Environment;
	/** Sums of a function that `metric` does not hold yet. */
	readonly uncounted: (lane: number) => readonly Sum[];
	/** What was written at this time is about to be told, so it must be on disk. */
	readonly ensureOnDisk: (at: number) => void;
}

export class Reader {
	readonly #statements: Statements;
	readonly #checksums: Checksums;
	readonly #names: Names;
	readonly #retentionMs: number;
	readonly #now: () => number;
	readonly #logger: Logger;
	readonly #lists: Lists;
	readonly #uncounted: (lane: number) => readonly Sum[];
	readonly #ensureOnDisk: (at: number) => void;

	constructor(deps: ReaderDeps) {
		this.#statements = deps.statements;
		this.#checksums = deps.checksums;
		this.#names = deps.names;
		this.#retentionMs = deps.retentionMs;
		this.#now = () => deps.environment.clock.now();
		this.#logger = deps.environment.logger;
		this.#lists = new Lists(deps, () => this.#highestSeq());
		this.#uncounted = deps.uncounted;
		this.#ensureOnDisk = deps.ensureOnDisk;
	}

	/** The row of an id. Throws INVOCATION_NOT_FOUND, or RESULT_PRUNED where its age says that it may have been. */
	row(id: string): InvocationRow {
		const parts = parseInvocationId(id);
		if (parts === undefined) {
			throw new EngineError(
				"INVOCATION_NOT_FOUND",
				`${JSON.stringify(id.slice(0, 80))} is no invocation id; one looks like inv_…`,
			);
		}
		const row = this.#asking(() => this.#statements.invocationGet.get(parts.seq));
		if (row !== undefined && row.createdAt === parts.createdAt) return row;
		const pruned =
			row === undefined && parts.createdAt + this.#retentionMs <= this.#now() && parts.seq <= this.#highestSeq();
		if (pruned) {
			throw new EngineError("RESULT_PRUNED", `${id} ended and its record has passed retention`, { invocationId: id });
		}
		throw new EngineError("INVOCATION_NOT_FOUND", `no invocation ${id}`, { invocationId: id });
	}

	#highestSeq(): number {
		return this.#asking(() =>
			Math.max(this.#statements.markGet.get("seq")?.value ?? 0, this.#statements.seqLast.get()?.seq ?? 0),
		);
	}

	/** An error of the disk comes out as an EngineError; one of ours comes out as it is. */
	#asking<T>(ask: () => T): T {
		try {
			return ask();
		} catch (error) {
			throw errnoOf(error)?.startsWith("SQLITE_") === true ? mapStoreError(error, "reading queue.db") : error;
		}
	}

	/** The id of a row, or undefined where it is pruned. */
	idOf(seq: number): string | undefined {
		const row = this.#asking(() => this.#statements.invocationState.get(seq));
		return row === undefined ? undefined : invocationId(row.createdAt, seq);
	}

	functionName(id: string): string {
		return this.#names.functionOf(this.row(id).lane).name;
	}

	record(id: string): InvocationRecord {
		const row = this.row(id);
		this.#ensureOnDisk(row.finishedAt ?? row.startedAt ?? row.createdAt);
		return {
			...this.#summary(row),
			deadlineAt: row.deadlineAt ?? undefined,
			idempotencyKey: row.idempotencyKey ?? undefined,
			tags: row.tags === null ? [] : (JSON.parse(row.tags) as string[]),
			traceparent: row.traceparent ?? undefined,
			request: {
				method: row.method,
				path: row.path,
				headers: this.#pairs(row, row.headers),
				query: this.#pairs(row, row.query),
				bodyBytes: row.bodyBytes,
			},
			attempts: this.#attempts(row),
			result: row.status === null ? undefined : this.#result(row, row.status),
		};
	}

	/** The request of an invocation, to run it again. */
	request(id: string): { row: InvocationRow; request: Omit<InvokeRequest, "function"> } {
		const row = this.row(id);
		const { method, path, headers, query } = row;
		const body = this.#body(row.seq * 2, row.body, row.bodyBytes);
		if (body === undefined || !this.#checksums.isRequestWhole(row.seq, row, body, row.bodyCrc)) {
			throw this.#damaged(row, "request");
		}
		return {
			row,
			request: {
				source: sourceOf(row.source),
				method,
				path,
				headers: JSON.parse(headers) as Pairs,
				query: JSON.parse(query) as Pairs,
				body,
				priority: row.priority,
				laneKey: row.laneKey,
				...(row.tags === null ? {} : { tags: JSON.parse(row.tags) as string[] }),
				...(row.traceparent === null ? {} : { traceparent: row.traceparent }),
				waits: false,
			},
		};
	}

	#result(row: InvocationRow, status: number): NonNullable<InvocationRecord["result"]> {
		const headers = row.resultHeaders ?? "[]";
		const body = this.#body(row.seq * 2 + 1, row.resultBody, row.resultBytes ?? 0);
		if (body === undefined || !this.#checksums.isResultWhole(row.seq, { status, headers }, body, row.resultCrc))
			throw this.#damaged(row, "result");
		return { status, headers: JSON.parse(headers) as Pairs, body };
	}

	/** Undefined where it is not there as long as it was. */
	#body(id: number, inline: Buffer | null, length: number): Uint8Array | undefined {
		if (length === 0) return NOTHING;
		const bytes = inline ?? this.#asking(() => this.#statements.bodyGet.get(id)?.bytes);
		return bytes?.byteLength === length ? bytes : undefined;
	}

	#damaged(row: InvocationRow, which: "request" | "result"): EngineError {
		const id = invocationId(row.createdAt, row.seq);
		const message = `the stored ${which} of ${id} does not match its checksum`;
		this.#logger.error({ seq: row.seq, invocationId: id }, message);
		return new EngineError("DATA_CORRUPT", message, { invocationId: id });
	}

	/** For what is only shown: it is not worth reading a body of megabytes for its checksum. */
	#pairs(row: InvocationRow, text: string): Pairs {
		try {
			return JSON.parse(text) as Pairs;
		} catch {
			throw this.#damaged(row, "request");
		}
	}

	#attempts(row: InvocationRow): AttemptRecord[] {
		const earlier = this.#asking(() => this.#statements.attemptList.all(row.seq));
		const attempts: AttemptRecord[] = earlier.map((past) => ({
			attempt: past.attempt,
			outcome: past.outcome,
			startedAt: past.startedAt,
			finishedAt: past.finishedAt,
			worker: past.worker,
			cold: past.cold === 1,
			error: parseError(past.error),
		}));
		// The open or last attempt lives in the invocation's own columns.
		if (row.startedAt !== null) {
			const state = stateOf(row.state);
			attempts.push({
				attempt: row.attempt,
				outcome: state,
				startedAt: row.startedAt,
				finishedAt: row.finishedAt ?? undefined,
				worker: row.worker ?? undefined,
				cold: row.cold === 1,
				error: parseError(row.error),
			});
		}
		return attempts;
	}

	#summary(row: InvocationRow): InvocationSummary {
		const { functionId, name } = this.#names.functionOf(row.lane);
		const started = row.startedAt ?? undefined;
		const finished = row.finishedAt ?? undefined;
		const state = stateOf(row.state);
		return {
			invocationId: invocationId(row.createdAt, row.seq),
			functionId,
			functionName: name,
			version: this.#names.versionOf(row.version),
			state,
			source: sourceOf(row.source),
			origin: row.origin ?? undefined,
			attempt: row.attempt,
			charged: row.charged,
			maxAttempts: row.maxAttempts,
			priority: row.priority,
			laneKey: row.laneKey,
			createdAt: row.createdAt,
			runAt: row.runAt === HELD_AT ? 0 : row.runAt,
			startedAt: started,
			finishedAt: finished,
			queueWaitMs: started === undefined ? undefined : Math.max(0, started - Math.max(row.createdAt, row.runAt)),
			runMs: started === undefined || finished === undefined ? undefined : Math.max(0, finished - started),
			cold: row.cold === null ? undefined : row.cold === 1,
			error: state === "running" ? undefined : parseError(row.error),
		};
	}

	/** Newest first. */
	list(filter: {
		lane?: number | undefined;
		state?: State | undefined;
		limit?: number | undefined;
		before?: string | undefined;
	}): InvocationSummary[] {
		const limit = Math.min(filter.limit ?? LIMITS.listPageDefault, LIMITS.listPageMax);
		const before = filter.before === undefined ? Number.MAX_SAFE_INTEGER : parseInvocationId(filter.before)?.seq;
		if (before === undefined)
			throw new EngineError("BAD_REQUEST", `expected before to be an invocation id, got ${filter.before}`);
		const rows = this.#asking(() => this.#lists.rows(filter.lane, filter.state, before, limit));
		return rows.map((row) => this.#summary(row));
	}

	events(limit: number): EventRecord[] {
		return this.#asking(() => this.#statements.eventList.all(limit)).map(eventRecord);
	}

	metrics(lane: number, period: MetricsPeriod): MetricRow {
		const minute = Math.floor(this.#now() / 60_000) - (PERIOD_MINUTES[period] - 1);
		const row = this.#asking(() => this.#statements.metricSum.get(lane, minute));
		if (row === undefined) throw new Error("an aggregate has one row");
		let { invocations, errors, runMs, coldStarts, lastAt } = row;
		for (const sum of this.#uncounted(lane)) {
			if (sum.minute < minute) continue;
			invocations += sum.invocations;
			errors += sum.errors;
			runMs += sum.runMs;
			coldStarts += sum.coldStarts;
			lastAt = Math.max(lastAt ?? 0, sum.lastAt);
		}
		return { invocations, errors, runMs, coldStarts, lastAt };
	}
}

export function eventRecord(row: EventRow): EventRecord {
	return {
		eventId: row.eventId,
		type: row.type,
		createdAt: row.createdAt,
		data: JSON.parse(row.data) as unknown,
		invocationIds: JSON.parse(row.invocations) as string[],
	};
}

function parseError(text: string | null): ErrorRecord | undefined {
	return text === null ? undefined : (JSON.parse(text) as ErrorRecord);
}

function sourceOf(code: number): SourceKind {
	const source = SOURCES[code];
	if (source === undefined) throw new Error(`no source has the code ${code}`);
	return source;
}
