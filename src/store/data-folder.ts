/**
 * The data folder: takes its lock, decides whether it is new, ours, whole and not newer than we are, and opens its
 * databases. Frees the lock last.
 *
 * Creation can be cut short anywhere: the databases come first, then the marker (instance.json), and only after it the
 * databases are called `live`. So a folder without a marker whose databases are not `live` never held anything and is
 * completed; one whose databases are `live` has lost its marker and is refused. Data is never started empty in its place.
 */
import { chmodSync, readdirSync, statfsSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Environment, Logger } from "../core/environment.ts";
import { EngineError, messageOf } from "../core/errors.ts";
import { newId } from "../core/ids.ts";
import { openBallast, type Ballast } from "./ballast.ts";
import { takeDaemonLock, type DaemonLock, type Holder } from "./daemon-lock.ts";
import { LOGS, METADATA, QUEUE, type DatabaseKind } from "./database-kinds.ts";
import {
	checkDatabase,
	checkpoint,
	openDatabase,
	prepareDatabase,
	setBusyWait,
	writeMeta,
	type Database,
	type OpenedDatabase,
	type Synchronous,
} from "./database.ts";
import { makePrivateFolder, withPrivateUmask } from "./durable-file.ts";
import {
	acceptRollbacks,
	findRollbacks,
	readHighWater,
	readLevels,
	rolledBack,
	writeHighWater,
	type HighWaterMark,
} from "./high-water.ts";
import { Keeper } from "./keeper.ts";
import { LaterCheck } from "./later-check.ts";
import { readMarker, writeMarker, type InstanceMarker } from "./instance-marker.ts";
import { errnoOf, mapStoreError } from "./store-errors.ts";
import { noSync, openWalSync, type WalSync } from "./wal-sync.ts";

export interface DataFolderPaths {
	readonly root: string;
	readonly bundles: string;
	readonly logs: string;
	readonly tmp: string;
}

export interface DataFolder {
	readonly instanceId: string;
	/** Absolute. */
	readonly paths: DataFolderPaths;
	readonly metadata: Database;
	readonly queue: Database;
	readonly logs: Database;
	/** Puts commits of `queue` on disk; with `durability: "process"` it does nothing. */
	readonly queueDisk: WalSync;
	readonly ballast: Ballast;
	readonly keeper: Keeper;
	/** The run before this one did not close the folder: it was killed, or the machine went down. */
	readonly unclean: boolean;
	/** After the start: reads through what was too large before it. `broken` where that finds damage. */
	checkLater(broken: (error: EngineError) => void): void;
	/** Tells a second daemon, and the CLI, who is here. */
	writeHolder(holder: Holder): void;
	/** Checkpoints, marks the folder clean, and frees it. Twice is once. No statement may be open. */
	close(): void;
}

export interface DataFolderOptions {
	readonly dataDir: string;
	readonly durability: "power" | "process";
	readonly environment: Environment;
	/** Goes on where a database has lost acknowledged work. */
	readonly acceptRollback?: boolean;
	readonly freeBytesMin?: number | undefined;
}

/**
 * A database up to here is read through before serving (1 s cold); a larger one would hold up the start, and is read
 * through while serving.
 */
const CHECKED_BYTES_MAX = 64 * 1024 * 1024;
/** An administrator's call waits so long for a lock of another program; log lines wait less, and are dropped. */
const METADATA_BUSY_MS = 250;
const LOGS_BUSY_MS = 10;
/** Where a restore keeps what is not whole yet; while it is there, the folder is no data folder. */
export const RESTORE_PARTIAL = "restore.partial";
/** `statfs` types on which locks or WAL are known not to hold: NFS, SMB, SMB2, 9p, FUSE. */
const NETWORK_FILE_SYSTEMS: ReadonlySet<number> = new Set([
	0x6969, 0x517b, 0xfe534d42, 0xff534d42, 0x01021997, 0x65735546,
]);

export function openDataFolder(options: DataFolderOptions): DataFolder {
	return withPrivateUmask(() => {
		const root = resolve(options.dataDir);
		makeRoot(root);
		const lock = takeDaemonLock(root, options.environment.clock.now());
		try {
			return openLocked(root, lock, options);
		} catch (error) {
			lock.release();
			throw mapStoreError(error, `opening ${root}`);
		}
	});
}

