/** The command as a user types it: real processes, a real daemon, real Bun. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { startDaemon } from "../support/daemon.ts";
import { tempFolder } from "../support/temp-folder.ts";
import { waitFor } from "../support/wait-for.ts";

const MAIN = join(import.meta.dirname, "../../src/main.ts");
const EXAMPLES = join(import.meta.dirname, "../../examples/functions");

interface Running {
	readonly child: ChildProcess;
	readonly out: () => string;
	readonly err: () => string;
	readonly ended: Promise<number | null>;
}

function start(argv: readonly string[], cwd: string): Running {
	const child = spawn(process.execPath, [MAIN, ...argv], { cwd, stdio: ["ignore", "pipe", "pipe"] });
	let out = "";
	let err = "";
	child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
	child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
	const ended = new Promise<number | null>((resolve) => child.on("close", (code) => resolve(code)));
	return { child, out: () => out, err: () => err, ended };
}

async function run(argv: readonly string[], cwd: string): Promise<{ code: number | null; out: string; err: string }> {
	const running = start(argv, cwd);
	const code = await running.ended;
	return { code, out: running.out(), err: running.err() };
}

const handler = (answer: string): string => `export default () => new Response(${JSON.stringify(answer)});\n`;

test("dev: a save is live within a second, a broken save changes nothing, Ctrl-C ends it in order", async () => {
	using folder = tempFolder();
	const cwd = folder.path;
	const socket = ["--socket", join(cwd, "s.sock")];
	mkdirSync(join(cwd, "functions"));
	const path = join(cwd, "functions/hello.ts");
	writeFileSync(path, handler("one"));
	const dev = start(["dev", "--http-port", "0", ...socket], cwd);
	try {
		await waitFor("the first deployment", () => /hello v1 .*\/functions\/hello\n/.test(dev.out()));
		assert.equal((await run(["invoke", "hello", ...socket], cwd)).out, "one");

		const saved = performance.now();
		writeFileSync(path, handler("two"));
		await waitFor("the second deployment", () => dev.out().includes("hello v2"));
		assert.ok(performance.now() - saved < 1000, `${performance.now() - saved} ms`);
		assert.equal((await run(["invoke", "hello", ...socket], cwd)).out, "two");

		writeFileSync(path, "export default (\n");
		await waitFor("the build error", () => /BUILD_FAILED[\s\S]*v2 stays active/.test(dev.err()));
		assert.equal((await run(["invoke", "hello", ...socket], cwd)).out, "two");

		writeFileSync(path, `export default (req, ctx) => { console.log("seen"); return new Response("three"); };\n`);
		await waitFor("the third deployment", () => dev.out().includes("hello v3"));
		await run(["invoke", "hello", ...socket], cwd);
		await waitFor("its log line", () => /info {3}hello {2}inv_\w+ {2}seen\n/.test(dev.out()));
	} finally {
		dev.child.kill("SIGINT");
		assert.equal(await dev.ended, 0, dev.err());
	}
});

test("a command that waits gets the result through a kill -9 of the daemon", async () => {
	using folder = tempFolder();
	const cwd = folder.path;
	const dataDir = join(cwd, "data");
	const first = await startDaemon(dataDir);
	const socket = ["--socket", first.socketPath];
	assert.equal((await run(["deploy", join(EXAMPLES, "slow.ts"), ...socket], cwd)).code, 0);
	const waiting = start(["invoke", "slow", '{"seconds":2}', ...socket], cwd);
	await waitFor("the attempt", async () => {
		const listed = await first.client.call("invocations.list", { state: "running" });
		const [row] = listed["invocations"] as { source: string }[];
		return row?.source === "cli";
	});
	await first.kill();
	await waitFor("the word about it", () => waiting.err().includes("no daemon answers; waiting for it"));
	const second = await startDaemon(dataDir, { socketPath: first.socketPath });
	try {
		assert.equal(await waiting.ended, 0, waiting.err());
		assert.equal(waiting.out(), '{"steps":2}');
	} finally {
		assert.equal(await second.stop(), 0);
	}
});

test("serve: the first signal drains, the second ends it at once", async () => {
	using folder = tempFolder();
	const daemon = await startDaemon(join(folder.path, "data"));
	await run(["deploy", join(EXAMPLES, "slow.ts"), "--socket", daemon.socketPath], folder.path);
	const asked = await run(["invoke", "slow", '{"seconds":30}', "--async", "--socket", daemon.socketPath], folder.path);
	assert.match(asked.out, /^inv_/);
	await waitFor("the attempt", async () => {
		const listed = await daemon.client.call("invocations.list", { state: "running" });
		return (listed["invocations"] as unknown[]).length === 1;
	});
	daemon.client.close();
	daemon.process.kill("SIGTERM");
	await waitFor("the drain", () => daemon.lines.some((line) => line.includes('"stopping')));
	const from = performance.now();
	assert.equal(await daemon.stop(), 143);
	assert.ok(performance.now() - from < 2000);
});
