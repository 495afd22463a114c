import assert from "node:assert/strict";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test, type TestContext } from "node:test";
import * as fc from "fast-check";
import { LOG_LEVELS } from "../../../src/core/contracts.ts";
import { LIMITS } from "../../../src/core/limits.ts";
import { LogStore, type DataFolder, type LogLine, type LogReadFilter, type LogRow } from "../../../src/store/index.ts";
import { LogFiles } from "../../../src/store/log-files.ts";
import { createFakeClock } from "../../support/fake-clock.ts";
import { makeEnvironment, open, tempFolder, type TestEnvironment } from "./support.ts";

const MORNING = Date.UTC(2026, 0, 2, 3, 4, 5);

function line(changes: Partial<LogLine> = {}): LogLine {
	return {
		lane: 1,
		seq: undefined,
		attempt: undefined,
		level: "info",
		message: "hello",
		metadata: undefined,
		at: MORNING,
		worker: "w1",
		...changes,
	};
}

interface Scene {
	readonly logs: LogStore;
	readonly folder: DataFolder;
	readonly environment: TestEnvironment;
	readonly messages: (filter?: LogReadFilter) => string[];
	/** All JSONL text of the folder, by file name. */
	readonly files: () => Record<string, string>;
}

function makeScene(t: TestContext): Scene {
	const environment = makeEnvironment(createFakeClock(MORNING));
	const folder = open(t, tempFolder(t), environment);
	const logs = new LogStore({ database: folder.logs, folder: folder.paths.logs, environment });
	t.after(() => logs.close());
	return {
		logs,
		folder,
		environment,
		messages: (filter = {}) => logs.read(filter).rows.map((row) => row.message),
		files: () => filesOf(folder.paths.logs),
	};
}

function filesOf(path: string): Record<string, string> {
	return Object.fromEntries(readdirSync(path).map((name) => [name, readFileSync(join(path, name), "utf8")]));
}

function countRows(folder: DataFolder): unknown {
	return folder.logs.prepare("SELECT count(*) FROM log").pluck().get();
}

suite("a log line", () => {
	test("comes back as it was given, and is in the day's file", async (t) => {
		const { logs, files } = makeScene(t);
		logs.append(
			line({
				seq: 7,
				attempt: 2,
				level: "warn",
				metadata: { a: [1, null] },
				functionId: "fn_x",
				invocationId: "inv_y",
			}),
		);
		await logs.flush();
		const { rows, total } = logs.read({});
		assert.equal(total, 1);
		assert.deepEqual(rows[0], { ...line({ seq: 7, attempt: 2, level: "warn", metadata: { a: [1, null] } }), id: 1 });
		assert.deepEqual(JSON.parse(files()["2026-01-02.jsonl"] ?? ""), {
			time: "2026-01-02T03:04:05.000Z",
			level: "warn",
			function: "fn_x",
			invocation: "inv_y",
			attempt: 2,
			worker: "w1",
			message: "hello",
			metadata: { a: [1, null] },
		});
	});

	test("is written after logFlushMs, not before, and wakes who follows once for all", async (t) => {
		const { logs, folder, environment } = makeScene(t);
		const woken: number[] = [];
		const stop = logs.onAppend((lastId) => woken.push(lastId));
		logs.append(line());
		logs.append(line());
		await environment.clock.advance(LIMITS.logFlushMs - 1);
		assert.equal(countRows(folder), 0);
		await environment.clock.advance(1);
		assert.equal(countRows(folder), 2);
		assert.deepEqual(woken, [2]);
		assert.equal(logs.lastId, 2);
		stop();
		logs.append(line());
		await logs.flush();
		assert.deepEqual(woken, [2]);
		assert.equal(environment.clock.pending, 0);
	});

	test("does not wait when a thousand are there, and a large backlog goes in steps", async (t) => {
		const { logs, folder, environment } = makeScene(t);
		for (let index = 0; index < 2500; index += 1) logs.append(line());
		const steps: unknown[] = [];
		logs.onAppend(() => steps.push(countRows(folder)));
		await environment.clock.advance(0);
		assert.deepEqual(steps, [1000, 2000, 2500]);
	});

	test("that is too long is cut and marked, between characters", (t) => {
		const { logs } = makeScene(t);
		logs.append(
			line({
				message: `x${"ü".repeat(LIMITS.logLineBytesMax)}`,
				metadata: { big: "y".repeat(LIMITS.logLineBytesMax) },
			}),
		);
		const [row] = logs.read({}).rows;
		assert.match(row?.message ?? "", /^xü+… \(cut\)$/);
		assert.ok(Buffer.byteLength(row?.message ?? "") <= LIMITS.logLineBytesMax + 10);
		assert.deepEqual(row?.metadata, { cut: true });
	});

	test("with metadata that is no JSON, or a time that is none, is kept", async (t) => {
		const { logs, files } = makeScene(t);
		const cycle: Record<string, unknown> = {};
		cycle["self"] = cycle;
		logs.append(line({ metadata: cycle }));
		logs.append(line({ at: Number.MAX_SAFE_INTEGER, message: "late\nsecond \0 line \ud800" }));
		await logs.flush();
		const { rows } = logs.read({});
		assert.deepEqual(rows[0]?.metadata, { unreadable: true });
		assert.match(rows[1]?.message ?? "", /^late\nsecond \0 line/);
		const lines = (files()["2026-01-02.jsonl"] ?? "").trimEnd().split("\n");
		assert.equal(lines.length, 2);
		for (const text of lines) JSON.parse(text);
	});

	test("after close is counted as dropped; close twice is once", async (t) => {
		const { logs, folder, environment } = makeScene(t);
		logs.append(line());
		assert.equal(logs.close(), logs.close());
		await logs.close();
		assert.equal(countRows(folder), 1);
		logs.append(line());
		assert.equal(logs.dropped, 1);
		assert.equal(environment.clock.pending, 0);
	});
});