export interface FolderToCopy {
	readonly root: string;
	readonly metadata: Database;
	readonly queue: Database;
	close(): void;
}

/** For a copy of a folder that no daemon has: as it is, without migrations. Throws what a start would throw. */
export function openToCopy(dataDir: string): FolderToCopy {
	const root = resolve(dataDir);
	if (readMarker(root) === undefined) {
		throw new EngineError(
			"DATA_MISSING",
			`${root} is no data folder: it has no instance.json; check --data-dir, or name a running daemon with --socket`,
		);
	}
	refuseHalfRestored(root);
	const lock = takeDaemonLock(root, Date.now());
	const opened: OpenedDatabase[] = [];
	const close = (): void => {
		for (const { database } of opened) database.close();
		lock.release();
	};
	try {
		for (const kind of [METADATA, QUEUE]) {
			const path = join(root, kind.file);
			if (sizeOf(path) === 0) throw missing(path);
			opened.push(withPrivateUmask(() => openDatabase(path, kind)));
		}
		const [metadata, queue] = opened;
		if (metadata === undefined || queue === undefined) throw new Error("two were opened");
		return { root, metadata: metadata.database, queue: queue.database, close };
	} catch (error) {
		close();
		throw mapStoreError(error, `opening ${root}`);
	}
}

function openLocked(root: string, lock: DaemonLock, options: DataFolderOptions): DataFolder {
	const { environment, durability } = options;
	refuseHalfRestored(root);
	const paths = { root, bundles: join(root, "bundles"), logs: join(root, "logs"), tmp: join(root, "tmp") };
	for (const path of [paths.bundles, paths.logs, paths.tmp]) makePrivateFolder(path);
	warnOfNetworkFileSystem(root, environment);

	const found = readMarker(root);
	const marker = found ?? {
		instanceId: newId("ins", environment.clock, environment.random),
		createdAt: environment.clock.now(),
	};
	const synchronous: Synchronous = options.durability === "power" ? "FULL" : "NORMAL";
	const opened: OpenedDatabase[] = [];
	let disk: WalSync = noSync;
	const open = (kind: DatabaseKind, synchronous: Synchronous): OpenedDatabase => {
		const database = openOfInstance(join(root, kind.file), kind, found, environment);
		opened.push(database);
		// SQLite gives the two beside it the mode that the file had when it was opened.
		for (const suffix of ["", "-wal", "-shm"]) makePrivateFile(database.path + suffix);
		prepareDatabase(database, kind, { instanceId: marker.instanceId, synchronous, environment });
		environment.probe.hit("folder.database_opened", kind.file);
		return database;
	};
	try {
		const metadata = open(METADATA, synchronous);
		const queue = open(QUEUE, "NORMAL");
		const logs = open(LOGS, "NORMAL");
		const unclean = isLive(metadata) && metadata.meta.get("clean") !== "1";
		const check = new LaterCheck(checkNow(metadata, queue, unclean), environment);
		refuseRollback(root, found, { queue: queue.database, metadata: metadata.database }, options);
		if (found === undefined) {
			// With NORMAL the schema may be in memory only; the marker says that it is on the disk.
			for (const { database } of opened) checkpoint(database);
			writeMarker(root, marker);
			environment.probe.hit("folder.marked");
		}
		for (const { database, meta } of opened) if (meta.get("live") !== "1") writeMeta(database, "live", "1");
		// From here on only `close` makes it clean again.
		writeMeta(metadata.database, "clean", "0");
		disk = options.durability === "power" ? openWalSync(queue.path, environment.clock) : noSync;
		// What a killed run left in the WAL may be in memory only; from here on what is found counts as durable.
		disk.now();
		setBusyWait(metadata.database, METADATA_BUSY_MS);
		setBusyWait(logs.database, LOGS_BUSY_MS);
		const keeper = new Keeper({
			root,
			instanceId: marker.instanceId,
			durability: options.durability,
			environment,
			queue: queue.database,
			metadata: metadata.database,
			freeBytesMin: options.freeBytesMin,
		});
		return {
			instanceId: marker.instanceId,
			paths,
			metadata: metadata.database,
			queue: queue.database,
			logs: logs.database,
			queueDisk: disk,
			ballast: openBallast(join(root, "ballast")),
			keeper,
			unclean,
			checkLater: (broken) =>
				check.start((error) => {
					noteDamage(metadata.database, environment.logger);
					broken(error);
				}),
			writeHolder: (holder) => withPrivateUmask(() => lock.writeHolder(holder)),
			close() {
				check.stop();
				const mark = keeper.levels === undefined ? undefined : { instanceId: marker.instanceId, ...keeper.levels };
				closeFolder(
					{ root, durability, mark, whole: check.passed, logger: environment.logger },
					metadata.database,
					[queue.database, logs.database],
					disk,
					lock,
				);
			},
		};
	} catch (error) {
		for (const { database } of opened) database.close();
		throw error;
	}
}

