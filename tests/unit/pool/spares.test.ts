import assert from "node:assert/strict";
import { test } from "node:test";
import { settled } from "../../support/fake-clock.ts";
import { createPoolHarness, type PoolHarness, spec } from "../../support/pool-harness.ts";

const REST_MS = 100;

/** A pool with so many spares and a function that may be called. */
async function expecting(spareWorkers: number): Promise<PoolHarness> {
	const harness = createPoolHarness({ spareWorkers });
	await harness.clock.advance(60_000);
	assert.equal(harness.processes.all.length, 0, "where nobody can call anything there is none");
	assert.equal(harness.clock.pending, 0, "nor a timer, which a boot that fails would leave behind");
	harness.pool.activate(spec());
	return harness;
}

test("a spare is ready before anybody calls, and the first call of a function takes it instead of starting a process", async () => {
	const harness = await expecting(1);
	const { all } = harness.processes;
	await harness.clock.advance(REST_MS - 1);
	assert.equal(all.length, 0, "the boot comes first");
	await harness.clock.advance(1);
	assert.equal(all.length, 1);
	assert.deepEqual(all[0]?.got, [], "it belongs to nobody");
	assert.deepEqual(harness.states(), [], "and counts for nothing");
	const running = await harness.run(spec(), "a");
	assert.equal(all.length, 1, "no process was started");
	assert.equal(all[0]?.init?.bundlePath, "/bundles/f/v1/bundle.js");
	all[0]?.prints("stderr", "from the handler\n");
	all[0]?.answers("a", "here");
	assert.equal(running.outcome?.kind, "succeeded");
	assert.deepEqual(
		harness.logs.map(({ message }) => message),
		["from the handler"],
	);
	await harness.end();
});

test("a successor comes when nothing was started for a while: whoever waits for a worker has the processors for himself", async () => {
	const harness = await expecting(1);
	const { all } = harness.processes;
	await harness.clock.advance(REST_MS);
	await harness.run(spec({}, "f"), "a");
	assert.equal(all.length, 1);
	await harness.clock.advance(REST_MS - 1);
	await harness.run(spec({}, "g"), "b");
	assert.equal(all.length, 2, "the spare is not back: a process was started");
	await harness.clock.advance(REST_MS - 1);
	assert.equal(all.length, 2);
	await harness.clock.advance(1);
	assert.equal(all.length, 3);
	await harness.clock.advance(60_000);
	assert.equal(all.length, 3, "one is enough");
	await harness.end();
});

test("more than one spare: they come one after another, and the oldest is taken first", async () => {
	const harness = await expecting(3);
	const { all } = harness.processes;
	for (const started of [1, 2, 3, 3]) {
		await harness.clock.advance(REST_MS);
		assert.equal(all.length, started);
	}
	for (const [index, name] of ["f", "g", "h"].entries()) {
		const { slot } = await harness.run(spec({}, name), name);
		assert.equal(harness.worker(slot), all[index]);
	}
	await harness.end();
});

test("a function with variables of its own starts a process with them: a spare's cannot be changed", async () => {
	const harness = await expecting(1);
	const { all } = harness.processes;
	await harness.clock.advance(REST_MS);
	const { slot } = await harness.run({ ...spec(), env: { TOKEN: "secret" } }, "a");
	assert.equal(all.length, 2);
	assert.deepEqual(harness.worker(slot).launch.env, { TOKEN: "secret" });
	assert.deepEqual(all[0]?.launch.env, {});
	assert.deepEqual(all[0]?.got, []);
	const other = await harness.run(spec({}, "g"), "b");
	assert.equal(harness.worker(other.slot), all[0], "it is still there for the next");
	await harness.end();
});

