/** Q9: each row but those of the newest block is named for its lane, and the block of each running row; also where a commit fails. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import BetterSqlite3 from "better-sqlite3";
import { EngineError } from "../../../src/core/errors.ts";
import { BUILT_IN } from "../../../src/core/function-config.ts";
import { invocationId, parseInvocationId } from "../../../src/core/ids.ts";
import { openToLook } from "../../../src/store/index.ts";
import { failStatement, queueOnFile, type QueueOnFile } from "../../support/queue-on-file.ts";
import { tempFolder } from "../../support/temp-folder.ts";

/** Rows of a block. */
const BLOCK = 256;
const RETENTION_MS = 7 * 86_400_000;
const AGAIN = { retry: { ...BUILT_IN.retry, maxAttempts: 3, baseMs: 0 } };

function table(q: QueueOnFile, sql: string): unknown[] {
	return q.db.prepare(sql).raw().all();
}

const laneBlocks = (q: QueueOnFile): unknown[] =>
	table(q, "SELECT lane, block, length(offsets) FROM lane_block ORDER BY lane, block");
const runningBlocks = (q: QueueOnFile): unknown[] => table(q, "SELECT block FROM running_block ORDER BY block").flat();

/** In one turn; so many of the lane. */
function accept(q: QueueOnFile, lane: number, much: number): void {
	const answers = q.accept(...Array.from({ length: much }, () => q.submission(lane)));
	for (const answer of answers) assert.ok(!(answer instanceof EngineError));
}

function settleAll(q: QueueOnFile): void {
	for (const claim of q.sent.splice(0)) q.settle(claim);
	q.turn();
}

function listed(q: QueueOnFile, filter: Parameters<QueueOnFile["queue"]["read"]["list"]>[0]): number[] {
	const seqs: number[] = [];
	for (let before: string | undefined; ;) {
		const page = q.queue.read.list({ ...filter, before, limit: 70 });
		if (page.length === 0) return seqs;
		seqs.push(...page.map(({ invocationId }) => parseInvocationId(invocationId)?.seq ?? 0));
		before = page.at(-1)?.invocationId;
	}
}

const down = (from: number, to: number): number[] => Array.from({ length: from - to + 1 }, (_, index) => from - index);

test("a lane's rows are named when the next block begins, and its list is whole over many blocks and the newest", () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }, { limit: 1 }, {}] });
	accept(q, 0, BLOCK - 1);
	assert.deepEqual(laneBlocks(q), [], "seq begins with 1, so the first block is full");
	accept(q, 0, 345);
	accept(q, 1, 1);
	accept(q, 0, 400);
	assert.deepEqual(laneBlocks(q), [
		[1, 0, 255],
		[1, 1, 256],
		[1, 2, 255],
		[2, 2, 1],
	]);
	const ofFirst = [...down(1001, 602), ...down(600, 1)];
	assert.deepEqual(listed(q, { lane: 1 }), ofFirst);
	assert.deepEqual(listed(q, { lane: 2 }), [601]);
	assert.deepEqual(listed(q, { lane: 3 }), []);
	assert.deepEqual(listed(q, { lane: 1, state: "queued" }), ofFirst.slice(0, -1));
	assert.deepEqual(listed(q, { lane: 2, state: "succeeded" }), []);
	for (const claim of q.sent.splice(0)) q.settle(claim);
	q.turn();
	assert.deepEqual(listed(q, { lane: 2, state: "succeeded" }), [601]);
	q.checkCounts();
	q.reopen();
	accept(q, 1, BLOCK);
	assert.deepEqual(listed(q, { lane: 1 }), ofFirst, "a daemon that begins in the middle of a block names it whole");
	assert.deepEqual(listed(q, { lane: 2 }), [...down(1257, 1002), 601]);
	q.checkCounts();
});

test("an old page of a lane is found without going through the blocks behind it", () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }] });
	for (let round = 0; round < 100; round += 1) accept(q, 0, BLOCK);
	const oldest = q.queue.read.list({ lane: 1, limit: 1, before: invocationId(q.clock.now(), 2) });
	assert.deepEqual(
		oldest.map(({ invocationId: id }) => parseInvocationId(id)?.seq),
		[1],
	);
	const first = q.queue.read.list({ lane: 1, limit: 1000, before: invocationId(q.clock.now(), 20_000) });
	assert.deepEqual(
		first.map(({ invocationId: id }) => parseInvocationId(id)?.seq),
		down(19_999, 19_000),
	);
});

