import assert from "node:assert/strict";
import { test } from "node:test";
import { settled } from "../../support/fake-clock.ts";
import { createPoolHarness, spec } from "../../support/pool-harness.ts";

const MiB = 1_048_576;
const released = { kind: "released", why: "neighbour_died", started: true, solo: true };

test("a crash with one aboard is charged and tells exit code and last output", async () => {
	const harness = createPoolHarness();
	const running = await harness.run(spec(), "a");
	const worker = harness.worker(running.slot);
	worker.prints("stderr", "panic: out of cheese\n");
	worker.exit({ code: 7, signal: null });
	await settled();
	assert.ok(running.outcome?.kind === "crashed");
	assert.equal(running.outcome.error.code, "WORKER_CRASHED");
	assert.match(running.outcome.error.message, /exited with code 7.*out of cheese/);
	await harness.end();
});

test("a crash with several aboard charges nobody and suspects all", async () => {
	const harness = createPoolHarness();
	const runs = [await harness.run(spec(), "a"), await harness.run(spec(), "b")];
	harness.processes.all[0]?.exit({ code: null, signal: "SIGSEGV" });
	await settled();
	assert.deepEqual(
		runs.map((run) => run.outcome),
		[released, released],
	);
	await harness.end();
});

test("a complete answer that came before the end wins over the crash", async () => {
	const harness = createPoolHarness();
	const running = await harness.run(spec(), "a");
	const worker = harness.worker(running.slot);
	worker.answers("a");
	worker.exit({ code: 0, signal: null });
	await settled();
	assert.equal(running.outcome?.kind, "succeeded");
	await harness.end();
});

test("over its memory a worker is killed: alone it is charged, in company nobody is", async () => {
	for (const [ids, expected] of [
		[["a"], "crashed"],
		[["a", "b"], "released"],
	] as const) {
		const harness = createPoolHarness();
		const f = spec({ memoryMb: 64 });
		const runs = [];
		for (const id of ids) runs.push(await harness.run(f, id));
		harness.memory.set(1000, 64 * MiB);
		await harness.clock.advance(300);
		assert.equal(harness.processes.all[0]?.killed, false, "at its limit, not over it");
		harness.memory.set(1000, 64 * MiB + 4096);
		await harness.clock.advance(300);
		for (const { outcome } of runs) {
			assert.equal(outcome?.kind, expected);
			if (outcome?.kind === "crashed") assert.equal(outcome.error.code, "WORKER_MEMORY");
		}
		await harness.end();
	}
});

test("short calls with pauses between them are sampled as one long call is", async () => {
	const harness = createPoolHarness();
	const f = spec({ memoryMb: 64 });
	harness.memory.set(1000, 65 * MiB);
	for (let at = 0; at < 500 && harness.processes.all[0]?.killed !== true; at += 70) {
		const running = await harness.run(f, `a${at}`);
		await harness.clock.advance(10);
		if (running.runs) harness.worker(running.slot).answers(`a${at}`);
		// Long enough for the look that finds nobody aboard.
		await harness.clock.advance(60);
	}
	assert.equal(harness.processes.all[0]?.killed, true);
	await harness.end();
});

test("an idle worker over its memory is ended too", async () => {
	const harness = createPoolHarness();
	const running = await harness.run(spec({ memoryMb: 64 }), "a");
	harness.worker(running.slot).answers("a");
	await settled();
	harness.memory.set(1000, 65 * MiB);
	await harness.clock.advance(2_000);
	await settled();
	assert.deepEqual(harness.states(), []);
	await harness.end();
});

for (const [what, act] of [
	["an unknown frame type", (raw: (bytes: Uint8Array) => void) => raw(new Uint8Array([5, 0, 0, 0, 99, 0, 0, 0, 0]))],
	["a frame that is too long", (raw: (bytes: Uint8Array) => void) => raw(new Uint8Array([255, 255, 255, 255]))],
	[
		"a head that is no JSON",
		(raw: (bytes: Uint8Array) => void) => raw(new Uint8Array([6, 0, 0, 0, 66, 1, 0, 0, 0, 0x7b])),
	],
] as const) {
	test(`${what} ends the worker with WORKER_PROTOCOL`, async () => {
		const harness = createPoolHarness();
		const running = await harness.run(spec(), "a");
		const worker = harness.worker(running.slot);
		act((bytes) => worker.raw(bytes));
		await settled();
		assert.ok(running.outcome?.kind === "crashed");
		assert.equal(running.outcome.error.code, "WORKER_PROTOCOL");
		await harness.end();
	});
}

test("an answer for a call that is not aboard, and a second answer, end the worker", async () => {
	for (const twice of [false, true]) {
		const harness = createPoolHarness();
		const running = await harness.run(spec(), "a");
		const worker = harness.worker(running.slot);
		if (twice) {
			worker.answers("a");
			worker.answers("a");
		} else worker.says({ type: "ended", call: 77 });
		await settled();
		assert.equal(worker.killed, true);
		assert.equal(running.outcome?.kind, twice ? "succeeded" : "crashed");
		await harness.end();
	}
});

test("a worker that closes its channel and lives on is killed", async () => {
	const harness = createPoolHarness();
	const running = await harness.run(spec(), "a");
	harness.worker(running.slot).closesChannel();
	await harness.clock.advance(249);
	assert.ok(running.runs);
	await harness.clock.advance(1);
	await settled();
	assert.ok(running.outcome?.kind === "crashed");
	assert.match(running.outcome.error.message, /closed its channel/);
	await harness.end();
});

test("a worker that dies between reserve and run has not started the attempt", async () => {
	const harness = createPoolHarness();
	const slot = await harness.slot(spec());
	harness.worker(slot).exit({ code: 1, signal: null });
	await settled();
	const outcome = await new Promise((ended) => {
		harness.pool.run(
			slot,
			{
				invocationId: "a",
				attempt: 1,
				method: "GET",
				path: "/",
				headersJson: "[]",
				queryJson: "[]",
				body: new Uint8Array(0),
				timeoutMs: 1_000,
				timeoutCode: "TIMED_OUT",
			},
			ended,
		);
	});
	assert.deepEqual(outcome, { kind: "released", why: "worker_gone", started: false, solo: false });
	await harness.end();
});

test("a body over maxBodyBytes is refused also where the runtime lets it pass", async () => {
	const harness = createPoolHarness();
	const running = await harness.run(spec({ maxBodyBytes: 3 }), "a");
	harness.worker(running.slot).answers("a", "four");
	await settled();
	assert.ok(running.outcome?.kind === "failed");
	assert.equal(running.outcome.error.code, "RESULT_TOO_LARGE");
	await harness.end();
});

test("log lines find their invocation, also after it has ended; pipes where one is aboard", async () => {
	const harness = createPoolHarness();
	const first = await harness.run(spec(), "a");
	const worker = harness.worker(first.slot);
	const call = worker.callOf("a");
	worker.prints("stdout", "from a pi");
	worker.prints("stdout", "pe\n");
	await harness.run(spec(), "b");
	worker.prints("stderr", "whose?\n");
	worker.answers("a");
	worker.says({ type: "log", call, level: "info", message: "late", metadata: undefined, at: 5 });
	worker.says({ type: "log", call: undefined, level: "warn", message: "nobody's", metadata: { x: 1 }, at: 6 });
	await settled();
	assert.deepEqual(
		harness.logs.map(({ invocationId, level, message }) => [invocationId, level, message]),
		[
			["a", "info", "from a pipe"],
			[undefined, "error", "whose?"],
			["a", "info", "late"],
			[undefined, "warn", "nobody's"],
		],
	);
	await harness.end();
});
