/**
 * high-water.json: what the databases must at least contain, kept outside of them.
 *
 * SQLite opens a database whose newest commits are gone (a WAL that was cut or deleted, an older copy put back) as a
 * whole one. So about once a second, and at a clean stop, the commit count of each database and the highest seq
 * are written down here; a start that finds less in a database refuses. What was lost within the second before the
 * last write cannot be seen.
 *
 *   H1  the mark is never ahead of what is on the disk: a kill or a power cut at any moment causes no refusal. With
 *       `durability: "process"` commits are on the disk only after a checkpoint, so the mark follows those.
 *   H2  a seq is never given out twice, also after a rollback was accepted
 *
 * It belongs to the files beside it at rest. A copy of databases that were in use must not have it: it may be newer.
 */
import { readFileSync } from "node:fs";
import { open, rename } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import type { Logger } from "../core/environment.ts";
import { EngineError, messageOf } from "../core/errors.ts";
import { raiseCommitCount, readCommitCount } from "./commit-count.ts";
import { checkpoint, naming, type Database } from "./database.ts";
import { writeFileDurably } from "./durable-file.ts";
import { isNamedIn, rowsOfBlock } from "./queue-schema.ts";
import { errnoOf, mapStoreError } from "./store-errors.ts";

export interface QueueLevel {
	/** One for each end, and for each commit that neither accepted nor ended anything; what accepts raises `seq`. */
	readonly commits: number;
	/** The highest seq ever given out. */
	readonly seq: number;
}

export interface MetadataLevel {
	readonly commits: number;
}

export interface Levels {
	readonly queue: QueueLevel;
	readonly metadata: MetadataLevel;
}

export interface HighWaterMark extends Levels {
	readonly instanceId: string;
}

/** What a database lacks. */
export interface Rollback {
	readonly file: "queue.db" | "metadata.db";
	readonly commits: number;
	/** Of queue.db: seqs that were given out and are not known any more. */
	readonly seqs: { readonly from: number; readonly to: number } | undefined;
}

/**
 * Numbers that are left out when a rollback is accepted, because more than the mark says may have been given out within
 * the second after it was written: a million is more than any second has seen.
 */
const SEQ_GAP = 1_000_000;
/** The same for functions, versions, deployments and schedules. */
const METADATA_GAP = 1000;

const count = z.int().min(0);
const markSchema = z.looseObject({
	instanceId: z.string().min(1),
	queue: z.looseObject({ commits: count, seq: count }),
	metadata: z.looseObject({ commits: count }),
});

export function highWaterPath(root: string): string {
	return join(root, "high-water.json");
}

/** Undefined where there is none. Throws DATA_CORRUPT. */
export function readHighWater(root: string): HighWaterMark | undefined {
	const path = highWaterPath(root);
	let text: string;
	try {
		text = readFileSync(path, "utf8");
	} catch (error) {
		if (errnoOf(error) === "ENOENT") return undefined;
		throw mapStoreError(error, `reading ${path}`);
	}
	try {
		return markSchema.parse(JSON.parse(text));
	} catch (error) {
		throw new EngineError(
			"DATA_CORRUPT",
			`${path} cannot be read (${messageOf(error)}), so nobody can tell whether the databases are complete; check them with: bunbase doctor; to go on with what is there, start with: bunbase serve --accept-rollback`,
			{ cause: error },
		);
	}
}

/** What the databases contain. They may be open read-only. */
export function readLevels(databases: { readonly queue: Database; readonly metadata: Database }): Levels {
	const { queue, metadata } = databases;
	return {
		queue: naming(queue, () => ({ commits: readCommitCount(queue) + readUncounted(queue), seq: readLastSeq(queue) })),
		metadata: naming(metadata, () => ({ commits: readCommitCount(metadata) })),
	};
}

/** Ends that the commit count of queue.db does not contain yet (queue/tally.ts). */
function readUncounted(queue: Database): number {
	// A folder of an older version, which doctor looks at.
	const counts = queue.prepare("SELECT 1 FROM pragma_table_info('running_block') WHERE name = 'counted'");
	if (counts.get() === undefined) return 0;
	const uncounted = queue.prepare<[], number>(`
		SELECT COUNT(*) FROM running_block CROSS JOIN invocation NOT INDEXED ON ${rowsOfBlock("block")}
		WHERE state >= 2 AND NOT ${isNamedIn("counted")}`);
	return uncounted.pluck().get() ?? 0;
}

function readLastSeq(queue: Database): number {
	const last = queue.prepare<[], number | null>(
		"SELECT MAX(COALESCE((SELECT MAX(seq) FROM invocation), 0), COALESCE((SELECT value FROM mark WHERE name = 'seq'), 0))",
	);
	return last.pluck().get() ?? 0;
}

export function findRollbacks(mark: Levels, levels: Levels): readonly Rollback[] {
	const found: Rollback[] = [];
	const { queue, metadata } = levels;
	if (queue.commits < mark.queue.commits || queue.seq < mark.queue.seq) {
		found.push({
			file: "queue.db",
			commits: Math.max(0, mark.queue.commits - queue.commits),
			seqs: queue.seq < mark.queue.seq ? { from: queue.seq + 1, to: mark.queue.seq } : undefined,
		});
	}
	if (metadata.commits < mark.metadata.commits) {
		found.push({ file: "metadata.db", commits: mark.metadata.commits - metadata.commits, seqs: undefined });
	}
	return found;
}

