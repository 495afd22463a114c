/**
 * The disk of a simulated machine: real SQLite files, opened by the store's own code. A crash leaves what a killed
 * process leaves: the files as they are, WAL and all, copied while the dead daemon still holds them.
 *
 * It fails when the nemesis says so, with the errors of a full, a failing and a locked disk, and it tells what each
 * commit changed: triggers on a temporary table write down every move of a row, inside the same transaction.
 */
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import BetterSqlite3 from "better-sqlite3";
import type { Environment } from "../../src/core/environment.ts";
import type { DataFolder, Database, Statement } from "../../src/store/index.ts";
import { LOGS, METADATA, QUEUE, type DatabaseKind } from "../../src/store/database-kinds.ts";
import { checkpoint, openDatabase, prepareDatabase, writeMeta } from "../../src/store/database.ts";
import type { Chance } from "./random.ts";

export const INSTANCE = "ins_simulated";
/** Commits that the freed ballast makes room for. */
const BALLAST_COMMITS = 40;

/** A move of one row, as it was committed. */
export interface RowChange {
	readonly op: "insert" | "update" | "delete";
	readonly seq: number;
	readonly lane: number;
	readonly oldState: number;
	readonly state: number;
	readonly oldAttempt: number;
	readonly attempt: number;
	readonly ready: number;
	readonly priority: number;
	readonly laneKey: string;
	readonly createdAt: number;
	readonly runAt: number;
	readonly deadlineAt: number | null;
	readonly charged: number;
	readonly maxAttempts: number;
	readonly atMostOnce: number;
	readonly startedAt: number | null;
	readonly finishedAt: number | null;
	readonly origin: string | null;
	readonly path: string;
	readonly key: string | null;
	readonly result: string | null;
	readonly resultBytes: number | null;
}

export interface SlotChange {
	readonly schedule: number;
	readonly slot: number;
	readonly outcome: string;
	readonly seq: number | null;
	readonly decidedAt: number;
}

export interface EventChange {
	readonly eventId: string;
	readonly type: string;
	/** JSON text; null where retention has taken the event away. */
	readonly invocations: string | null;
}

export interface KeyChange {
	readonly lane: number;
	readonly key: string;
	readonly expiresAt: number;
}

export interface Commit {
	/** Keys that were forgotten. */
	readonly keys: readonly KeyChange[];
	readonly rows: readonly RowChange[];
	readonly slots: readonly SlotChange[];
	readonly events: readonly EventChange[];
}

export interface DiskEvents {
	/** After each commit that stands, before anybody is told. */
	committed(commit: Commit): void;
	/** Just before and just after a COMMIT takes effect: the daemon may die here. Throws where it did. */
	beforeCommit(): void;
	afterCommit(): void;
}

/** Runs something after a time, unless the daemon is dead by then. */
export type Later = (afterMs: number, run: () => void) => void;

const ROW_COLUMNS = `seq, lane, oldState, state, oldAttempt, attempt, ready, priority, laneKey, createdAt, runAt,
	deadlineAt, charged, maxAttempts, atMostOnce, startedAt, finishedAt, origin, path, key, result, resultBytes`;
const NEW_ROW = (old: string): string => `NEW.seq, NEW.lane, ${old}, NEW.attempt, NEW.ready, NEW.priority, NEW.lane_key,
	NEW.created_at, NEW.run_at, NEW.deadline_at, NEW.charged, NEW.max_attempts, NEW.at_most_once, NEW.started_at,
	NEW.finished_at, NEW.origin, NEW.path, NEW.idempotency_key, CAST(NEW.result_body AS TEXT), NEW.result_bytes`;
