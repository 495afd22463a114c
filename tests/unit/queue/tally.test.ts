/** Q10: each end is in the metrics once, whenever a daemon dies and whatever SQLite refuses meanwhile. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import BetterSqlite3 from "better-sqlite3";
import { BUILT_IN } from "../../../src/core/function-config.ts";
import { EngineError } from "../../../src/core/errors.ts";
import { findRollbacks, readLevels } from "../../../src/store/index.ts";
import { failStatement, OK, otherProgram, queueOnFile, THROWN, type QueueOnFile } from "../../support/queue-on-file.ts";
import { seed, seededRandom } from "../../support/seed.ts";
import { tempFolder } from "../../support/temp-folder.ts";

/** Ends that are written at once. */
const TOGETHER = 1024;
const RETENTION_MS = 7 * 86_400_000;

const inMetric = (q: QueueOnFile): number =>
	Number(q.db.prepare("SELECT COALESCE(SUM(invocations), 0) FROM metric").pluck().get());
const ofDay = (q: QueueOnFile, lane: number) => q.queue.read.metrics(lane, "day");

function acceptAndSettle(q: QueueOnFile, much: number): void {
	q.accept(...Array.from({ length: much }, () => q.submission(0)));
	for (const claim of q.sent.splice(0)) q.settle(claim);
	q.turn();
}

test("ends are written to the metrics a thousand at once, and are counted in what is asked for before", () => {
	using q = queueOnFile({ lanes: [{ limit: 1_000 }] });
	for (let ended = 100; ended < TOGETHER; ended += 100) {
		acceptAndSettle(q, 100);
		assert.equal(inMetric(q), 0);
		assert.equal(ofDay(q, 1).invocations, ended);
	}
	acceptAndSettle(q, 100);
	assert.equal(inMetric(q), 1_100);
	assert.equal(ofDay(q, 1).invocations, 1_100);
	acceptAndSettle(q, 1);
	assert.equal(inMetric(q), 1_100);
	assert.equal(ofDay(q, 1).invocations, 1_101);
	q.checkCounts();
});

test("a stop writes what is left", () => {
	using q = queueOnFile({ lanes: [{ limit: 2_000 }] });
	acceptAndSettle(q, 3);
	assert.equal(inMetric(q), 0);
	q.queue.close();
	assert.equal(inMetric(q), 3);
	q.reopen();
	// More than one transaction takes, and none of them written yet.
	q.accept(...Array.from({ length: 1_500 }, () => q.submission(0)));
	for (const claim of q.sent.splice(0)) q.settle(claim);
	q.queue.close();
	assert.equal(inMetric(q), 1_503);
});

test("what the last daemon had not written is added up at the start as it would have written it", async () => {
	const retry = { ...BUILT_IN.retry, maxAttempts: 3, baseMs: 0 };
	using q = queueOnFile({ lanes: [{ limit: 10 }, { limit: 10 }, { limit: 10, config: { retry } }] });
	const once = { maxAttempts: 1 };
	q.accept(
		q.submission(0),
		q.submission(0, once),
		q.submission(1),
		q.submission(2),
		q.submission(2, { delayMs: 1_000 }),
	);
	const [first, second, third, again] = q.sent.splice(0);
	assert.ok(first !== undefined && second !== undefined && third !== undefined && again !== undefined);
	await q.clock.advance(70);
	q.settle(first);
	q.settle(again, THROWN);
	q.turn();
	q.clock.jumpWall(60_000);
	q.settle(second, THROWN);
	q.settle(third);
	q.turn();
	const cancelled = q.id(q.submission(2, { delayMs: 5_000 }));
	void q.queue.cancel(cancelled);
	q.turn();
	const before = [1, 2, 3].map((lane) => ofDay(q, lane));
	assert.deepEqual(
		before.map(({ invocations, errors }) => [invocations, errors]),
		[
			[2, 1],
			[1, 0],
			[1, 1],
		],
	);
	assert.ok(before[0] !== undefined && before[0].runMs >= 60_140);
	q.reopen();
	assert.equal(inMetric(q), 0);
	assert.deepEqual(
		[1, 2].map((lane) => ofDay(q, lane)),
		before.slice(0, 2),
	);
	q.checkCounts();
	q.queue.close();
	assert.equal(inMetric(q), 4);
	q.reopen();
	assert.deepEqual(
		[1, 2].map((lane) => ofDay(q, lane)),
		before.slice(0, 2),
	);
	q.checkCounts();
});

test("where SQLite refuses it, the next transaction writes it", async () => {
	using q = queueOnFile({ lanes: [{ limit: 1_000 }] });
	for (let ended = 0; ended < 1_000; ended += 100) acceptAndSettle(q, 100);
	q.accept(...Array.from({ length: 24 }, () => q.submission(0)));
	for (const claim of q.sent.splice(0)) q.settle(claim);
	for (const statement of [
		/^UPDATE metric/,
		/^INSERT INTO metric/,
		/^UPDATE running_block/,
		/^UPDATE meta/,
		/^COMMIT/,
	]) {
		let refused = 0;
		const fault = failStatement(q.db, new RegExp(`^\\s*${statement.source.slice(1)}`), "SQLITE_BUSY", () => {
			refused += 1;
			return true;
		});
		q.turn();
		fault.restore();
		assert.equal(refused, 1);
		await q.clock.advance(10);
		assert.equal(inMetric(q), 0);
	}
	acceptAndSettle(q, 1);
	assert.equal(inMetric(q), 1_024, "with the first of them that it takes");
	q.checkCounts();
});