test("what runs is listed, newest first, by lane and in pages, and what ended is not", () => {
	using q = queueOnFile({ lanes: [{ limit: 400 }, { limit: 400 }] });
	for (let round = 0; round < 5; round += 1) {
		accept(q, 0, 40);
		accept(q, 1, 30);
	}
	const ended = q.sent.filter(({ seq }) => seq % 3 === 0);
	for (const claim of ended) q.settle(claim);
	q.turn();
	const running = down(350, 1).filter((seq) => seq % 3 !== 0);
	const ofFirst = (seq: number): boolean => (seq - 1) % 70 < 40;
	assert.deepEqual(listed(q, { state: "running" }), running);
	assert.deepEqual(listed(q, { state: "running", lane: 1 }), running.filter(ofFirst));
	assert.deepEqual(
		listed(q, { state: "running", lane: 2 }),
		running.filter((seq) => !ofFirst(seq)),
	);
});

test("a kill leaves rows running in many blocks: the next daemon finds each of them, and only them", () => {
	using q = queueOnFile({ lanes: [{ limit: 2_000, config: AGAIN }] });
	accept(q, 0, 2_000);
	const left = new Set<number>();
	for (const claim of q.sent.splice(0)) {
		if (claim.seq % 130 === 0) left.add(claim.seq);
		else q.settle(claim);
	}
	q.turn();
	assert.deepEqual(new Set(listed(q, { state: "running" })), left);
	q.reopen();
	assert.deepEqual(new Set(q.sent.map(({ seq }) => seq)), left, "each of them runs again");
	assert.ok(q.sent.every(({ attempt }) => attempt === 2));
	q.checkCounts();
});

test("blocks in which nothing runs are forgotten, whatever claims go to and fro; those in which something does, never", () => {
	using q = queueOnFile({ lanes: [{ limit: 1_000 }, { limit: 1 }] });
	accept(q, 0, 1);
	const [longest] = q.sent.splice(0);
	assert.ok(longest !== undefined);
	for (let round = 0; round < 100; round += 1) {
		accept(q, 0, BLOCK);
		settleAll(q);
		q.checkCounts();
	}
	const named = runningBlocks(q);
	assert.ok(named.length <= 40, `${named.length} blocks are named, one row runs`);
	assert.ok(named.includes(0), "the one that has run all the while is in the first");
	q.settle(longest);
	q.turn();
	q.checkCounts();
});

test("after a commit that failed, the next one names the rows before it: memory does not say what the file has not", () => {
	using q = queueOnFile({ lanes: [{ limit: 1_000 }] });
	accept(q, 0, BLOCK - 1);
	const disk = failStatement(q.db, /^COMMIT$/, "SQLITE_FULL");
	const [refused] = q.accept(q.submission(0));
	assert.ok(refused instanceof EngineError && refused.code === "STORAGE_FULL");
	disk.restore();
	assert.deepEqual(laneBlocks(q), []);
	assert.deepEqual(runningBlocks(q), [0]);
	accept(q, 0, 1);
	assert.deepEqual(laneBlocks(q), [[1, 0, BLOCK - 1]]);
	assert.deepEqual(runningBlocks(q), [0, 1]);
	assert.deepEqual(listed(q, { lane: 1 }), down(BLOCK, 1));
	q.checkCounts();
});

test("nor after an item that failed its whole commit and was left out of the next", () => {
	using q = queueOnFile({ lanes: [{ limit: 1_000 }] });
	accept(q, 0, BLOCK - 1);
	// The first row of the next block cannot be written, after the one before it was named.
	let fails = 2;
	const broken = failStatement(q.db, /INSERT INTO idempotency/, "SQLITE_MISMATCH", () => fails-- > 0);
	const [bad, good] = q.accept(q.submission(0, { idempotencyKey: "k" }), q.submission(0));
	broken.restore();
	assert.ok(bad instanceof EngineError);
	assert.ok(good !== undefined && !(good instanceof EngineError));
	assert.deepEqual(laneBlocks(q), [[1, 0, BLOCK - 1]]);
	assert.deepEqual(runningBlocks(q), [0, 1]);
	assert.deepEqual(listed(q, { lane: 1 }), down(BLOCK, 1));
	q.checkCounts();
});

test("blocks that a failed commit would have forgotten stay named", () => {
	using q = queueOnFile({ lanes: [{ limit: 1_000 }] });
	for (let round = 0; round < 30; round += 1) {
		accept(q, 0, BLOCK);
		settleAll(q);
	}
	const before = runningBlocks(q);
	assert.equal(before.length, 31);
	let forgotten = 0;
	const watch = failStatement(q.db, /DELETE FROM running_block/, "", () => (forgotten += 1) < 0);
	const disk = failStatement(q.db, /^COMMIT$/, "SQLITE_FULL");
	q.accept(...Array.from({ length: 500 }, () => q.submission(0)));
	disk.restore();
	watch.restore();
	assert.equal(forgotten, 30, "all but those with rows of the commit");
	assert.deepEqual(runningBlocks(q), before);
	accept(q, 0, 1);
	assert.ok(runningBlocks(q).includes(30), "which memory knows too");
	q.checkCounts();
	q.sent.length = 0;
	q.reopen();
	q.checkCounts();
});

