/** kill -9 of workers from outside: idle, with one attempt aboard, with many. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { startDaemon, type Daemon } from "../support/daemon.ts";
import { readLedger } from "../support/ledger.ts";
import { tempFolder } from "../support/temp-folder.ts";
import { waitFor } from "../support/wait-for.ts";

const FUNCTIONS = join(import.meta.dirname, "../functions");
const folder = tempFolder();
const ledger = join(folder.path, "ledger.jsonl");
let daemon: Daemon;

before(async () => {
	daemon = await startDaemon(join(folder.path, "data"));
	const { client } = daemon;
	await client.call("functions.register", { name: "ledger" });
	await client.call("env.set", { function: "ledger", values: { LEDGER: ledger } });
	await client.call("functions.deploy", { function: "ledger", path: join(FUNCTIONS, "ledger.ts"), build: true });
});
beforeEach(async () => {
	await daemon.client.call("functions.configure", {
		function: "ledger",
		overrides: { delivery: null, maxWorkers: null, retry: { maxAttempts: 3, baseMs: 10 } },
	});
});
after(async () => {
	assert.equal(await daemon.stop(), 0);
	folder[Symbol.dispose]();
});

async function enqueue(ms: number): Promise<string> {
	return (await daemon.client.enqueue("ledger", { method: "POST", path: "/", body: JSON.stringify({ ms }) }))
		.invocationId;
}

/** The worker that runs all of these, once it has begun them. */
async function workerOf(ids: readonly string[]): Promise<number> {
	await waitFor("their starts", () =>
		ids.every((id) => readLedger(ledger).some((line) => line.id === id && line.what === "start")),
	);
	const pids = new Set(
		readLedger(ledger)
			.filter(({ id }) => ids.includes(id))
			.map(({ pid }) => pid),
	);
	assert.equal(pids.size, 1, "all are aboard of one worker");
	return [...pids][0] ?? 0;
}

async function record(id: string): Promise<Record<string, unknown>> {
	await daemon.client.waitForResult(id, { timeoutMs: 20_000 });
	return daemon.client.call("invocations.get", { invocation_id: id });
}

test("kill a worker with one attempt aboard: it is charged, tried again, and succeeds", async () => {
	const id = await enqueue(300);
	process.kill(await workerOf([id]), "SIGKILL");
	const { state, attempt, charged, attempts } = await record(id);
	assert.deepEqual([state, attempt, charged], ["succeeded", 2, 1]);
	const [first] = attempts as { outcome: string; error: { code: string; message: string } }[];
	assert.deepEqual([first?.outcome, first?.error.code], ["crashed", "WORKER_CRASHED"]);
	assert.match(first?.error.message ?? "", /SIGKILL/);
});

test("kill a worker with eight attempts aboard: nobody is charged, each runs again, all succeed", async () => {
	await daemon.client.call("functions.configure", { function: "ledger", overrides: { maxWorkers: 1 } });
	const ids = await Promise.all(Array.from({ length: 8 }, () => enqueue(300)));
	process.kill(await workerOf(ids), "SIGKILL");
	for (const id of ids) {
		const { state, attempt, charged } = await record(id);
		assert.deepEqual([state, attempt, charged], ["succeeded", 2, 0]);
	}
});

test("kill a worker that runs an at-most-once invocation: it ends lost and never runs again", async () => {
	await daemon.client.call("functions.configure", {
		function: "ledger",
		overrides: { delivery: "at-most-once", retry: null },
	});
	const id = await enqueue(60_000);
	process.kill(await workerOf([id]), "SIGKILL");
	const { state, error } = await record(id);
	assert.deepEqual([state, (error as { code: string }).code], ["lost", "LOST"]);
	assert.equal(readLedger(ledger).filter((line) => line.id === id && line.what === "start").length, 1);
});

test("kill every idle worker: the next call has a fresh one", async () => {
	const { workers } = (await daemon.client.call("workers.list", {})) as { workers: { pid: number; state: string }[] };
	for (const { pid, state } of workers) if (state === "IDLE" || state === "WARM") process.kill(pid, "SIGKILL");
	const answer = await daemon.client.invoke("ledger", { method: "POST", path: "/", body: "{}" });
	assert.equal(answer.status, 200);
});