const WATCH = `
CREATE TEMP TABLE row_change (n INTEGER PRIMARY KEY, op, ${ROW_COLUMNS});
CREATE TEMP TABLE rare_change (n INTEGER PRIMARY KEY, kind, value);
CREATE TEMP TRIGGER row_inserted AFTER INSERT ON main.invocation BEGIN
	INSERT INTO row_change (op, ${ROW_COLUMNS}) VALUES ('insert', ${NEW_ROW("-1, NEW.state, 0")});
END;
CREATE TEMP TRIGGER row_updated AFTER UPDATE ON main.invocation BEGIN
	INSERT INTO row_change (op, ${ROW_COLUMNS}) VALUES ('update', ${NEW_ROW("OLD.state, NEW.state, OLD.attempt")});
END;
CREATE TEMP TRIGGER row_deleted AFTER DELETE ON main.invocation BEGIN
	INSERT INTO row_change (op, seq, lane, oldState, finishedAt) VALUES ('delete', OLD.seq, OLD.lane, OLD.state, OLD.finished_at);
END;
CREATE TEMP TRIGGER slot_inserted AFTER INSERT ON main.cron_slot BEGIN
	INSERT INTO rare_change (kind, value) VALUES ('slots', json_object('schedule', NEW.schedule, 'slot', NEW.slot,
		'outcome', NEW.outcome, 'seq', NEW.seq, 'decidedAt', NEW.decided_at));
END;
CREATE TEMP TRIGGER event_inserted AFTER INSERT ON main.event BEGIN
	INSERT INTO rare_change (kind, value) VALUES ('events', json_object('eventId', NEW.event_id, 'type', NEW.type,
		'invocations', NEW.invocations));
END;
CREATE TEMP TRIGGER key_deleted AFTER DELETE ON main.idempotency BEGIN
	INSERT INTO rare_change (kind, value) VALUES ('keys', json_object('lane', OLD.lane, 'key', OLD.key,
		'expiresAt', OLD.expires_at));
END;
CREATE TEMP TRIGGER event_deleted AFTER DELETE ON main.event BEGIN
	INSERT INTO rare_change (kind, value) VALUES ('events', json_object('eventId', OLD.event_id, 'type', OLD.type,
		'invocations', NULL));
END;`;

const NEXT_DUE = `
	SELECT (SELECT MIN(run_at) FROM invocation INDEXED BY invocation_due WHERE state = 0 AND ready = 0) AS due,
		(SELECT MIN(deadline_at) FROM invocation INDEXED BY invocation_deadline
			WHERE state = 0 AND deadline_at IS NOT NULL) AS deadline`;

export type CommitFault = "ioerr-before" | "ioerr-after";

export class Disk {
	readonly #root: string;
	readonly #chance: Chance;
	readonly #events: DiskEvents;
	#generation = 0;
	#open:
		| {
				readonly queue: Database;
				readonly metadata: Database;
				readonly logs: Database;
				readonly nextDue: Statement<[], { due: number | null; deadline: number | null }>;
		  }
		| undefined;
	#drain: (() => Commit) | undefined;
	#ballast = true;
	/** Commits that still fit; Infinity where the disk has space. */
	#roomFor = Number.POSITIVE_INFINITY;
	/** What the next commits meet, by how many are let through before. */
	#fault: { readonly kind: CommitFault; left: number } | undefined;
	/** Another program holds the lock until then. */
	#locked: () => boolean = () => false;
	/** The next insert of an invocation fails in a way that is its own fault. */
	#badItem = 0;
	/** The keeper has seen that there is little space. */
	#low = false;
	/** The next sync. */
	#syncFails = false;
	commits = 0;
	syncs = 0;
	fullErrors = 0;

