/**
 * The look at a whole data folder, or at the files of a backup: every database, the bundles, and (by `rows`, which comes
 * from who knows what the rows mean) the rows against each other. It changes nothing and throws for nothing that is in
 * the files: what is wrong is a value.
 */
import { join } from "node:path";
import { damage, warning, type Diagnosis } from "../core/diagnosis.ts";
import { EngineError, messageOf } from "../core/errors.ts";
import { LOGS, METADATA, QUEUE, type DatabaseKind } from "./database-kinds.ts";
import type { Database } from "./database.ts";
import { describeRollback, findRollbacks, readHighWater, readLevels } from "./high-water.ts";
import { bundlesOf, inspectBundles } from "./inspect-bundles.ts";
import { inspectDatabase, RESTORE_ADVICE, type DatabaseLook } from "./inspect-database.ts";
import { fromError, inspectFolder, inspectWal } from "./inspect-folder.ts";
import { copyToScratch } from "./scratch.ts";
import { errnoOf } from "./store-errors.ts";

/** Both are open for reading, each in one transaction, that of the queue begun first. */
export type InspectRows = (queue: Database, metadata: Database) => Diagnosis[];

export interface InspectOptions {
	/** A daemon has the folder open: it is read in place, beside the daemon. */
	readonly running: boolean;
	readonly full: boolean;
	readonly rows: InspectRows;
}

export async function inspectDataFolder(root: string, options: InspectOptions): Promise<Diagnosis[]> {
	const { running, full, rows } = options;
	const { findings, marker } = inspectFolder(root, running);
	const all = [...findings];
	if (marker === undefined && all.some(({ check, severity }) => check === "data folder" && severity === "note"))
		return all;
	const files = { root, bundles: join(root, "bundles"), instanceId: marker?.instanceId, full, rows };
	if (running) {
		all.push(...inspectWal(root), ...(await inspectFiles({ ...files, running, at: (file) => join(root, file) })));
		return all;
	}
	try {
		using scratch = copyToScratch(root, [QUEUE.file, METADATA.file, LOGS.file]);
		all.push(...(await inspectFiles({ ...files, running, markOf: root, at: (file) => scratch.path(file) })));
	} catch (error) {
		if (error instanceof EngineError && error.code === "STORAGE_FULL") {
			all.push(warning("databases", `they were not looked at: ${error.message}`, "free space, or set TMPDIR"));
		} else all.push(fromError("databases", error));
	}
	return all;
}

interface Files {
	readonly bundles: string;
	readonly instanceId: string | undefined;
	readonly running: boolean;
	readonly full: boolean;
	readonly rows: InspectRows;
	/** Where a database may be opened read-only. */
	readonly at: (file: string) => string;
	/** The data folder whose high-water mark they are compared with. */
	readonly markOf?: string;
	/** Default: all three. */
	readonly kinds?: readonly DatabaseKind[];
}

export async function inspectFiles(files: Files): Promise<Diagnosis[]> {
	const findings: Diagnosis[] = [];
	const looks = new Map<DatabaseKind, DatabaseLook>();
	try {
		for (const kind of files.kinds ?? [QUEUE, METADATA, LOGS]) {
			const look = inspectDatabase(files.at(kind.file), kind, files);
			looks.set(kind, look);
			findings.push(...look.findings);
		}
		const queue = looks.get(QUEUE)?.database;
		const metadata = looks.get(METADATA)?.database;
		if (metadata === undefined) return findings;
		if (queue !== undefined && files.markOf !== undefined) findings.push(...rollbacksOf(files.markOf, queue, metadata));
		if (queue !== undefined) findings.push(...guarded("rows", () => together(queue, metadata, files.rows)));
		const versions = versionsOf(metadata);
		if (Array.isArray(versions)) findings.push(...(await inspectBundles(files.bundles, versions, !files.running)));
		else findings.push(versions);
		return findings;
	} finally {
		for (const { database } of looks.values()) database?.close();
	}
}

/** SQLite opens a database whose newest commits are gone as a whole one. Of one at rest only: a mark is behind its daemon. */
function rollbacksOf(root: string, queue: Database, metadata: Database): Diagnosis[] {
	try {
		const mark = readHighWater(root);
		if (mark === undefined) return [];
		return findRollbacks(mark, readLevels({ queue, metadata })).map((rollback) =>
			damage(
				rollback.file,
				"DATA_ROLLED_BACK",
				`acknowledged work is missing: ${describeRollback(rollback)}`,
				`put back what is missing, or ${RESTORE_ADVICE}, or go on without: \`bunbase serve --accept-rollback\``,
			),
		);
	} catch (error) {
		if (error instanceof EngineError) return [fromError("high-water.json", error)];
		return [unreadableRows("high-water.json", error)];
	}
}

/** The queue first: what its rows refer to was committed to metadata.db before them. */
function together(queue: Database, metadata: Database, rows: InspectRows): Diagnosis[] {
	for (const database of [queue, metadata]) {
		database.exec("BEGIN");
		database.prepare("SELECT count(*) FROM sqlite_schema").get();
	}
	try {
		return rows(queue, metadata);
	} finally {
		for (const database of [queue, metadata]) database.exec("COMMIT");
	}
}

function versionsOf(metadata: Database): ReturnType<typeof bundlesOf> | Diagnosis {
	try {
		return bundlesOf(metadata);
	} catch (error) {
		return unreadableRows("bundles", error);
	}
}

function guarded(check: string, look: () => Diagnosis[]): Diagnosis[] {
	try {
		return look();
	} catch (error) {
		return [unreadableRows(check, error)];
	}
}

/** A database that is damaged, or of an older schema: the look at the file itself says which. */
function unreadableRows(check: string, error: unknown): Diagnosis {
	const corrupt = errnoOf(error)?.startsWith("SQLITE_CORRUPT") === true;
	const message = `they cannot be read: ${messageOf(error)}`;
	if (corrupt) return damage(check, "DATA_CORRUPT", message, RESTORE_ADVICE);
	return warning(check, message, "see what is said of the databases");
}