/**
 * Reads through what is small, or was found damaged before (64 MiB: 50 ms from memory, 3 s from a cold disk); answers what is
 * to be read through later: what is large, after an unclean stop.
 */
function checkNow(metadata: OpenedDatabase, queue: OpenedDatabase, unclean: boolean): readonly string[] {
	const damaged = metadata.meta.get("damaged") === "1";
	const later: string[] = [];
	for (const { database, path } of [metadata, queue]) {
		if (damaged || sizeOf(path) + sizeOf(`${path}-wal`) <= CHECKED_BYTES_MAX) checkDatabase(database, path);
		else if (unclean) later.push(path);
	}
	if (damaged) writeMeta(metadata.database, "damaged", "0");
	return later;
}

/** So that the next start looks before it serves, however large the databases are. */
function noteDamage(metadata: Database, logger: Logger): void {
	try {
		writeMeta(metadata, "damaged", "1");
	} catch (error) {
		logger.warn({ error: messageOf(error) }, "that a database is damaged could not be noted in metadata.db");
	}
}

/** A database that knows less than the mark says has lost commits that were acknowledged. */
function refuseRollback(
	root: string,
	marker: InstanceMarker | undefined,
	databases: { readonly queue: Database; readonly metadata: Database },
	options: DataFolderOptions,
): void {
	const { environment, acceptRollback = false } = options;
	let mark: HighWaterMark | undefined;
	try {
		mark = readHighWater(root);
	} catch (error) {
		if (!acceptRollback || !(error instanceof EngineError) || error.code !== "DATA_CORRUPT") throw error;
		environment.logger.warn({ err: error }, "high-water.json cannot be read, and this is accepted");
		return;
	}
	if (mark === undefined) return;
	if (mark.instanceId !== marker?.instanceId) {
		environment.logger.warn({ root, of: mark.instanceId }, "high-water.json is of another instance and is not used");
		return;
	}
	const rollbacks = findRollbacks(mark, readLevels(databases));
	if (rollbacks.length === 0) return;
	if (!acceptRollback) throw rolledBack(root, rollbacks);
	acceptRollbacks(mark, databases, rollbacks, environment.logger);
}

/** Opens a file that is there as it should be, or that may be made. */
function openOfInstance(
	path: string,
	kind: DatabaseKind,
	marker: InstanceMarker | undefined,
	environment: Environment,
): OpenedDatabase {
	if (marker !== undefined && sizeOf(path) === 0) {
		if (kind.required) throw missing(path);
		environment.logger.warn({ path }, "logs.db is missing and is made anew");
	}
	const opened = openDatabase(path, kind);
	try {
		judge(opened, kind, marker);
		return opened;
	} catch (error) {
		opened.database.close();
		throw error;
	}
}

