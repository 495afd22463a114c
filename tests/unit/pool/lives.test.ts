import assert from "node:assert/strict";
import { test } from "node:test";
import { settled } from "../../support/fake-clock.ts";
import { createPoolHarness, spec } from "../../support/pool-harness.ts";

test("three failed starts open the breaker; it lets one start through after 1 s, then 2 s, up to 60 s", async () => {
	const harness = createPoolHarness();
	const f = spec();
	harness.processes.habits.ready = false;
	const fail = async (): Promise<void> => {
		const worker = harness.processes.all.at(-1);
		worker?.says({ type: "start_failed", message: "SyntaxError: no", stack: undefined });
		await settled();
	};
	assert.equal(harness.pool.reserve(f, { bytes: 0, solo: false }), undefined);
	await settled();
	for (const started of [1, 2, 3]) {
		assert.equal(harness.processes.all.length, started);
		assert.equal(harness.pool.blocked(f.key), undefined);
		await fail();
	}
	assert.equal(harness.processes.all.length, 3);
	assert.match(harness.pool.blocked(f.key) ?? "", /breaker open for 1 s.*SyntaxError: no/);
	assert.equal(harness.pool.reserve(f, { bytes: 0, solo: false }), undefined);
	let open = 1_000;
	for (let started = 4; started <= 12; started += 1) {
		harness.capacity.length = 0;
		await harness.clock.advance(open - 1);
		assert.equal(harness.processes.all.length, started - 1);
		await harness.clock.advance(1);
		assert.equal(harness.processes.all.length, started, `half open after ${open} ms`);
		assert.deepEqual(harness.capacity, ["fn_f"]);
		await fail();
		open = Math.min(60_000, open * 2);
	}
	await harness.clock.advance(open);
	harness.processes.all.at(-1)?.saysReady();
	await settled();
	assert.equal(harness.pool.blocked(f.key), undefined);
	await harness.run(f, "a");
	await harness.end();
});

test("a new environment closes the breaker: who mended it does not wait for its time to be over", async () => {
	const harness = createPoolHarness();
	const f = spec();
	harness.processes.habits.ready = false;
	assert.equal(harness.pool.reserve(f, { bytes: 0, solo: false }), undefined);
	for (let started = 1; started <= 3; started += 1) {
		await settled();
		harness.processes.all.at(-1)?.says({ type: "start_failed", message: "no secret", stack: undefined });
	}
	await settled();
	assert.match(harness.pool.blocked(f.key) ?? "", /breaker open/);
	harness.processes.habits.ready = true;
	harness.pool.recycle("another");
	await settled();
	assert.match(harness.pool.blocked(f.key) ?? "", /breaker open/, "it is another function's");
	harness.pool.recycle(f.functionId);
	await settled();
	assert.equal(harness.pool.blocked(f.key), undefined);
	assert.equal(harness.processes.all.length, 4, "started at once, for those that wait");
	await harness.run(f, "a");
	await harness.end();
});

test("a worker that is not ready within ten seconds, or exits before, has failed to start", async () => {
	const harness = createPoolHarness();
	harness.processes.habits.ready = false;
	const proof = harness.pool.prove(spec());
	const late = assert.rejects(proof, /BAD_BUNDLE|not ready within 10000 ms/);
	await harness.clock.advance(10_000);
	await late;
	const exits = harness.pool.prove(spec());
	await settled();
	harness.processes.all[1]?.prints("stderr", "boom\n");
	harness.processes.all[1]?.exit({ code: 3, signal: null });
	await assert.rejects(exits, (error: { code?: string; message?: string }) => {
		assert.equal(error.code, "BAD_BUNDLE");
		assert.match(error.message ?? "", /exited with code 3.*boom/);
		return true;
	});
	await harness.end();
});

test("prove reports the config, keeps the worker WARM, and may exceed maxWorkers by one", async () => {
	const harness = createPoolHarness();
	const f = spec({ maxWorkers: 1 });
	await harness.run(f, "a");
	harness.processes.habits.ready = false;
	const v2 = spec({ maxWorkers: 1 }, "f", "v2");
	const proof = harness.pool.prove(v2);
	await settled();
	harness.processes.all[1]?.saysReady({ timeoutMs: 5 });
	assert.deepEqual((await proof).config, { timeoutMs: 5 });
	assert.deepEqual(harness.states(), ["w1:f:BUSY", "w2:f:WARM"]);
	await harness.end();
});

test("many proofs at once: never more than one process over maxWorkersTotal, and each is proven", async () => {
	const harness = createPoolHarness({ maxWorkersTotal: 3 });
	let most = 0;
	const look = (): number => (most = Math.max(most, harness.processes.living.length));
	const proofs = Array.from({ length: 20 }, (_, i) =>
		harness.pool.prove(spec({}, `f${i}`)).then((report) => {
			look();
			return report;
		}),
	);
	for (let turn = 0; turn < 200; turn += 1) {
		await settled();
		look();
	}
	assert.equal((await Promise.all(proofs)).length, 20);
	assert.equal(most, 4);
	assert.equal(harness.processes.all.length, 20);
	await harness.end();
});

