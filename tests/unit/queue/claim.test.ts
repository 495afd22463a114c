/** Which row starts next, how many at once, and what never starts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { EngineError } from "../../../src/core/errors.ts";
import { OK, queueOnFile, THROWN } from "../../support/queue-on-file.ts";

/** Of claim.ts: rows that one transaction takes. */
const CLAIMS_MAX = 256;

test("a hot lane with thousands queued does not hold up a cold one: its row starts in the next turn", () => {
	const cold = Array.from({ length: 50 }, () => ({ limit: 1 }));
	using q = queueOnFile({ lanes: [{ limit: 100_000 }, ...cold], slots: 0 });
	q.accept(...Array.from({ length: 3_000 }, () => q.submission(0)));
	q.slots = 1_000_000;
	q.queue.consider(q.lane(0));
	q.oneTurn();
	assert.equal(q.sent.length, CLAIMS_MAX, "the hot lane takes what one transaction may");

	q.slots = CLAIMS_MAX;
	cold.forEach((_, index) =>
		q.queue.enqueue(
			q.submission(index + 1),
			() => undefined,
			() => undefined,
		),
	);
	q.oneTurn();
	q.slots = 1_000_000;
	for (const lane of q.queue.lanes.all()) q.queue.consider(lane);
	const before = q.sent.length;
	q.oneTurn();
	const started = new Set(q.sent.slice(before).map((claim) => claim.lane.id));
	assert.ok(q.sent.length - before <= CLAIMS_MAX, "the bound holds");
	q.oneTurn();
	for (const claim of q.sent.slice(before)) started.add(claim.lane.id);
	assert.equal(started.size, 51, "every cold lane has started");
	q.turn();
	assert.equal(q.sent.length, 3_050);
	q.checkCounts();
});

test("a transaction claims at most CLAIMS_MAX rows, over all lanes, and the rest follow", () => {
	using q = queueOnFile({ lanes: Array.from({ length: 400 }, () => ({ limit: 10 })), slots: 0 });
	for (let lane = 0; lane < 400; lane += 1) q.accept(q.submission(lane), q.submission(lane));
	q.slots = 1_000_000;
	for (const lane of q.queue.lanes.all()) q.queue.consider(lane);
	const per: number[] = [];
	while (q.wantsTurn) {
		const before = q.sent.length;
		q.oneTurn();
		per.push(q.sent.length - before);
	}
	assert.equal(Math.max(...per), CLAIMS_MAX);
	assert.equal(q.sent.length, 800, "no lane is forgotten at the bound");
	q.checkCounts();
});

test("rows that expired while they waited are ended a page at a time too", async () => {
	using q = queueOnFile({ lanes: [{ limit: 10 }], slots: 0 });
	q.accept(...Array.from({ length: 2_000 }, () => q.submission(0, { deadlineMs: 1_000 })));
	// Nothing rings: the wall clock jumps, and only the claim looks.
	q.clock.jumpWall(2_000);
	q.slots = 10;
	q.queue.consider(q.lane(0));
	q.oneTurn();
	assert.ok(q.ended.length <= 512, `${q.ended.length} rows in one transaction hold up the loop`);
	q.turn();
	assert.equal(q.ended.length, 2_000);
	assert.equal(q.sent.length, 0);
	q.checkCounts();
});

test("keys take turns before priority; within a key: priority, then acceptance", () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }], slots: 0 });
	const rows: [string, number][] = [
		["a", 0],
		["a", 5],
		["a", 0],
		["b", -1],
		["b", 9],
		["", 0],
		["", 1],
		["c", 0],
	];
	const names = new Map<string, string>();
	rows.forEach(([laneKey, priority], index) => {
		names.set(q.id(q.submission(0, { laneKey, priority })), `${laneKey || "-"}${priority}#${index}`);
	});
	q.slots = 1;
	q.queue.consider(q.lane(0));
	q.turn();
	const order: string[] = [];
	for (let claim = q.sent.at(-1); claim !== undefined && order.length < rows.length; claim = q.sent.at(-1)) {
		order.push(names.get(claim.invocationId) ?? "?");
		q.settle(claim);
		q.turn();
	}
	assert.deepEqual(order, ["a5#1", "b9#4", "c0#7", "-1#6", "a0#0", "b-1#3", "-0#5", "a0#2"]);
	q.checkCounts();
});