test("retention forgets a block with the lane's last row in it, not before", async () => {
	using q = queueOnFile({ lanes: [{ limit: 1_000 }, { limit: 1_000 }] });
	accept(q, 0, 300);
	accept(q, 1, 10);
	accept(q, 0, 300);
	const kept = q.sent.filter(({ seq }) => seq === 7);
	for (const claim of q.sent.splice(0)) if (claim.seq !== 7) q.settle(claim);
	q.turn();
	assert.deepEqual(laneBlocks(q), [
		[1, 0, 255],
		[1, 1, 246],
		[2, 1, 10],
	]);
	q.clock.jumpWall(RETENTION_MS + 1);
	const prune = async (): Promise<void> => {
		for (let more = true; more;) {
			const step = q.queue.prune();
			q.turn();
			more = await step;
		}
	};
	await prune();
	assert.deepEqual(laneBlocks(q), [[1, 0, 255]], "one row is left, which runs");
	assert.deepEqual(listed(q, { lane: 1 }), [7]);
	accept(q, 1, 1);
	assert.deepEqual(listed(q, { lane: 2 }), [611], "in the newest block, of which all before it left");
	for (const claim of kept) q.settle(claim);
	q.turn();
	q.checkCounts();
	q.clock.jumpWall(RETENTION_MS + 1);
	await prune();
	assert.deepEqual(laneBlocks(q), []);
	accept(q, 0, BLOCK);
	q.checkCounts();
	// A daemon that finds a newest row in a block that was named before.
	for (const claim of q.sent.splice(0)) if (claim.seq % 100 === 0) q.settle(claim);
	q.turn();
	q.reopen();
	accept(q, 1, BLOCK);
	q.checkCounts();
});

test("a sweep that fails in the middle forgets nothing that the file has", () => {
	using q = queueOnFile({ lanes: [{ limit: 1_000 }] });
	for (let round = 0; round < 30; round += 1) {
		accept(q, 0, BLOCK);
		settleAll(q);
	}
	let deletes = 0;
	const disk = failStatement(q.db, /DELETE FROM running_block/, "SQLITE_FULL", () => (deletes += 1) > 20);
	q.accept(...Array.from({ length: 500 }, () => q.submission(0)));
	disk.restore();
	assert.ok(deletes > 20);
	for (let round = 0; round < 10; round += 1) {
		accept(q, 0, BLOCK);
		settleAll(q);
	}
	assert.ok(runningBlocks(q).length <= 40, `${runningBlocks(q).length} are named, and nothing runs`);
	q.checkCounts();
});

test("a folder of schema 3 is brought to blocks: what ran is recovered, and each function's list is whole", () => {
	using temp = tempFolder();
	const dataDir = join(temp.path, "data");
	const lanes = [
		{ limit: 500, config: AGAIN },
		{ limit: 500, config: AGAIN },
	];
	const running: number[] = [];
	{
		using q = queueOnFile({ lanes, dataDir });
		accept(q, 0, 300);
		accept(q, 1, 300);
		for (const claim of q.sent.splice(0)) {
			if (claim.seq % 50 === 0) running.push(claim.seq);
			else q.settle(claim);
		}
		q.turn();
	}
	const old = new BetterSqlite3(join(dataDir, "queue.db"));
	old.exec(`
		DROP TABLE lane_block;
		DROP TABLE running_block;
		DROP TABLE counted_block;
		CREATE INDEX invocation_running ON invocation (lane) WHERE state = 1;
		CREATE INDEX invocation_by_lane ON invocation (lane, seq);
		PRAGMA user_version = 3`);
	old.close();
	{
		using looked = openToLook(dataDir);
		assert.deepEqual(
			looked.countRows().running.map(({ seq }) => seq),
			running,
			"doctor sees them beside a daemon of that version too",
		);
	}
	using q = queueOnFile({ lanes, dataDir });
	q.checkCounts();
	assert.deepEqual(
		q.sent.map(({ seq }) => seq),
		running,
		"each of them runs again",
	);
	assert.deepEqual(listed(q, { lane: 1 }), down(300, 1));
	assert.deepEqual(listed(q, { lane: 2 }), down(600, 301));
	assert.deepEqual(
		table(q, "SELECT name FROM sqlite_schema WHERE name IN ('invocation_running', 'invocation_by_lane')"),
		[],
	);
});