test("a spare that dies is taken by nobody, and has no successor before a worker is started", async () => {
	const harness = await expecting(1);
	const { all } = harness.processes;
	await harness.clock.advance(REST_MS);
	all[0]?.exit({ code: null, signal: "SIGKILL" });
	await harness.clock.advance(60_000);
	assert.equal(all.length, 1, "where Bun cannot run it is not started again and again");
	const running = await harness.run(spec(), "a");
	assert.equal(all.length, 2);
	all[1]?.answers("a");
	assert.equal(running.outcome?.kind, "succeeded");
	await harness.clock.advance(REST_MS);
	assert.equal(all.length, 3);
	await harness.end();
});

test("spares whose Bun dies young are not started again and again", async () => {
	for (const [count, lifeMs] of [
		[2, 40],
		[3, 150],
		[16, 1_000],
	] as const) {
		const harness = await expecting(count);
		const { all } = harness.processes;
		for (let ms = 0; ms < 60_000; ms += 10) {
			await harness.clock.advance(10);
			for (const [index, worker] of all.entries())
				if (ms >= (index + 1) * REST_MS + lifeMs) worker.exit({ code: 1, signal: null });
		}
		assert.ok(all.length <= count, `${all.length} processes for ${count} spares`);
		await harness.end();
	}
});

test("a spare that is dead is not given to anybody, also where its end was not seen yet", async () => {
	const harness = await expecting(2);
	const { all } = harness.processes;
	await harness.clock.advance(REST_MS);
	await harness.clock.advance(REST_MS);
	harness.memory.set(all[0]?.pid ?? 0, 0);
	const { slot } = await harness.run(spec(), "a");
	assert.equal(harness.worker(slot), all[1]);
	assert.deepEqual(all[0]?.got, []);
	all[0]?.exit({ code: null, signal: "SIGKILL" });
	await harness.clock.advance(REST_MS);
	await harness.clock.advance(REST_MS);
	assert.equal(all.length, 4, "both have successors, because a worker was started");
	await harness.end();
});

test("a spare that talks, or closes its channel, is killed and serves nobody", async () => {
	const harness = await expecting(2);
	const { all } = harness.processes;
	await harness.clock.advance(REST_MS);
	await harness.clock.advance(REST_MS);
	all[0]?.raw(new Uint8Array([1]));
	all[1]?.closesChannel();
	assert.deepEqual(
		all.map(({ killed }) => killed),
		[true, true],
	);
	const { slot } = await harness.run(spec(), "a");
	assert.equal(harness.worker(slot), all[2]);
	await harness.end();
});

test("a spare that was taken is its function's: its death is the worker's", async () => {
	const harness = await expecting(1);
	await harness.clock.advance(REST_MS);
	const running = await harness.run(spec(), "a");
	harness.processes.all[0]?.exit({ code: 7, signal: null });
	await settled();
	assert.match(JSON.stringify(running.outcome), /WORKER_CRASHED.*7/);
	assert.deepEqual(harness.states(), []);
	await harness.end();
});

test("a stop waits until the last spare is gone, and starts none", async () => {
	const harness = await expecting(2);
	const { all, habits } = harness.processes;
	habits.dies = false;
	await harness.clock.advance(REST_MS);
	let stopped = false;
	const stop = harness.pool.stop(0).then(() => (stopped = true));
	await harness.clock.advance(60_000);
	assert.equal(all.length, 1);
	assert.equal(all[0]?.killed, true);
	assert.equal(stopped, false);
	all[0]?.exit({ code: null, signal: "SIGKILL" });
	await stop;
	assert.equal(harness.clock.pending, 0);
});

test("a stop whose spares are gone waits for the workers that were spares", async () => {
	const harness = await expecting(1);
	const { all } = harness.processes;
	await harness.clock.advance(REST_MS);
	await harness.run(spec(), "a");
	await harness.clock.advance(REST_MS);
	let stopped = false;
	const stop = harness.pool.stop(5_000).then(() => (stopped = true));
	await settled();
	assert.equal(all[1]?.over, true);
	assert.equal(stopped, false);
	all[0]?.answers("a");
	await stop;
	assert.equal(harness.clock.pending, 0);
});
