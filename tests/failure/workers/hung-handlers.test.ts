/** C1 and C2: code that does not come back is ended at its time, and its slot is free only when its process is gone. */
import assert from "node:assert/strict";
import { stateOf } from "../../support/processes.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { ALONE, cameTo, startLab, textOf, type Lab } from "./lab.ts";

const TIMEOUT_MS = 200;
const GRACE_MS = 100;
/** What the kernel may take to end a process here, and a busy machine may add. */
const LATE_MS = 1_500;
const LIMITS = { ...ALONE, timeoutMs: TIMEOUT_MS, graceMs: GRACE_MS };

/** Runs `path` with the next invocation waiting behind it, which sees whether the process is gone. */
async function hangs(lab: Lab, path: string, meanwhile: (pid: number) => void = () => undefined): Promise<number> {
	const id = await lab.enqueue("hangs", path);
	const { pid } = await lab.workerOf(id);
	const next = await lab.enqueue("hangs", "/is-gone", { query: [["pid", `${pid}`]] });
	meanwhile(pid);
	const record = await lab.ended(id);
	assert.equal(cameTo(record), "timed_out TIMED_OUT charged 1", path);
	const took = record.runMs ?? 0;
	assert.ok(took >= TIMEOUT_MS + GRACE_MS, `${path} was ended early, after ${took} ms`);
	assert.ok(took < TIMEOUT_MS + GRACE_MS + LATE_MS, `${path} was ended after ${took} ms`);
	assert.equal(textOf(await lab.ended(next)), "gone", `the slot of ${path} was free before its process was gone`);
	return took - TIMEOUT_MS - GRACE_MS;
}

fault(
	"C1",
	"code that never comes back is ended at its deadline and grace, and frees its slot when gone",
	async (f) => {
		await using lab = await startLab();
		await lab.deploy("hangs", "faults/hangs.ts", LIMITS);
		const rounds = f.runs(1, 10);
		for (const path of ["/loop", "/microtasks", "/regex", "/atomics", "/sleep-sync", "/read-sync", "/ignores-term"]) {
			let latest = 0;
			for (let round = 0; round < rounds; round += 1) latest = Math.max(latest, await hangs(lab, path));
			f.record(`${path.slice(1)}: ended at most ${latest} ms after deadline and grace`);
		}
		f.ran(rounds * 6);
	},
);

fault("C1", "a handler that awaits for ever is timed out, and its process with it", async () => {
	await using lab = await startLab();
	await lab.deploy("hangs", "faults/hangs.ts", LIMITS);
	await hangs(lab, "/await");
});

fault("C1", "a handler that ends at the abort signal, or in its grace, keeps its worker", async () => {
	await using lab = await startLab();
	await lab.deploy("hangs", "faults/hangs.ts", { ...LIMITS, graceMs: 2_000 });
	const pid = textOf(await lab.call("hangs", "/pid"));
	for (const path of ["/honours", "/honours-late"]) {
		assert.equal(cameTo(await lab.call("hangs", path)), "timed_out TIMED_OUT charged 1");
		assert.equal(textOf(await lab.call("hangs", "/pid")), pid);
	}
});

fault(
	"C1",
	"a loop beside seven others: only the guilty one is charged, the others run again and succeed",
	async (f) => {
		await using lab = await startLab();
		await lab.deploy("hangs", "faults/hangs.ts", {
			timeoutMs: 500,
			graceMs: GRACE_MS,
			maxWorkers: 1,
			workerConcurrency: 8,
			retry: { maxAttempts: 2, baseMs: 1 },
		});
		await lab.call("hangs", "/pid");
		for (let round = f.runs(1, 10); round > 0; round -= 1) {
			const others = await Promise.all(
				Array.from({ length: 7 }, () => lab.enqueue("hangs", "/sleep", { query: [["ms", "200"]] })),
			);
			const guilty = await lab.enqueue("hangs", "/loop");
			assert.equal(cameTo(await lab.ended(guilty)), "timed_out TIMED_OUT charged 2");
			for (const id of others) assert.equal(cameTo(await lab.ended(id)), "succeeded - charged 0");
		}
	},
);

fault("C2", "a worker that is stopped (SIGSTOP) while it runs is killed at the limit and proven gone", async (f) => {
	await using lab = await startLab();
	await lab.deploy("hangs", "faults/hangs.ts", LIMITS);
	let latest = 0;
	for (let round = f.runs(2, 40); round > 0; round -= 1) {
		const late = await hangs(lab, "/await", (pid) => process.kill(pid, "SIGSTOP"));
		latest = Math.max(latest, late);
	}
	f.record(`ended at most ${latest} ms after deadline and grace`);
});

fault("C2", "a worker that is stopped while it is idle gets one attempt, which is tried again elsewhere", async (f) => {
	await using lab = await startLab();
	await lab.deploy("hangs", "faults/hangs.ts", { ...LIMITS, retry: { maxAttempts: 2, baseMs: 1 } });
	for (let round = f.runs(1, 20); round > 0; round -= 1) {
		await lab.call("hangs", "/pid");
		const { pid } = lab.onlyWorker("hangs");
		process.kill(pid, "SIGSTOP");
		const record = await lab.call("hangs", "/is-gone", { query: [["pid", `${pid}`]] });
		assert.equal(textOf(record), "gone");
		assert.equal(cameTo(record), "succeeded - charged 1");
		assert.equal(record.attempts[0]?.outcome, "timed_out");
	}
});

fault("C2", "a worker that is stopped with eight aboard: nobody is charged, all succeed", async (f) => {
	await using lab = await startLab();
	await lab.deploy("hangs", "faults/hangs.ts", { timeoutMs: 400, graceMs: GRACE_MS, maxWorkers: 1 });
	await lab.call("hangs", "/pid");
	for (let round = f.runs(1, 10); round > 0; round -= 1) {
		const ids = await Promise.all(
			Array.from({ length: 8 }, () => lab.enqueue("hangs", "/sleep", { query: [["ms", "150"]] })),
		);
		const { pid } = await waitFor("all to be aboard", () =>
			lab.engine.listWorkers().find(({ running }) => ids.every((id) => running.includes(id))),
		);
		assert.ok(pid !== undefined);
		process.kill(pid, "SIGSTOP");
		for (const id of ids) assert.equal(cameTo(await lab.ended(id)), "succeeded - charged 0");
	}
});

fault("C2", "a worker that is stopped and goes on in time loses nothing", async () => {
	await using lab = await startLab();
	await lab.deploy("hangs", "faults/hangs.ts", ALONE);
	const id = await lab.enqueue("hangs", "/sleep", { query: [["ms", "50"]] });
	const { pid } = await lab.workerOf(id);
	process.kill(pid, "SIGSTOP");
	await waitFor("the kernel to stop it", () => stateOf(pid) === "T");
	const next = await lab.enqueue("hangs", "/pid");
	process.kill(pid, "SIGCONT");
	assert.equal(textOf(await lab.ended(id)), "slept");
	assert.equal(textOf(await lab.ended(next)), `${pid}`);
});
