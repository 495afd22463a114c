/**
 * A database that is too large to be read through before serving is read through while serving, after a stop that was not
 * clean. What it finds ends the daemon, and the next start looks first.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { startDaemon, type Daemon } from "../../support/daemon.ts";
import { isGone } from "../../support/processes.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";

const MAIN = join(import.meta.dirname, "../../../src/main.ts");
const LEDGER = join(import.meta.dirname, "../../functions/ledger.ts");
const MiB = 1024 * 1024;
const PAGE = 4096;

async function start(t: TestContext, dataDir: string): Promise<Daemon> {
	const daemon = await startDaemon(dataDir);
	t.after(() => daemon.kill());
	return daemon;
}

/** A queue.db of over 64 MiB, all of it in the file itself, and a daemon on it that was killed. */
async function killedOnLarge(t: TestContext, dataDir: string): Promise<void> {
	const first = await start(t, dataDir);
	await first.client.call("functions.deploy", { function: "ledger", path: LEDGER, build: true, register: true });
	await first.client.call("lanes.pause", { function: "ledger", paused: true });
	const body = JSON.stringify("x".repeat(4 * MiB));
	for (let each = 0; each < 18; each += 1) await first.client.enqueue("ledger", { method: "POST", path: "/", body });
	assert.equal(await first.stop(), 0);
	assert.ok(statSync(join(dataDir, "queue.db")).size > 64 * MiB);
	await (await start(t, dataDir)).kill();
}

/** Pages in the middle of the file: of a body's chain of pages, which no ordinary start reads. */
function damage(dataDir: string): void {
	const path = join(dataDir, "queue.db");
	const fd = openSync(path, "r+");
	const middle = Math.floor(statSync(path).size / PAGE / 2) * PAGE;
	writeSync(fd, Buffer.alloc(4 * PAGE, 0xff), 0, 4 * PAGE, middle);
	closeSync(fd);
}

const told = (daemon: Daemon, text: string): boolean => daemon.lines.some((line) => line.includes(text));

fault(
	"B16",
	"damage in a large queue.db after a kill: it serves, finds it, ends with 65, and the next start refuses at once",
	async ({ context: t }) => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		await killedOnLarge(t, dataDir);
		damage(dataDir);
		const daemon = await start(t, dataDir);
		const gone = daemon.process.exitCode === null ? once(daemon.process, "exit") : [daemon.process.exitCode, null];
		assert.deepEqual(await gone, [65, null], daemon.lines.join("\n"));
		assert.ok(told(daemon, "DATA_CORRUPT") && told(daemon, "queue.db is damaged"), daemon.lines.join("\n"));

		const args = [MAIN, "serve", "--data-dir", dataDir, "--socket", `${dataDir}.sock`, "--http-port", "0"];
		const next = spawnSync(process.execPath, args, { encoding: "utf8", timeout: 30_000 });
		assert.equal(next.status, 65, next.stderr);
		assert.match(next.stderr, /DATA_CORRUPT/);
		assert.ok(!next.stderr.includes('"msg":"ready"'), "it did not serve again");
	},
);

fault(
	"B16",
	"a whole one passes while it serves, counts as clean after its stop, and is not read again",
	{ longOnly: true },
	async ({ context: t }) => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		await killedOnLarge(t, dataDir);
		const daemon = await start(t, dataDir);
		await waitFor("the check", () => told(daemon, "the databases are whole"), 60_000);
		assert.equal(await daemon.stop(), 0);
		const next = await start(t, dataDir);
		assert.equal(told(next, "are checked while serving"), false);
		assert.equal(await next.stop(), 0);
	},
);

fault(
	"B16",
	"a daemon that is killed, or stopped, during the check leaves no process, and the next start checks again",
	{ longOnly: true },
	async ({ context: t }) => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		await killedOnLarge(t, dataDir);
		const checks = (): string[] =>
			spawnSync("pgrep", ["-f", `check-program.*${dataDir}`], { encoding: "utf8" })
				.stdout.split("\n")
				.filter(Boolean);
		for (const how of ["kill", "stop"] as const) {
			const daemon = await start(t, dataDir);
			const [pid] = await waitFor("the check", () => (checks().length > 0 ? checks() : undefined));
			// It stands still, as on a slow disk, so that it is not over before the daemon is.
			process.kill(Number(pid), "SIGSTOP");
			await daemon[how]();
			spawnSync("kill", ["-CONT", String(pid)]);
			await waitFor("the end of the check", () => isGone(Number(pid)), 2_000);
		}
		const next = await start(t, dataDir);
		assert.ok(told(next, "are checked while serving"), "it is still owed");
		assert.equal(await next.stop(), 0);
	},
);
