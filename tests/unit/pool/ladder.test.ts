import assert from "node:assert/strict";
import { test } from "node:test";
import { settled } from "../../support/fake-clock.ts";
import { createPoolHarness, spec } from "../../support/pool-harness.ts";

const f = spec({ timeoutMs: 1_000, graceMs: 300, maxWorkers: 1 });

test("the abort signal comes at the time limit, not before", async () => {
	const harness = createPoolHarness();
	const { slot } = await harness.run(f, "a");
	const worker = harness.worker(slot);
	await harness.clock.advance(999);
	assert.deepEqual(worker.aborts, []);
	await harness.clock.advance(1);
	await settled();
	assert.deepEqual(worker.aborts, [worker.callOf("a")]);
	await harness.end();
});

test("a jump of the wall clock moves no time limit", async () => {
	const harness = createPoolHarness();
	const { slot } = await harness.run(f, "a");
	harness.clock.jumpWall(864_000_000);
	await harness.clock.advance(999);
	assert.deepEqual(harness.worker(slot).aborts, []);
	await harness.end();
});

for (const [how, act] of [
	["answers", "answers"],
	["throws", "fails"],
	["just ends", "ends"],
] as const) {
	test(`a handler that ${how} in its grace has timed out, and its worker survives`, async () => {
		const harness = createPoolHarness();
		const running = await harness.run(f, "a");
		const worker = harness.worker(running.slot);
		await harness.clock.advance(1_200);
		assert.ok(running.runs, "reported only when the handler has ended");
		worker[act]("a");
		await settled();
		assert.equal(running.outcome?.kind, "timed_out");
		assert.equal((await harness.run(f, "b")).slot.worker, running.slot.worker);
		await harness.end();
	});
}

test("a deadline of the invocation is told apart from the time limit", async () => {
	const harness = createPoolHarness();
	const running = await harness.run(f, "a", { timeoutMs: 10, timeoutCode: "DEADLINE_EXCEEDED" });
	await harness.clock.advance(10);
	harness.worker(running.slot).ends("a");
	await settled();
	assert.ok(running.outcome?.kind === "timed_out");
	assert.equal(running.outcome.error.code, "DEADLINE_EXCEEDED");
	await harness.end();
});

test("an attempt that ignores the signal is killed after its grace and has timed out when the process is gone", async () => {
	const harness = createPoolHarness();
	harness.processes.habits.dies = false;
	const running = await harness.run(f, "a");
	const worker = harness.worker(running.slot);
	await harness.clock.advance(1_299);
	assert.equal(worker.killed, false);
	await harness.clock.advance(1);
	assert.equal(worker.killed, true);
	await settled();
	assert.ok(running.runs, "SIGKILL was sent, but the process is not gone");
	worker.exit({ code: null, signal: "SIGKILL" });
	await settled();
	assert.equal(running.outcome?.kind, "timed_out");
	await harness.end();
});

test("where the loop answers, neighbours finish before the worker of an overstayer is killed", async () => {
	const harness = createPoolHarness();
	const patient = await harness.run(f, "n", { timeoutMs: 60_000 });
	const guilty = await harness.run(f, "a");
	const worker = harness.worker(guilty.slot);
	await harness.clock.advance(1_300);
	assert.equal(worker.killed, false);
	assert.deepEqual(harness.states(), ["w1:f:DRAINING"]);
	await assert.rejects(harness.slot(f), /no slot/);
	await harness.clock.advance(2_000);
	worker.answers("n", "finished");
	await settled();
	assert.equal(patient.outcome?.kind, "succeeded");
	assert.equal(worker.killed, true, "only the overstayer is left");
	assert.equal(guilty.outcome?.kind, "timed_out");
	await harness.end();
});

test("neighbours get five seconds, then they are released uncharged and not suspected", async () => {
	const harness = createPoolHarness();
	const patient = await harness.run(f, "n", { timeoutMs: 60_000 });
	const guilty = await harness.run(f, "a");
	const worker = harness.worker(guilty.slot);
	await harness.clock.advance(1_300 + 4_999);
	assert.equal(worker.killed, false);
	await harness.clock.advance(1);
	await settled();
	assert.equal(worker.killed, true);
	assert.deepEqual(patient.outcome, { kind: "released", why: "neighbour_died", started: true, solo: false });
	assert.equal(guilty.outcome?.kind, "timed_out");
	await harness.end();
});

