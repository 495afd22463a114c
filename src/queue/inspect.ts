/**
 * The rows of queue.db against each other, against metadata.db, and against the clock. The file itself, its CHECKs and
 * its indexes are the store's to look at. It reads only; each statement is bounded by the rows that it counts.
 */
import { damage, note, ok, warning, type Diagnosis } from "../core/diagnosis.ts";
import { LIMITS } from "../core/limits.ts";
import { blockOfRow, isNamedIn, type Database } from "../store/index.ts";
import { Checksums, WHOLE_CHECKSUMS_MARK } from "./checksum.ts";
import { HELD_AT } from "./turns.ts";

export interface InspectRowsOptions {
	/** Wall clock, UTC ms. */
	readonly now: number;
	/** A daemon runs on these rows, so what is running is its business. */
	readonly running: boolean;
	/** Also every request and result against its checksum, and every JSON column. */
	readonly full: boolean;
}

/** Times that lie further ahead than this were written by a clock that was wrong. */
const AHEAD_MS = 60_000;
const BODIES_PAGE = 200;
const SHOWN = 3;
const ADVICE =
	"back up what there is (`bunbase backup DIR --damaged`), then restore a backup from before: `bunbase restore BACKUP --data-dir NEW`";

export function inspectRows(queue: Database, metadata: Database, options: InspectRowsOptions): Diagnosis[] {
	const findings: Diagnosis[] = [
		...referencesOf(queue, metadata),
		...attemptsOf(queue),
		...bodiesOf(queue),
		...timesOf(queue, metadata, options.now),
		...turnsOf(queue),
		...blocksOf(queue),
	];
	if (!options.running) findings.push(...runningOf(queue));
	if (options.full) findings.push(...checksumsOf(queue), ...jsonOf(queue));
	if (!findings.some(({ severity }) => severity === "error" || severity === "warning")) {
		const rows = count(queue, "SELECT count(*) FROM invocation");
		findings.push(ok("rows", `${rows} invocations agree with their attempts, bodies, functions and versions`));
	}
	return findings;
}

/** The highest sequence number ever given out, also where its row is pruned. */
export function highestSeq(queue: Database): number {
	return count(
		queue,
		"SELECT max(coalesce((SELECT max(seq) FROM invocation), 0), coalesce((SELECT value FROM mark WHERE name = 'seq'), 0))",
	);
}

function referencesOf(queue: Database, metadata: Database): Diagnosis[] {
	const functions = new Set(metadata.prepare<[], number>("SELECT id FROM function").pluck().all());
	const versions = new Map(metadata.prepare<[], [number, number]>("SELECT id, function FROM version").raw().all());
	const pairs = queue
		.prepare<[], { lane: number; version: number; rows: number }>(
			"SELECT lane, version, count(*) AS rows FROM invocation GROUP BY lane, version",
		)
		.all();
	return pairs.flatMap(({ lane, version, rows }): Diagnosis[] => {
		if (!functions.has(lane)) {
			const message = `${rows} invocations refer to function ${lane}, which metadata.db does not have: it is older than queue.db`;
			return [damage("rows", "DATA_CORRUPT", message, ADVICE)];
		}
		if (versions.get(version) === lane) return [];
		const message = `${rows} invocations of function ${lane} refer to version ${version}, which metadata.db does not have`;
		return [damage("rows", "DATA_CORRUPT", message, ADVICE)];
	});
}

function attemptsOf(queue: Database): Diagnosis[] {
	const findings: Diagnosis[] = [];
	const without = count(
		queue,
		"SELECT count(*) FROM attempt WHERE NOT EXISTS (SELECT 1 FROM invocation WHERE invocation.seq = attempt.seq)",
	);
	if (without > 0) {
		findings.push(warning("rows", `${without} attempts belong to no invocation: they only take space`, ADVICE));
	}
	const beyond = list(
		queue,
		`SELECT invocation.seq FROM attempt JOIN invocation ON invocation.seq = attempt.seq
		WHERE attempt.attempt > invocation.attempt`,
	);
	if (beyond.length > 0) {
		const message = `the attempts of ${seqs(beyond)} go beyond what its row says`;
		findings.push(damage("rows", "DATA_CORRUPT", message, ADVICE));
	}
	const charged = list(queue, "SELECT seq FROM invocation WHERE charged > attempt");
	if (charged.length > 0) {
		findings.push(damage("rows", "DATA_CORRUPT", `${seqs(charged)} was charged more attempts than it had`, ADVICE));
	}
	return findings;
}

