/**
 * Opens one database file: first looks and refuses, then sets the pragmas, then migrates.
 *
 * - Nothing is written to a file before it is known to be ours, of this instance, and not newer than we are.
 * - `synchronous` is set after WAL and read back after the first write: SQLite as built into better-sqlite3 drops it to
 *   NORMAL for WAL by itself, and then 200 commits make 8 fsyncs (measured). Where it is NORMAL on purpose, whoever tells
 *   of a commit syncs before (wal-sync.ts).
 * - The table `meta` (ours, in each database): `instance_id`; `live` once the data folder was complete; `commits`
 *   (commit-count.ts); in metadata.db `clean` after a clean stop, and `damaged` while a check that failed stands.
 * - No ANALYZE: plans must not change with the data. Statements that matter name their index.
 */
import BetterSqlite3 from "better-sqlite3";
import type { Environment } from "../core/environment.ts";
import { EngineError, messageOf } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";
import type { DatabaseKind } from "./database-kinds.ts";
import { migrate } from "./migrate.ts";
import { errnoOf, mapStoreError } from "./store-errors.ts";

export type Database = BetterSqlite3.Database;
export type Statement<Parameters extends unknown[] | object = unknown[], Row = unknown> = BetterSqlite3.Statement<
	Parameters,
	Row
>;
export type Synchronous = "FULL" | "NORMAL";
export type MetaKey = "instance_id" | "live" | "clean" | "damaged";

/** While it is opened. Afterwards each has its own, because waiting for a foreign lock holds up the event loop. */
const BUSY_MS = 2000;
const SYNCHRONOUS_CODE: Readonly<Record<Synchronous, number>> = { NORMAL: 1, FULL: 2 };

/** What a look at a file tells, before anything is written to it. */
export interface OpenedDatabase {
	readonly database: Database;
	readonly path: string;
	/** No tables: the file is new, or its creation was cut short. */
	readonly blank: boolean;
	readonly meta: ReadonlyMap<string, string>;
}

/** Throws DATA_FOREIGN, DATA_NEWER or DATA_CORRUPT; has changed nothing then. */
export function openDatabase(path: string, kind: DatabaseKind): OpenedDatabase {
	let database: Database | undefined;
	try {
		database = new BetterSqlite3(path, { timeout: BUSY_MS });
		return look(database, path, kind);
	} catch (error) {
		database?.close();
		throw readingError(error, path);
	}
}

function look(database: Database, path: string, kind: DatabaseKind): OpenedDatabase {
	const isEmptyFile = readNumber(database, "page_count") === 0;
	const applicationId = readNumber(database, "application_id");
	if (!isEmptyFile && applicationId !== kind.applicationId) {
		throw new EngineError(
			"DATA_FOREIGN",
			`${path} is a database of something else (application_id ${applicationId}, expected ${kind.applicationId}); use another data folder, or move the file away`,
		);
	}
	const version = readNumber(database, "user_version");
	if (version > kind.migrations.length) {
		throw new EngineError(
			"DATA_NEWER",
			`${path} has schema ${version}, this version knows ${kind.migrations.length}; use the newer version that wrote it, or a backup from before`,
		);
	}
	const tables = new Set(
		database.prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'table'").pluck().all(),
	);
	return { database, path, blank: tables.size === 0, meta: tables.has("meta") ? readMeta(database) : new Map() };
}

export interface PrepareOptions {
	readonly instanceId: string;
	readonly synchronous: Synchronous;
	readonly environment: Environment;
}

/** Pragmas and migrations; afterwards the database is ready to use. Throws BAD_ENVIRONMENT where a pragma has no effect. */
export function prepareDatabase(opened: OpenedDatabase, kind: DatabaseKind, options: PrepareOptions): void {
	const { database, path } = opened;
	const { synchronous } = options;
	try {
		if (opened.blank) claimFile(database, kind);
		const journal = database.pragma("journal_mode = WAL", { simple: true });
		if (journal !== "wal") {
			throw new EngineError(
				"BAD_ENVIRONMENT",
				`${path} cannot be used in WAL mode (it stays in ${String(journal)}); put the data folder on a local disk`,
			);
		}
		setPragmas(database, synchronous, kind.secret);
		database.exec("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID");
		migrate(database, path, kind, options.environment);
		database.exec("INSERT OR IGNORE INTO meta (key, value) VALUES ('commits', '0')");
		// The quirk shows after a write only: a read back before it would answer FULL in any case.
		writeMeta(database, "instance_id", options.instanceId);
		const effective = readNumber(database, "synchronous");
		if (effective !== SYNCHRONOUS_CODE[synchronous]) {
			throw new EngineError(
				"BAD_ENVIRONMENT",
				`${path}: synchronous=${synchronous} has no effect (it is ${effective}); commits would not be durable`,
			);
		}
	} catch (error) {
		throw openingError(error, path);
	}
}

