/** A daemon whose HTTP port is taken says which and what to do. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { tempFolder } from "../support/temp-folder.ts";

const MAIN = join(import.meta.dirname, "../../src/main.ts");

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
