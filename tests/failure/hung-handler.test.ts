/** Handlers that do not come back: the timeout stops the code, records it, and the next call works. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { startDaemon, type Daemon } from "../support/daemon.ts";
import { tempFolder } from "../support/temp-folder.ts";
import { waitFor } from "../support/wait-for.ts";

const folder = tempFolder();
let daemon: Daemon;

before(async () => {
	daemon = await startDaemon(join(folder.path, "data"));
	const path = join(import.meta.dirname, "../functions/misbehave.ts");
	await daemon.client.call("functions.deploy", { function: "misbehave", path, build: true, register: true });
});

after(async () => {
	assert.equal(await daemon.stop(), 0);
	folder[Symbol.dispose]();
});

async function end(path: string): Promise<{ state: string; code: string | undefined; tookMs: number }> {
	const from = performance.now();
	const { invocationId } = await daemon.client.enqueue("misbehave", { method: "POST", path });
	const result = await daemon.client.waitForResult(invocationId, { timeoutMs: 20_000 });
	return { state: result.state, code: result.error?.code, tookMs: performance.now() - from };
}

async function works(): Promise<void> {
	const answer = await daemon.client.invoke("misbehave", { method: "POST", path: "/fine" });
	assert.equal(answer.text(), "attempt 1");
}

test("for(;;){} with a limit of 500 ms alone in its worker is timed_out within 2 s, and the next call works", async (t) => {
	const { state, code, tookMs } = await end("/spin");
	t.diagnostic(`recorded after ${Math.round(tookMs)} ms`);
	assert.deepEqual([state, code], ["timed_out", "TIMED_OUT"]);
	await works();
});

test("a handler that awaits for ever is timed_out, and the next call works", async () => {
	assert.deepEqual((await end("/hang")).state, "timed_out");
	await works();
});

test("a handler that ends at the abort signal is timed_out, and its worker survives", async () => {
	await works();
	const pids = async (): Promise<number[]> => {
		const { workers } = (await daemon.client.call("workers.list", {})) as { workers: { pid: number; state: string }[] };
		return workers.filter(({ state }) => state !== "TERMINATED" && state !== "DRAINING").map(({ pid }) => pid);
	};
	const before = await pids();
	assert.equal((await end("/honour")).state, "timed_out");
	await works();
	assert.deepEqual(await pids(), before);
});

test("a worker that is stopped (SIGSTOP) while it runs is killed at the limit", async () => {
	const { invocationId } = await daemon.client.enqueue("misbehave", { method: "POST", path: "/hang" });
	const pid = await waitFor("its worker", async () => {
		const { workers } = (await daemon.client.call("workers.list", {})) as {
			workers: { pid: number; running: string[] }[];
		};
		return workers.find(({ running }) => running.includes(invocationId))?.pid;
	});
	process.kill(pid, "SIGSTOP");
	assert.equal((await daemon.client.waitForResult(invocationId, { timeoutMs: 20_000 })).state, "timed_out");
	await works();
});

for (const [path, why] of [
	["/exit", "process.exit(3)"],
	["/abort", "process.abort()"],
	["/kill", "SIGKILL of itself"],
] as const) {
	test(`a worker that ends by ${why} mid-run: crashed, and the next call works`, async () => {
		const { state, code } = await end(path);
		assert.deepEqual([state, code], ["crashed", "WORKER_CRASHED"]);
		await works();
	});
}

test("a handler that throws is failed with name, message and stack; its worker survives", async () => {
	const { invocationId } = await daemon.client.enqueue("misbehave", { method: "POST", path: "/throw" });
	const { state, error } = await daemon.client.waitForResult(invocationId, { timeoutMs: 20_000 });
	assert.equal(state, "failed");
	assert.equal(error?.code, "HANDLER_ERROR");
	assert.equal(error?.message, "thrown on purpose");
	assert.match(error?.stack ?? "", /misbehave\.ts/);
});

test("a return value that is no Response is failed and says what it was", async () => {
	assert.deepEqual((await end("/string")).code, "RESULT_NOT_RESPONSE");
	await works();
});
