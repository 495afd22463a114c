/** A8 and A14: handlers that end their own process, alone and beside others. Only the guilty pay. */
import assert from "node:assert/strict";
import { seededRandom } from "../../support/seed.ts";
import { fault } from "../fault.ts";
import { ALONE, cameTo, startLab, textOf } from "./lab.ts";

const ENDS = ["/exit", "/exit-0", "/abort", "/kill", "/segv", "/term"] as const;

fault("A8", "a handler that ends its process is crashed and says how; the next call works", async (f) => {
	await using lab = await startLab();
	await lab.deploy("dies", "faults/dies.ts", ALONE);
	for (let round = f.runs(1, 10); round > 0; round -= 1) {
		for (const [path, how] of [
			["/exit", /exited with code 3/],
			["/exit-0", /exited with code 0/],
			["/abort", /SIGABRT|SIGILL|SIGTRAP|code 13/],
			["/kill", /SIGKILL/],
			["/segv", /SIGSEGV|code 13/],
			["/term", /SIGTERM/],
		] as const) {
			const record = await lab.call("dies", path);
			assert.equal(cameTo(record), "crashed WORKER_CRASHED charged 1", path);
			assert.match(record.error?.message ?? "", how);
			assert.match(textOf(await lab.call("dies", "/fine")), /^\d+$/);
		}
	}
});

fault("A14", "a poison pill is crashed after three deaths, whatever its attempts, and the lane goes on", async (f) => {
	await using lab = await startLab();
	await lab.deploy("dies", "faults/dies.ts", { ...ALONE, concurrency: 1, retry: { maxAttempts: 10, baseMs: 1 } });
	for (let round = f.runs(1, 10); round > 0; round -= 1) {
		const pill = await lab.enqueue("dies", "/kill");
		const behind = await lab.enqueue("dies", "/fine");
		const record = await lab.ended(pill);
		assert.equal(cameTo(record), "crashed WORKER_CRASHED charged 3");
		assert.deepEqual(
			record.attempts.map(({ attempt, outcome }) => `${attempt} ${outcome}`),
			["1 crashed", "2 crashed", "3 crashed"],
		);
		assert.equal(cameTo(await lab.ended(behind)), "succeeded - charged 0");
	}
});

fault(
	"A14",
	"several pills among many others in one worker: each is found alone and charged, nobody else is",
	async (f) => {
		await using lab = await startLab();
		await lab.deploy("dies", "faults/dies.ts", {
			maxWorkers: 1,
			workerConcurrency: 32,
			graceMs: 100,
			retry: { maxAttempts: 5, baseMs: 1, jitter: false },
		});
		const random = seededRandom(f.seed);
		let deaths = 0;
		for (let round = f.runs(1, 15); round > 0; round -= 1) {
			const count = 12 + Math.floor(random.next() * 12);
			const guilty = new Set<number>();
			while (guilty.size < 3) guilty.add(Math.floor(random.next() * count));
			const ids = await Promise.all(
				Array.from({ length: count }, (_, i) => {
					const path = guilty.has(i) ? (ENDS[Math.floor(random.next() * ENDS.length)] ?? "/kill") : "/fine";
					const ms = `${Math.floor(random.next() * 60)}`;
					return lab.enqueue("dies", path, { query: [["ms", ms]] });
				}),
			);
			for (const [i, id] of ids.entries()) {
				const record = await lab.ended(id);
				const expected = guilty.has(i) ? "crashed WORKER_CRASHED charged 3" : "succeeded - charged 0";
				assert.equal(cameTo(record), expected, `${record.request.path} of ${count}`);
				if (!guilty.has(i)) continue;
				deaths += record.attempts.length;
				// Its deaths in company charged nobody; the three that ended it were alone.
				assert.equal(record.attempts.filter(({ outcome }) => outcome === "crashed").length, 3);
			}
		}
		f.record(`${deaths} deaths of workers, none charged to another`);
	},
);
