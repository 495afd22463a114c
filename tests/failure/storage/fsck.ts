/**
 * Looks at a data folder that nobody uses and says everything that is wrong with it: what SQLite knows (pages, foreign
 * keys), and what only the engine's rules know. Written from the schema and the promises, not with the engine's code, so
 * that it shares no mistake with it.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import BetterSqlite3 from "better-sqlite3";

/** Bodies up to here stand in the row. */
const INLINE_MAX = 4096;
const KEY_MS = 86_400_000;

export interface FsckOptions {
	/** All work has ended: nothing may be queued or running. */
	readonly drained?: boolean;
	/** The time of whoever used it last, UTC ms; keys older than a day may be forgotten. */
	readonly now?: number;
}

export function assertWhole(dataDir: string, options: FsckOptions = {}): void {
	assert.deepEqual(fsck(dataDir, options), [], `${dataDir} is whole`);
}

/** Every problem, in words. */
export function fsck(dataDir: string, options: FsckOptions = {}): string[] {
	const problems: string[] = [];
	const known = inDatabase(dataDir, "metadata.db", problems, (db) => {
		bundles(dataDir, db, problems);
		const count = (sql: string, what: string): void => counted(db, "metadata.db", sql, what, problems);
		count(
			"SELECT COUNT(*) FROM function f WHERE active_version IS NOT NULL AND NOT EXISTS (SELECT 1 FROM deployment d WHERE d.function = f.id AND d.version = f.active_version)",
			"active versions without a deployment",
		);
		const ids = (sql: string): Set<number> => new Set(db.prepare<[], number>(sql).pluck().all());
		return { lanes: ids("SELECT id FROM function"), versions: ids("SELECT id FROM version") };
	});
	inDatabase(dataDir, "queue.db", problems, (db) => queue(db, known, options, problems));
	inDatabase(dataDir, "logs.db", problems, () => undefined);
	return problems;
}

function inDatabase<T>(dataDir: string, name: string, problems: string[], look: (db: BetterSqlite3.Database) => T): T {
	const db = new BetterSqlite3(join(dataDir, name), { fileMustExist: true });
	try {
		for (const line of db.prepare<[], string>("PRAGMA integrity_check").pluck().all()) {
			if (line !== "ok") problems.push(`${name}: ${line}`);
		}
		const broken = db.prepare("PRAGMA foreign_key_check").all();
		if (broken.length > 0) problems.push(`${name}: foreign keys ${JSON.stringify(broken)}`);
		return look(db);
	} finally {
		db.close();
	}
}

function counted(db: BetterSqlite3.Database, name: string, sql: string, what: string, problems: string[]): void {
	const found = db.prepare<[], number>(sql).pluck().get() ?? 0;
	if (found > 0) problems.push(`${name}: ${found} ${what}`);
}

function bundles(dataDir: string, db: BetterSqlite3.Database, problems: string[]): void {
	const rows = db
		.prepare<[], { functionId: string; version: string; sha256: string }>(
			"SELECT f.function_id AS functionId, v.version, v.sha256 FROM version v JOIN function f ON f.id = v.function",
		)
		.all();
	for (const { functionId, version, sha256 } of rows) {
		const path = join(dataDir, "bundles", functionId, version, "bundle.js");
		const found = existsSync(path) ? createHash("sha256").update(readFileSync(path)).digest("hex") : "nothing";
		if (found !== sha256) problems.push(`the bundle of ${functionId} ${version} is ${found}, its row says ${sha256}`);
	}
	const withRow = new Set(rows.map(({ functionId, version }) => `${functionId}/${version}`));
	for (const functionId of readdirSync(join(dataDir, "bundles"))) {
		for (const version of readdirSync(join(dataDir, "bundles", functionId))) {
			if (!withRow.has(`${functionId}/${version}`)) problems.push(`bundle ${functionId}/${version} has no row`);
		}
	}
}

interface Row {
	readonly seq: number;
	readonly state: number;
	readonly lane: number;
	readonly version: number;
	readonly attempt: number;
	readonly body: Buffer | null;
	readonly bodyBytes: number;
	readonly bodyCrc: number;
	/** What the checksum of the request begins with. */
	readonly requestHead: string;
	readonly resultBody: Buffer | null;
	readonly resultBytes: number | null;
	readonly resultCrc: number | null;
	readonly resultHead: string;
}