test("a block that is forgotten while rows in it wait keeps which of them are counted", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const ids: string[] = [];
	const blocks = 40;
	for (let block = 0; block < blocks; block += 1) {
		for (const answer of q.accept(...Array.from({ length: 256 }, () => q.submission(0, { delayMs: 60_000 })))) {
			assert.ok(!(answer instanceof EngineError));
			ids.push(answer.invocationId);
		}
	}
	const cancelInEach = (offset: number): void => {
		for (let block = 0; block < blocks; block += 1) void q.queue.cancel(ids[block * 256 + offset] ?? assert.fail());
		q.turn();
	};
	const kept = (): unknown => q.db.prepare("SELECT COUNT(*) FROM counted_block").pluck().get();
	cancelInEach(10);
	assert.ok(Number(kept()) >= blocks - 1, `${String(kept())} are kept`);
	q.checkCounts();
	cancelInEach(20);
	cancelInEach(30);
	assert.equal(ofDay(q, 1).invocations, 3 * blocks);
	q.checkCounts();
	q.reopen();
	cancelInEach(40);
	assert.equal(ofDay(q, 1).invocations, 4 * blocks);
	q.checkCounts();
	q.reopen();
	assert.equal(ofDay(q, 1).invocations, 4 * blocks);
	for (const id of ids) void q.queue.cancel(id);
	q.turn();
	assert.equal(ofDay(q, 1).invocations, blocks * 256);
	assert.ok(
		Number(kept()) <= 2,
		"a block whose rows have all ended is kept no more: the first has 255, the last is not full",
	);
	q.checkCounts();
	q.clock.jumpWall(RETENTION_MS + 60_001);
	for (let more = true; more;) {
		const step = q.queue.prune();
		q.turn();
		more = await step;
	}
	assert.equal(kept(), 0);
});

test("in a folder of schema 4 all that ended is counted, and what ends after it once: in a block that waits, runs or grows", () => {
	using temp = tempFolder();
	const dataDir = join(temp.path, "data");
	const lanes = [{ limit: 1_000 }, {}];
	const waiting: string[] = [];
	{
		using q = queueOnFile({ lanes, dataDir });
		q.accept(...Array.from({ length: 300 }, () => q.submission(0)));
		q.sent.shift();
		acceptAndSettle(q, 0);
		for (let index = 0; index < 300; index += 1) {
			waiting.push(q.id(q.submission(1, { delayMs: 60_000 })));
			acceptAndSettle(q, 1);
		}
		acceptAndSettle(q, 200);
	}
	const old = new BetterSqlite3(join(dataDir, "queue.db"));
	old.exec(`
		DELETE FROM running_block WHERE block > 0;
		ALTER TABLE running_block DROP COLUMN counted;
		DROP TABLE counted_block;
		PRAGMA user_version = 4`);
	old.close();
	using q = queueOnFile({ lanes, dataDir });
	q.checkCounts();
	acceptAndSettle(q, 20);
	for (const id of waiting) void q.queue.cancel(id);
	q.turn();
	assert.deepEqual(
		[1, 2].map((lane) => ofDay(q, lane).invocations),
		[820, 300],
	);
	q.checkCounts();
	q.reopen();
	assert.deepEqual(
		[1, 2].map((lane) => ofDay(q, lane).invocations),
		[820, 300],
	);
});

test("the newest end is known after a start, whichever row it is of", async () => {
	using q = queueOnFile({ lanes: [{}] });
	q.accept(q.submission(0), q.submission(0));
	const [first, second] = q.sent.splice(0);
	assert.ok(first !== undefined && second !== undefined);
	q.settle(second);
	q.turn();
	await q.clock.advance(10);
	q.settle(first);
	q.turn();
	const newest = q.clock.now();
	assert.equal(ofDay(q, 1).lastAt, newest);
	q.reopen();
	assert.equal(ofDay(q, 1).lastAt, newest);
	q.queue.close();
	assert.equal(q.db.prepare("SELECT last_at FROM metric").pluck().get(), newest);
});