suite("the backlog", () => {
	test("over its bound drops and counts, and one line for each function tells it when there is room", (t) => {
		const { logs, messages } = makeScene(t);
		const extra = 30;
		for (let index = 0; index < LIMITS.logBacklogLinesMax + extra; index += 1) logs.append(line({ lane: 1 }));
		logs.append(line({ lane: 2 }));
		assert.equal(logs.dropped, extra + 1);
		const told = (lane: number): string[] => messages({ lane, minLevel: "warn" });
		assert.deepEqual(told(1), [`${extra} lines dropped: more came than the log could take`]);
		assert.deepEqual(told(2), ["1 lines dropped: more came than the log could take"]);
		logs.append(line());
		assert.equal(told(1).length, 1);
		assert.equal(logs.read({ lane: 1, minLevel: "info" }).total, LIMITS.logBacklogLinesMax + 2);
	});

	test("is bounded in characters too", (t) => {
		const { logs } = makeScene(t);
		const message = "x".repeat(LIMITS.logLineBytesMax);
		const fit = LIMITS.logBacklogCharsMax / LIMITS.logLineBytesMax;
		for (let index = 0; index < fit + 5; index += 1) logs.append(line({ message }));
		assert.equal(logs.dropped, 5);
		void logs.flush();
		logs.append(line({ message }));
		assert.equal(logs.dropped, 5);
	});

	test("that the database refuses is dropped, told to the operator once, and to the reader later", async (t) => {
		const { logs, folder, environment, messages } = makeScene(t);
		const pages = Number(folder.logs.pragma("page_count", { simple: true }));
		folder.logs.pragma(`max_page_count = ${pages}`);
		for (let round = 0; round < 3; round += 1) {
			for (let index = 0; index < 300; index += 1) logs.append(line({ message: "x".repeat(1000) }));
			await environment.clock.advance(LIMITS.logFlushMs);
		}
		assert.equal(logs.dropped, 900);
		assert.equal(environment.warnings.length, 1);
		folder.logs.pragma("max_page_count = 1000000");
		logs.append(line({ message: "room again" }));
		assert.deepEqual(messages(), ["room again", "900 lines dropped: more came than the log could take"]);
	});
});

