/**
 * Data that is not what it should be: the daemon does not start, says which file and why, and changes nothing. It never
 * begins anew in the place of what was there.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { tempFolder } from "../../support/temp-folder.ts";
import { fault } from "../fault.ts";
import { prepare } from "./work.ts";

const MAIN = join(import.meta.dirname, "../../../src/main.ts");

function serve(dataDir: string): { status: number | null; stderr: string } {
	const args = [MAIN, "serve", "--data-dir", dataDir, "--socket", `${dataDir}.sock`, "--http-port", "0"];
	const { status, stderr } = spawnSync(process.execPath, args, { encoding: "utf8", timeout: 20_000 });
	return { status, stderr };
}

/** Of what must not change; locks and shared memory are made anew by every opener. */
function fingerprint(dataDir: string): string {
	const digest = createHash("sha256");
	for (const name of readdirSync(dataDir).toSorted()) {
		if (!/\.db$|\.db-wal$|^instance\.json$/.test(name) || statSync(join(dataDir, name)).size === 0) continue;
		digest.update(name).update(readFileSync(join(dataDir, name)));
	}
	return digest.digest("hex");
}

const DAMAGE: readonly [id: string, what: string, code: string, damage: (dataDir: string) => void][] = [
	["B19", "a newer schema", "DATA_NEWER", (dataDir) => closed(dataDir, (db) => db.pragma("user_version = 99"))],
	["B16", "an empty database", "DATA_MISSING", (dataDir) => truncateSync(join(dataDir, "queue.db"), 0)],
	["B16", "an empty metadata.db", "DATA_MISSING", (dataDir) => truncateSync(join(dataDir, "metadata.db"), 0)],
	["B16", "a deleted database", "DATA_MISSING", (dataDir) => rmSync(join(dataDir, "metadata.db"))],
	[
		"B19",
		"somebody else's database",
		"DATA_FOREIGN",
		(dataDir) => {
			rmSync(join(dataDir, "queue.db"));
			closed(dataDir, (db) => db.exec("CREATE TABLE theirs (x)"));
		},
	],
	[
		"B19",
		"another application_id",
		"DATA_FOREIGN",
		(dataDir) => closed(dataDir, (db) => db.pragma("application_id = 7")),
	],
	[
		"B16",
		"a file that is no database",
		"DATA_CORRUPT",
		(dataDir) => writeFileSync(join(dataDir, "queue.db"), "x".repeat(8192)),
	],
	["B16", "instance.json cut", "DATA_CORRUPT", (dataDir) => truncateSync(join(dataDir, "instance.json"), 20)],
	["B16", "no instance.json", "DATA_FOREIGN", (dataDir) => rmSync(join(dataDir, "instance.json"))],
];

function closed(dataDir: string, act: (db: Database.Database) => unknown): void {
	const db = new Database(join(dataDir, "queue.db"));
	act(db);
	db.close();
}

for (const [id, what, code, damage] of DAMAGE) {
	fault(id, `${what} is refused with exit 65 and ${code}, never replaced by an empty one`, async () => {
		const prepared = await prepare();
		using folder = tempFolder();
		const dataDir = prepared.copyTo(join(folder.path, "data"), { ballast: false });
		damage(dataDir);
		const before = fingerprint(dataDir);
		const { status, stderr } = serve(dataDir);
		assert.equal(status, 65, stderr);
		assert.match(stderr, new RegExp(code));
		assert.equal(fingerprint(dataDir), before, "a refusal changes nothing");
	});
}

fault("B19", "a database of another instance is refused with exit 65", async () => {
	const prepared = await prepare();
	using folder = tempFolder();
	const other = join(folder.path, "other");
	const daemon = await prepared.start(other);
	await daemon.client.call("functions.register", { name: "known" });
	assert.equal(await daemon.stop(), 0);
	const dataDir = prepared.copyTo(join(folder.path, "data"), { ballast: false });
	copyFileSync(join(other, "queue.db"), join(dataDir, "queue.db"));
	const { status, stderr } = serve(dataDir);
	assert.equal(status, 65, stderr);
	assert.match(stderr, /DATA_FOREIGN/);
});
