/** C14 and C15: a cancel, or the time limit, at the moment of the answer. One end, one record, told the same to all. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type { InvocationRecord } from "../../../src/index.ts";
import { seededRandom } from "../../support/seed.ts";
import { fault } from "../fault.ts";
import { cameTo, startLab, type Lab } from "./lab.ts";

/** What every end must be, whoever won. */
function whole(lab: Lab, record: InvocationRecord, states: readonly string[]): void {
	assert.ok(states.includes(record.state), `${record.state} is none of ${states.join(", ")}`);
	assert.equal(record.result !== undefined, record.state === "succeeded", "a result exactly where it succeeded");
	assert.equal(record.error !== undefined, record.state !== "succeeded");
	assert.equal(record.attempts.filter(({ outcome }) => outcome === "running").length, 0);
	assert.deepEqual(lab.engine.getInvocation(record.invocationId), record, "a terminal record changed");
}

fault("C14", "a cancel at any moment of a life: one end, and the answer to the cancel agrees with it", async (f) => {
	await using lab = await startLab({ durability: "process" });
	await lab.deploy("races", "faults/races.ts", {
		timeoutMs: 20_000,
		graceMs: 300,
		concurrency: 40,
		workerConcurrency: 20,
		maxWorkers: 2,
		retry: { maxAttempts: 1 },
	});
	const random = seededRandom(f.seed);
	const ends: Record<string, number> = {};
	const total = f.runs(400, 10_000);
	const race = async (): Promise<void> => {
		const path = ["/sleeps", "/heeds", "/heeds", "/spin"][Math.floor(random.next() * 4)] ?? "";
		// Half of those that heed a cancel would take far longer than it takes to come.
		const ms = path === "/heeds" && random.next() < 0.5 ? 300 : Math.floor(random.next() * 4);
		const wait = random.next() * 20;
		const twice = random.next() < 0.3;
		const id = await lab.enqueue("races", path, { query: [["ms", `${ms}`]] });
		if (wait > 1) await sleep(wait);
		const told = await Promise.all(
			Array.from({ length: twice ? 2 : 1 }, () => lab.engine.cancel(id).then(({ state }) => state)),
		);
		const record = await lab.ended(id);
		whole(lab, record, ["succeeded", "cancelled"]);
		for (const answer of told) {
			// Running: who wins is open. An end: it is the one on record.
			if (answer !== "running") assert.equal(answer, record.state);
			const key = `${record.state}, told ${answer}`;
			ends[key] = (ends[key] ?? 0) + 1;
		}
	};
	for (let left = total; left > 0; left -= 50) {
		await Promise.all(Array.from({ length: Math.min(50, left) }, race));
	}
	for (const end of ["succeeded, told succeeded", "cancelled, told running", "cancelled, told cancelled"]) {
		assert.ok((ends[end] ?? 0) > 0, `no cancel was early or late enough for: ${end}; ${JSON.stringify(ends)}`);
	}
	f.record(
		Object.entries(ends)
			.map(([end, count]) => `${count} ${end}`)
			.join("; "),
	);
});

fault("C14", "a running handler that does not heed a cancel is ended with its worker, and is cancelled", async () => {
	await using lab = await startLab();
	await lab.deploy("races", "faults/races.ts", { timeoutMs: 20_000, graceMs: 100, retry: { maxAttempts: 3 } });
	for (const path of ["/sleeps", "/spin"]) {
		const id = await lab.enqueue("races", path, { query: [["ms", "15000"]] });
		await lab.workerOf(id);
		await lab.engine.cancel(id);
		const record = await lab.ended(id);
		assert.equal(cameTo(record), "cancelled CANCELLED charged 0", path);
		assert.equal(record.attempts.length, 1, "it was tried again");
	}
});

fault(
	"C15",
	"an answer within a millisecond of the time limit: succeeded or timed out, never early, never both",
	async (f) => {
		await using lab = await startLab({ durability: "process" });
		const timeoutMs = 30;
		await lab.deploy("races", "faults/races.ts", {
			timeoutMs,
			graceMs: 1_000,
			maxWorkers: 2,
			retry: { maxAttempts: 1 },
		});
		await lab.call("races", "/sleeps");
		const random = seededRandom(f.seed);
		const ends: Record<string, number> = { succeeded: 0, timed_out: 0 };
		let earliest = Infinity;
		for (let left = f.runs(400, 10_000); left > 0; left -= 50) {
			const ids = await Promise.all(
				Array.from({ length: Math.min(50, left) }, () => {
					// An answer needs about 4 ms to be here: as far as that before the limit, and as far behind it.
					const ms = timeoutMs - 10 + Math.floor(random.next() * 12);
					return lab.enqueue("races", random.next() < 0.5 ? "/sleeps" : "/heeds", { query: [["ms", `${ms}`]] });
				}),
			);
			for (const id of ids) {
				const record = await lab.ended(id);
				whole(lab, record, ["succeeded", "timed_out"]);
				ends[record.state] = (ends[record.state] ?? 0) + 1;
				if (record.state === "timed_out") earliest = Math.min(earliest, record.runMs ?? 0);
			}
		}
		assert.ok((ends["succeeded"] ?? 0) > 0 && (ends["timed_out"] ?? 0) > 0, JSON.stringify(ends));
		// Wall times of claim and record, each a whole millisecond.
		assert.ok(earliest >= timeoutMs - 1, `timed out after ${earliest} ms`);
		f.record(
			`${ends["succeeded"]} succeeded, ${ends["timed_out"]} timed out, the earliest after ${earliest} ms of ${timeoutMs}`,
		);
	},
);
