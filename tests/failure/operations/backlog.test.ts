import assert from "node:assert/strict";
import { join } from "node:path";
import { startDaemon } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { counts, deploy, drained, enqueueMany, residentMb } from "./rig.ts";

const RUNNING = 64;

fault("G1", "a large backlog outlives kill -9, boots in time and is served", async (f) => {
	using folder = tempFolder();
	const dataDir = join(folder.path, "data");
	const queued = f.runs(5_000, 1_000_000);
	const count = f.long ? 100 : 10;
	const lanes = Array.from({ length: count }, (_, index) => `lane-${index}`);
	await using first = await startDaemon(dataDir);
	for (const lane of lanes) {
		await deploy(first, "ledger", lane);
		await first.client.call("lanes.pause", { function: lane, paused: true });
	}
	await enqueueMany(first, lanes, queued);
	await deploy(first, "ledger", "running", { concurrency: RUNNING, timeoutMs: 600_000 });
	const running = await enqueueMany(first, ["running"], RUNNING, { ms: 600_000 });
	await waitFor("64 attempts to run", async () => (await counts(first)).running === RUNNING);
	const memory = residentMb(first.pid);
	await first.kill();

	const from = performance.now();
	await using daemon = await startDaemon(dataDir);
	const bootMs = Math.round(performance.now() - from);
	try {
		const after = await counts(daemon);
		assert.equal(after.queued + after.running, queued + RUNNING, "nothing acknowledged is gone");
		for (const id of running) await daemon.client.cancel(id);
		await daemon.client.call("lanes.pause", { function: "lane-0", paused: false });
		const mine = queued / count;
		await waitFor(
			"the served lane to be empty",
			async () => {
				const { lanes: found } = (await daemon.client.call("lanes.list", {})) as {
					lanes: { function_name: string; ready: number; running: number }[];
				};
				const lane = found.find((one) => one.function_name === "lane-0");
				return lane?.ready === 0 && lane.running === 0;
			},
			120_000,
		);
		assert.equal((await counts(daemon)).queued, queued - mine, "the other lanes kept theirs");
		f.record(`${queued.toLocaleString("en")} queued: daemon ${Math.round(memory)} MB, boot ${bootMs} ms`);
		// The bounds of the promise, only where the promise is about: in the small form they say nothing.
		if (f.long) {
			assert.ok(memory <= 300, `the daemon took ${memory} MB`);
			assert.ok(bootMs <= 3_000, `the boot took ${bootMs} ms`);
		}
	} finally {
		assert.equal(await daemon.stop(), 0);
	}
});

fault("G1", "the small twin: an unpaused backlog drains to the last", async (f) => {
	using folder = tempFolder();
	await using daemon = await startDaemon(join(folder.path, "data"));
	try {
		await deploy(daemon, "ledger", "ledger");
		const ids = await enqueueMany(daemon, ["ledger"], f.runs(1_000, 20_000));
		await drained(daemon, 120_000);
		for (const id of [ids[0], ids.at(-1)]) {
			assert.equal((await daemon.client.getResult(id ?? "")).state, "succeeded");
		}
	} finally {
		assert.equal(await daemon.stop(), 0);
	}
});
