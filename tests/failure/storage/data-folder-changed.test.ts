/**
 * What others do to the data folder of a running daemon: take it away, fill its disk, hold its databases. The first ends
 * the daemon; the others pass, and nothing is lost.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import BetterSqlite3 from "better-sqlite3";
import { startDaemon, type Daemon, type DaemonOptions } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { tmpfs } from "../needs.ts";

const LEDGER = join(import.meta.dirname, "../../functions/ledger.ts");
const MiB = 1024 * 1024;

/** With the function `ledger`, which answers after `ms`; ends with its test. */
async function withLedger(t: TestContext, dataDir: string, options: DaemonOptions = {}): Promise<Daemon> {
	const daemon = await startDaemon(dataDir, options);
	t.after(() => daemon.kill());
	const { client } = daemon;
	await client.call("functions.deploy", { function: "ledger", path: LEDGER, build: true, register: true });
	return daemon;
}

const enqueue = async ({ client }: Daemon, body: string = "{}"): Promise<string> =>
	(await client.enqueue("ledger", { method: "POST", path: "/", body })).invocationId;

const pause = async ({ client }: Daemon, paused: boolean): Promise<void> =>
	void (await client.call("lanes.pause", { function: "ledger", paused }));

const stats = ({ client }: Daemon): Promise<Record<string, unknown>> => client.call("stats.get", {});

const codeOf = (error: unknown): unknown => (error as { code?: unknown }).code;

async function refusal(asked: Promise<unknown>): Promise<unknown> {
	try {
		await asked;
	} catch (error) {
		return codeOf(error);
	}
	return "nothing was refused";
}

const AWAY: readonly (readonly [what: string, names: RegExp, take: (dataDir: string) => void])[] = [
	["that is renamed", /data is gone/, (dataDir) => renameSync(dataDir, `${dataDir}-elsewhere`)],
	["that is deleted", /is gone/, (dataDir) => rmSync(dataDir, { recursive: true })],
	[
		"that is replaced by a copy of itself",
		/data is another file/,
		(dataDir) => {
			renameSync(dataDir, `${dataDir}-elsewhere`);
			cpSync(`${dataDir}-elsewhere`, dataDir, { recursive: true });
		},
	],
	[
		"whose queue.db is replaced",
		/queue\.db is another file/,
		(dataDir) => {
			cpSync(join(dataDir, "queue.db"), join(dataDir, "copy.db"));
			renameSync(join(dataDir, "copy.db"), join(dataDir, "queue.db"));
		},
	],
	["whose WAL is deleted", /queue\.db-wal is gone/, (dataDir) => rmSync(join(dataDir, "queue.db-wal"))],
];

for (const [index, [what, names, take]] of AWAY.entries()) {
	fault(
		"B15",
		`a data folder ${what} ends the daemon within 5 s with exit 74 and a clear message`,
		// The first and the last take different ways; the rest only in the long form.
		{ longOnly: index > 0 && index < AWAY.length - 1 },
		async ({ context: t }) => {
			using folder = tempFolder();
			const dataDir = join(folder.path, "data");
			const daemon = await withLedger(t, dataDir);
			const gone = once(daemon.process, "exit");
			const from = performance.now();
			take(dataDir);
			assert.deepEqual(await gone, [74, null], daemon.lines.join("\n"));
			assert.ok(performance.now() - from < 5_000, "within 5 s");
			const told = daemon.lines.find((line) => line.includes("the data folder was deleted, moved or replaced"));
			assert.match(told ?? daemon.lines.join("\n"), names);
		},
	);
}

fault(
	"B15",
	"a daemon whose folder was taken away writes nothing into the one at its place",
	async ({ context: t }) => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		const daemon = await withLedger(t, dataDir);
		await pause(daemon, true);
		const before = await enqueue(daemon);
		await waitFor("the mark", () => statSync(join(dataDir, "high-water.json"), { throwIfNoEntry: false }));
		const gone = once(daemon.process, "exit");
		renameSync(dataDir, `${dataDir}-elsewhere`);
		mkdirSync(dataDir);
		await gone;
		assert.equal(statSync(join(dataDir, "high-water.json"), { throwIfNoEntry: false }), undefined);
		rmSync(dataDir, { recursive: true });
		renameSync(`${dataDir}-elsewhere`, dataDir);
		const next = await withLedger(t, dataDir);
		assert.equal((await next.client.call("invocations.get", { invocation_id: before }))["state"], "queued");
		assert.equal(await next.stop(), 0);
	},
);