test("an overstayer that ends after all gives its neighbours their time back", async () => {
	const harness = createPoolHarness();
	const patient = await harness.run(f, "n", { timeoutMs: 60_000 });
	const guilty = await harness.run(f, "a");
	const worker = harness.worker(guilty.slot);
	await harness.clock.advance(2_000);
	worker.ends("a");
	await harness.clock.advance(20_000);
	assert.equal(guilty.outcome?.kind, "timed_out");
	assert.equal(worker.killed, false);
	worker.answers("n");
	await harness.clock.advance(1_000);
	assert.equal(patient.outcome?.kind, "succeeded");
	assert.deepEqual(harness.states(), [], "it was retired");
	await harness.end();
});

test("a silent loop at the end of the grace is killed at once; with several aboard none is charged", async () => {
	const harness = createPoolHarness();
	const patient = await harness.run(f, "n", { timeoutMs: 60_000 });
	const suspect = await harness.run(f, "a");
	const worker = harness.worker(suspect.slot);
	worker.habits.pongs = false;
	await harness.clock.advance(1_300);
	await settled();
	assert.equal(worker.killed, true);
	const released = { kind: "released", why: "neighbour_died", started: true, solo: true };
	assert.deepEqual([patient.outcome, suspect.outcome], [released, released]);
	await harness.end();
});

test("a silent loop with one attempt aboard is charged to it", async () => {
	const harness = createPoolHarness();
	const running = await harness.run(f, "a");
	harness.worker(running.slot).habits.pongs = false;
	await harness.clock.advance(1_300);
	await settled();
	assert.equal(running.outcome?.kind, "timed_out");
	await harness.end();
});

test("a grace of zero still asks the loop before neighbours are risked", async () => {
	const harness = createPoolHarness();
	const hasty = spec({ timeoutMs: 1_000, graceMs: 0, maxWorkers: 1 });
	const patient = await harness.run(hasty, "n", { timeoutMs: 60_000 });
	const guilty = await harness.run(hasty, "a");
	const worker = harness.worker(guilty.slot);
	await harness.clock.advance(1_100);
	assert.equal(worker.killed, false);
	worker.answers("n");
	await settled();
	assert.equal(patient.outcome?.kind, "succeeded");
	assert.equal(guilty.outcome?.kind, "timed_out");
	await harness.end();
});

test("a cancelled attempt that ends in its grace is cancelled", async () => {
	const harness = createPoolHarness();
	const running = await harness.run(f, "a");
	harness.pool.cancel("a", 1);
	harness.pool.cancel("a", 1);
	await settled();
	const worker = harness.worker(running.slot);
	assert.equal(worker.aborts.length, 1);
	worker.ends("a");
	await settled();
	assert.deepEqual(running.outcome, { kind: "cancelled" });
	await harness.end();
});

test("an answer that was given before the cancel reached the handler wins", async () => {
	const harness = createPoolHarness();
	const running = await harness.run(f, "a");
	harness.pool.cancel("a", 1);
	harness.worker(running.slot).answers("a");
	await settled();
	assert.equal(running.outcome?.kind, "succeeded");
	await harness.end();
});

test("a cancelled attempt that ignores the signal is cancelled when its process is gone", async () => {
	const harness = createPoolHarness();
	const running = await harness.run(f, "a");
	harness.pool.cancel("a", 1);
	await harness.clock.advance(299);
	assert.ok(running.runs);
	await harness.clock.advance(1);
	await settled();
	assert.deepEqual(running.outcome, { kind: "cancelled" });
	await harness.end();
});

test("a cancel for another attempt number changes nothing", async () => {
	const harness = createPoolHarness();
	const running = await harness.run(f, "a", { attempt: 2 });
	harness.pool.cancel("a", 1);
	await settled();
	assert.deepEqual(harness.worker(running.slot).aborts, []);
	await harness.end();
});