	constructor(chance: Chance, events: DiskEvents) {
		this.#chance = chance;
		this.#events = events;
		this.#root = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "bunbase-sim-"));
		mkdirSync(this.#folder);
		mkdirSync(this.#empty);
	}

	/** Where the engine looks for files that are not simulated. */
	get #empty(): string {
		return join(this.#root, "empty");
	}

	get #folder(): string {
		return join(this.#root, `g${this.#generation}`);
	}

	#prepared(kind: DatabaseKind, path: string, environment: Environment): Database {
		const opened = openDatabase(path, kind);
		prepareDatabase(opened, kind, { instanceId: INSTANCE, synchronous: "NORMAL", environment });
		return opened.database;
	}

	/** The data folder as the next daemon finds it. */
	openFolder(environment: Environment, later: Later): DataFolder {
		const folder = this.#folder;
		const metadata = this.#prepared(METADATA, join(folder, METADATA.file), environment);
		const queue = this.#prepared(QUEUE, join(folder, QUEUE.file), environment);
		const logs = this.#prepared(LOGS, join(folder, LOGS.file), environment);
		// BUGGIFY: a WAL that is moved into the file after a few pages, or after many.
		queue.pragma(`wal_autocheckpoint = ${this.#chance.pick([1, 20, 1000])}`);
		const unclean = metadata.prepare("SELECT value FROM meta WHERE key = 'clean'").pluck().get() === "0";
		writeMeta(metadata, "clean", "0");
		this.#watch(queue);
		this.#open = { queue, metadata, logs, nextDue: queue.prepare(NEXT_DUE) };
		return {
			instanceId: INSTANCE,
			paths: { root: folder, bundles: this.#empty, logs: this.#empty, tmp: this.#empty },
			metadata,
			queue,
			logs,
			ballast: {
				held: this.#ballast,
				givenUp: false, // the simulated disk says by itself when it has no room
				free: () => this.#freeBallast(),
				restore: () => {
					if (this.#roomFor === Number.POSITIVE_INFINITY) this.#ballast = true;
					return this.#ballast;
				},
			},
			unclean,
			queueDisk: this.#sync(later),
			keeper: this.#keeper(),
			checkLater: () => undefined,
			writeHolder: () => undefined,
			close: () => this.#close(),
		};
	}

	/** One sync takes as long as a disk takes, which is quick in its hours; now and then one fails. */
	#sync(later: Later): DataFolder["queueDisk"] {
		let quick = this.#chance.oneIn(2);
		const fails = (): boolean => {
			this.syncs += 1;
			if (!this.#syncFails) return false;
			this.#syncFails = false;
			return true;
		};
		return {
			get quick() {
				return quick;
			},
			gatherMs: this.#chance.between(0, 4),
			now: () => {
				if (this.#chance.oneIn(200)) quick = !quick;
				if (fails()) throw failedSync();
			},
			start: (done) => {
				if (this.#chance.oneIn(200)) quick = !quick;
				later(this.#chance.oneIn(20) ? this.#chance.magnitude(5, 400) : this.#chance.between(0, 2), () => {
					done(fails() ? failedSync() : null);
				});
			},
			close: () => undefined,
		};
	}

	/** What looks at real files once a second; here it only says what the disk has left. */
	#keeper(): DataFolder["keeper"] {
		const low = (): boolean => this.#low;
		const keeper: Pick<DataFolder["keeper"], "start" | "stop" | "walBytes" | "spaceLow"> = {
			start: () => undefined,
			stop: async () => undefined,
			walBytes: 0,
			get spaceLow() {
				return low();
			},
		};
		return keeper as DataFolder["keeper"];
	}

	/** The metadata of a new instance, before its first daemon. */
	create(environment: Environment, fill: (metadata: Database) => void): void {
		const metadata = this.#prepared(METADATA, join(this.#folder, METADATA.file), environment);
		fill(metadata);
		metadata.close();
	}

	#close(): void {
		if (this.#open === undefined) return;
		const { queue, metadata, logs } = this.#open;
		this.#open = undefined;
		checkpoint(queue);
		queue.close();
		logs.close();
		writeMeta(metadata, "clean", "1");
		metadata.close();
	}

	/** The daemon is killed: the next one finds a copy of the files as they are now. */
	crash(): void {
		if (this.#open === undefined) return;
		const from = this.#folder;
		this.#generation += 1;
		mkdirSync(this.#folder);
		for (const file of [METADATA.file, QUEUE.file]) {
			for (const part of [file, `${file}-wal`]) {
				if (existsSync(join(from, part))) copyFileSync(join(from, part), join(this.#folder, part));
			}
		}
		const { queue, metadata, logs } = this.#open;
		this.#open = undefined;
		for (const database of [queue, metadata, logs]) database.close();
		rmSync(from, { recursive: true });
	}

	dispose(): void {
		if (this.#open !== undefined) for (const kind of ["queue", "metadata", "logs"] as const) this.#open[kind].close();
		this.#open = undefined;
		rmSync(this.#root, { recursive: true, force: true });
	}

	/** Of the queue, as the running daemon has it. */
	get queue(): Database | undefined {
		return this.#open?.queue;
	}

	/** The next time at which a row becomes due or expires, UTC ms. */
	get nextDue(): number {
		const row = this.#open?.nextDue.get();
		return Math.min(row?.due ?? Number.POSITIVE_INFINITY, row?.deadline ?? Number.POSITIVE_INFINITY);
	}

	get metadata(): Database | undefined {
		return this.#open?.metadata;
	}

	get queueBytes(): number {
		const size = (part: string): number => statSync(join(this.#folder, part), { throwIfNoEntry: false })?.size ?? 0;
		return size(QUEUE.file) + size(`${QUEUE.file}-wal`);
	}

	get walBytes(): number {
		return statSync(join(this.#folder, `${QUEUE.file}-wal`), { throwIfNoEntry: false })?.size ?? 0;
	}

	// --- faults ------------------------------------------------------------------------------------------------------
	/** Full, after this many commits. */
	fill(afterCommits: number): void {
		this.#roomFor = afterCommits;
		this.#low = this.#chance.oneIn(3);
	}

	failSync(): void {
		this.#syncFails = true;
	}

	freeSpace(): void {
		this.#low = false;
		this.#roomFor = Number.POSITIVE_INFINITY;
	}

	get full(): boolean {
		return this.#roomFor !== Number.POSITIVE_INFINITY;
	}

	failCommit(kind: CommitFault, afterCommits: number): void {
		this.#fault = { kind, left: afterCommits };
	}

	lockWhile(locked: () => boolean): void {
		this.#locked = locked;
	}

	spoilInsert(after: number): void {
		this.#badItem = after;
	}

	/** Everything that could go wrong is over. */
	heal(): void {
		this.freeSpace();
		this.#fault = undefined;
		this.#syncFails = false;
		this.#locked = () => false;
		this.#badItem = 0;
	}

	forceCheckpoint(): void {
		this.#open?.queue.pragma("wal_checkpoint(PASSIVE)");
	}

	#freeBallast(): boolean {
		if (!this.#ballast) return false;
		this.#ballast = false;
		this.#roomFor += BALLAST_COMMITS;
		return true;
	}

	// --- the queue's statements --------------------------------------------------------------------------------------
	#watch(queue: Database): void {
		queue.exec(WATCH);
		const plain = queue.prepare.bind(queue) as (sql: string) => Statement;
		this.#drain = drainer(plain);
		const guarded = (sql: string): Statement => {
			const statement = plain(sql);
			if (sql === "COMMIT") this.#guardCommit(statement, plain);
			else if (sql === "BEGIN IMMEDIATE") this.#guardBegin(statement);
			else if (/^\s*INSERT INTO invocation /.test(sql)) this.#guardInsert(statement);
			return statement;
		};
		queue.prepare = guarded as unknown as Database["prepare"];
	}

	#guardBegin(statement: Statement): void {
		const run = statement.run.bind(statement);
		statement.run = (...values) => {
			if (this.#locked()) throw sqliteError("SQLITE_BUSY", "database is locked");
			return run(...values);
		};
	}

	#guardInsert(statement: Statement): void {
		const run = statement.run.bind(statement);
		statement.run = (...values) => {
			if (this.#badItem > 0) {
				this.#badItem -= 1;
				if (this.#badItem === 0) throw sqliteError("SQLITE_TOOBIG", "string or blob too big");
			}
			// Half of the time a full disk shows at the write, half of the time at the commit.
			if (this.#roomFor <= 0 && this.#chance.oneIn(2)) throw this.#full();
			return run(...values);
		};
	}

	#guardCommit(statement: Statement, plain: (sql: string) => Statement): void {
		const run = statement.run.bind(statement);
		const changes = plain("SELECT total_changes()").pluck();
		let before = 0;
		statement.run = (...values) => {
			this.#events.beforeCommit();
			const wrote = this.#roomFor !== Number.POSITIVE_INFINITY && Number(changes.get()) !== before;
			if (wrote && this.#roomFor <= 0) throw this.#full();
			const fault = this.#dueFault();
			if (fault === "ioerr-before") throw sqliteError("SQLITE_IOERR_WRITE", "disk I/O error");
			const result = run(...values);
			this.commits += 1;
			if (wrote) this.#roomFor -= 1;
			const commit = this.#drain?.();
			before = Number(changes.get());
			if (commit !== undefined) this.#events.committed(commit);
			// It is on the disk, and the daemon is told that nobody knows.
			if (fault === "ioerr-after") throw sqliteError("SQLITE_IOERR_FSYNC", "disk I/O error");
			this.#events.afterCommit();
			return result;
		};
	}

	#dueFault(): CommitFault | undefined {
		if (this.#fault === undefined) return undefined;
		this.#fault.left -= 1;
		if (this.#fault.left > 0) return undefined;
		const { kind } = this.#fault;
		this.#fault = undefined;
		return kind;
	}

	#full(): Error {
		this.fullErrors += 1;
		return sqliteError("SQLITE_FULL", "database or disk is full");
	}
}

/** Reads what the triggers wrote down, and empties their tables where they hold something. */
function drainer(plain: (sql: string) => Statement): () => Commit {
	const takeAll = (table: string, columns: string): (() => unknown[]) => {
		const read = plain(`SELECT ${columns} FROM ${table} ORDER BY n`);
		const clear = plain(`DELETE FROM ${table}`);
		return () => {
			const changes = read.all();
			if (changes.length > 0) clear.run();
			return changes;
		};
	};
	const takeRows = takeAll("row_change", `op, ${ROW_COLUMNS}`);
	const takeRare = takeAll("rare_change", "kind, value");
	return () => {
		const rare = takeRare() as { kind: "slots" | "events" | "keys"; value: string }[];
		const of = <Change>(wanted: string): Change[] =>
			rare.filter(({ kind }) => kind === wanted).map(({ value }) => JSON.parse(value) as Change);
		return { rows: takeRows() as RowChange[], slots: of("slots"), events: of("events"), keys: of("keys") };
	};
}

function sqliteError(code: string, message: string): Error {
	return new BetterSqlite3.SqliteError(message, code);
}

function failedSync(): Error {
	return Object.assign(new Error("EIO: i/o error, fdatasync"), { code: "EIO" });
}

/** What a dead daemon's code meets. */
export class Died extends Error {
	override readonly name = "Died";
}