test("a proof that waits for room while all workers are busy goes on when one is idle, and is refused at a stop", async () => {
	const harness = createPoolHarness({ maxWorkersTotal: 1 });
	const running = await harness.run(spec({}, "busy"), "a");
	harness.processes.habits.ready = false;
	const first = harness.pool.prove(spec({}, "f1"));
	const second = harness.pool.prove(spec({}, "f2"));
	await settled();
	assert.equal(harness.processes.living.length, 2, "one more than allowed, not two");
	harness.worker(running.slot).answers("a");
	await settled();
	await settled();
	assert.equal(harness.processes.all.length, 3, "the idle worker has made room");
	harness.processes.all[1]?.saysReady();
	harness.processes.all[2]?.saysReady();
	await Promise.all([first, second]);
	const third = assert.rejects(Promise.all(["f3", "f4", "f5"].map((name) => harness.pool.prove(spec({}, name)))), {
		code: "SHUTTING_DOWN",
	});
	await harness.end();
	await third;
});

test("at most four starts are under way at once", async () => {
	const harness = createPoolHarness();
	harness.processes.habits.ready = false;
	for (let i = 0; i < 6; i += 1) harness.pool.reserve(spec({}, `f${i}`), { bytes: 0, solo: false });
	await settled();
	assert.equal(harness.processes.all.length, 4);
	harness.processes.all[0]?.saysReady();
	await settled();
	assert.equal(harness.processes.all.length, 5);
	await harness.end();
});

test("an idle worker makes room for another function, least recently used first", async () => {
	const harness = createPoolHarness({ maxWorkersTotal: 2 });
	for (const name of ["f", "g"]) {
		const running = await harness.run(spec({}, name), name);
		harness.worker(running.slot).answers(name);
		await harness.clock.advance(10);
	}
	const other = await harness.run(spec({}, "h"), "h");
	assert.deepEqual(harness.states(), ["w2:g:IDLE", "w3:h:BUSY"]);
	assert.equal(other.slot.worker, "w3");
	await harness.end();
});

test("a function that saturates all workers cannot lock another out", async () => {
	const harness = createPoolHarness({ maxWorkersTotal: 2 });
	const f = spec({ workerConcurrency: 1, maxWorkers: 2 });
	await harness.run(f, "a");
	await harness.run(f, "b");
	const g = spec({}, "g");
	assert.equal(harness.pool.reserve(g, { bytes: 0, solo: false }), undefined);
	await harness.clock.advance(1_000);
	assert.equal(harness.states().filter((state) => state.endsWith("DRAINING")).length, 1);
	for (const [worker, id] of [
		[harness.processes.all[0], "a"],
		[harness.processes.all[1], "b"],
	] as const) {
		worker?.answers(id);
	}
	await settled();
	assert.ok(harness.states().some((state) => state.includes(":g:")));
	await harness.end();
});

test("more than one function waits for room in the order in which they asked", async () => {
	const harness = createPoolHarness({ maxWorkersTotal: 1 });
	const running = await harness.run(spec({}, "f"), "a");
	for (const name of ["g", "h"]) harness.pool.reserve(spec({}, name), { bytes: 0, solo: false });
	await settled();
	harness.capacity.length = 0;
	harness.worker(running.slot).answers("a");
	await settled();
	await settled();
	assert.equal(harness.capacity[0], "fn_g");
	await harness.end();
});

test("an idle worker ends after idleTimeoutMs, one within warmWorkers stays", async () => {
	const harness = createPoolHarness();
	const f = spec({ idleTimeoutMs: 5_000, warmWorkers: 1, workerConcurrency: 1, maxWorkers: 2 });
	harness.pool.activate(f);
	await settled();
	assert.deepEqual(harness.states(), ["w1:f:WARM"], "warm before anybody asks");
	const a = await harness.run(f, "a");
	const b = await harness.run(f, "b");
	harness.worker(a.slot).answers("a");
	harness.worker(b.slot).answers("b");
	await settled();
	assert.deepEqual(harness.states(), ["w1:f:IDLE", "w2:f:IDLE"]);
	await harness.clock.advance(5_001);
	assert.equal(harness.states().length, 1);
	await harness.clock.advance(60_000);
	assert.equal(harness.states().length, 1);
	assert.match(harness.states()[0] ?? "", /WARM/);
	await harness.end();
});

test("a warm worker that dies is replaced", async () => {
	const harness = createPoolHarness();
	harness.pool.activate(spec({ warmWorkers: 2 }));
	await settled();
	assert.equal(harness.processes.living.length, 2);
	harness.processes.all[0]?.exit({ code: 1, signal: null });
	await settled();
	assert.equal(harness.processes.living.length, 2);
	await harness.end();
});