/**
 * In one transaction, because each alone makes the first page: killed between the two, the file would be nobody's.
 * Deferred, because BEGIN IMMEDIATE makes that page itself, and then auto_vacuum has no effect any more.
 */
function claimFile(database: Database, kind: DatabaseKind): void {
	database.exec("BEGIN");
	// Has an effect before the first table only.
	database.pragma("auto_vacuum = INCREMENTAL");
	database.pragma(`application_id = ${kind.applicationId}`);
	database.exec("COMMIT");
}

function setPragmas(database: Database, synchronous: Synchronous, secret: boolean): void {
	database.pragma(`synchronous = ${synchronous}`);
	database.pragma("foreign_keys = ON");
	database.pragma(`journal_size_limit = ${LIMITS.walBytesMax}`);
	database.pragma("wal_autocheckpoint = 1000");
	database.pragma("temp_store = MEMORY");
	database.pragma("mmap_size = 0");
	database.pragma("cell_size_check = ON");
	database.pragma("trusted_schema = OFF");
	database.pragma(`secure_delete = ${secret ? "ON" : "OFF"}`);
}

/** How long SQLite waits for a lock of another program, and holds up the event loop meanwhile. */
export function setBusyWait(database: Database, ms: number): void {
	database.pragma(`busy_timeout = ${ms}`);
}

/** Throws DATA_CORRUPT. Reads the whole file: 25 MB take 20 ms warm and 1 s cold (measured). */
export function checkDatabase(database: Database, path: string): void {
	try {
		const problems = database.prepare<[], string>("PRAGMA quick_check(5)").pluck().all();
		if (problems.length === 1 && problems[0] === "ok") return;
		throw new EngineError("DATA_CORRUPT", `${path} is damaged (${problems.join("; ")}); restore a backup`);
	} catch (error) {
		throw readingError(error, path);
	}
}

export function readMeta(database: Database): ReadonlyMap<string, string> {
	return new Map(database.prepare<[], [string, string]>("SELECT key, value FROM meta").raw().all());
}

export function writeMeta(database: Database, key: MetaKey, value: string): void {
	database
		.prepare("INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value")
		.run(key, value);
}

/** Moves the WAL into the file and fsyncs it, whatever `synchronous` is. False where a reader is in the way. */
export function checkpoint(database: Database): boolean {
	return database.prepare<[], number>("PRAGMA wal_checkpoint(TRUNCATE)").pluck().get() === 0;
}

function readNumber(
	database: Database,
	pragma: "page_count" | "application_id" | "user_version" | "synchronous",
): number {
	return Number(database.pragma(pragma, { simple: true }));
}

/** Names the file in what an `ask` of a database that is being opened throws. */
export function naming<T>(database: Database, ask: () => T): T {
	try {
		return ask();
	} catch (error) {
		throw readingError(error, database.name);
	}
}

function openingError(error: unknown, path: string): EngineError {
	if (errnoOf(error)?.startsWith("SQLITE_BUSY") === true) {
		return new EngineError("STORE_BUSY", `${path} is locked by another program (a database shell?); close it first`, {
			cause: error,
		});
	}
	return mapStoreError(error, `opening ${path}`);
}

/** The same where nothing was written: what SQLite cannot make sense of is the file ("unsupported file format"). */
function readingError(error: unknown, path: string): EngineError {
	const opening = openingError(error, path);
	if (opening.code !== "STORE_ERROR" || errnoOf(error)?.startsWith("SQLITE_") !== true) return opening;
	return new EngineError("DATA_CORRUPT", `opening ${path}: ${messageOf(error)}; restore a backup`, { cause: error });
}
