/** What time does to queued rows: due rows become ready, late ones expire, and the wall clock may jump. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { EngineError } from "../../../src/core/errors.ts";
import { failStatement, queueOnFile, THROWN, type QueueOnFile } from "../../support/queue-on-file.ts";

/** Moves the clock and ends the turns that this asks for, in small steps as a loop would. */
async function pass(q: QueueOnFile, ms: number, stepMs = ms): Promise<void> {
	for (let passed = 0; passed < ms; passed += stepMs) {
		await q.clock.advance(Math.min(stepMs, ms - passed));
		q.turn();
	}
}

test("a delayed row starts at its time, not 1 ms early", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const id = q.id(q.submission(0, { delayMs: 60_000 }));
	await pass(q, 59_999, 999);
	assert.equal(q.state(id), "queued");
	await pass(q, 1);
	assert.equal(q.state(id), "running");
	q.checkCounts();
});

test("an earlier time arms the alarm anew; a later one does not put it off", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const late = q.id(q.submission(0, { delayMs: 9_000 }));
	const early = q.id(q.submission(0, { delayMs: 1_000 }));
	const later = q.id(q.submission(0, { delayMs: 100_000 }));
	await pass(q, 1_000);
	assert.deepEqual([q.state(early), q.state(late), q.state(later)], ["running", "queued", "queued"]);
	await pass(q, 8_000, 1_000);
	assert.deepEqual([q.state(late), q.state(later)], ["running", "queued"]);
	await pass(q, 91_000, 1_000);
	assert.equal(q.state(later), "running");
});

test("thousands due at once become ready page by page, all of them, in one instant of the clock", async () => {
	using q = queueOnFile({ lanes: [{ limit: 100_000 }] });
	q.accept(...Array.from({ length: 3_300 }, () => q.submission(0, { delayMs: 5_000 })));
	assert.equal(q.lane(0).delayed, 3_300);
	await pass(q, 5_000);
	for (let pages = 0; pages < 10 && q.sent.length < 3_300; pages += 1) await pass(q, 1);
	assert.equal(q.sent.length, 3_300);
	assert.deepEqual(
		q.sent.map((claim) => claim.seq),
		Array.from({ length: 3_300 }, (_, index) => index + 1),
		"in the order of acceptance",
	);
	q.checkCounts();
});

test("thousands of deadlines at once expire page by page, and each waiter is told once", async () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }, { limit: 1 }], slots: 0 });
	q.accept(
		...Array.from({ length: 1_200 }, (_, index) =>
			q.submission(index % 2, { deadlineMs: 1_000, ...(index % 3 === 0 ? { delayMs: 5_000 } : {}) }),
		),
	);
	await pass(q, 1_000);
	for (let pages = 0; pages < 10 && q.ended.length < 1_200; pages += 1) await pass(q, 1);
	assert.equal(new Set(q.ended.map((end) => end.invocationId)).size, 1_200);
	assert.equal(q.ended.length, 1_200);
	assert.ok(q.ended.every((end) => end.state === "expired" && end.error?.code === "EXPIRED"));
	q.checkCounts();
});

test("a deadline ends a queued row at its time, and leaves one that runs to the pool", async () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }] });
	const running = q.id(q.submission(0, { deadlineMs: 500 }));
	const queued = q.id(q.submission(0, { deadlineMs: 500 }));
	await pass(q, 499, 100);
	assert.equal(q.state(queued), "queued");
	await pass(q, 1);
	assert.deepEqual([q.state(running), q.state(queued)], ["running", "expired"]);
	q.checkCounts();
});

test("a forward jump of the wall clock makes rows due within 10 s", async () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }] });
	const blocker = q.id(q.submission(0));
	const delayed = q.id(q.submission(0, { delayMs: 3_600_000 }));
	const expiring = q.id(q.submission(0, { deadlineMs: 3_600_000 }));
	q.clock.jumpWall(7_200_000);
	await pass(q, 10_000, 1_000);
	assert.equal(q.state(blocker), "running");
	assert.equal(q.lane(0).ready, 1);
	assert.deepEqual([q.state(delayed), q.state(expiring)], ["queued", "expired"]);
	q.checkCounts();
});

test("a backward jump makes rows wait for their wall time, and nothing spins meanwhile", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const id = q.id(q.submission(0, { delayMs: 5_000 }));
	q.clock.jumpWall(-60_000);
	const before = q.queue.commits;
	await pass(q, 64_999, 1_000);
	assert.equal(q.state(id), "queued");
	assert.ok(q.queue.commits - before < 20, `${q.queue.commits - before} looks in 65 s`);
	await pass(q, 1);
	assert.equal(q.state(id), "running");
});

