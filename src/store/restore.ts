/**
 * Makes a data folder of a backup, in a folder that is empty or not there.
 *
 * - Every file is compared with its SHA-256 as it is copied, and the copies are opened and checked. Only then do they
 *   get their places. Until the last step is on the disk the folder has `restore.partial`, and no daemon starts on it
 *   (data-folder.ts); the same restore again clears it and begins anew.
 * - What comes out is another instance, with an id of its own: it and the one it was made of go different ways from the
 *   backup on, so their files must not be mixed, and both can live on one machine.
 * - Only the files of the manifest come over. What else a data folder keeps about itself (locks, ballast, marks of how
 *   far it had come) is made anew by its first start, because it was true of the other folder.
 */
import BetterSqlite3 from "better-sqlite3";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statfsSync, statSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { Environment } from "../core/environment.ts";
import { EngineError, messageOf } from "../core/errors.ts";
import { newId } from "../core/ids.ts";
import { copyFileDurably, readManifest, type Manifest } from "./backup-manifest.ts";
import { isHeld, describeHolder, takeDaemonLock } from "./daemon-lock.ts";
import { METADATA, QUEUE } from "./database-kinds.ts";
import { RESTORE_PARTIAL } from "./data-folder.ts";
import { writeMeta } from "./database.ts";
import { fsyncFolder, makePrivateFolder, withPrivateUmask } from "./durable-file.ts";
import { inspectFiles, type InspectRows } from "./inspect.ts";
import { writeMarker } from "./instance-marker.ts";
import { errnoOf, mapStoreError } from "./store-errors.ts";

export interface RestoreOptions {
	/** The backup's folder. */
	readonly from: string;
	readonly dataDir: string;
	readonly environment: Environment;
	readonly rows: InspectRows;
	/** Also of a backup whose manifest tells of damage. */
	readonly damaged: boolean;
	readonly signal: AbortSignal;
	readonly progress: (done: number, total: number) => void;
}

export interface Restored {
	readonly manifest: Manifest;
	/** Absolute. */
	readonly root: string;
	/** Of the new instance. */
	readonly instanceId: string;
}

/** The parts of a data folder in the order in which they get their places. */
const PLACES = ["bundles", METADATA.file, QUEUE.file, "instance.json"] as const;
/** What a restore that was cut short may have left, beside RESTORE_PARTIAL. */
const OWN = new Set<string>([...PLACES, RESTORE_PARTIAL, "daemon.lock"]);

/** Throws BAD_REQUEST, SECOND_DAEMON, DATA_*, STORAGE_FULL; where it made the folder, the folder is gone then. */
export async function restoreBackup(options: RestoreOptions): Promise<Restored> {
	const from = resolve(options.from);
	const root = resolve(options.dataDir);
	const manifest = readManifest(from);
	if (manifest.damage.length > 0 && !options.damaged) {
		throw new EngineError(
			"DATA_CORRUPT",
			`the backup was made of damaged data (${manifest.damage.join("; ")}); with --damaged it is restored as it is`,
		);
	}
	refuseTarget(root);
	const made = withPrivateUmask(() => makeRoot(root));
	const lock = takeDaemonLock(root, Date.now());
	const partial = join(root, RESTORE_PARTIAL);
	try {
		// Nothing of it was ever started.
		for (const name of PLACES) rmSync(join(root, name), { recursive: true, force: true });
		rmSync(partial, { recursive: true, force: true });
		makePrivateFolder(partial);
		const instanceId = await fill(partial, from, manifest, options);
		options.environment.probe.hit("restore.checked");
		for (const name of PLACES) {
			renameSync(join(partial, name), join(root, name));
			options.environment.probe.hit("restore.placed", name);
		}
		fsyncFolder(root);
		rmSync(partial, { recursive: true });
		fsyncFolder(root);
		return { manifest, root, instanceId };
	} catch (error) {
		for (const name of PLACES) rmSync(join(root, name), { recursive: true, force: true });
		rmSync(partial, { recursive: true, force: true });
		throw restoreError(error, root);
	} finally {
		lock.release();
		if (!existsSync(join(root, "instance.json"))) {
			rmSync(join(root, "daemon.lock"), { force: true });
			if (made) rmSync(root, { recursive: true, force: true });
		}
	}
}