function queue(
	db: BetterSqlite3.Database,
	known: { readonly lanes: Set<number>; readonly versions: Set<number> },
	options: FsckOptions,
	problems: string[],
): void {
	const tell = (problem: string): void => void (problems.length < 20 && problems.push(`queue.db: ${problem}`));
	const bodyOf = db.prepare<[number], Buffer>("SELECT bytes FROM body WHERE id = ?").pluck();
	const rows = db.prepare<[], Row>(
		`SELECT seq, state, lane, version, attempt, body, body_bytes AS bodyBytes, body_crc AS bodyCrc,
			method || ' ' || path || char(10) || headers || char(10) || query AS requestHead,
			status || char(10) || result_headers AS resultHead, result_body AS resultBody, result_bytes AS resultBytes, result_crc AS resultCrc FROM invocation ORDER BY seq`,
	);
	const bytesAre = (what: string, head: string, inline: Buffer | null, apart: number, length: number, crc: number) => {
		const bytes = length > INLINE_MAX ? bodyOf.get(apart) : (inline ?? Buffer.alloc(0));
		if (bytes?.byteLength !== length) tell(`${what} has ${bytes?.byteLength ?? "no"} bytes instead of ${length}`);
		else if (crc32(bytes, crc32(head)) !== crc) tell(`${what} does not match its checksum`);
	};
	let apart = 0;
	for (const row of rows.iterate()) {
		// A database without functions is one of the store's own tests.
		if (known.lanes.size > 0 && !known.lanes.has(row.lane)) tell(`seq ${row.seq} is of unknown lane ${row.lane}`);
		if (known.versions.size > 0 && !known.versions.has(row.version)) tell(`seq ${row.seq} runs an unknown version`);
		bytesAre(`the request of seq ${row.seq}`, row.requestHead, row.body, row.seq * 2, row.bodyBytes, row.bodyCrc);
		if (row.bodyBytes > INLINE_MAX) apart += 1;
		if (row.resultBytes !== null) {
			bytesAre(
				`the result of seq ${row.seq}`,
				row.resultHead,
				row.resultBody,
				row.seq * 2 + 1,
				row.resultBytes,
				row.resultCrc ?? 0,
			);
			if (row.resultBytes > INLINE_MAX) apart += 1;
		}
		if (options.drained === true && row.state < 2) tell(`seq ${row.seq} is in state ${row.state}, all has ended`);
	}
	const count = (sql: string, what: string): void => counted(db, "queue.db", sql, what, problems);
	const bodies = db.prepare<[], number>("SELECT COUNT(*) FROM body").pluck().get() ?? 0;
	if (bodies !== apart) tell(`${bodies} bodies stand apart, rows name ${apart}`);
	count("SELECT COUNT(*) FROM body WHERE id / 2 NOT IN (SELECT seq FROM invocation)", "bodies without an invocation");
	count("SELECT COUNT(*) FROM attempt WHERE seq NOT IN (SELECT seq FROM invocation)", "attempts without an invocation");
	count(
		"SELECT COUNT(*) FROM attempt a JOIN invocation i ON i.seq = a.seq WHERE a.attempt > i.attempt OR (a.attempt = i.attempt AND i.state = 1)",
		"attempts that end what runs",
	);
	count(
		"SELECT COUNT(*) FROM invocation i WHERE i.seq / 256 < (SELECT MAX(seq) / 256 FROM invocation) AND NOT EXISTS (SELECT 1 FROM lane_block b WHERE b.lane = i.lane AND b.block = i.seq / 256 AND instr(b.offsets, unhex(printf('%02x', i.seq % 256))) > 0)",
		"invocations that the list of their function lacks",
	);
	count(
		"SELECT COUNT(*) FROM invocation i WHERE state = 1 AND NOT EXISTS (SELECT 1 FROM running_block b WHERE b.block = i.seq / 256)",
		"running invocations that recovery would not find",
	);
	count(
		"SELECT COUNT(*) FROM idempotency k JOIN invocation i ON i.seq = k.seq WHERE i.lane <> k.lane OR i.idempotency_key IS NOT k.key",
		"idempotency keys of another invocation",
	);
	count(
		`SELECT COUNT(*) FROM invocation i WHERE idempotency_key IS NOT NULL AND created_at > ${(options.now ?? Date.now()) - KEY_MS} AND NOT EXISTS (SELECT 1 FROM idempotency k WHERE k.lane = i.lane AND k.key = i.idempotency_key)`,
		"invocations whose key is not known",
	);
	count(
		"SELECT COUNT(*) FROM cron_slot WHERE seq IS NOT NULL AND seq > (SELECT MAX(seq) FROM invocation)",
		"slots ahead",
	);
	const isUncounted =
		"EXISTS (SELECT 1 FROM running_block b WHERE b.block = i.seq / 256 AND instr(b.counted, unhex(printf('%02x', i.seq % 256))) = 0)";
	count(
		`SELECT COUNT(*) FROM (SELECT lane, SUM(state >= 2 AND NOT ${isUncounted}) n FROM invocation i GROUP BY lane) i LEFT JOIN (SELECT lane, SUM(invocations) n FROM metric GROUP BY lane) m ON i.lane = m.lane WHERE COALESCE(m.n, 0) <> i.n`,
		"lanes whose metrics do not count their ended invocations",
	);
	count(
		"SELECT COUNT(*) FROM invocation i JOIN (SELECT * FROM running_block UNION ALL SELECT * FROM counted_block) b ON b.block = i.seq / 256 WHERE state < 2 AND instr(b.counted, unhex(printf('%02x', i.seq % 256))) > 0",
		"invocations whose ends would not be counted",
	);
}
