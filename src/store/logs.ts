/**
 * Log lines of functions: into logs.db for reading, and into JSONL files for people.
 *
 * Logs never hold up invocations: `append` only puts the line into memory, within bounds; past them, and where the
 * disk refuses, lines are dropped, counted, and told by one line for each function when there is room again. Lines are
 * durable up to the last flush at kill -9 (LIMITS.logFlushMs), and up to the last checkpoint at a power cut.
 */
import { LOG_LEVELS } from "../core/contracts.ts";
import type { Environment, Timer } from "../core/environment.ts";
import { LIMITS } from "../core/limits.ts";
import type { Database } from "./database.ts";
import { LogFiles } from "./log-files.ts";
import {
	prepareLogStatements,
	rowOf,
	type LogLine,
	type LogParameters,
	type LogPath,
	type LogReadFilter,
	type LogRows,
	type LogStatements,
} from "./log-rows.ts";
import { mapStoreError } from "./store-errors.ts";

export interface LogStoreDeps {
	readonly database: Database;
	/** Of the JSONL files. */
	readonly folder: string;
	readonly environment: Environment;
}

/** A line as it waits: cut to its bound, its metadata as text. */
interface Waiting {
	readonly line: LogLine;
	readonly message: string;
	readonly metadata: string | null;
	readonly chars: number;
	/** How many dropped lines this line tells of; 0 for all others. */
	readonly tells: number;
}

interface DroppedOfLane {
	lines: number;
	readonly functionId: string | undefined;
}

export class LogStore {
	readonly #database: Database;
	readonly #environment: Environment;
	readonly #files: LogFiles;
	readonly #statements: LogStatements;
	readonly #listeners = new Set<(lastId: number) => void>();
	readonly #untold = new Map<number, DroppedOfLane>();
	#backlog: Waiting[] = [];
	#backlogChars = 0;
	#timer: Timer | undefined;
	/** The timer fires in this turn, not after logFlushMs. */
	#hurried = false;
	#dropped = 0;
	#lastId: number;
	#refusing = false;
	#closed: Promise<void> | undefined;

	constructor(deps: LogStoreDeps) {
		this.#database = deps.database;
		this.#environment = deps.environment;
		this.#files = new LogFiles(deps.folder, deps.environment);
		try {
			this.#statements = prepareLogStatements(deps.database);
			this.#lastId = this.#statements.logLastId.get() ?? 0;
		} catch (error) {
			throw mapStoreError(error, "opening logs.db (moved away, it is made anew, without its lines)");
		}
	}

	/** Lines that were never written, since the start. */
	get dropped(): number {
		return this.#dropped;
	}

	/** The highest id written; where --follow begins. */
	get lastId(): number {
		return this.#lastId;
	}

	append(line: LogLine): void {
		// First of all, because in a storm most lines end here.
		if (this.#closed !== undefined || this.#backlog.length >= LIMITS.logBacklogLinesMax) return this.#drop(line);
		const waiting = toWaiting(line);
		if (this.#backlogChars + waiting.chars > LIMITS.logBacklogCharsMax) return this.#drop(line);
		this.#backlog.push(waiting);
		this.#backlogChars += waiting.chars;
		this.#arm(this.#backlog.length >= LIMITS.logFlushLines);
	}

	/** Calls back after each flush that wrote something. Returns how to stop that. */
	onAppend(listener: (lastId: number) => void): () => void {
		this.#listeners.add(listener);
		return () => this.#listeners.delete(listener);
	}

	/** What was appended so far is in the database on return, and in the files when the promise resolves. */
	flush(): Promise<void> {
		this.#writeAll();
		return this.#files.flushed();
	}

	/** Everything appended before is in the answer. */
	read(filter: LogReadFilter): LogRows {
		this.#writeAll();
		const limit = Math.min(filter.limit ?? LIMITS.logPageMax, LIMITS.logPageMax);
		const parameters: LogParameters = {
			lane: filter.lane ?? null,
			seq: filter.seq ?? null,
			minLevel: filter.minLevel === undefined ? 0 : LOG_LEVELS.indexOf(filter.minLevel),
			since: filter.since ?? Number.MIN_SAFE_INTEGER,
			until: filter.until ?? Number.MAX_SAFE_INTEGER,
			after: filter.after ?? 0,
			offset: filter.offset ?? 0,
			limit,
			totalMax: LIMITS.logTotalMax,
		};
		const path = this.#path(filter);
		try {
			const raws = (filter.tail === true ? path.newest : path.oldest).all(parameters);
			// By id: the last one is where --follow goes on.
			return { rows: raws.map(rowOf).sort((a, b) => a.id - b.id), total: path.count.get(parameters) ?? 0 };
		} catch (error) {
			throw mapStoreError(error, "reading logs.db");
		}
	}

	/** Removes at most `maxRows` rows, and files of days, from before that time. Returns how many rows. */
	prune(before: number, maxRows: number): number {
		this.#files.prune(before);
		try {
			return this.#statements.logPrune.run(before, maxRows).changes;
		} catch (error) {
			throw mapStoreError(error, "pruning logs.db");
		}
	}

	/** Writes what waits and takes no more. The database is the data folder's to close, after this. */
	close(): Promise<void> {
		this.#closed ??= this.#close();
		return this.#closed;
	}

	async #close(): Promise<void> {
		this.#writeAll();
		this.#listeners.clear();
		await this.#files.close();
	}

	#path(filter: LogReadFilter): LogPath {
		if (filter.seq !== undefined) return this.#statements.ofInvocation;
		if ((filter.after ?? 0) > 0) return this.#statements.afterRow;
		return filter.lane === undefined ? this.#statements.ofAll : this.#statements.ofLane;
	}

