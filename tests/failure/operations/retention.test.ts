import assert from "node:assert/strict";
import { join } from "node:path";
import Database from "better-sqlite3";
import { startDaemon } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { deploy, enqueueMany } from "./rig.ts";

fault("G3", "retention removes a large past while calls go on, and nothing else", async (f) => {
	using folder = tempFolder();
	const dataDir = join(folder.path, "data");
	const past = f.runs(2_000, 200_000);
	await using first = await startDaemon(dataDir);
	await deploy(first, "ledger", "ledger");
	await first.client.call("lanes.pause", { function: "ledger", paused: true });
	await enqueueMany(first, ["ledger"], past);
	await first.stop();
	// A year ago, all of it came to an end: what a folder looks like whose daemon was away for long.
	const db = new Database(join(dataDir, "queue.db"));
	const yearAgo = Date.now() - 365 * 86_400_000;
	const { changes } = db
		.prepare(
			"UPDATE invocation SET state = 6, ready = 0, created_at = $at, run_at = $at, finished_at = $at WHERE state = 0",
		)
		.run({ at: yearAgo });
	assert.equal(changes, past);
	db.close();

	await using daemon = await startDaemon(dataDir);
	try {
		await daemon.client.call("lanes.pause", { function: "ledger", paused: false });
		const { invocationId: young } = await daemon.client.enqueue("ledger", { body: "{}" });
		const tookMs: number[] = [];
		const reader = new Database(join(dataDir, "queue.db"), { readonly: true });
		const left = reader.prepare("SELECT count(*) FROM invocation WHERE created_at < ?").pluck();
		try {
			await waitFor(
				"the past to be gone",
				async () => {
					const from = performance.now();
					await daemon.client.invoke("ledger", { method: "POST", body: "{}" });
					tookMs.push(performance.now() - from);
					return left.get(yearAgo + 1) === 0;
				},
				f.long ? 600_000 : 60_000,
			);
		} finally {
			reader.close();
		}
		assert.equal((await daemon.client.waitForResult(young)).state, "succeeded", "what is young stays");
		const sorted = tookMs.toSorted((a, b) => a - b);
		f.record(
			`${past.toLocaleString("en")} removed beside ${tookMs.length} calls, p99 ${(sorted[Math.floor(sorted.length * 0.99)] ?? 0).toFixed(1)} ms`,
		);
	} finally {
		assert.equal(await daemon.stop(), 0);
	}
	const after = new Database(join(dataDir, "queue.db"), { readonly: true });
	try {
		assert.equal(after.pragma("integrity_check", { simple: true }), "ok");
		assert.equal(
			after.prepare("SELECT count(*) FROM body WHERE id / 2 NOT IN (SELECT seq FROM invocation)").pluck().get(),
			0,
			"no body without its invocation",
		);
	} finally {
		after.close();
	}
});
