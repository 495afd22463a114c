import assert from "node:assert/strict";
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { startDaemon } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { deploy } from "./rig.ts";

const MiB = 1024 * 1024;

/** Bytes of a file, or of all files under a folder; 0 where it went meanwhile. */
function bytesOf(path: string): number {
	if (!existsSync(path)) return 0;
	const stat = statSync(path, { throwIfNoEntry: false });
	if (stat === undefined) return 0;
	if (!stat.isDirectory()) return stat.size;
	return readdirSync(path).reduce((sum, name) => sum + bytesOf(join(path, name)), 0);
}

fault("G8", "with retention on, disk use comes to rest while work goes on", { timeout: 900_000 }, async (f) => {
	using folder = tempFolder();
	const dataDir = join(folder.path, "data");
	await using daemon = await startDaemon(dataDir, {
		env: { BUNBASE_RESULT_RETENTION: "1s", BUNBASE_LOG_RETENTION: "1s" },
	});
	await deploy(daemon, "chatter", "chatter", { maxBodyBytes: MiB });
	// Rounds of maintenance come every 10 s: what one round of calls left must be gone, or in use again, after it.
	const rounds = f.runs(2, 8);
	const perRound = f.long ? 400 : 50;
	const queueDb: number[] = [];
	for (let round = 0; round < rounds; round += 1) {
		const ids: string[] = [];
		for (let call = 0; call < perRound; call += 1) {
			const { invocationId } = await daemon.client.enqueue("chatter", {
				method: "POST",
				path: "/big",
				query: { bytes: "200000" },
				body: Buffer.alloc(100_000, "z"),
			});
			ids.push(invocationId);
		}
		const last = ids.at(-1) ?? "";
		await daemon.client.waitForResult(last, { timeoutMs: 60_000 });
		await deploy(daemon, "chatter", "chatter");
		await waitFor(
			"the round's records to be pruned",
			async () => {
				try {
					await daemon.client.getResult(last);
					return false;
				} catch {
					return true;
				}
			},
			40_000,
		);
		queueDb.push(bytesOf(join(dataDir, "queue.db")));
	}
	const wal = bytesOf(join(dataDir, "queue.db-wal"));
	f.record(
		`${rounds} rounds of ${perRound} calls of 300 kB: queue.db ${queueDb.map((bytes) => (bytes / MiB).toFixed(0)).join(", ")} MiB, WAL ${(wal / MiB).toFixed(0)} MiB, logs ${(bytesOf(join(dataDir, "logs")) / MiB).toFixed(1)} MiB`,
	);
	const [first = 0, last = 0] = [queueDb[0], queueDb.at(-1)];
	assert.ok(last <= first * 1.5 + 4 * MiB, `queue.db grew from ${first} to ${last} bytes`);
	assert.ok(wal <= 64 * MiB, `the WAL is ${wal} bytes`);
	assert.equal(await daemon.stop(), 0);
});