/** Copies, compares, opens and checks; resolves with the id of the new instance. */
async function fill(partial: string, from: string, manifest: Manifest, options: RestoreOptions): Promise<string> {
	const { environment, signal, progress } = options;
	const total = manifest.files.reduce((sum, { bytes }) => sum + bytes, 0);
	const { bavail, bsize } = statfsSync(partial);
	if (bavail * bsize < total) throw full(partial);
	mkdirSync(join(partial, "bundles"), { mode: 0o700 });
	const folders = new Set<string>([join(partial, "bundles")]);
	let done = 0;
	for (const { path, bytes, sha256 } of manifest.files) {
		const to = join(partial, path);
		mkdirSync(dirname(to), { recursive: true, mode: 0o700 });
		for (let folder = dirname(to); folder.length > partial.length; folder = dirname(folder)) folders.add(folder);
		const copied = await copyFileDurably(join(from, path), to, signal).catch((error: unknown) => {
			if (errnoOf(error) !== "ENOENT") throw error;
			throw new EngineError("DATA_CORRUPT", `${path} is missing in the backup; use another backup`, { cause: error });
		});
		if (copied.bytes !== bytes || copied.sha256 !== sha256) {
			throw new EngineError(
				"DATA_CORRUPT",
				`${path} of the backup is damaged (${copied.bytes} bytes, SHA-256 ${copied.sha256.slice(0, 12)}…, expected ${bytes}, ${sha256.slice(0, 12)}…); use another backup`,
			);
		}
		done += bytes;
		progress(done, total);
		environment.probe.hit("restore.copied", path);
	}
	const findings = await inspectFiles({
		bundles: join(partial, "bundles"),
		instanceId: manifest.instance_id,
		running: false,
		full: false,
		rows: options.rows,
		at: (file) => join(partial, file),
		kinds: [QUEUE, METADATA],
	});
	const wrong = findings.filter(({ severity }) => severity === "error");
	const [first] = wrong;
	if (first !== undefined && !options.damaged) {
		const told = wrong.map(({ check, message }) => `${check}: ${message}`).join("; ");
		throw new EngineError(
			first.code === "DATA_NEWER" ? "DATA_NEWER" : "DATA_CORRUPT",
			`the backup cannot be used: ${told}`,
		);
	}
	const instanceId = newId("ins", environment.clock, environment.random);
	for (const { file } of [QUEUE, METADATA]) adopt(join(partial, file), instanceId);
	rmSync(join(partial, "instance.json"));
	writeMarker(partial, { instanceId, createdAt: environment.clock.now() });
	for (const folder of folders) fsyncFolder(folder);
	fsyncFolder(partial);
	return instanceId;
}

function adopt(path: string, instanceId: string): void {
	const database = new BetterSqlite3(path, { fileMustExist: true });
	try {
		database.pragma("synchronous = FULL");
		writeMeta(database, "instance_id", instanceId);
	} finally {
		database.close();
	}
}

function refuseTarget(root: string): void {
	const stats = statSync(root, { throwIfNoEntry: false });
	if (stats === undefined) return;
	if (!stats.isDirectory()) throw refusal(root, "there is a file; name a folder that is empty or does not exist yet");
	if (isHeld(root)) {
		throw new EngineError(
			"SECOND_DAEMON",
			`${describeHolder(root)} holds ${root}; restore into another folder, then start a daemon on that one`,
		);
	}
	const names = readdirSync(root);
	if (names.length === 0) return;
	const cutShort =
		names.includes(RESTORE_PARTIAL) && names.every((name) => OWN.has(name) || name.startsWith("daemon.lock"));
	if (!cutShort) {
		throw refusal(root, "the folder is not empty; name one that is empty or does not exist yet. Nothing was changed");
	}
}

/** True where the folder was not there before. */
function makeRoot(root: string): boolean {
	const made = !existsSync(root);
	try {
		makePrivateFolder(root);
	} catch (error) {
		if (errnoOf(error) === "ENOSPC") throw full(root, error);
		throw refusal(root, messageOf(error));
	}
	return made;
}

function refusal(root: string, why: string): EngineError {
	return new EngineError("BAD_REQUEST", `nothing can be restored into ${root}: ${why}`);
}

function full(root: string, cause?: unknown): EngineError {
	return new EngineError(
		"STORAGE_FULL",
		`the disk of ${root} has no room for the backup's files; nothing is left of it`,
		{
			cause,
		},
	);
}

function restoreError(error: unknown, root: string): EngineError {
	if (error instanceof Error && error.name === "AbortError") {
		return new EngineError("SHUTTING_DOWN", `the restore into ${root} was given up; nothing is left of it`, {
			cause: error,
		});
	}
	const mapped = mapStoreError(error, `restoring into ${root}`);
	return mapped.code === "STORAGE_FULL" && mapped !== error ? full(root, error) : mapped;
}