	#arm(hurried: boolean): void {
		if (this.#timer !== undefined && (this.#hurried || !hurried)) return;
		this.#timer?.cancel();
		this.#hurried = hurried;
		this.#timer = this.#environment.clock.setTimer(hurried ? 0 : LIMITS.logFlushMs, () => {
			this.#timer = undefined;
			this.#writeSome();
			if (this.#backlog.length > 0) this.#arm(true);
		});
	}

	#writeAll(): void {
		this.#timer?.cancel();
		this.#timer = undefined;
		do this.#writeSome();
		while (this.#backlog.length > 0);
	}

	/** One transaction. Between two, the loop serves others. */
	#writeSome(): void {
		const batch = this.#backlog.splice(0, LIMITS.logFlushLines);
		for (const { chars } of batch) this.#backlogChars -= chars;
		if (this.#backlog.length === 0) batch.push(...this.#takeUntold());
		if (batch.length === 0) return;
		// Lines of several workers come interleaved; ids should rise with time as far as one batch can see it.
		batch.sort((a, b) => a.line.at - b.line.at);
		this.#files.append(batch.map(jsonLineOf).join(""));
		try {
			this.#lastId = this.#database.transaction(() => this.#insert(batch)).immediate();
			this.#refusing = false;
		} catch (error) {
			for (const { line, tells } of batch) {
				if (tells === 0) this.#drop(line);
				else this.#owe(line, tells);
			}
			this.#warnOnce(error);
			return;
		}
		for (const listener of this.#listeners) listener(this.#lastId);
	}

	#insert(batch: readonly Waiting[]): number {
		let lastId = this.#lastId;
		for (const { line, message, metadata } of batch) {
			const level = LOG_LEVELS.indexOf(line.level);
			const seq = line.seq ?? null;
			const { lastInsertRowid } = this.#statements.logInsert.run(
				line.lane,
				seq,
				line.attempt ?? null,
				level,
				message,
				metadata,
				line.at,
				line.worker,
			);
			lastId = Number(lastInsertRowid);
		}
		return lastId;
	}

	#drop(line: LogLine): void {
		this.#dropped += 1;
		this.#owe(line, 1);
	}

	#owe(line: LogLine, lines: number): void {
		const known = this.#untold.get(line.lane);
		if (known === undefined) this.#untold.set(line.lane, { lines, functionId: line.functionId });
		else known.lines += lines;
	}

	/** One line for each function that lost some. */
	#takeUntold(): Waiting[] {
		const at = this.#environment.clock.now();
		const told = [...this.#untold].map(([lane, { lines, functionId }]): Waiting => {
			const message = `${lines} lines dropped: more came than the log could take`;
			const line: LogLine = {
				lane,
				seq: undefined,
				attempt: undefined,
				level: "warn",
				message,
				metadata: undefined,
				at,
				worker: "daemon",
				functionId,
			};
			return { line, message, metadata: null, chars: 0, tells: lines };
		});
		this.#untold.clear();
		return told;
	}

	#warnOnce(error: unknown): void {
		if (this.#refusing) return;
		this.#refusing = true;
		this.#environment.logger.warn(
			{ error: mapStoreError(error, "writing logs.db").message },
			"log lines are dropped until the disk takes them again",
		);
	}
}

function toWaiting(line: LogLine): Waiting {
	const message = cut(line.message);
	const metadata = line.metadata === undefined ? null : metadataTextOf(line.metadata);
	return { line, message, metadata, chars: message.length + (metadata?.length ?? 0), tells: 0 };
}

/** To LIMITS.logLineBytesMax, with a mark. */
function cut(text: string): string {
	// No UTF-16 unit is more than 3 bytes of UTF-8.
	if (text.length * 3 <= LIMITS.logLineBytesMax || Buffer.byteLength(text) <= LIMITS.logLineBytesMax) return text;
	const kept = Buffer.from(text).subarray(0, LIMITS.logLineBytesMax).toString("utf8");
	return `${kept.replace(/\uFFFD$/, "")}… (cut)`;
}

function metadataTextOf(metadata: object): string {
	try {
		const text = JSON.stringify(metadata);
		return Buffer.byteLength(text) <= LIMITS.logLineBytesMax ? text : '{"cut":true}';
	} catch {
		// A cycle or a BigInt.
		return '{"unreadable":true}';
	}
}

function jsonLineOf({ line, message, metadata }: Waiting): string {
	const text = JSON.stringify({
		time: timeTextOf(line.at),
		level: line.level,
		function: line.functionId ?? line.lane,
		invocation: line.invocationId ?? line.seq,
		attempt: line.attempt,
		worker: line.worker,
		message,
	});
	return metadata === null ? `${text}\n` : `${text.slice(0, -1)},"metadata":${metadata}}\n`;
}

/** A worker tells its own time, and may tell what is none. */
function timeTextOf(at: number): string {
	const date = new Date(at);
	return Number.isNaN(date.getTime()) ? String(at) : date.toISOString();
}
