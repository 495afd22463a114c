/** How SQLite means to answer the queue's statements: through the index that each is written for, empty or full. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { prepareStatements } from "../../../src/queue/statements.ts";
import { STATES } from "../../../src/core/invocation.ts";
import type { Database } from "../../../src/store/index.ts";
import { queueOnFile } from "../../support/queue-on-file.ts";

const IN_BLOCK = /^SEARCH invocation USING INTEGER PRIMARY KEY \(rowid>\? AND rowid<\?\)$/;
const BY_SEQ = /^SEARCH invocation USING INTEGER PRIMARY KEY \(rowid=\?\)$/;

/** The whole plan of each statement, in lines. What is not listed here must not read `invocation` at all. */
const PLANS: Readonly<Record<string, readonly RegExp[]>> = {
	invocationSucceed: [BY_SEQ],
	invocationEnd: [BY_SEQ],
	invocationRequeue: [BY_SEQ],
	invocationClaim: [BY_SEQ],
	invocationCancelQueued: [BY_SEQ],
	invocationAskCancel: [BY_SEQ],
	invocationExpire: [BY_SEQ],
	invocationState: [BY_SEQ],
	duePromote: [BY_SEQ],
	invocationSetAside: [BY_SEQ],
	invocationDelete: [BY_SEQ],
	invocationGet: [BY_SEQ],
	invocationRunning: [BY_SEQ],
	invocationReadyHead: [/^SEARCH invocation USING INDEX invocation_ready \(lane=\? AND lane_key=\?\)$/],
	laneKeyNext: [/^SEARCH invocation USING COVERING INDEX invocation_ready \(lane=\? AND lane_key>\?\)$/],
	laneKeyFirst: [/^SEARCH invocation USING COVERING INDEX invocation_ready \(lane=\?\)$/],
	dueNext: [/^SEARCH invocation USING COVERING INDEX invocation_due$/],
	dueList: [/^SEARCH invocation USING INDEX invocation_due \(run_at<\?\)$/],
	deadlineNext: [/^SEARCH invocation USING COVERING INDEX invocation_deadline/],
	deadlineList: [/^SEARCH invocation USING INDEX invocation_deadline \(deadline_at>\? AND deadline_at<\?\)$/],
	turnLetGo: [BY_SEQ],
	seqLast: [/^SEARCH invocation$/],
	pruneList: [/^SEARCH invocation USING INTEGER PRIMARY KEY \(rowid>\?\)$/],
	invocationList: [/^SEARCH invocation USING INTEGER PRIMARY KEY \(rowid<\?\)$/],
	invocationListLane: [IN_BLOCK],
	invocationOfLane: [BY_SEQ],
	blockRows: [IN_BLOCK],
	uncountedList: [/^SCAN running_block$/, IN_BLOCK],
	laneBlockDeleteEmpty: [
		/^SEARCH lane_block USING PRIMARY KEY \(lane=\? AND block=\?\)$/,
		/^CORRELATED SCALAR SUBQUERY/,
		IN_BLOCK,
	],
	countedBlockDeleteEmpty: [
		/^SEARCH counted_block USING INTEGER PRIMARY KEY \(rowid=\?\)$/,
		/^CORRELATED SCALAR SUBQUERY/,
		IN_BLOCK,
	],
	// At boot, over the rows that wait or ran, never over those that ended.
	runningList: [/^(SCAN running_block|SEARCH running_block USING INTEGER PRIMARY KEY \(rowid>\?\))$/, IN_BLOCK],
	laneCountReady: [/^SCAN invocation USING COVERING INDEX invocation_ready$/],
	laneCountDelayed: [/^SCAN invocation USING INDEX invocation_due$/, /^USE TEMP B-TREE FOR GROUP BY$/],
	turnFirstsHeld: [
		/^SEARCH invocation USING COVERING INDEX invocation_due \(run_at=\? AND rowid=\?\)$/,
		/^LIST SUBQUERY/,
		/^SCAN turn$/,
	],
};
/** Statements whose plan may scan: each with why. */
const SCANS: Readonly<Record<string, string>> = {
	eventDeleteBefore: "the oldest events, as many as its LIMIT",
	eventList: "the newest events, as many as its LIMIT",
	...Object.fromEntries(
		[
			"runningBlockList",
			"runningList",
			"uncountedList",
			"laneCountReady",
			"laneCountDelayed",
			"turnList",
			"turnFirstsHeld",
		].map((name) => [name, "at boot"]),
	),
};

/** For rows that the queue has not written itself. */
const NAME_ROWS = `INSERT INTO lane_block (lane, block, offsets)
	SELECT lane, seq / 256, unhex(group_concat(printf('%02x', seq % 256), '')) FROM invocation GROUP BY lane, seq / 256`;

function planOf(db: Database, source: string): string[] {
	const values = Array.from({ length: source.split("?").length - 1 }, () => 1);
	return db
		.prepare<unknown[], { detail: string }>(`EXPLAIN QUERY PLAN ${source}`)
		.all(...values)
		.map(({ detail }) => detail);
}