suite("reading", () => {
	test("agrees with a plain filter over all lines, for every filter", (t) => {
		const { logs } = makeScene(t);
		const level = fc.constantFrom(...LOG_LEVELS);
		const lines = fc.sample(
			fc.record({
				lane: fc.integer({ min: 1, max: 3 }),
				seq: fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined }),
				level,
				at: fc.integer({ min: 0, max: 20 }),
			}),
			{ numRuns: 120, seed: 1 },
		);
		// One flush each, so that ids and times are not in one order.
		for (const [index, part] of lines.entries()) {
			logs.append(line({ ...part, message: String(index) }));
			void logs.flush();
		}
		const all = logs.read({}).rows;
		assert.equal(all.length, lines.length);
		const optional = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> =>
			fc.option(arbitrary, { nil: undefined });
		fc.assert(
			fc.property(
				fc.record({
					lane: optional(fc.integer({ min: 1, max: 4 })),
					seq: optional(fc.integer({ min: 1, max: 5 })),
					minLevel: optional(level),
					since: optional(fc.integer({ min: 0, max: 20 })),
					until: optional(fc.integer({ min: 0, max: 20 })),
					after: optional(fc.integer({ min: 0, max: 130 })),
					offset: optional(fc.integer({ min: 0, max: 20 })),
					limit: optional(fc.integer({ min: 0, max: 40 })),
					tail: optional(fc.boolean()),
				}),
				(filter) => {
					const matching = all.filter(
						(row) =>
							(filter.lane === undefined || row.lane === filter.lane) &&
							(filter.seq === undefined || row.seq === filter.seq) &&
							LOG_LEVELS.indexOf(row.level) >= LOG_LEVELS.indexOf(filter.minLevel ?? "debug") &&
							row.at >= (filter.since ?? 0) &&
							row.at <= (filter.until ?? 20) &&
							row.id > (filter.after ?? 0),
					);
					// A page is cut by time where a lane or all is read, by id otherwise; it is told by id.
					const byId = filter.seq !== undefined || (filter.after ?? 0) > 0;
					const order = (a: LogRow, b: LogRow): number => (byId ? a.id - b.id : a.at - b.at || a.id - b.id);
					const sorted = matching.toSorted(order);
					if (filter.tail === true) sorted.reverse();
					const offset = filter.offset ?? 0;
					const page = sorted.slice(offset, offset + (filter.limit ?? LIMITS.logPageMax));
					const found = logs.read(filter);
					assert.equal(found.total, matching.length);
					assert.deepEqual(
						found.rows,
						page.sort((a, b) => a.id - b.id),
					);
				},
			),
		);
	});

	test("sees what was appended just before", (t) => {
		const { logs, messages } = makeScene(t);
		logs.append(line({ message: "now" }));
		assert.deepEqual(messages({ lane: 1 }), ["now"]);
	});

	test("gives at most a page", (t) => {
		const { logs } = makeScene(t);
		for (let index = 0; index < LIMITS.logPageMax + 10; index += 1) logs.append(line());
		const { rows, total } = logs.read({ limit: 1_000_000 });
		assert.equal(rows.length, LIMITS.logPageMax);
		assert.equal(total, LIMITS.logPageMax + 10);
	});

	test("goes by an index and sorts no more than lines of one millisecond", (t) => {
		const { folder } = makeScene(t);
		const plan = (sql: string): string =>
			folder.logs
				.prepare<[], { detail: string }>(`EXPLAIN QUERY PLAN ${sql}`)
				.all()
				.map((row) => row.detail)
				.join("; ");
		const lane = plan(
			"SELECT * FROM log INDEXED BY log_by_lane WHERE lane = 1 AND at BETWEEN 1 AND 2 ORDER BY at, id LIMIT 5",
		);
		assert.match(lane, /SEARCH log USING INDEX log_by_lane \(lane=\? AND at>\? AND at<\?\)/);
		assert.doesNotMatch(lane, /TEMP B-TREE FOR ORDER BY/);
		const count = plan(
			"SELECT 1 FROM log INDEXED BY log_by_lane WHERE lane = 1 AND at BETWEEN 1 AND 2 AND level >= 1 AND id > 3",
		);
		assert.match(count, /COVERING INDEX log_by_lane/);
	});
});

