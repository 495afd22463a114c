/**
 * One daemon per data folder.
 *
 * The lock is an SQLite file of its own with BEGIN EXCLUSIVE held for life: the kernel frees it when the process ends,
 * also by kill -9, and no child inherits it. daemon.json beside it says who holds it; it is for people, not the lock.
 * Never open or close daemon.lock with fs.* while it is held: measured, that lets a second daemon in.
 */
import Database from "better-sqlite3";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { EngineError } from "../core/errors.ts";
import { APPLICATION_IDS } from "./database-kinds.ts";
import { withPrivateUmask, writeFileDurably } from "./durable-file.ts";
import { errnoOf, mapStoreError } from "./store-errors.ts";

/** Who holds the folder, as told in daemon.json. */
export interface Holder {
	readonly pid: number;
	readonly socketPath: string | undefined;
	/** UTC ms. */
	readonly startedAt: number;
	readonly version: string;
}

export interface DaemonLock {
	writeHolder(holder: Holder): void;
	/** Frees the folder. Twice is once. */
	release(): void;
}

/**
 * With 0, daemons that start in the same instant can all refuse: each sees the others' passing shared locks.
 * 100 ms lets exactly one win, and is still at once for who reads the message.
 */
const LOCK_WAIT_MS = 100;
/** How long who found the lock taken waits for its holder to say who it is: it does so at once, but has to be run. */
const NAME_WAIT_MS = 1_000;
const NAME_LOOK_MS = 20;

/** Throws SECOND_DAEMON where another process (or another engine in this one) holds the folder. */
export function takeDaemonLock(root: string, now: number): DaemonLock {
	const path = join(root, "daemon.lock");
	let database: Database.Database | undefined;
	try {
		const opened = withPrivateUmask(() => new Database(path, { timeout: LOCK_WAIT_MS }));
		database = opened;
		withPrivateUmask(() => hold(opened, path));
	} catch (error) {
		database?.close();
		if (errnoOf(error)?.startsWith("SQLITE_BUSY") === true) {
			throw new EngineError(
				"SECOND_DAEMON",
				`${waitForHolder(root)} holds ${root}; stop it first, or use another data folder`,
				{
					cause: error,
				},
			);
		}
		if (errnoOf(error) === "SQLITE_NOTADB") {
			throw new EngineError("DATA_FOREIGN", `${path} is not ours; use another data folder, or move the file away`, {
				cause: error,
			});
		}
		throw mapStoreError(error, `locking ${path}`);
	}
	const held = database;
	const writeHolder = (holder: Holder): void => {
		try {
			writeFileDurably(holderPath(root), `${JSON.stringify(holder)}\n`);
		} catch (error) {
			if (mapStoreError(error).code !== "STORAGE_FULL") throw error;
			// It is for people. On a full disk a start has work to recover; an old file would name somebody else.
			rmSync(holderPath(root), { force: true });
		}
	};
	try {
		// What it says is of a run that is over. The rest follows when the daemon is up; its pid is wanted before.
		writeHolder({ pid: process.pid, socketPath: undefined, startedAt: now, version: "unknown" });
	} catch (error) {
		held.close();
		throw mapStoreError(error, `writing ${holderPath(root)}`);
	}
	return {
		writeHolder,
		release: () => {
			if (!held.open) return;
			rmSync(holderPath(root), { force: true });
			held.close();
		},
	};
}

/** Whether another process holds the folder. Makes nothing and changes nothing, also where there is no folder. */
export function isHeld(root: string): boolean {
	let database: Database.Database | undefined;
	try {
		database = new Database(join(root, "daemon.lock"), { readonly: true, fileMustExist: true, timeout: LOCK_WAIT_MS });
		database.prepare("SELECT count(*) FROM sqlite_schema").get();
		return false;
	} catch (error) {
		// Missing, or no lock file at all: nobody can hold it.
		return errnoOf(error)?.startsWith("SQLITE_BUSY") === true;
	} finally {
		database?.close();
	}
}

function hold(database: Database.Database, path: string): void {
	database.exec("BEGIN EXCLUSIVE");
	const applicationId = database.pragma("application_id", { simple: true });
	if (applicationId === APPLICATION_IDS.lock) return;
	const tables = database.prepare("SELECT count(*) FROM sqlite_schema").pluck().get();
	if (applicationId !== 0 || tables !== 0) {
		throw new EngineError("DATA_FOREIGN", `${path} is not ours; use another data folder, or move the file away`);
	}
	// A new file. Committed and taken again, so that no journal lies about for the daemon's whole life.
	database.pragma(`application_id = ${APPLICATION_IDS.lock}`);
	database.exec("COMMIT");
	database.exec("BEGIN EXCLUSIVE");
}

/** What daemon.json tells, or undefined where it tells nothing. It may be of a daemon that was killed. */
export function readHolder(root: string): Holder | undefined {
	try {
		const told = JSON.parse(readFileSync(holderPath(root), "utf8")) as Partial<Holder>;
		if (!Number.isInteger(told.pid) || !Number.isFinite(told.startedAt)) return undefined;
		return {
			pid: told.pid as number,
			startedAt: told.startedAt as number,
			socketPath: typeof told.socketPath === "string" ? told.socketPath : undefined,
			version: typeof told.version === "string" ? told.version : "unknown",
		};
	} catch {
		return undefined;
	}
}

/** As `describeHolder`, of a holder that may have taken the lock a moment ago. */
function waitForHolder(root: string): string {
	const still = new Int32Array(new SharedArrayBuffer(4));
	for (let waited = 0; waited < NAME_WAIT_MS && !isAlive(readHolder(root)?.pid); waited += NAME_LOOK_MS) {
		Atomics.wait(still, 0, 0, NAME_LOOK_MS);
	}
	return describeHolder(root);
}

function isAlive(pid: number | undefined): boolean {
	if (pid === undefined) return false;
	try {
		process.kill(pid, 0);
		return true;
	} catch (error) {
		// There, but somebody else's.
		return (error as NodeJS.ErrnoException).code === "EPERM";
	}
}

/** "a daemon (pid 4711, socket /run/f.sock, since 2026-01-02T03:04:05.678Z)". */
export function describeHolder(root: string): string {
	const holder = readHolder(root);
	if (holder === undefined) return "another process";
	const parts = [
		`pid ${holder.pid}`,
		...(holder.socketPath === undefined ? [] : [`socket ${holder.socketPath}`]),
		`since ${new Date(holder.startedAt).toISOString()}`,
	];
	return `a daemon (${parts.join(", ")})`;
}

function holderPath(root: string): string {
	return join(root, "daemon.json");
}