test("of equal priority, a released invocation comes back to its old place, before those accepted after it", () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }] });
	const ids = q.accept(q.submission(0), q.submission(0), q.submission(0)).map((answer) => {
		assert.ok(!(answer instanceof EngineError));
		return answer.invocationId;
	});
	const first = q.sent[0];
	assert.ok(first !== undefined);
	q.settle(first, { kind: "released", why: "worker_gone", started: true, solo: false });
	q.turn();
	assert.equal(q.sent.at(-1)?.invocationId, ids[0]);
	assert.equal(q.sent.at(-1)?.attempt, 2);
	assert.equal(q.sent.at(-1)?.charged, 0);
});

test("work of a replaced version that cannot start does not hold up its successor's, and starts when it can", async () => {
	using q = queueOnFile({ lanes: [{ limit: 10 }] });
	q.stuck.add(9);
	const old = q.id({ ...q.submission(0), version: 9 });
	const older = q.id({ ...q.submission(0), version: 9 });
	const young = q.id(q.submission(0));
	q.turn();
	assert.deepEqual([q.state(old), q.state(older), q.state(young)], ["queued", "queued", "running"]);
	q.checkCounts();
	q.stuck.delete(9);
	await q.clock.advance(10_000);
	q.turn();
	assert.deepEqual(
		q.sent.slice(-2).map(({ invocationId, version }) => [invocationId, version]),
		[
			[old, 9],
			[older, 9],
		],
		"in their old order, on their own version",
	);
	q.checkCounts();
});

test("a suspect asks for a worker alone, and stays a suspect over a restart", () => {
	const asked: boolean[] = [];
	let free = true;
	using q = queueOnFile({
		lanes: [{ limit: 4 }],
		deps: {
			slots: {
				isStuck: () => false,
				reserve(_lane, _version, need) {
					asked.push(need.solo);
					return free ? { worker: "w1", cold: false, release: () => undefined } : undefined;
				},
			},
		},
	});
	const id = q.id(q.submission(0));
	const claim = q.sent[0];
	assert.ok(claim !== undefined);
	free = false;
	q.queue.settle(claim, { kind: "released", why: "neighbour_died", started: true, solo: true }, () => undefined);
	q.turn();
	assert.equal(asked.at(-1), true);
	q.reopen();
	assert.equal(asked.at(-1), true);
	free = true;
	q.queue.consider(q.lane(0));
	q.turn();
	assert.equal(q.state(id), "running");
	assert.equal(q.sent.at(-1)?.solo, true);
});

for (const bytes of [100, 10_000]) {
	test(`a stored body of ${bytes} bytes that was damaged ends failed with DATA_CORRUPT, and never runs`, () => {
		using q = queueOnFile({ lanes: [{ limit: 1 }], slots: 0 });
		const damaged = q.id(q.submission(0, { body: new Uint8Array(bytes).fill(7) }));
		const next = q.id(q.submission(0, { body: new Uint8Array(bytes).fill(8) }));
		const changed = q.db.prepare(
			bytes <= 4096
				? "UPDATE invocation SET body = zeroblob(body_bytes) WHERE seq = 1"
				: "UPDATE body SET bytes = zeroblob(length(bytes)) WHERE id = 2",
		);
		assert.equal(changed.run().changes, 1);
		q.slots = 1;
		q.queue.consider(q.lane(0));
		q.turn();
		const record = q.queue.read.record(damaged);
		assert.equal(record.state, "failed", "at once: no retry mends it");
		assert.equal(record.error?.code, "DATA_CORRUPT");
		assert.ok(q.sent.every((claim) => claim.invocationId !== damaged));
		assert.equal(q.ended[0]?.invocationId, damaged, "a waiter is told");
		q.queue.consider(q.lane(0));
		q.turn();
		assert.equal(q.state(next), "running", "its slot was released");
		q.checkCounts();
	});
}

test("a body that is gone from its table ends failed with DATA_CORRUPT", () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }], slots: 0 });
	const id = q.id(q.submission(0, { body: new Uint8Array(10_000) }));
	q.db.exec("DELETE FROM body");
	q.slots = 1;
	q.queue.consider(q.lane(0));
	q.turn();
	assert.equal(q.queue.read.record(id).error?.code, "DATA_CORRUPT");
	assert.equal(q.taken, 0);
});

