/**
 * No inodes, no descriptors, no quota: what is scarce costs logs and new deploys, never work; where the disk gives an
 * error that SQLite cannot tell from a broken one, the daemon ends as it does for that.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ClientError, type Client } from "../../../src/sources/client.ts";
import type { Daemon } from "../../support/daemon.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { loopExt4, program, strace } from "../needs.ts";
import { loopDisk } from "./disks.ts";
import { assertWhole } from "./fsck.ts";
import { attachFault } from "./syscall-faults.ts";
import { assertAllThere, assertServes, drained, exitOf, prepare, work } from "./work.ts";

const CHATTY = `export default async (req) => {
	const text = await req.text();
	console.log("said", text);
	return new Response(text);
};
`;

async function deployChatty(client: Client, folder: string): Promise<void> {
	const path = join(folder, "chatty.js");
	writeFileSync(path, CHATTY);
	await client.call("functions.deploy", { function: "chatty", path, register: true });
}

/** It answers, and its line is in the log of the database, whatever became of the files. */
async function assertSays(client: Client, text: string): Promise<void> {
	const answer = await client.invoke("chatty", { method: "POST", path: "/", body: text });
	assert.equal(Buffer.from(answer.body).toString(), text);
	await waitFor("its line", async () => {
		const { logs } = await client.logs({ function: "chatty", limit: 1000 });
		return logs.some(({ message }) => message.includes(text));
	});
}

const toldOfFiles = (daemon: Daemon): boolean =>
	daemon.lines.some((line) => line.includes("log lines are missing in the JSONL files"));

fault(
	"B24",
	"no inode left: lines are missing in the files and told so, work goes on",
	{ needs: [loopExt4] },
	async (f) => {
		const prepared = await prepare();
		using disk = loopDisk({ inodes: 256 });
		const dataDir = prepared.copyTo(join(disk.path, "data"));
		const daemon = await prepared.start(dataDir);
		const { client } = daemon;
		await deployChatty(client, prepared.folder.path);
		await assertServes(client);
		const files: string[] = [];
		for (;;) {
			const path = join(disk.path, `taken-${files.length}`);
			try {
				writeFileSync(path, "");
			} catch {
				break;
			}
			files.push(path);
		}
		await assertSays(client, "without an inode");
		await waitFor("it to be told", () => toldOfFiles(daemon));
		const { accepted, refused } = await work(daemon, { seed: f.seed, atMost: 100 }).done;
		assert.deepEqual([...refused], []);
		await assertAllThere(client, accepted);
		const path = join(prepared.folder.path, "other.js");
		writeFileSync(path, "export default () => new Response('other')");
		await assert.rejects(client.call("functions.deploy", { function: "chatty", path }), { code: "STORAGE_FULL" });
		for (const file of files) rmSync(file);
		await assertSays(client, "with inodes again");
		await client.call("functions.deploy", { function: "chatty", path });
		assert.equal(await daemon.stop(), 0);
		assertWhole(dataDir, { drained: true });
		const [file = ""] = readdirSync(join(dataDir, "logs"));
		assert.match(readFileSync(join(dataDir, "logs", file), "utf8"), /with inodes again/);
	},
);

fault(
	"B24",
	"no descriptor left: log files and new callers wait, work of the others goes on",
	{ needs: [program("prlimit")] },
	async (f) => {
		const prepared = await prepare();
		const dataDir = prepared.copyTo(join(prepared.folder.path, "descriptors"));
		const daemon = await prepared.start(dataDir);
		const { client } = daemon;
		await deployChatty(client, prepared.folder.path);
		await assertServes(client);
		// The lowest free one is the one that would be given out next.
		const inUse = new Set(readdirSync(`/proc/${daemon.pid}/fd`).map(Number));
		let free = 0;
		while (inUse.has(free)) free += 1;
		const limit = (count: number): Buffer =>
			execFileSync("prlimit", ["--pid", String(daemon.pid), `--nofile=${count}:`]);
		const usual = Number(/open files\s+(\d+)/.exec(readFileSync(`/proc/${daemon.pid}/limits`, "utf8"))?.[1]);
		limit(free);
		for (let run = 0; run < f.runs(20, 500); run += 1) await assertSays(client, `without a descriptor ${run}`);
		await waitFor("it to be told", () => toldOfFiles(daemon));
		// Two looks at the folder and at the disk, once a second, and the mark that is written then.
		await sleep(2500);
		assert.equal(daemon.process.exitCode, null, daemon.lines.slice(-3).join("\n"));
		await assertSays(client, "still there");
		limit(usual);
		await assertSays(client, "with descriptors again");
		await waitFor("the file", () => {
			const [file] = readdirSync(join(dataDir, "logs"));
			return file !== undefined && readFileSync(join(dataDir, "logs", file), "utf8").includes("with descriptors again");
		});
		assert.equal(await daemon.stop(), 0);
		assertWhole(dataDir, { drained: true });
	},
);

fault(
	"B24",
	"EDQUOT is an I/O error for SQLite: exit 74, and nothing acknowledged is lost",
	{ needs: [strace] },
	async (f) => {
		const prepared = await prepare();
		const dataDir = prepared.copyTo(join(prepared.folder.path, "quota"));
		const daemon = await prepared.start(dataDir);
		const path = join(dataDir, "queue.db-wal");
		const faulty = await attachFault(daemon.pid, [{ calls: "pwrite64", inject: "error=EDQUOT:when=40+" }], {
			paths: [path],
		});
		const { accepted, refused } = await work(daemon, { seed: f.seed }).done;
		for (const code of refused.keys())
			assert.ok(["STORE_ERROR", "IO_ERROR", "DAEMON_UNREACHABLE"].includes(code), code);
		await faulty.end();
		assert.equal(await exitOf(daemon), 74, daemon.lines.slice(-3).join("\n"));
		const next = await prepared.start(dataDir);
		await assertAllThere(next.client, accepted);
		await drained(next.client);
		assert.equal(await next.stop(), 0);
		assertWhole(dataDir, { drained: true });
	},
);

fault(
	"B24",
	"EDQUOT while a bundle is stored refuses the deploy as a full disk does",
	{ needs: [strace] },
	async () => {
		const prepared = await prepare();
		const dataDir = prepared.copyTo(join(prepared.folder.path, "quota-bundle"));
		const daemon = await prepared.start(dataDir);
		const rule = { calls: "mkdir,mkdirat", inject: "error=EDQUOT:when=1+" };
		await using faulty = await attachFault(daemon.pid, [rule], { otherThreads: true });
		await assert.rejects(deployChatty(daemon.client, prepared.folder.path), (error) => {
			assert.ok(error instanceof ClientError);
			assert.equal(error.code, "STORAGE_FULL", error.message);
			return true;
		});
		await faulty.end();
		await deployChatty(daemon.client, prepared.folder.path);
		await assertSays(daemon.client, "deployed after all");
		assert.equal(await daemon.stop(), 0);
		assertWhole(dataDir, { drained: true });
	},
);