test("to count is worth no waiting and no ballast at a stop, and no transaction of its own after a prune that failed", async () => {
	let freed = 0;
	using q = queueOnFile({ lanes: [{}], deps: { freeBallast: () => (freed += 1) < 0 } });
	acceptAndSettle(q, 3);
	q.clock.jumpWall(RETENTION_MS + 1);
	let tried = 0;
	const full = failStatement(q.db, /^COMMIT$/, "SQLITE_FULL", () => (tried += 1) > 0);
	await assert.rejects(Promise.all([q.queue.prune(), Promise.resolve(q.turn())]), { code: "STORAGE_FULL" });
	for (let waited = 0; waited < 10_000; waited += 250) {
		await q.clock.advance(250);
		q.turn();
	}
	assert.ok(tried <= 1, `${tried} transactions were tried, of which one had something to do`);
	freed = 0;
	q.queue.close();
	full.restore();
	assert.equal(freed, 0);
	q.reopen();
	const shell = otherProgram(q);
	shell.exec("BEGIN IMMEDIATE");
	q.queue.close();
	assert.equal(q.db.pragma("busy_timeout", { simple: true }), 0, "the lock was not waited for");
	shell.exec("ROLLBACK");
	shell.close();
	assert.equal(inMetric(q), 0);
	q.reopen();
	assert.equal(q.queue.read.metrics(1, "day").invocations, 0, "of last week");
	q.queue.close();
	assert.equal(inMetric(q), 3, "the next stop has counted them");
});

test("rows that leave with retention are counted first", async () => {
	using q = queueOnFile({ lanes: [{ limit: 1_000 }] });
	acceptAndSettle(q, 5);
	q.clock.jumpWall(RETENTION_MS + 1);
	void q.queue.prune();
	q.turn();
	assert.equal(q.db.prepare("SELECT COUNT(*) FROM invocation").pluck().get(), 0);
	assert.equal(inMetric(q), 5);
	q.checkCounts();
	acceptAndSettle(q, 5);
	assert.equal(inMetric(q), 5, "and the next ones gather again");
});

test("whatever happens, each end is counted once, and no transaction is lost unseen", async () => {
	const random = seededRandom(seed);
	const retry = { ...BUILT_IN.retry, maxAttempts: 2, baseMs: 0 };
	const lanes = [{ limit: 40 }, { limit: 40, config: { retry } }, { limit: 3 }];
	using q = queueOnFile({ lanes });
	const pick = (below: number): number => Math.floor(random.next() * below);
	/** Ended, by lane; told by the queue. */
	const ended = new Map<string, string>();
	const ids: string[] = [];
	let faults = 0;
	let fault: { restore(): void } | undefined;
	const acts: (() => unknown)[] = [
		...Array.from({ length: 4 }, () => () => {
			for (let much = pick(200); much > 0; much -= 1) {
				const request = pick(4) > 0 ? {} : { delayMs: pick(50), deadlineMs: 10 + pick(100) };
				q.queue.enqueue(
					q.submission(pick(3), request),
					({ invocationId }) => void ids.push(invocationId),
					() => undefined,
				);
			}
		}),
		...Array.from({ length: 8 }, () => () => {
			for (const claim of q.sent.splice(0)) {
				if (pick(10) > 0) q.settle(claim, pick(5) > 0 ? OK : THROWN);
				else q.sent.push(claim);
			}
		}),
		() => {
			for (let much = pick(20); much > 0 && ids.length > 0; much -= 1) {
				try {
					void q.queue.cancel(ids[pick(ids.length)] ?? "").catch(() => undefined);
				} catch (error) {
					assert.ok(error instanceof EngineError);
				}
			}
		},
		() => q.clock.advance(pick(100)),
		() => {
			fault?.restore();
			const of = [
				/^UPDATE metric/,
				/^\s*INSERT INTO metric/,
				/^(INSERT INTO|UPDATE|DELETE FROM) running_block/,
				/^UPDATE meta/,
				/^COMMIT/,
			];
			fault = failStatement(q.db, of[pick(of.length)] ?? /^COMMIT/, "SQLITE_FULL", () => pick(8) === 0);
			faults += 1;
		},
		() => {
			fault?.restore();
			fault = undefined;
		},
		() => {
			fault?.restore();
			q.sent.length = 0;
			q.reopen();
		},
	];
	let told = 0;
	let before = readLevels(q.folder);
	for (let step = 0; step < 1_000; step += 1) {
		await acts[pick(acts.length)]?.();
		while (q.wantsTurn) q.oneTurn();
		for (; told < q.ended.length; told += 1) {
			const end = q.ended[told];
			assert.ok(end !== undefined && !ended.has(end.invocationId), "told once");
			ended.set(end.invocationId, `${end.lane.id} ${end.state === "succeeded"}`);
		}
		const after = readLevels(q.folder);
		assert.deepEqual(findRollbacks(before, after), [], `seed ${seed}, step ${step}: the level never falls`);
		before = after;
		if (step % 50 > 0) continue;
		q.checkCounts();
		assert.deepEqual(q.queue.level, after.queue, `seed ${seed}, step ${step}: memory knows what the file says`);
		for (const lane of [1, 2, 3]) {
			const { invocations, errors } = ofDay(q, lane);
			const succeeded = [...ended.values()].filter((end) => end === `${lane} true`).length;
			const others = [...ended.values()].filter((end) => end === `${lane} false`).length;
			assert.deepEqual([invocations, errors], [succeeded + others, others], `seed ${seed}, step ${step}, lane ${lane}`);
		}
	}
	assert.ok(ended.size > 4_000 && faults > 15, `${ended.size} ended`);
});