test("accept-and-claim never overtakes a ready row, and takes the room that is there", () => {
	using q = queueOnFile({ lanes: [{ limit: 2 }], slots: 1 });
	const states = q
		.accept(q.submission(0), q.submission(0), q.submission(0, { priority: 1000 }))
		.map((answer) => (answer instanceof EngineError ? answer.code : answer.state));
	assert.deepEqual(states, ["running", "queued", "queued"]);
	q.slots = 2;
	const late = q.accept(q.submission(0))[0];
	assert.ok(!(late instanceof EngineError) && late?.state === "queued", "two are ready before it");
	q.turn();
	// The room that came without a word is taken at the next look at the lane, by the row of highest priority.
	assert.equal(q.sent[1]?.seq, 3);
	q.checkCounts();
});

test("a paused lane accepts and starts nothing; after the pause everything starts", () => {
	using q = queueOnFile({ lanes: [{ limit: 5 }] });
	q.lane(0).paused = true;
	q.accept(...Array.from({ length: 5 }, () => q.submission(0)));
	assert.equal(q.sent.length, 0);
	q.lane(0).paused = false;
	q.queue.consider(q.lane(0));
	q.turn();
	assert.equal(q.sent.length, 5);
	q.checkCounts();
});

test("a limit that was lowered while more ran starts nothing until fewer run; raised, it starts at once", () => {
	using q = queueOnFile({ lanes: [{ limit: 3 }] });
	q.accept(...Array.from({ length: 6 }, () => q.submission(0)));
	q.lane(0).limit = 1;
	for (const claim of q.sent.slice(0, 2)) q.settle(claim);
	q.turn();
	assert.equal(q.sent.length, 3);
	q.lane(0).limit = 3;
	q.queue.consider(q.lane(0));
	q.turn();
	assert.equal(q.sent.length, 5);
	q.checkCounts();
});

test("what was cancelled while it ran does not run again, whatever its worker answers", async () => {
	for (const [outcome, end] of [
		[THROWN, "cancelled"],
		[{ kind: "crashed", error: { code: "WORKER_CRASHED", message: "died" } }, "cancelled"],
		[{ kind: "timed_out", error: { code: "TIMED_OUT", message: "late" } }, "cancelled"],
		[{ kind: "released", why: "drain", started: true, solo: false }, "cancelled"],
		[{ kind: "cancelled" }, "cancelled"],
		[OK, "succeeded"],
	] as const) {
		using q = queueOnFile({ lanes: [{ limit: 1 }] });
		const id = q.id(q.submission(0));
		const claim = q.sent[0];
		assert.ok(claim !== undefined);
		const asked = q.queue.cancel(id);
		q.turn();
		assert.deepEqual(await asked, { state: "running", attempt: 1 });
		q.settle(claim, outcome);
		q.turn();
		assert.equal(q.state(id), end, `after ${outcome.kind}`);
		assert.equal(q.sent.length, 1);
		q.checkCounts();
	}
});

test("a thousand lanes that wait for a slot cost a turn nothing; one that is told starts", () => {
	using q = queueOnFile({ lanes: Array.from({ length: 1_000 }, () => ({ limit: 1 })), slots: 0 });
	for (let lane = 0; lane < 1_000; lane += 1) {
		q.queue.enqueue(
			q.submission(lane),
			() => undefined,
			() => undefined,
		);
	}
	q.turn();
	assert.equal(q.wantsTurn, false, "nobody polls");
	q.slots = 1;
	q.queue.consider(q.lane(999));
	q.turn();
	assert.deepEqual(
		q.sent.map((claim) => claim.lane.id),
		[1_000],
	);
});

test("an end and the claim that it makes room for are one transaction", () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }] });
	q.accept(q.submission(0), q.submission(0));
	const [first] = q.sent;
	assert.ok(first !== undefined && q.sent.length === 1);
	const before = q.queue.commits;
	q.settle(first);
	q.turn();
	assert.equal(q.sent.length, 2);
	assert.equal(q.queue.commits, before + 1);
});