function judge(opened: OpenedDatabase, kind: DatabaseKind, marker: InstanceMarker | undefined): void {
	if (marker === undefined) {
		if (!isLive(opened)) return;
		throw new EngineError(
			"DATA_FOREIGN",
			`${opened.path} holds data but instance.json beside it is missing; restore it from a backup, or use another data folder`,
		);
	}
	if (opened.blank) {
		if (kind.required) throw missing(opened.path);
		return;
	}
	const instanceId = opened.meta.get("instance_id");
	// A database that may be made anew and was cut short then.
	if (instanceId === undefined && !kind.required) return;
	if (instanceId !== marker.instanceId) {
		throw new EngineError(
			"DATA_FOREIGN",
			`${opened.path} is of instance ${instanceId ?? "(none)"}, this folder of ${marker.instanceId}; restore all files from one backup`,
		);
	}
}

function missing(path: string): EngineError {
	return new EngineError(
		"DATA_MISSING",
		`${path} is missing or empty, though this folder had one; restore it from a backup (to start anew, use another data folder)`,
	);
}

function isLive(opened: OpenedDatabase): boolean {
	return opened.meta.get("live") === "1";
}

/** The mark of a second ago is as true as this one. */
function markAtStop(root: string, mark: HighWaterMark, logger: Logger): void {
	try {
		writeHighWater(root, mark);
	} catch (error) {
		logger.warn({ error: messageOf(error) }, "the high-water mark of this stop could not be written");
	}
}

interface Closing {
	readonly root: string;
	readonly durability: "power" | "process";
	/** What the databases hold; undefined where nobody used them. */
	readonly mark: HighWaterMark | undefined;
	/** No check is owed. */
	readonly whole: boolean;
	readonly logger: Logger;
}

function closeFolder(
	{ root, durability, mark, whole, logger }: Closing,
	metadata: Database,
	others: readonly Database[],
	disk: WalSync,
	lock: DaemonLock,
): void {
	if (!metadata.open) return;
	try {
		let onDisk = true;
		for (const database of others) {
			if (!database.open) continue;
			if (!checkpoint(database)) onDisk = false;
			database.close();
		}
		if (whole) writeMeta(metadata, "clean", "1");
		if (!checkpoint(metadata)) onDisk = false;
		// A reader of another program kept the checkpoint from its end: then only FULL has put all on the disk.
		if (mark !== undefined && (onDisk || durability === "power")) markAtStop(root, mark, logger);
	} catch (error) {
		throw mapStoreError(error, "closing the data folder");
	} finally {
		for (const database of [...others, metadata]) database.close();
		disk.close();
		lock.release();
	}
}

/** A folder that we make, or that was empty, is made private; one with other things in it keeps its mode. */
function makeRoot(root: string): void {
	try {
		makePrivateFolder(root);
		const names = readdirSync(root);
		if (names.length === 0 || names.includes("daemon.lock")) chmodSync(root, 0o700);
	} catch (error) {
		const code = errnoOf(error);
		if (code === "ENOSPC" || code === "EIO") throw mapStoreError(error, `making ${root}`);
		throw new EngineError(
			"BAD_ENVIRONMENT",
			`the data folder ${root} cannot be used (${code ?? String(error)}); expected a folder that this user may write, or a path where one can be made`,
			{ cause: error },
		);
	}
}

/** A file that was copied back from a backup may be readable by others. */
function makePrivateFile(path: string): void {
	const mode = statSync(path, { throwIfNoEntry: false })?.mode;
	if (mode !== undefined && (mode & 0o077) !== 0) chmodSync(path, 0o600);
}

/** `type` is that of statfs. */
export function isNetworkFileSystem(type: number): boolean {
	return NETWORK_FILE_SYSTEMS.has(type);
}

/** Such a folder may lack its databases, and would else be made anew, empty, where somebody expects a backup's data. */
function refuseHalfRestored(root: string): void {
	if (statSync(join(root, RESTORE_PARTIAL), { throwIfNoEntry: false }) === undefined) return;
	throw new EngineError(
		"DATA_MISSING",
		`a restore into ${root} was cut short; run the same \`bunbase restore\` again, it begins anew`,
	);
}

function warnOfNetworkFileSystem(root: string, environment: Environment): void {
	if (!isNetworkFileSystem(statfsSync(root).type)) return;
	environment.logger.warn({ root }, "the data folder is on a network file system, where locks and fsync may not hold");
}

function sizeOf(path: string): number {
	return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
