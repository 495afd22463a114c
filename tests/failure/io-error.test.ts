/** The disk answers with an I/O error: the daemon stops at once with exit 74, and what was acknowledged before is kept. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { createClient } from "../../src/sources/client.ts";
import { startDaemon } from "../support/daemon.ts";
import { tempFolder } from "../support/temp-folder.ts";

const MAIN = join(import.meta.dirname, "../../src/main.ts");
const traced = spawnSync("strace", ["-f", "-o", "/dev/null", "true"]);
const skip = traced.status === 0 ? false : "strace is not installed, or may not trace here";

test("an fsync that fails stops the daemon with exit 74, and nothing acknowledged is lost", { skip }, async () => {
	using folder = tempFolder();
	const dataDir = join(folder.path, "data");
	const socketPath = join(folder.path, "s.sock");
	const before = await startDaemon(dataDir, { socketPath });
	const path = join(import.meta.dirname, "../functions/ledger.ts");
	await before.client.call("functions.deploy", { function: "ledger", path, build: true, register: true });
	assert.equal(await before.stop(), 0);

	// Opening takes fewer than 40; every one from the 40th on fails.
	const inject = [
		"-f",
		"-o",
		"/dev/null",
		"-e",
		"trace=fsync,fdatasync",
		"-e",
		"inject=fsync,fdatasync:error=EIO:when=40+",
	];
	const serve = [MAIN, "serve", "--data-dir", dataDir, "--socket", socketPath, "--http-port", "0"];
	const child = spawn("strace", [...inject, process.execPath, ...serve], { stdio: ["ignore", "ignore", "pipe"] });
	const gone = once(child, "exit");
	const lines: string[] = [];
	await new Promise<void>((resolve, reject) => {
		createInterface({ input: child.stderr }).on("line", (line) => {
			lines.push(line);
			if (line.includes('"msg":"ready"')) resolve();
		});
		child.once("exit", () => reject(new Error(`it did not start:\n${lines.join("\n")}`)));
	});
	const client = createClient(socketPath, { automaticKeys: false });
	const acknowledged: string[] = [];
	await assert.rejects(async () => {
		for (;;)
			acknowledged.push((await client.enqueue("ledger", { method: "POST", path: "/", body: "{}" })).invocationId);
	});
	client.close();
	assert.deepEqual(await gone, [74, null], lines.join("\n"));
	assert.ok(lines.some((line) => line.includes('"IO_ERROR"')));

	const after = await startDaemon(dataDir, { socketPath });
	for (const id of acknowledged) {
		assert.equal((await after.client.waitForResult(id, { timeoutMs: 20_000 })).state, "succeeded");
	}
	assert.ok(acknowledged.length > 0);
	assert.equal(await after.stop(), 0);
});