export function rolledBack(root: string, rollbacks: readonly Rollback[]): EngineError {
	const [first] = rollbacks;
	const names = rollbacks.map(({ file }) => join(root, file)).join(" and ");
	const wal = first === undefined ? "its WAL" : `${first.file}-wal`;
	return new EngineError(
		"DATA_ROLLED_BACK",
		`${names} lost acknowledged work: ${rollbacks.map(describeRollback).join("; ")}. Probably ${wal} was deleted or damaged, or an older copy was put back. See what is there with: bunbase doctor; put a whole backup back with: bunbase restore; or go on without what is lost: bunbase serve --accept-rollback`,
	);
}

export function describeRollback({ file, commits, seqs }: Rollback): string {
	if (seqs !== undefined) {
		return `${file} lacks the invocations from seq ${seqs.from} to seq ${seqs.to}, and the claims and ends of that time`;
	}
	return file === "queue.db" ? `${file} lacks ${commits} claims or ends` : `${file} lacks the last ${commits} commits`;
}

/** H2. The databases are open for writing, and nothing runs on them yet. */
export function acceptRollbacks(
	mark: Levels,
	databases: { readonly queue: Database; readonly metadata: Database },
	rollbacks: readonly Rollback[],
	logger: Logger,
): void {
	const { queue, metadata } = databases;
	// queue.db first, to the disk: cut short in between, metadata.db still lacks something, and the next start is asked again.
	const removed = queue
		.transaction(() => {
			raiseCommitCount(queue, mark.queue.commits);
			// The newest row may be one of those that are removed, and a mark that is old far behind it.
			const seq = Math.max(mark.queue.seq + SEQ_GAP, readLastSeq(queue));
			queue
				.prepare(
					"INSERT INTO mark (name, value) VALUES ('seq', ?) ON CONFLICT (name) DO UPDATE SET value = MAX(value, excluded.value)",
				)
				.run(seq);
			return removeStrangers(queue, metadata);
		})
		.immediate();
	checkpoint(queue);
	metadata
		.transaction(() => {
			raiseCommitCount(metadata, mark.metadata.commits);
			if (!rollbacks.some(({ file }) => file === "metadata.db")) return;
			for (const table of ["function", "version", "deployment", "schedule"]) skipIds(metadata, table);
		})
		.immediate();
	for (const rollback of rollbacks) {
		logger.warn(
			{ ...rollback, removed },
			`acknowledged work was lost, and this is accepted: ${describeRollback(rollback)}`,
		);
	}
}

function skipIds(metadata: Database, table: string): void {
	const { changes } = metadata
		.prepare("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = ?")
		.run(METADATA_GAP, table);
	if (changes > 0) return;
	metadata.prepare("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)").run(table, METADATA_GAP);
}

/**
 * Rows of functions and versions that metadata.db does not have: nothing could run, or even show, them. What of them had ended and was not
 * in the metrics yet never comes there.
 */
function removeStrangers(queue: Database, metadata: Database): number {
	const ids = (table: string): string =>
		JSON.stringify(metadata.prepare<[], number>(`SELECT id FROM ${table}`).pluck().all());
	const functions = ids("function");
	const { changes } = queue
		.prepare(
			`DELETE FROM invocation WHERE lane NOT IN (SELECT value FROM json_each(?))
				OR version NOT IN (SELECT value FROM json_each(?))`,
		)
		.run(functions, ids("version"));
	for (const table of ["metric", "idempotency", "lane_block"]) {
		queue.prepare(`DELETE FROM ${table} WHERE lane NOT IN (SELECT value FROM json_each(?))`).run(functions);
	}
	if (changes > 0) {
		queue.exec("DELETE FROM attempt WHERE seq NOT IN (SELECT seq FROM invocation)");
		queue.exec("DELETE FROM body WHERE id / 2 NOT IN (SELECT seq FROM invocation)");
		queue.exec("DELETE FROM turn WHERE seq NOT IN (SELECT seq FROM invocation)");
	}
	return changes;
}

/** At a stop; the levels are on the disk (H1). */
export function writeHighWater(root: string, mark: HighWaterMark): void {
	writeFileDurably(highWaterPath(root), textOf(mark));
}

/**
 * While the daemon runs, off the event loop. Without an fsync of the folder: after a power cut the file is this one or
 * the one before it, both whole.
 */
export async function writeHighWaterLater(root: string, mark: HighWaterMark): Promise<void> {
	const path = highWaterPath(root);
	const handle = await open(`${path}.tmp`, "w", 0o600);
	try {
		await handle.writeFile(textOf(mark));
		await handle.sync();
	} finally {
		await handle.close();
	}
	await rename(`${path}.tmp`, path);
}

function textOf({ instanceId, queue, metadata }: HighWaterMark): string {
	return `${JSON.stringify({ instanceId, queue, metadata })}\n`;
}
