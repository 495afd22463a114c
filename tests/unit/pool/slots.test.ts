import assert from "node:assert/strict";
import { test } from "node:test";
import { settled } from "../../support/fake-clock.ts";
import { createPoolHarness, spec } from "../../support/pool-harness.ts";

test("a slot is always of a READY worker, and capacity is called when it is", async () => {
	const harness = createPoolHarness();
	harness.processes.habits.ready = false;
	const f = spec();
	assert.equal(harness.pool.reserve(f, { bytes: 0, solo: false }), undefined);
	await settled();
	assert.deepEqual(harness.states(), ["w1:f:STARTING"]);
	assert.equal(harness.pool.reserve(f, { bytes: 0, solo: false }), undefined);
	await settled();
	assert.equal(harness.processes.all.length, 1, "one start serves both");
	assert.deepEqual(harness.capacity, []);
	harness.processes.all[0]?.saysReady();
	await settled();
	assert.deepEqual(harness.capacity, ["fn_f"]);
	const slot = harness.pool.reserve(f, { bytes: 0, solo: false });
	assert.equal(slot?.worker, "w1");
	assert.equal(slot.cold, true);
	slot.release();
	await harness.end();
});

test("the first attempt of a worker is cold, the next is not", async () => {
	const harness = createPoolHarness();
	const first = await harness.run(spec(), "a");
	assert.equal(first.slot.cold, true);
	harness.worker(first.slot).answers("a", "done");
	await settled();
	assert.deepEqual(first.outcome, {
		kind: "succeeded",
		status: 200,
		headers: [],
		body: new TextEncoder().encode("done"),
	});
	const second = await harness.run(spec(), "b");
	assert.equal(second.slot.cold, false);
	assert.equal(second.slot.worker, first.slot.worker);
	await harness.end();
});

test("the least loaded worker is filled, another starts only when all are full", async () => {
	const harness = createPoolHarness();
	const f = spec({ workerConcurrency: 2, maxWorkers: 2 });
	const seen = [];
	for (const id of ["a", "b", "c", "d"]) seen.push((await harness.run(f, id)).slot.worker);
	assert.deepEqual(seen, ["w1", "w1", "w2", "w2"]);
	harness.processes.all[0]?.answers("a");
	harness.processes.all[0]?.answers("b");
	harness.processes.all[1]?.answers("c");
	await settled();
	assert.equal((await harness.run(f, "e")).slot.worker, "w1");
	await harness.end();
});

test("at most maxWorkers of a function run, and a freed slot calls capacity", async () => {
	const harness = createPoolHarness();
	const f = spec({ workerConcurrency: 1, maxWorkers: 2 });
	await harness.run(f, "a");
	await harness.run(f, "b");
	await assert.rejects(harness.slot(f), /no slot/);
	assert.equal(harness.processes.all.length, 2);
	harness.capacity.length = 0;
	harness.processes.all[0]?.answers("a");
	await settled();
	assert.deepEqual(harness.capacity, ["fn_f"]);
	assert.equal((await harness.run(f, "c")).slot.worker, "w1");
	await harness.end();
});

test("without demand a freed slot tells nobody", async () => {
	const harness = createPoolHarness();
	await harness.run(spec(), "a");
	harness.capacity.length = 0;
	harness.processes.all[0]?.answers("a");
	await settled();
	assert.deepEqual(harness.capacity, []);
	await harness.end();
});

test("a slot ends once", async () => {
	const harness = createPoolHarness();
	const slot = await harness.slot(spec());
	slot.release();
	assert.throws(() => slot.release(), /used twice/);
	await harness.end();
});

test("a solo attempt is alone aboard: nobody before it, nobody beside it", async () => {
	const harness = createPoolHarness();
	const f = spec({ workerConcurrency: 8, maxWorkers: 1 });
	await harness.run(f, "a");
	await harness.run(f, "b");
	// No empty worker and no room for one more: this worker is held until it is empty.
	assert.equal(harness.pool.reserve(f, { bytes: 0, solo: true }), undefined);
	await settled();
	assert.equal(harness.pool.reserve(f, { bytes: 0, solo: false }), undefined, "it is being emptied");
	harness.processes.all[0]?.answers("a");
	await settled();
	harness.processes.all[0]?.answers("b");
	await settled();
	assert.equal(harness.pool.reserve(f, { bytes: 0, solo: false }), undefined, "it was emptied for the solo attempt");
	const solo = await harness.run(f, "s", {}, { solo: true });
	assert.equal(solo.slot.worker, "w1");
	assert.equal(harness.pool.reserve(f, { bytes: 0, solo: false }), undefined, "nobody beside it");
	harness.processes.all[0]?.answers("s");
	await settled();
	assert.equal((await harness.run(f, "c")).slot.worker, "w1");
	await harness.end();
});

