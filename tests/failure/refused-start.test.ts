/** A daemon that must not start says why, with the right exit code, and touches nothing. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import Database from "better-sqlite3";
import { startDaemon } from "../support/daemon.ts";
import { tempFolder } from "../support/temp-folder.ts";

const MAIN = join(import.meta.dirname, "../../src/main.ts");

function serve(dataDir: string, socket = `${dataDir}.sock`): { status: number | null; stderr: string } {
	const args = [MAIN, "serve", "--data-dir", dataDir, "--socket", socket, "--http-port", "0"];
	const { status, stderr } = spawnSync(process.execPath, args, { encoding: "utf8", timeout: 20_000 });
	return { status, stderr };
}

/** A data folder that a daemon has used and closed. */
async function usedFolder(path: string): Promise<string> {
	const dataDir = join(path, "data");
	const daemon = await startDaemon(dataDir);
	await daemon.client.call("functions.register", { name: "known" });
	assert.equal(await daemon.stop(), 0);
	return dataDir;
}

test("an HTTP port in use is named, with what to do", async () => {
	using folder = tempFolder();
	const server = createServer();
	await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
	const { port } = server.address() as { port: number };
	const args = [
		MAIN,
		"serve",
		"--data-dir",
		join(folder.path, "data"),
		"--socket",
		join(folder.path, "s.sock"),
		"--http-port",
		String(port),
	];
	const { status, stderr } = spawnSync(process.execPath, args, { encoding: "utf8", timeout: 20_000 });
	server.close();
	assert.equal(status, 78, stderr);
	assert.match(stderr, new RegExp(String(port)));
});

const DAMAGE: readonly [what: string, code: string, damage: (dataDir: string) => void][] = [
	[
		"a newer schema",
		"DATA_NEWER",
		(dataDir) => void new Database(join(dataDir, "queue.db")).pragma("user_version = 99"),
	],
	["an empty database", "DATA_MISSING", (dataDir) => truncateSync(join(dataDir, "queue.db"), 0)],
	["a deleted database", "DATA_MISSING", (dataDir) => rmSync(join(dataDir, "metadata.db"))],
	[
		"somebody else's database",
		"DATA_FOREIGN",
		(dataDir) => {
			rmSync(join(dataDir, "queue.db"));
			new Database(join(dataDir, "queue.db")).exec("CREATE TABLE theirs (x)").close();
		},
	],
	[
		"a file that is no database",
		"DATA_CORRUPT",
		(dataDir) => writeFileSync(join(dataDir, "queue.db"), "x".repeat(8192)),
	],
];

for (const [what, code, damage] of DAMAGE) {
	test(`${what} is refused with exit 65 and ${code}, never replaced by an empty one`, async () => {
		using folder = tempFolder();
		const dataDir = await usedFolder(folder.path);
		damage(dataDir);
		const { status, stderr } = serve(dataDir);
		assert.equal(status, 65, stderr);
		assert.match(stderr, new RegExp(code));
	});
}

test("a database of another instance is refused with exit 65", async () => {
	using one = tempFolder();
	using two = tempFolder();
	const dataDir = await usedFolder(one.path);
	const other = await usedFolder(two.path);
	for (const suffix of ["", "-wal", "-shm"]) rmSync(join(dataDir, `queue.db${suffix}`), { force: true });
	copyFileSync(join(other, "queue.db"), join(dataDir, "queue.db"));
	const { status, stderr } = serve(dataDir);
	assert.equal(status, 65, stderr);
	assert.match(stderr, /DATA_FOREIGN/);
});