for (const much of [0, 10_000]) {
	test(`with ${much} rows, every statement goes through its index and none scans the invocations`, () => {
		using q = queueOnFile({ lanes: [{}, {}], slots: 100 });
		for (let done = 0; done < much; done += 1_000) {
			q.accept(
				...Array.from({ length: 1_000 }, (_, index) =>
					q.submission(index % 2, {
						...(index % 3 === 0 ? { delayMs: 1_000 } : {}),
						...(index % 5 === 0 ? { deadlineMs: 9_000 } : {}),
						...(index % 7 === 0 ? { laneKey: `k${index}` } : {}),
					}),
				),
			);
		}
		// Statistics, which nobody takes here but a shell may, change no plan that names its index.
		if (much > 0) q.db.exec("ANALYZE");
		for (const [name, statement] of Object.entries(prepareStatements(q.db))) {
			const plan = planOf(q.db, statement.source);
			const expected = PLANS[name];
			if (expected === undefined) {
				assert.ok(
					plan.every((line) => !/(SCAN|SEARCH) invocation\b/.test(line)),
					`${name} has no plan in this test: ${plan.join("; ")}`,
				);
			} else {
				assert.equal(plan.length, expected.length, `${name}: ${plan.join("; ")}`);
				expected.forEach((line, index) => assert.match(plan[index] ?? "", line, `${name}: ${plan.join("; ")}`));
			}
			if (SCANS[name] === undefined)
				assert.ok(!plan.some((line) => line.startsWith("SCAN")), `${name}: ${plan.join("; ")}`);
		}
		if (much > 0) q.db.exec("DROP TABLE IF EXISTS sqlite_stat4");
	});
}

test("a list of one state does not read through all that ended in another", async () => {
	using q = queueOnFile({ lanes: [{ limit: 100 }, { limit: 100 }] });
	const fill = q.db.prepare(`
		WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 200000)
		INSERT INTO invocation (seq, lane, version, state, ready, priority, lane_key, created_at, run_at, attempt, charged,
			max_attempts, at_most_once, started_at, finished_at, worker, source, method, path, headers, query, body_bytes, body_crc, status)
		SELECT n, 1 + n % 2, 1, 2, 0, 0, '', n, 0, 1, 0, 1, 0, n, n, 'w1', 0, 'POST', '/', '[]', '[]', 0, 0, 200 FROM number`);
	fill.run();
	q.db.exec(NAME_ROWS);
	q.reopen();
	q.accept(q.submission(0), q.submission(1));
	const cost = (state: (typeof STATES)[number], lane: number | undefined): number => {
		const times: number[] = [];
		for (let run = 0; run < 3; run += 1) {
			const from = performance.now();
			q.queue.read.list({ state, lane });
			times.push(performance.now() - from);
		}
		return Math.min(...times);
	};
	const slow = STATES.flatMap((state) =>
		[undefined, 1].flatMap((lane) => {
			const ms = cost(state, lane);
			return ms > 5 ? [`${state}${lane === undefined ? "" : " of one lane"}: ${ms.toFixed(1)} ms`] : [];
		}),
	);
	assert.deepEqual(slow, []);
});

test("a list of one state is whole, newest first, and pages without gaps, wherever its rows lie", () => {
	using q = queueOnFile({ lanes: [{}, {}] });
	const insert = q.db.prepare(`
		INSERT INTO invocation (seq, lane, version, state, ready, priority, lane_key, created_at, run_at, attempt, charged,
			max_attempts, at_most_once, started_at, finished_at, worker, source, method, path, headers, query, body_bytes, body_crc, status)
		VALUES (?, ?, 1, ?, ?, 0, '', 1, 0, 1, 0, 1, 0, 1, ?, 'w1', 0, 'POST', '/', '[]', '[]', 0, 0, ?)`);
	const rows: { seq: number; lane: number; state: number }[] = [];
	q.db.transaction(() => {
		for (let seq = 1; seq <= 25_000; seq += 1) {
			// Every state, thick and thin, on both sides of what is looked through row by row.
			const state = seq % 97 === 0 ? (seq / 97) % 9 : 2;
			const row = { seq, lane: 1 + (seq % 2), state };
			rows.push(row);
			insert.run(seq, row.lane, state, state === 0 ? seq % 3 && 1 : 0, state >= 2 ? 1 : null, state === 2 ? 200 : null);
		}
	})();
	q.db.exec(NAME_ROWS);
	for (const [code, state] of STATES.entries()) {
		if (state === "running") continue;
		for (const lane of [undefined, 1, 2]) {
			const expected = rows.filter((row) => row.state === code && (lane === undefined || row.lane === lane));
			const wanted = expected
				.map((row) => row.seq)
				.toReversed()
				.slice(0, 400);
			const found: number[] = [];
			let before: string | undefined;
			while (found.length < wanted.length) {
				const page = q.queue.read.list({ state, lane, before, limit: 7 });
				if (page.length === 0) break;
				found.push(...page.map(({ invocationId }) => Number.parseInt(invocationId.slice(-11), 32)));
				before = page.at(-1)?.invocationId;
			}
			assert.deepEqual(found.slice(0, wanted.length), wanted, `${state} of lane ${lane ?? "any"}`);
		}
	}
});