test("a worker that was emptied for a solo attempt that never came serves others again", async () => {
	const harness = createPoolHarness();
	const f = spec({ maxWorkers: 1 });
	await harness.run(f, "a");
	assert.equal(harness.pool.reserve(f, { bytes: 0, solo: true }), undefined);
	await settled();
	assert.equal(harness.pool.reserve(f, { bytes: 0, solo: false }), undefined);
	harness.processes.all[0]?.answers("a");
	await settled();
	assert.equal(harness.pool.reserve(f, { bytes: 0, solo: false }), undefined);
	harness.capacity.length = 0;
	await harness.clock.advance(100);
	assert.deepEqual(harness.capacity, ["fn_f"]);
	assert.equal((await harness.run(f, "b")).slot.worker, "w1");
	await harness.end();
});

test("where another worker may start, a solo attempt gets a new one", async () => {
	const harness = createPoolHarness();
	const f = spec({ maxWorkers: 2 });
	await harness.run(f, "a");
	assert.equal((await harness.run(f, "s", {}, { solo: true })).slot.worker, "w2");
	await harness.end();
});

test("bodies in flight in one worker stay under a quarter of its memory, a larger one runs alone", async () => {
	const harness = createPoolHarness();
	const MiB = 1_048_576;
	const f = spec({ memoryMb: 64, maxWorkers: 1 });
	await harness.run(f, "a", {}, { bytes: 10 * MiB });
	await assert.rejects(harness.slot(f, { bytes: 7 * MiB }), /no slot/);
	await harness.run(f, "b", {}, { bytes: 6 * MiB });
	for (const id of ["a", "b"]) harness.processes.all[0]?.answers(id);
	await settled();
	(await harness.slot(f, { bytes: 17 * MiB })).release();
	const large = await harness.slot(f, { bytes: 17 * MiB });
	await assert.rejects(harness.slot(f), /no slot/);
	large.release();
	await harness.end();
});

test("a body that fits no worker now starts another where it may, and else nobody is asked before an attempt leaves", async () => {
	const harness = createPoolHarness();
	const MiB = 1_048_576;
	const f = spec({ memoryMb: 64, maxWorkers: 2 });
	await harness.run(f, "a", {}, { bytes: 10 * MiB });
	assert.equal((await harness.run(f, "b", {}, { bytes: 10 * MiB })).slot.worker, "w2");
	harness.capacity.length = 0;
	assert.equal(harness.pool.reserve(f, { bytes: 10 * MiB, solo: false }), undefined);
	for (let turns = 0; turns < 10; turns += 1) await settled();
	assert.deepEqual(harness.capacity, [], "to ask again would fail again, turn after turn");
	harness.processes.all[0]?.answers("a");
	await settled();
	assert.deepEqual(harness.capacity, ["fn_f"]);
	await harness.run(f, "c", {}, { bytes: 10 * MiB });
	await harness.end();
});

test("a silent worker gets no new work until its loop answers", async () => {
	const harness = createPoolHarness();
	const f = spec({ maxWorkers: 1 });
	await harness.run(f, "a");
	const [worker] = harness.processes.all;
	assert.ok(worker);
	worker.habits.pongs = false;
	await harness.clock.advance(200);
	await assert.rejects(harness.slot(f), /no slot/);
	harness.capacity.length = 0;
	worker.habits.pongs = true;
	worker.says({ type: "pong" });
	await settled();
	assert.deepEqual(harness.capacity, ["fn_f"]);
	await harness.run(f, "b");
	await harness.end();
});

test("another worker starts beside a silent one", async () => {
	const harness = createPoolHarness();
	const f = spec({ maxWorkers: 2 });
	const first = await harness.run(f, "a");
	harness.worker(first.slot).habits.pongs = false;
	await harness.clock.advance(200);
	assert.equal((await harness.run(f, "b")).slot.worker, "w2");
	await harness.end();
});

test("no ping is sent while nobody is aboard", async () => {
	const harness = createPoolHarness();
	const running = await harness.run(spec(), "a");
	const worker = harness.worker(running.slot);
	await harness.clock.advance(500);
	worker.answers("a");
	await harness.clock.advance(100);
	const pings = (): number => worker.got.filter((message) => message.type === "ping").length;
	const before = pings();
	assert.ok(before >= 5, `${before} pings while it was busy`);
	await harness.clock.advance(5_000);
	assert.equal(pings(), before);
	await harness.end();
});