test("after a restart the alarm is there: for a delayed row, and for a deadline", async () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }], slots: 0 });
	const delayed = q.id(q.submission(0, { delayMs: 30_000 }));
	const expiring = q.id(q.submission(0, { deadlineMs: 20_000 }));
	q.reopen();
	await pass(q, 20_000, 1_000);
	assert.equal(q.state(expiring), "expired");
	await pass(q, 9_999, 999);
	assert.equal(q.lane(0).ready, 0);
	await pass(q, 1);
	assert.equal(q.lane(0).ready, 1);
	assert.equal(q.state(delayed), "queued");
	q.checkCounts();
});

test("a retry waits its delay; one that would start after its deadline is not made", async () => {
	const retry = { maxAttempts: 5, baseMs: 1_000, capMs: 60_000, jitter: false, retryOn: [] };
	using q = queueOnFile({ lanes: [{ config: { retry } }] });
	const id = q.id(q.submission(0, { deadlineMs: 2_500 }));
	const first = q.sent[0];
	assert.ok(first !== undefined);
	q.settle(first, THROWN);
	q.turn();
	assert.equal(q.lane(0).delayed, 1);
	await pass(q, 999, 333);
	assert.equal(q.sent.length, 1);
	await pass(q, 1);
	assert.equal(q.sent.length, 2);
	const second = q.sent[1];
	assert.ok(second !== undefined);
	// The next try would start 2 s later, at 3 s.
	q.settle(second, THROWN);
	q.turn();
	const record = q.queue.read.record(id);
	assert.equal(record.state, "failed");
	assert.equal(record.error?.code, "HANDLER_ERROR");
	assert.equal(record.attempts.length, 2);
	q.checkCounts();
});

test("a retry that waits for its delay expires at its deadline where the lane has no room by then", async () => {
	const retry = { maxAttempts: 5, baseMs: 1_000, capMs: 60_000, jitter: false, retryOn: [] };
	using q = queueOnFile({ lanes: [{ limit: 1, config: { retry } }] });
	const id = q.id(q.submission(0, { deadlineMs: 1_500 }));
	q.id(q.submission(0));
	const first = q.sent[0];
	assert.ok(first !== undefined);
	q.settle(first, THROWN);
	q.turn();
	await pass(q, 1_499, 100);
	assert.equal(q.state(id), "queued");
	await pass(q, 1);
	const record = q.queue.read.record(id);
	assert.equal(record.state, "expired");
	assert.equal(record.attempts.length, 1, "its one attempt is on record");
	q.checkCounts();
});

test("a delayed row can be cancelled, and its alarm then does nothing", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const id = q.id(q.submission(0, { delayMs: 1_000, laneKey: "k" }));
	const asked = q.queue.cancel(id);
	q.turn();
	assert.equal((await asked).state, "cancelled");
	await pass(q, 2_000, 500);
	assert.equal(q.sent.length, 0);
	q.checkCounts();
});

test("a full disk at the alarm: the rows are looked at again", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const id = q.id(q.submission(0, { delayMs: 1_000 }));
	const fault = failStatement(q.db, /SET ready = 1/, "SQLITE_FULL");
	await pass(q, 3_000, 500);
	assert.equal(q.state(id), "queued");
	fault.restore();
	await pass(q, 2_000, 500);
	assert.equal(q.state(id), "running");
	q.checkCounts();
});

test("run_at in the past is at once; a deadline before run_at expires without a start", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const [past] = q.accept(q.submission(0, { runAt: 1 }));
	assert.ok(past !== undefined && !(past instanceof EngineError) && past.state === "running");
	const id = q.id(q.submission(0, { delayMs: 10_000, deadlineMs: 1_000 }));
	await pass(q, 1_000);
	assert.equal(q.state(id), "expired");
	await pass(q, 10_000, 1_000);
	assert.equal(q.sent.length, 1);
	q.checkCounts();
});

test("after close no timer is left, and nothing is looked at", async () => {
	using q = queueOnFile({ lanes: [{}] });
	q.accept(q.submission(0, { delayMs: 1_000 }), q.submission(0, { deadlineMs: 1_000, delayMs: 500 }));
	q.queue.close();
	assert.equal(q.clock.pending, 0);
	await pass(q, 5_000);
	assert.equal(q.wantsTurn, false);
});
