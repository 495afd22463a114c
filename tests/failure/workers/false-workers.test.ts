/** C13: real processes that speak the channel wrongly. They are killed, their attempts recorded, their versions held back. */
import assert from "node:assert/strict";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "../../../src/core/environment.ts";
import type { Outcome } from "../../../src/core/invocation.ts";
import { createPool, type Pool, type Slot, type WorkerSpec } from "../../../src/pool/index.ts";
import { CHANNEL_VERSION } from "../../../src/protocol/index.ts";
import { isGone } from "../../support/processes.ts";
import { realClock, realEnvironment } from "../../support/real-environment.ts";
import { specOf } from "../../support/real-pool.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";

/** Time that runs `factor` times as fast, so that ten seconds of patience are a few hundred milliseconds. */
function hurried(factor: number): Clock {
	return {
		now: () => realClock.now(),
		monotonic: () => realClock.monotonic() * factor,
		setTimer: (delayMs, callback) => realClock.setTimer(delayMs / factor, callback),
	};
}

interface Stub extends AsyncDisposable {
	readonly pool: Pool;
	spec(mode: string): WorkerSpec;
	slot(mode: string): Promise<Slot>;
	call(mode: string): Promise<Outcome>;
}

function startStub(clock: Clock = realClock): Stub {
	const folder = tempFolder("bunbase-stub-");
	const bunPath = join(folder.path, "bun");
	writeFileSync(bunPath, `#!/bin/sh\nexec '${process.execPath}' '${join(import.meta.dirname, "stub-worker.ts")}'\n`);
	chmodSync(bunPath, 0o755);
	const pool = createPool({
		environment: { ...realEnvironment, clock },
		bunPath,
		tmpDir: folder.path,
		instanceId: "ins_stub",
		maxWorkersTotal: 4,
		events: { capacity: () => undefined, log: () => undefined },
	});
	let calls = 0;
	const stub: Stub = {
		pool,
		spec: (mode) =>
			specOf(
				"echo.ts",
				{ timeoutMs: 500, graceMs: 50, maxWorkers: 1 },
				{ key: `${mode}/v1`, functionId: `fn_${mode}`, functionName: mode, env: { MODE: mode } },
			),
		slot: (mode) => waitFor(`a slot of ${mode}`, () => pool.reserve(stub.spec(mode), { bytes: 0, solo: false })),
		async call(mode) {
			const slot = await stub.slot(mode);
			calls += 1;
			return new Promise((ended) => {
				pool.run(
					slot,
					{
						invocationId: `inv_${calls}`,
						attempt: 1,
						method: "POST",
						path: "/",
						headersJson: "[]",
						queryJson: "[]",
						body: new Uint8Array(),
						timeoutMs: 500,
						timeoutCode: "TIMED_OUT",
					},
					ended,
				);
			});
		},
		async [Symbol.asyncDispose]() {
			await pool.stop(0);
			folder[Symbol.dispose]();
		},
	};
	return stub;
}

fault("C13", "a worker that starts wrongly is refused with the reason, and its process is gone", async (f) => {
	await using stub = startStub();
	for (let round = f.runs(1, 10); round > 0; round -= 1) {
		for (const [mode, why] of [
			["wrong-version", new RegExp(`channel version 99, not ${CHANNEL_VERSION}`)],
			["answers-first", /call 1, which is not aboard/],
			["garbage-first", /a frame of 4294967295 bytes/],
			["exits-first", /exited with code 5.*no reason to stay/],
		] as const) {
			await assert.rejects(stub.pool.prove(stub.spec(mode)), { code: "BAD_BUNDLE", message: why }, mode);
			assert.deepEqual(stub.pool.workers(), [], mode);
		}
	}
});

fault("C13", "a worker that never says ready is given up after ten seconds of the engine's time", async () => {
	const started = performance.now();
	await using stub = startStub(hurried(20));
	await assert.rejects(stub.pool.prove(stub.spec("never-ready")), /not ready within 10000 ms/);
	assert.ok(performance.now() - started >= 500, "sooner than ten seconds of its time");
	assert.deepEqual(stub.pool.workers(), []);
});

fault("C13", "a version whose workers start wrongly is held back by its breaker; others are served", async () => {
	await using stub = startStub();
	const bad = stub.spec("exits-first");
	await waitFor("three failed starts", () => {
		assert.equal(stub.pool.reserve(bad, { bytes: 0, solo: false }), undefined);
		return stub.pool.blocked(bad.key);
	});
	assert.match(stub.pool.blocked(bad.key) ?? "", /breaker open for 1 s after 3 failed starts/);
	const outcome = await stub.call("fine");
	assert.equal(outcome.kind === "succeeded" && Buffer.from(outcome.body).toString(), "fine");
});

fault("C13", "a worker that says ready twice is killed before or while it serves", async () => {
	await using stub = startStub();
	await stub.pool.prove(stub.spec("ready-twice")).catch(() => undefined);
	await waitFor("it to be gone", () => stub.pool.workers().length === 0);
});

fault(
	"C13",
	"answers for nobody, unasked ends and a late ready cost the worker its life and its attempt a charge",
	async (f) => {
		await using stub = startStub();
		for (let round = f.runs(1, 10); round > 0; round -= 1) {
			for (const mode of ["unknown-call", "ended-unasked", "ready-late", "start-failed-late"]) {
				const slot = await stub.slot(mode);
				const { pid = 0 } = stub.pool.workers().find(({ worker }) => worker === slot.worker) ?? {};
				slot.release();
				const outcome = await stub.call(mode);
				assert.ok(outcome.kind === "crashed", `${mode}: ${JSON.stringify(outcome)}`);
				assert.equal(outcome.error.code, "WORKER_PROTOCOL");
				assert.ok(isGone(pid), `${mode}: its process lives`);
			}
		}
	},
);

fault("C13", "of two answers the first stands, and the worker that gave both is replaced", async (f) => {
	await using stub = startStub();
	for (let round = f.runs(2, 20); round > 0; round -= 1) {
		const slot = await stub.slot("answers-twice");
		slot.release();
		const outcome = await stub.call("answers-twice");
		assert.equal(outcome.kind === "succeeded" && Buffer.from(outcome.body).toString(), "first");
		await waitFor("the worker to be gone", () => !stub.pool.workers().some(({ worker }) => worker === slot.worker));
	}
});

fault("C13", "a worker that pongs and never answers is killed at the limit", async () => {
	await using stub = startStub();
	assert.equal((await stub.call("never-answers")).kind, "timed_out");
	await waitFor("it to be gone", () => stub.pool.workers().length === 0);
});
