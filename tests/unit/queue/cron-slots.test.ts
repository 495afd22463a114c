/** A slot of a schedule is decided at most once, ever, and says what became of it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { SlotDecision } from "../../../src/core/contracts.ts";
import { EngineError } from "../../../src/core/errors.ts";
import type { Overlap } from "../../../src/core/function-config.ts";
import { failStatement, queueOnFile, type QueueOnFile } from "../../support/queue-on-file.ts";

const DAY = 86_400_000;

interface Ask {
	readonly schedule?: number;
	readonly overlap?: Overlap;
	readonly missed?: boolean;
	readonly lane?: number;
}

function fire(q: QueueOnFile, slot: number, ask: Ask = {}): Promise<SlotDecision | undefined> {
	return q.queue.fireSlot({
		schedule: ask.schedule ?? 1,
		slot,
		overlap: ask.overlap ?? "allow",
		submission: ask.missed === true ? undefined : q.submission(ask.lane ?? 0),
	});
}

function slots(q: QueueOnFile): [number, string, number | null][] {
	return q.db
		.prepare<[], [number, string, number | null]>("SELECT slot, outcome, seq FROM cron_slot ORDER BY slot")
		.raw()
		.all();
}

test("a slot fires at most once: asked again in the same turn, later, and after a restart", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const together = [fire(q, 1_000), fire(q, 1_000), fire(q, 1_000)];
	q.turn();
	assert.deepEqual(await Promise.all(together), ["fired", undefined, undefined]);
	const later = fire(q, 1_000);
	q.turn();
	assert.equal(await later, undefined);
	q.reopen();
	const restarted = fire(q, 1_000);
	q.turn();
	assert.equal(await restarted, undefined);
	assert.deepEqual(slots(q), [[1_000, "fired", 1]]);
	assert.equal(q.db.prepare("SELECT COUNT(*) FROM invocation").pluck().get(), 1);
	assert.equal(q.queue.lastSlot(1), 1_000);
});

test("a slot before one that was decided is decided too: a clock that went back fires nothing twice", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const answers = [fire(q, 5_000), fire(q, 4_000), fire(q, 6_000), fire(q, 5_000, { schedule: 2 })];
	q.turn();
	assert.deepEqual(await Promise.all(answers), ["fired", undefined, "fired", "fired"]);
});

test("a crash between the turn and its commit leaves the slot undecided, so it fires after the restart", async () => {
	using q = queueOnFile({ lanes: [{}] });
	void fire(q, 1_000);
	q.reopen();
	const again = fire(q, 1_000);
	q.turn();
	assert.equal(await again, "fired");
	assert.equal(slots(q).length, 1);
});

test("overlap skip: a slot is recorded as overlapped while the one before it has not ended; then it fires again", async () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }] });
	const first = fire(q, 1_000, { overlap: "skip" });
	q.turn();
	const second = fire(q, 2_000, { overlap: "skip" });
	const allowed = fire(q, 2_000, { schedule: 2, overlap: "allow" });
	q.turn();
	q.settle(q.sent[0] as never);
	q.turn();
	const third = fire(q, 3_000, { overlap: "skip" });
	q.turn();
	assert.deepEqual(await Promise.all([first, second, allowed, third]), ["fired", "overlapped", "fired", "fired"]);
});

test("overlap looks at the newest slot that fired, also over missed and overlapped ones and a restart", async () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }], slots: 0 });
	const answers = [fire(q, 1_000, { overlap: "skip" })];
	q.turn();
	answers.push(fire(q, 2_000, { overlap: "skip", missed: true }), fire(q, 3_000, { overlap: "skip" }));
	q.turn();
	q.reopen();
	answers.push(fire(q, 4_000, { overlap: "skip" }));
	q.turn();
	assert.deepEqual(await Promise.all(answers), ["fired", "misfired", "overlapped", "overlapped"]);
});

test("a full lane refuses a slot, once; the next one has its own chance", async () => {
	using q = queueOnFile({ lanes: [{ limit: 1, maxQueued: 1 }] });
	q.accept(q.submission(0), q.submission(0));
	const refused = fire(q, 1_000);
	q.turn();
	assert.equal(await refused, "refused");
	q.settle(q.sent[0] as never);
	q.turn();
	const again = fire(q, 1_000);
	const next = fire(q, 2_000);
	q.turn();
	assert.deepEqual([await again, await next], [undefined, "fired"]);
	assert.deepEqual(slots(q), [
		[1_000, "refused", null],
		[2_000, "fired", 3],
	]);
	q.checkCounts();
});

test("a stopping daemon decides no slot: the next start finds it as missed", async () => {
	using q = queueOnFile({ lanes: [{}] });
	q.queue.stopClaims();
	const asked = fire(q, 1_000);
	q.turn();
	await assert.rejects(asked, (error) => error instanceof EngineError && error.code === "SHUTTING_DOWN");
	assert.deepEqual(slots(q), []);
	q.reopen();
	const again = fire(q, 1_000);
	q.turn();
	assert.equal(await again, "fired");
});

test("a full disk decides no slot either", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const fault = failStatement(q.db, /INSERT OR IGNORE INTO cron_slot|INSERT INTO cron_slot/, "SQLITE_FULL");
	const asked = fire(q, 1_000);
	q.turn();
	await assert.rejects(asked, (error) => error instanceof EngineError && error.code === "STORAGE_FULL");
	fault.restore();
	const again = fire(q, 1_000);
	q.turn();
	assert.equal(await again, "fired");
	assert.equal(q.lane(0).running, 1);
	q.checkCounts();
});

test("a slot decided by a clock that was years ahead holds nothing up, and neither it nor any other fires twice", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const now = q.clock.now();
	const ahead = 74 * 366 * DAY;
	const answers = [fire(q, now - 2_000), fire(q, now - 1_000)];
	q.turn();
	q.clock.jumpWall(ahead);
	answers.push(fire(q, now + ahead));
	q.turn();
	q.clock.jumpWall(-ahead);
	assert.equal(q.queue.lastSlot(1), now + ahead);
	assert.equal(q.queue.lastSlot(1, q.clock.now()), now - 1_000);
	answers.push(fire(q, now - 1_000), fire(q, now + 1_000), fire(q, now + 1_000), fire(q, now + ahead));
	q.turn();
	assert.deepEqual(await Promise.all(answers), ["fired", "fired", "fired", undefined, "fired", undefined, undefined]);
	assert.equal(q.queue.lastSlot(1, now + 1_000), now + 1_000);
});

test("a clock that goes back over slots that were pruned does not fire them again", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const now = q.clock.now();
	const days = [0, 1, 2, 3].map((day) => now + day * DAY);
	for (const slot of days) {
		q.clock.jumpWall(slot - q.clock.now());
		void fire(q, slot);
		q.turn();
	}
	// Past retention of the first three; the newest stays.
	q.clock.jumpWall(10 * DAY);
	for (let more = true; more;) {
		const pruned = q.queue.prune();
		q.turn();
		more = await pruned;
	}
	assert.equal(slots(q).length, 1);
	q.clock.jumpWall(now - q.clock.now());
	const again = days.map((slot) => fire(q, slot));
	const between = fire(q, now + 2.5 * DAY);
	q.turn();
	assert.deepEqual(await Promise.all(again), [undefined, undefined, undefined, undefined]);
	assert.equal(await between, "fired", "one that never was may fire");
});

test("overlap skip also sees what a clock that was ahead has fired and what has not ended since", async () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }] });
	const now = q.clock.now();
	q.clock.jumpWall(100 * DAY);
	const first = fire(q, now + 100 * DAY, { overlap: "skip" });
	q.turn();
	q.clock.jumpWall(-100 * DAY);
	const second = fire(q, now + 1_000, { overlap: "skip" });
	q.turn();
	q.settle(q.sent[0] as never);
	q.turn();
	const third = fire(q, now + 2_000, { overlap: "skip" });
	q.turn();
	const fourth = fire(q, now + 3_000, { overlap: "skip" });
	q.turn();
	assert.deepEqual(await Promise.all([first, second, third, fourth]), ["fired", "overlapped", "fired", "overlapped"]);
});

test("overlap skip sees what fired last also where it lies between slots of a clock that was ahead", async () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }] });
	const now = q.clock.now();
	const minute = (count: number): number => now + count * 60_000;
	// Half hours of a clock that was ahead; all of them have ended.
	q.clock.jumpWall(DAY);
	for (const [index, slot] of [minute(90), minute(150)].entries()) {
		const ahead = fire(q, slot, { overlap: "skip" });
		q.turn();
		assert.equal(await ahead, "fired");
		q.settle(q.sent[index] as never);
		q.turn();
	}
	// Then the hours, by a clock that is right: the one before minute 120 in time is the hour, by its slot it is minute 90.
	q.clock.jumpWall(-DAY + 3_600_000);
	const hour = fire(q, minute(60), { overlap: "skip" });
	q.turn();
	assert.equal(await hour, "fired");
	q.clock.jumpWall(3_600_000);
	const next = fire(q, minute(120), { overlap: "skip" });
	q.turn();
	assert.equal(await next, "overlapped");
});