function bodiesOf(queue: Database): Diagnosis[] {
	const findings: Diagnosis[] = [];
	const without = count(
		queue,
		"SELECT count(*) FROM body WHERE NOT EXISTS (SELECT 1 FROM invocation WHERE seq = body.id >> 1)",
	);
	if (without > 0)
		findings.push(warning("rows", `${without} bodies belong to no invocation: they only take space`, ADVICE));
	const inline = LIMITS.bodyInlineBytesMax;
	for (const [what, column, bytes, id] of [
		["request", "body", "body_bytes", "seq * 2"],
		["response", "result_body", "coalesce(result_bytes, 0)", "seq * 2 + 1"],
	] as const) {
		const gone = list(
			queue,
			`SELECT seq FROM invocation WHERE
				(${bytes} > ${inline} AND NOT EXISTS (SELECT 1 FROM body WHERE body.id = ${id}))
				OR (${bytes} BETWEEN 1 AND ${inline} AND coalesce(length(${column}), 0) <> ${bytes})`,
		);
		if (gone.length > 0) {
			const message = `the ${what} body of ${seqs(gone)} is gone or has another length than its row says`;
			findings.push(damage("rows", "DATA_CORRUPT", message, ADVICE));
		}
	}
	return findings;
}

function timesOf(queue: Database, metadata: Database, now: number): Diagnosis[] {
	const findings: Diagnosis[] = [];
	const advice = "correct the clock of this machine (timedatectl), then look again";
	const newest = count(
		queue,
		"SELECT coalesce(max(created_at), 0) FROM (SELECT created_at FROM invocation ORDER BY seq DESC LIMIT 1000)",
	);
	if (newest > now + AHEAD_MS) {
		const message = `the newest invocation was accepted at ${timeText(newest)}, but it is ${timeText(now)}: the clock went back, and delays and retries wait for it`;
		findings.push(warning("clock", message, advice));
	}
	const names = new Map(
		metadata
			.prepare<[], [number, string]>(
				`SELECT schedule.id, function.name || ' ' || schedule.name FROM schedule
				JOIN function ON function.id = schedule.function WHERE removed_at IS NULL`,
			)
			.raw()
			.all(),
	);
	const ahead = queue
		.prepare<[number], { schedule: number; slot: number }>(
			"SELECT schedule, max(slot) AS slot FROM cron_slot GROUP BY schedule HAVING max(slot) > ?",
		)
		.all(now + AHEAD_MS);
	for (const { schedule, slot } of ahead) {
		const name = names.get(schedule);
		if (name === undefined) continue;
		const message = `slots of the schedule ${name} are decided up to ${timeText(slot)}, which is to come: those do not fire again`;
		findings.push(warning("clock", message, advice));
	}
	return findings;
}

function runningOf(queue: Database): Diagnosis[] {
	const running = count(queue, "SELECT count(*) FROM invocation WHERE state = 1");
	if (running === 0) return [];
	const message = `${running} invocations were running when the last daemon died; the next start recovers them: they run again, at-most-once ones end as lost`;
	return [note("rows", message)];
}

function hasTable(queue: Database, name: string): boolean {
	return queue.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?").get(name) !== undefined;
}

/** A folder of an older version has indexes in place of these tables. */
function blocksOf(queue: Database): Diagnosis[] {
	if (!hasTable(queue, "running_block")) return [];
	const findings: Diagnosis[] = [];
	const unfound = list(
		queue,
		`SELECT seq FROM invocation WHERE state = 1 AND NOT EXISTS
			(SELECT 1 FROM running_block WHERE block = ${blockOfRow("seq")})`,
	);
	if (unfound.length > 0) {
		const message = `the next start would not find that ${seqs(unfound)} was running, which would never end`;
		findings.push(damage("rows", "DATA_CORRUPT", message, ADVICE));
	}
	const unlisted = list(
		queue,
		`SELECT seq FROM invocation WHERE ${blockOfRow("seq")} < (SELECT ${blockOfRow("max(seq)")} FROM invocation) AND NOT EXISTS
			(SELECT 1 FROM lane_block WHERE lane_block.lane = invocation.lane AND block = ${blockOfRow("seq")}
				AND ${isNamedIn("offsets")})`,
	);
	if (unlisted.length > 0) {
		const message = `${seqs(unlisted)} cannot be found in the list of their function`;
		findings.push(damage("rows", "DATA_CORRUPT", message, ADVICE));
	}
	return findings;
}