fault(
	"B7",
	"a disk that is nearly full: new work is refused with STORAGE_FULL, running work is recorded, and it passes",
	{ needs: [tmpfs] },
	async ({ context: t }) => {
		using folder = tempFolder();
		const disk = join(folder.path, "disk");
		mkdirSync(disk);
		assert.equal(spawnSync("mount", ["-t", "tmpfs", "-o", "size=64m", "tmpfs", disk]).status, 0);
		using mounted = { [Symbol.dispose]: () => void spawnSync("umount", ["-l", disk]) };
		void mounted;
		const daemon = await withLedger(t, join(disk, "data"), {
			socketPath: join(folder.path, "s.sock"),
			env: { BUNBASE_FREE_BYTES_MIN: String(16 * MiB) },
		});
		const running = await enqueue(daemon, JSON.stringify({ echo: "kept", ms: 4_000 }));
		await waitFor("a running attempt", async () => (await stats(daemon))["running"] === 1);
		// 64 MiB less databases, ballast and this leaves under 16, and several MiB at least.
		writeFileSync(join(disk, "theirs"), Buffer.alloc(40 * MiB, 1));
		await waitFor("the low disk to be seen", async () => (await stats(daemon))["storage_low"] === true);
		assert.equal(await refusal(enqueue(daemon)), "STORAGE_FULL");
		const answer = await fetch(`${daemon.httpUrl}/functions/ledger`, { method: "POST", body: "{}" });
		assert.equal(answer.status, 503);
		assert.ok(Number(answer.headers.get("retry-after")) > 0);
		await answer.text();
		assert.equal((await daemon.client.waitForResult(running, { timeoutMs: 20_000 })).state, "succeeded");
		rmSync(join(disk, "theirs"));
		await waitFor("the end of the low disk", async () => (await stats(daemon))["storage_low"] === false);
		assert.equal((await daemon.client.waitForResult(await enqueue(daemon), { timeoutMs: 20_000 })).state, "succeeded");
		assert.equal(daemon.lines.filter((line) => line.includes("nearly full")).length, 1, "told once");
		assert.equal(await daemon.stop(), 0);
	},
);

fault(
	"B20",
	"a reader of another program that stays lets the WAL grow: told once, served on, and short again after it",
	async ({ context: t }) => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		const daemon = await withLedger(t, dataDir);
		await pause(daemon, true);
		await enqueue(daemon);
		const reader = new BetterSqlite3(join(dataDir, "queue.db"), { readonly: true });
		t.after(() => reader.close());
		reader.exec("BEGIN");
		reader.prepare("SELECT COUNT(*) FROM invocation").get();
		const body = JSON.stringify("x".repeat(4 * MiB));
		const wal = join(dataDir, "queue.db-wal");
		let slowest = 0;
		while (statSync(wal).size <= 72 * MiB) {
			const from = performance.now();
			await enqueue(daemon, body);
			slowest = Math.max(slowest, performance.now() - from);
		}
		assert.ok(slowest < 2_000, `no call waits for the reader; the slowest took ${slowest} ms`);
		const grown = await waitFor("the alarm", () => daemon.lines.filter((line) => line.includes("queue.db-wal grows")));
		await waitFor("the gauge", async () => Number((await stats(daemon))["wal_bytes"]) > 64 * MiB);
		await enqueue(daemon, body);
		assert.ok(grown.length <= 1);
		reader.exec("COMMIT");
		await waitFor("a short WAL", async () => {
			await enqueue(daemon);
			return Number((await stats(daemon))["wal_bytes"]) <= 64 * MiB;
		});
		assert.equal(daemon.lines.filter((line) => line.includes("queue.db-wal grows")).length, 1, "told once");
		assert.equal(await daemon.stop(), 0);
	},
);

fault(
	"B21",
	"a write lock of another program: 1 s is waited for; one that stays refuses new work with 503, and what runs is recorded",
	async ({ context: t }) => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		const daemon = await withLedger(t, dataDir);
		const running = await enqueue(daemon, JSON.stringify({ ms: 500 }));
		const shell = new BetterSqlite3(join(dataDir, "queue.db"), { timeout: 5_000 });
		t.after(() => shell.close());

		shell.exec("BEGIN IMMEDIATE");
		const waiting = enqueue(daemon);
		const asked = performance.now();
		// The loop serves what needs no write while the lock is held.
		for (let look = 0; look < 20; look += 1) await stats(daemon);
		assert.ok(performance.now() - asked < 1_000, "reads go on");
		await waitFor("a second", () => performance.now() - asked > 1_000);
		shell.exec("COMMIT");
		assert.match(await waiting, /^inv_/);
		assert.equal((await daemon.client.waitForResult(running, { timeoutMs: 20_000 })).state, "succeeded");

		const second = await enqueue(daemon, JSON.stringify({ ms: 300 }));
		await waitFor("a running attempt", async () => Number((await stats(daemon))["running"]) > 0);
		shell.exec("BEGIN IMMEDIATE");
		const from = performance.now();
		assert.equal(await refusal(enqueue(daemon)), "STORE_BUSY");
		const took = performance.now() - from;
		assert.ok(took > 1_500 && took < 10_000, `the wait is bounded; it took ${took} ms`);
		const answer = await fetch(`${daemon.httpUrl}/functions/ledger`, { method: "POST", body: "{}" });
		assert.equal(answer.status, 503);
		assert.ok(Number(answer.headers.get("retry-after")) > 0);
		await answer.text();
		shell.exec("COMMIT");
		assert.equal((await daemon.client.waitForResult(second, { timeoutMs: 20_000 })).state, "succeeded");
		assert.equal((await daemon.client.waitForResult(await enqueue(daemon), { timeoutMs: 20_000 })).state, "succeeded");
		assert.equal(await daemon.stop(), 0);
	},
);