suite("pruning", () => {
	test("removes the oldest, at most so many, and never gives an id again", (t) => {
		const { logs, messages } = makeScene(t);
		for (let index = 0; index < 10; index += 1) logs.append(line({ at: index, message: String(index) }));
		assert.equal(logs.read({}).total, 10);
		assert.equal(logs.prune(5, 3), 3);
		assert.deepEqual(messages({ limit: 2 }), ["3", "4"]);
		assert.equal(logs.prune(5, 100), 2);
		assert.equal(logs.prune(5, 100), 0);
		assert.equal(logs.prune(100, 100), 5);
		logs.append(line({ message: "next" }));
		assert.equal(logs.read({}).rows[0]?.id, 11);
	});

	test("removes files of days that are over, and no others", async (t) => {
		const { logs, folder, files } = makeScene(t);
		for (const name of [
			"2025-12-30.jsonl",
			"2025-12-31.jsonl",
			"2025-12-31.1.jsonl",
			"2026-01-01.jsonl",
			"notes.txt",
		]) {
			writeFileSync(join(folder.paths.logs, name), "{}\n");
		}
		logs.append(line());
		logs.prune(Date.UTC(2026, 0, 1, 12), 500);
		await logs.flush();
		assert.deepEqual(Object.keys(files()), ["2026-01-01.jsonl", "2026-01-02.jsonl", "notes.txt"]);
	});
});

suite("JSONL files", () => {
	test("a torn line of an earlier run is ended before ours", async (t) => {
		const { logs, folder, files } = makeScene(t);
		writeFileSync(join(folder.paths.logs, "2026-01-02.jsonl"), '{"message":"whole"}\n{"mess');
		logs.append(line({ message: "ours" }));
		await logs.flush();
		const lines = (files()["2026-01-02.jsonl"] ?? "").split("\n");
		assert.deepEqual(lines.slice(0, 2), ['{"message":"whole"}', '{"mess']);
		assert.equal((JSON.parse(lines[2] ?? "") as { message: string }).message, "ours");
		assert.equal(lines[3], "");
	});

	test("midnight in UTC begins another file", async (t) => {
		const { logs, environment, files } = makeScene(t);
		logs.append(line({ message: "evening" }));
		await logs.flush();
		environment.clock.jumpWall(21 * 3_600_000);
		logs.append(line({ message: "night" }));
		await logs.flush();
		assert.match(files()["2026-01-02.jsonl"] ?? "", /evening/);
		assert.match(files()["2026-01-03.jsonl"] ?? "", /night/);
	});

	test("a full file is continued in the next, also after a restart, and all are for their owner only", async (t) => {
		const { folder, environment } = makeScene(t);
		for (let run = 0; run < 2; run += 1) {
			const files = new LogFiles(folder.paths.logs, environment, 10);
			for (let index = 0; index < 3; index += 1) files.append(`"${run}${index}${"x".repeat(8)}"\n`);
			await files.close();
		}
		const written = filesOf(folder.paths.logs);
		assert.deepEqual(Object.keys(written).length, 6);
		assert.equal(written["2026-01-02.jsonl"], '"00xxxxxxxx"\n');
		assert.equal(written["2026-01-02.5.jsonl"], '"12xxxxxxxx"\n');
		for (const name of Object.keys(written)) assert.equal(statSync(join(folder.paths.logs, name)).mode & 0o777, 0o600);
	});

	test("a folder that takes no files costs the files only, and is told once", async (t) => {
		const { environment } = makeScene(t);
		const folder = open(t, tempFolder(t), environment);
		const logs = new LogStore({ database: folder.logs, folder: join(folder.paths.logs, "none"), environment });
		for (let round = 0; round < 3; round += 1) {
			logs.append(line());
			await logs.flush();
		}
		await logs.close();
		assert.equal(countRows(folder), 3);
		assert.equal(logs.dropped, 0);
		assert.deepEqual(environment.warnings, ["log lines are missing in the JSONL files"]);
	});
});
