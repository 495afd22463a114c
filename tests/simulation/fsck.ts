/** I8, in full: the database is whole, its rows are those that were committed, and nothing refers to nothing. */
import { STATE_CODE } from "../../src/core/invocation.ts";
import type { Database } from "../../src/store/index.ts";
import type { Ledger } from "./ledger.ts";

interface Stored {
	readonly seq: number;
	readonly state: number;
	readonly ready: number;
	readonly attempt: number;
	readonly charged: number;
	readonly lane: number;
}

/** Statements that must find nothing, with what it would mean if they did. */
const ORPHANS: readonly (readonly [sql: string, meaning: string])[] = [
	["SELECT seq FROM attempt WHERE seq NOT IN (SELECT seq FROM invocation) LIMIT 1", "an attempt of no invocation"],
	["SELECT id FROM body WHERE id / 2 NOT IN (SELECT seq FROM invocation) LIMIT 1", "a body of no invocation"],
	[
		`SELECT seq FROM invocation WHERE body_bytes > 4096 AND NOT EXISTS (SELECT 1 FROM body WHERE id = seq * 2) LIMIT 1`,
		"an invocation without its body",
	],
	[
		`SELECT seq FROM invocation WHERE result_bytes > 4096 AND NOT EXISTS (SELECT 1 FROM body WHERE id = seq * 2 + 1) LIMIT 1`,
		"a result without its body",
	],
	[
		"SELECT seq FROM invocation WHERE result_body IS NOT NULL AND (state NOT IN (1, 2) OR (state = 2 AND length(result_body) <> result_bytes)) LIMIT 1",
		"room for a result where there is none to come",
	],
	[
		"SELECT seq FROM invocation WHERE seq / 256 < (SELECT MAX(seq) / 256 FROM invocation) AND NOT EXISTS (SELECT 1 FROM lane_block b WHERE b.lane = invocation.lane AND b.block = seq / 256 AND instr(b.offsets, unhex(printf('%02x', seq % 256))) > 0) LIMIT 1",
		"a row that the list of its function lacks",
	],
	[
		"SELECT seq FROM invocation WHERE state = 1 AND NOT EXISTS (SELECT 1 FROM running_block b WHERE b.block = seq / 256) LIMIT 1",
		"a running row that recovery would not find",
	],
	[
		"SELECT seq FROM invocation JOIN (SELECT * FROM running_block UNION ALL SELECT * FROM counted_block) ON block = seq / 256 WHERE state < 2 AND instr(counted, unhex(printf('%02x', seq % 256))) > 0 LIMIT 1",
		"a row whose end would not be counted",
	],
	["SELECT seq FROM attempt GROUP BY seq HAVING COUNT(*) <> MAX(attempt) LIMIT 1", "an attempt that left no row"],
	[
		`SELECT seq FROM invocation WHERE state <> 0 AND attempt - (state IN (1, 2, 3, 4, 5, 8)) <>
			(SELECT COUNT(*) FROM attempt a WHERE a.seq = invocation.seq) AND state IN (1, 2, 3, 4, 5, 8) LIMIT 1`,
		"an invocation whose attempts do not add up",
	],
];

/** What is wrong, or undefined. */
export function fsck(queue: Database, ledger: Ledger): string | undefined {
	const integrity = queue.pragma("integrity_check", { simple: true });
	if (integrity !== "ok") return `integrity_check: ${String(integrity)}`;
	const rows = queue.prepare<[], Stored>("SELECT seq, state, ready, attempt, charged, lane FROM invocation").all();
	if (rows.length !== ledger.rows.size) return `${rows.length} rows are stored, ${ledger.rows.size} were committed`;
	for (const stored of rows) {
		const row = ledger.rows.get(stored.seq);
		if (
			row === undefined ||
			STATE_CODE[row.state] !== stored.state ||
			row.attempt !== stored.attempt ||
			row.charged !== stored.charged ||
			row.lane !== stored.lane ||
			(stored.ready === 1) !== row.ready
		)
			return `row ${stored.seq} is ${JSON.stringify(stored)}, committed was ${JSON.stringify(row)}`;
	}
	for (const [sql, meaning] of ORPHANS) {
		const found = queue.prepare(sql).pluck().get();
		if (found !== undefined) return `${meaning}: ${JSON.stringify(found)}`;
	}
	return undefined;
}
