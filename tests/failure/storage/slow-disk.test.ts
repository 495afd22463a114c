/**
 * The disk is slow, or stands still for seconds: everybody waits, nobody is refused without need, and nothing that
 * went well is called late: an attempt that answered in time has succeeded, however long its answer lay unread.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { strace } from "../needs.ts";
import { assertWhole } from "./fsck.ts";
import { attachFault } from "./syscall-faults.ts";
import { assertAllThere, assertServes, drained, prepare, work } from "./work.ts";

for (const ms of [50, 500]) {
	fault(
		"B12",
		`each fsync takes ${ms} ms: callers share commits, and nothing is refused`,
		{ needs: [strace], longOnly: ms > 50 },
		async (f) => {
			const prepared = await prepare();
			const dataDir = prepared.copyTo(join(prepared.folder.path, `slow-${ms}`));
			const daemon = await prepared.start(dataDir);
			const faulty = await attachFault(daemon.pid, [{ calls: "fsync,fdatasync", inject: `delay_enter=${ms * 1000}` }], {
				allThreads: true,
			});
			const atMost = f.long ? 1000 : 100;
			const from = performance.now();
			const { accepted, refused } = await work(daemon, { seed: f.seed, callers: 50, atMost }).done;
			const took = performance.now() - from;
			assert.deepEqual([...refused], []);
			const commits = faulty.injected();
			assert.ok(
				commits * 3 < accepted.length,
				`${accepted.length} were accepted with ${commits} fsyncs: they share them`,
			);
			await faulty.end();
			await assertAllThere(daemon.client, accepted);
			await drained(daemon.client);
			assert.equal(await daemon.stop(), 0);
			assertWhole(dataDir, { drained: true });
			f.record(`${ms} ms: ${accepted.length} accepted with ${commits} fsyncs in ${(took / 1000).toFixed(1)} s`);
		},
	);
}

fault("B12", "an fsync hangs for 5 s: what answered in time has succeeded", { needs: [strace] }, async (f) => {
	const prepared = await prepare();
	const dataDir = prepared.copyTo(join(prepared.folder.path, "hangs"));
	const daemon = await prepared.start(dataDir);
	const { client } = daemon;
	await client.call("functions.configure", {
		function: "ledger",
		overrides: { timeoutMs: 2000, retry: { maxAttempts: 1 } },
	});
	await assertServes(client);
	for (let run = 0; run < f.runs(1, 5); run += 1) {
		const ids: string[] = [];
		for (let index = 0; index < 4; index += 1) {
			const body = JSON.stringify({ ms: 700 + index * 200, echo: index });
			ids.push((await client.enqueue("ledger", { method: "POST", path: "/", body })).invocationId);
		}
		await waitFor("four that run", async () => Number((await client.call("stats.get", {}))["running"]) === 4);
		const faulty = await attachFault(daemon.pid, [{ calls: "fsync,fdatasync", inject: "delay_enter=5000000:when=1" }], {
			allThreads: true,
		});
		const from = performance.now();
		const { invocationId } = await client.enqueue("ledger", {
			method: "POST",
			path: "/",
			body: '{"echo":"meanwhile"}',
		});
		assert.ok(performance.now() - from > 4000, "the disk stood still");
		await faulty.end();
		for (const id of [...ids, invocationId]) {
			const end = await client.waitForResult(id, { timeoutMs: 15_000 });
			assert.equal(end.state, "succeeded", `${id}: ${JSON.stringify(end.error)}`);
			assert.equal(end.attempt, 1);
		}
	}
	await assertServes(client);
	assert.equal(await daemon.stop(), 0);
	assertWhole(dataDir, { drained: true });
});