/** A folder of an older version has no such table, and nothing that waits for a turn. */
function turnsOf(queue: Database): Diagnosis[] {
	if (!hasTable(queue, "turn")) return [];
	const forgotten = list(
		queue,
		`SELECT seq FROM invocation INDEXED BY invocation_due
		WHERE state = 0 AND ready = 0 AND run_at = ${HELD_AT} AND seq NOT IN (SELECT seq FROM turn)`,
	);
	if (forgotten.length === 0) return [];
	const message = `${seqs(forgotten)} of a schedule with overlap "queue" would wait for ever`;
	return [damage("rows", "DATA_CORRUPT", message, ADVICE)];
}

interface ChecksumRow {
	readonly seq: number;
	readonly method: string;
	readonly path: string;
	readonly headers: string;
	readonly query: string;
	readonly body: Buffer | null;
	readonly bodyBytes: number;
	readonly bodyCrc: number;
	readonly status: number | null;
	readonly resultHeaders: string | null;
	readonly resultBody: Buffer | null;
	readonly resultBytes: number | null;
	readonly resultCrc: number | null;
}

const NOTHING = new Uint8Array();

/** A flipped byte inside a value is one that no check of SQLite sees. */
function checksumsOf(queue: Database): Diagnosis[] {
	const page = queue.prepare<[number, number], ChecksumRow>(
		`SELECT seq, method, path, headers, query, body, body_bytes AS bodyBytes, body_crc AS bodyCrc, status,
			result_headers AS resultHeaders, result_body AS resultBody, result_bytes AS resultBytes, result_crc AS resultCrc
		FROM invocation WHERE seq > ? ORDER BY seq LIMIT ?`,
	);
	const mark = queue.prepare<[string], number>("SELECT value FROM mark WHERE name = ?").pluck();
	const checksums = new Checksums(mark.get(WHOLE_CHECKSUMS_MARK));
	const apart = queue.prepare<[number], Buffer>("SELECT bytes FROM body WHERE id = ?").pluck();
	const wrong: number[] = [];
	let checked = 0;
	const check = (seq: number, body: Buffer | undefined, bytes: number, isWhole: (body: Uint8Array) => boolean) => {
		checked += 1;
		// A body that is gone is told by its own check.
		if (bytes > 0 && body?.byteLength !== bytes) return;
		if (!isWhole(body ?? NOTHING)) wrong.push(seq);
	};
	for (let after = 0; ;) {
		const rows = page.all(after, BODIES_PAGE);
		for (const row of rows) {
			const { seq, method, path, headers, query, status, resultHeaders } = row;
			const body = row.bodyBytes === 0 ? undefined : (row.body ?? apart.get(seq * 2));
			check(seq, body, row.bodyBytes, (bytes) =>
				checksums.isRequestWhole(seq, { method, path, headers, query }, bytes, row.bodyCrc),
			);
			if (status === null) continue;
			const size = row.resultBytes ?? 0;
			const result = size === 0 ? undefined : (row.resultBody ?? apart.get(seq * 2 + 1));
			check(seq, result, size, (bytes) =>
				checksums.isResultWhole(seq, { status, headers: resultHeaders ?? "[]" }, bytes, row.resultCrc),
			);
		}
		const last = rows.at(-1);
		if (last === undefined) break;
		after = last.seq;
	}
	if (wrong.length > 0) {
		const message = `the request or the result of ${seqs(wrong)} does not match its checksum`;
		return [damage("checksums", "DATA_CORRUPT", message, ADVICE)];
	}
	return [ok("checksums", `${checked} requests and results match their checksums`)];
}

function jsonOf(queue: Database): Diagnosis[] {
	const bad = list(
		queue,
		`SELECT seq FROM invocation WHERE NOT json_valid(headers) OR NOT json_valid(query)
			OR NOT json_valid(coalesce(tags, '[]')) OR NOT json_valid(coalesce(error, '{}'))
			OR NOT json_valid(coalesce(result_headers, '[]'))`,
	);
	if (bad.length === 0) return [];
	return [damage("rows", "DATA_CORRUPT", `headers, query, tags or error of ${seqs(bad)} cannot be read`, ADVICE)];
}

function count(database: Database, sql: string): number {
	return database.prepare<[], number>(sql).pluck().get() ?? 0;
}

function list(database: Database, sql: string): number[] {
	return database.prepare<[], number>(sql).pluck().all();
}

/** "invocation 17", "invocations 17, 18, 19 and 4 more". */
function seqs(numbers: readonly number[]): string {
	const all = [...new Set(numbers)];
	const shown = all.slice(0, SHOWN).join(", ");
	if (all.length === 1) return `invocation ${shown}`;
	return `invocations ${shown}${all.length > SHOWN ? ` and ${all.length - SHOWN} more` : ""}`;
}

function timeText(at: number): string {
	return new Date(at).toISOString();
}
