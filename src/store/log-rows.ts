/** Log lines as the store takes and gives them, and the statements on logs.db. */
import { LOG_LEVELS, type LogLevel } from "../core/contracts.ts";
import type { Database, Statement } from "./database.ts";

export interface LogLine {
	/** A function's integer id. */
	readonly lane: number;
	/** An invocation's. */
	readonly seq: number | undefined;
	readonly attempt: number | undefined;
	readonly level: LogLevel;
	readonly message: string;
	readonly metadata: Readonly<Record<string, unknown>> | undefined;
	/** UTC ms. */
	readonly at: number;
	readonly worker: string;
	/** Public ids, for the JSONL file only: people read it, and the database has the integers. */
	readonly functionId?: string | undefined;
	readonly invocationId?: string | undefined;
}

export interface LogRow {
	/** Rises with the order of writing. */
	readonly id: number;
	readonly lane: number;
	readonly seq: number | undefined;
	readonly attempt: number | undefined;
	readonly level: LogLevel;
	readonly message: string;
	readonly metadata: unknown;
	readonly at: number;
	readonly worker: string;
}

export interface LogReadFilter {
	readonly lane?: number | undefined;
	readonly seq?: number | undefined;
	/** This level and worse. */
	readonly minLevel?: LogLevel | undefined;
	/** Inclusive, UTC ms. */
	readonly since?: number | undefined;
	/** Inclusive. */
	readonly until?: number | undefined;
	/** Only rows with a higher id. */
	readonly after?: number | undefined;
	readonly offset?: number | undefined;
	readonly limit?: number | undefined;
	/** The newest `limit` rows in place of the oldest; `offset` then counts from the newest. */
	readonly tail?: boolean | undefined;
}

export interface LogRows {
	/** Oldest first, by id. */
	readonly rows: readonly LogRow[];
	/** Rows that match, over all pages; stops counting at LIMITS.logTotalMax. */
	readonly total: number;
}

export interface RawLog {
	id: number;
	lane: number;
	seq: number | null;
	attempt: number | null;
	level: number;
	message: string;
	metadata: string | null;
	at: number;
	worker: string;
}

export function rowOf(raw: RawLog): LogRow {
	return {
		id: raw.id,
		lane: raw.lane,
		seq: raw.seq ?? undefined,
		attempt: raw.attempt ?? undefined,
		level: LOG_LEVELS[raw.level] ?? "error",
		message: raw.message,
		metadata: raw.metadata === null ? undefined : (JSON.parse(raw.metadata) as unknown),
		at: raw.at,
		worker: raw.worker,
	};
}

export type RawLogDraft = [
	lane: number,
	seq: number | null,
	attempt: number | null,
	level: number,
	message: string,
	metadata: string | null,
	at: number,
	worker: string,
];

/** Every filter is bound in every statement; one that is not given is bound to what lets all rows pass. */
export interface LogParameters {
	lane: number | null;
	seq: number | null;
	minLevel: number;
	since: number;
	until: number;
	after: number;
	offset: number;
	limit: number;
	totalMax: number;
}

/** The three ways to read one set of rows. */
export interface LogPath {
	readonly oldest: Statement<[LogParameters], RawLog>;
	readonly newest: Statement<[LogParameters], RawLog>;
	readonly count: Statement<[LogParameters], number>;
}

const COMMON = "at BETWEEN @since AND @until AND level >= @minLevel AND id > @after";

/**
 * Which index a read goes by. Named, so that no plan changes with the data: of one invocation; of one lane; of all;
 * and what came after a row (that is --follow: few rows, whatever else they are filtered by).
 */
const PATHS = {
	ofInvocation: {
		from: "log INDEXED BY log_by_invocation WHERE seq = @seq AND (@lane IS NULL OR lane = @lane)",
		oldest: "ORDER BY id",
		newest: "ORDER BY id DESC",
	},
	ofLane: {
		from: "log INDEXED BY log_by_lane WHERE lane = @lane",
		oldest: "ORDER BY at, id",
		newest: "ORDER BY at DESC, id DESC",
	},
	ofAll: {
		from: "log INDEXED BY log_by_time WHERE true",
		oldest: "ORDER BY at, id",
		newest: "ORDER BY at DESC, id DESC",
	},
	afterRow: {
		from: "log NOT INDEXED WHERE (@lane IS NULL OR lane = @lane)",
		oldest: "ORDER BY id",
		newest: "ORDER BY id DESC",
	},
} as const;

export type LogStatements = ReturnType<typeof prepareLogStatements>;

export function prepareLogStatements(db: Database) {
	const path = ({ from, oldest, newest }: (typeof PATHS)[keyof typeof PATHS]): LogPath => ({
		oldest: db.prepare(`SELECT * FROM ${from} AND ${COMMON} ${oldest} LIMIT @limit OFFSET @offset`),
		newest: db.prepare(`SELECT * FROM ${from} AND ${COMMON} ${newest} LIMIT @limit OFFSET @offset`),
		count: db
			.prepare<[LogParameters], number>(`SELECT count(*) FROM (SELECT 1 FROM ${from} AND ${COMMON} LIMIT @totalMax)`)
			.pluck(),
	});
	return {
		logInsert: db.prepare<RawLogDraft>(
			"INSERT INTO log (lane, seq, attempt, level, message, metadata, at, worker) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		),
		logPrune: db.prepare<[before: number, limit: number]>(`
			DELETE FROM log WHERE id IN (SELECT id FROM log INDEXED BY log_by_time WHERE at < ? ORDER BY at LIMIT ?)`),
		logLastId: db.prepare<[], number | null>("SELECT max(id) FROM log").pluck(),
		ofInvocation: path(PATHS.ofInvocation),
		ofLane: path(PATHS.ofLane),
		ofAll: path(PATHS.ofAll),
		afterRow: path(PATHS.afterRow),
	};
}
