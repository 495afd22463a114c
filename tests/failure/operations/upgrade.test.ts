/**
 * A data folder of each release, made by that release and taken by kill -9 while it held work of every kind. golden/ has
 * one archive per release; add one when a release is made: the folder without ballast, lock, shm and tmp.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { globSync, mkdirSync } from "node:fs";
import { basename, join } from "node:path";
import Database from "better-sqlite3";
import { startDaemon } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { fault } from "../fault.ts";
import { program } from "../needs.ts";
import { drained } from "./rig.ts";

/** What the golden folders hold, by the echo in their bodies. Seven were to succeed; one had been cancelled. */
const WORK = {
	done: "inv_01k85l06d600000000001",
	large: "inv_01k85l06d900000000002",
	running1: "inv_01k85l06e800000000003",
	running2: "inv_01k85l06e900000000004",
	queued: "inv_01k85l06eb00000000005",
	keyed: "inv_01k85l06ec00000000006",
	delayed: "inv_01k85l06ed00000000007",
} as const;
const CANCELLED = "inv_01k85l06ee00000000008";

function unpack(archive: string, into: string): string {
	const dataDir = join(into, "data");
	mkdirSync(dataDir, { mode: 0o700 });
	execFileSync("tar", ["-xzf", archive, "-C", dataDir]);
	return dataDir;
}

for (const archive of globSync(join(import.meta.dirname, "golden/*.tar.gz")).toSorted()) {
	const release = basename(archive, ".tar.gz");
	fault(
		"G6",
		`a folder of ${release} with work of every kind is taken over whole`,
		{ needs: [program("tar")] },
		async (f) => {
			using folder = tempFolder();
			const dataDir = unpack(archive, folder.path);
			await using daemon = await startDaemon(dataDir, {
				// The records of the golden folder are as old as the release.
				env: { BUNBASE_RESULT_RETENTION: "3650d" },
			});
			await drained(daemon);
			for (const [name, id] of Object.entries(WORK)) {
				const end = await daemon.client.waitForResult(id);
				assert.equal(end.state, "succeeded", name);
				assert.ok(end.response !== undefined, name);
				const { echo } = end.response.json() as { echo: string };
				assert.equal(echo, name === "large" ? "x".repeat(10_000) : name);
			}
			assert.equal((await daemon.client.getResult(CANCELLED)).state, "cancelled");
			const versions = (await daemon.client.call("functions.versions", { function: "ledger" })) as {
				versions: unknown[];
			};
			assert.equal(versions.versions.length, 2);
			const next = await daemon.client.enqueue("ledger", { method: "POST", body: "{}" });
			assert.ok(next.invocationId > CANCELLED, "numbers go on after the last");
			assert.equal((await daemon.client.waitForResult(next.invocationId)).state, "succeeded");
			f.record(`from ${release}: ${Object.keys(WORK).length + 1} records kept`);
			assert.equal(await daemon.stop(), 0);
		},
	);
}

fault("G6", "a downgrade is refused, and changes nothing", async () => {
	for (const file of ["queue.db", "metadata.db"]) {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		await using made = await startDaemon(dataDir);
		assert.equal(await made.stop(), 0);
		const db = new Database(join(dataDir, file));
		db.pragma("user_version = 999");
		db.close();
		await assert.rejects(startDaemon(dataDir), (error: Error) => {
			assert.match(error.message, /exited with 65/);
			assert.match(error.message, new RegExp(file.replace(".", "\\.")));
			assert.match(error.message, /newer/);
			return true;
		});
		const after = new Database(join(dataDir, file), { readonly: true });
		assert.equal(after.pragma("user_version", { simple: true }), 999);
		after.close();
	}
});