test("activating a version ends idle workers of the others; busy ones finish and leave", async () => {
	const harness = createPoolHarness();
	const v1 = spec({ workerConcurrency: 1 });
	harness.pool.activate(v1);
	const idle = await harness.run(v1, "a");
	const busy = await harness.run(v1, "b");
	harness.worker(idle.slot).answers("a");
	await settled();
	harness.pool.activate(spec({}, "f", "v2"));
	await settled();
	assert.deepEqual(harness.states(), ["w2:f:BUSY"]);
	harness.worker(busy.slot).answers("b");
	await harness.clock.advance(1_000);
	await settled();
	assert.equal(busy.outcome?.kind, "succeeded");
	assert.deepEqual(harness.states(), []);
	await harness.end();
});

for (const [why, config, provoke] of [
	["maxInvocations", { maxInvocations: 1 }, async () => undefined],
	["maxAgeMs", { maxAgeMs: 1_000 }, (harness) => harness.clock.advance(1_000)],
	["an uncaught error", {}, async (harness) => harness.processes.all[0]?.says({ type: "tainted", message: "late" })],
	["recycle", {}, async (harness) => harness.pool.recycle("fn_f")],
] as [
	string,
	Partial<Parameters<typeof spec>[0]>,
	(harness: ReturnType<typeof createPoolHarness>) => Promise<unknown>,
][]) {
	test(`${why} retires a worker: no new work, its attempts finish, then it ends`, async () => {
		const harness = createPoolHarness();
		const f = spec({ maxWorkers: 2, ...config });
		const running = await harness.run(f, "a");
		const worker = harness.worker(running.slot);
		await provoke(harness);
		await settled();
		assert.deepEqual(harness.states(), ["w1:f:DRAINING"]);
		assert.equal((await harness.run(f, "b")).slot.worker, "w2");
		worker.answers("a");
		await settled();
		assert.equal(running.outcome?.kind, "succeeded");
		assert.equal(worker.over, true);
		await harness.end();
	});
}

test("a retired worker that does not stop is killed after its grace", async () => {
	const harness = createPoolHarness();
	harness.processes.habits.stops = false;
	const running = await harness.run(spec({ graceMs: 500 }), "a");
	const worker = harness.worker(running.slot);
	worker.answers("a");
	await settled();
	harness.pool.recycle("fn_f");
	await harness.clock.advance(499);
	assert.equal(worker.killed, false);
	await harness.clock.advance(1);
	assert.equal(worker.killed, true);
	await harness.end();
});

test("an error of the bundle before its first attempt does not retire workers for ever", async () => {
	const harness = createPoolHarness();
	harness.pool.activate(spec({ warmWorkers: 1 }));
	await settled();
	harness.processes.all[0]?.says({ type: "tainted", message: "top level" });
	await settled();
	assert.deepEqual(harness.states(), ["w1:f:WARM"]);
	await harness.end();
});

test("stop lets attempts finish, then releases them, and both callers get one promise", async () => {
	const harness = createPoolHarness();
	const quick = await harness.run(spec(), "a");
	const slow = await harness.run(spec(), "b");
	const stopped = harness.pool.stop(2_000);
	assert.equal(harness.pool.stop(5_000), stopped);
	assert.equal(harness.pool.reserve(spec(), { bytes: 0, solo: false }), undefined);
	await assert.rejects(harness.pool.prove(spec()), { code: "SHUTTING_DOWN" });
	harness.worker(quick.slot).answers("a");
	await harness.clock.advance(2_000);
	await stopped;
	await settled();
	assert.equal(quick.outcome?.kind, "succeeded");
	assert.deepEqual(slow.outcome, { kind: "released", why: "drain", started: true, solo: false });
	await harness.end();
});

test("a second stop with less patience kills sooner", async () => {
	const harness = createPoolHarness();
	const running = await harness.run(spec(), "a");
	const stopped = harness.pool.stop(60_000);
	await settled();
	void harness.pool.stop(0);
	await stopped;
	await settled();
	assert.equal(running.outcome?.kind, "released");
	await harness.end();
});

test("a pool that never started anything stops at once", async () => {
	await createPoolHarness().end();
});

test("a proven worker takes the limits of its version when they are activated, without a restart", async () => {
	const harness = createPoolHarness();
	await harness.pool.prove(spec({ workerConcurrency: 1, maxBodyBytes: 10 }));
	const known = spec({ workerConcurrency: 2, maxBodyBytes: 20 });
	harness.pool.activate(known);
	const slots = [await harness.run(known, "a"), await harness.run(known, "b")].map(({ slot }) => slot.worker);
	assert.deepEqual(slots, ["w1", "w1"]);
	const told = harness.processes.all[0]?.got.find((message) => message.type === "limits");
	assert.equal(told?.limits.bodyBytesMax, 20);
	await harness.end();
});

test("an attempt is cold where it waited for the start, not where a worker was started ahead", async () => {
	const harness = createPoolHarness();
	const f = spec({ warmWorkers: 1 });
	harness.pool.activate(f);
	await settled();
	assert.equal((await harness.slot(f)).cold, false);
	assert.equal((await harness.slot(spec({}, "g"))).cold, true);
	await harness.end();
});
