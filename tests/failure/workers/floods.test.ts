/** C6 and C7: output without end, descriptors, sockets and processes without end. The daemon stays small and serves. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Client } from "../../../src/sources/client.ts";
import { startDaemon } from "../../support/daemon.ts";
import { isGone, residentBytes } from "../../support/processes.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { program } from "../needs.ts";
import { cgroup, cgroups } from "./cgroup.ts";
import { ALONE, cameTo, startLab, textOf } from "./lab.ts";

const MiB = 1 << 20;
/** What may be kept of one attempt and one stream at once, twice, and what its pace lets through meanwhile. */
const KEPT_MAX = 6 * MiB;
/**
 * What the daemon may grow by in all. Most of it is V8's: its heap becomes 50 MiB larger, three times 16 of them for young
 * objects, of which a fifth is used; and 10 to 40 MiB are read buffers that nobody holds any more.
 */
const GROWTH_MAX = 192 * MiB;
/** What four times as much output may add to that, once the heap is as large as it becomes. */
const MORE_MAX = 64 * MiB;

fault(
	"C7",
	"a flood of output, of any kind: bounded memory, a marker for what is gone, and no blocked pipe",
	{ timeout: 900_000 },
	async (f) => {
		const folder = tempFolder("bunbase-flood-");
		const daemon = await startDaemon(join(folder.path, "data"));
		const watch = { most: 0 };
		const sampling = setInterval(() => (watch.most = Math.max(watch.most, residentBytes(daemon.pid))), 20);
		try {
			const { client } = daemon;
			await client.call("functions.register", { name: "hogs" });
			await client.call("functions.configure", {
				function: "hogs",
				overrides: { ...ALONE, timeoutMs: 120_000, memoryMb: 512 },
			});
			const path = join(import.meta.dirname, "../../functions/faults/hogs.ts");
			await client.call("functions.deploy", { function: "hogs", path, build: true });
			await client.invoke("hogs", { path: "/fine" });
			const before = residentBytes(daemon.pid);
			await flood(client, f.runs(8, 256));
			const little = watch.most - before;
			const mb = f.runs(24, 1_024);
			await flood(client, mb);
			const grown = watch.most - before;
			const figures = `the daemon grew by ${Math.round(little / MiB)} MB, and by ${Math.round(grown / MiB)} MB in all`;
			assert.ok(grown < GROWTH_MAX, figures);
			assert.ok(grown - little < MORE_MAX, figures);
			f.record(`12 kinds of ${f.runs(8, 256)} MB each, then of ${mb} MB each: ${figures}`);
			assert.equal(await daemon.stop(), 0);
		} finally {
			clearInterval(sampling);
			await daemon.kill();
			folder[Symbol.dispose]();
		}
	},
);

/** Every kind of output, so much of each; the call after it is served. */
async function flood(client: Client, mb: number): Promise<void> {
	for (const [kind, fd] of [
		["/no-newline", 1],
		["/lines", 2],
		["/empty-lines", 1],
		["/ansi", 2],
		["/binary", 1],
		["/nul", 2],
		["/carriage-returns", 1],
		["/broken-utf8", 2],
		["/console", 0],
		["/console-huge", 0],
		["/stream", 0],
		["/child", 1],
	] as const) {
		const { invocationId } = await client.enqueue("hogs", {
			path: kind,
			query: [
				["fd", `${fd}`],
				["mb", `${mb}`],
			],
		});
		const { state, error } = await client.waitForResult(invocationId, { timeoutMs: 120_000 });
		assert.equal(state, "succeeded", `${kind}: ${error?.message}`);
		assert.equal((await client.invoke("hogs", { path: "/fine" })).status, 200, `after ${kind}`);
	}
}

fault("C7", "what is kept of a flood is within its bound, says how much is gone, and is text", async () => {
	await using lab = await startLab();
	await lab.deploy("hogs", "faults/hogs.ts", { ...ALONE, timeoutMs: 30_000, memoryMb: 512 });
	for (const [kind, fd] of [
		["/no-newline", 1],
		["/ansi", 2],
		["/binary", 1],
		["/console", 0],
		["/console-huge", 0],
		["/child", 1],
	] as const) {
		const record = await lab.call("hogs", kind, {
			query: [
				["fd", `${fd}`],
				["mb", "16"],
			],
		});
		assert.equal(cameTo(record), "succeeded - charged 0", kind);
		// The pool tells what it dropped when it reads again: at the next line, or at the worker's end.
		lab.engine.setEnvironment("hogs", { AFTER: kind });
		const lines = await waitFor(`the marker of ${kind}`, () => {
			const found = lab.engine.readLogs({ function: "hogs", since: record.createdAt, limit: 1_000, tail: true }).logs;
			return found.some(({ message }) => /dropped|\[cut\]/.test(message)) ? found : undefined;
		});
		const kept = lines.reduce((sum, { message }) => sum + message.length, 0);
		assert.ok(kept <= KEPT_MAX, `${kind}: ${kept} characters kept`);
		for (const { message } of lines)
			assert.ok(Buffer.byteLength(message) <= 50_000, `${kind}: a line of ${message.length}`);
	}
});

fault(
	"C6",
	"descriptors used up in a worker: its attempt fails and says so, the daemon has lost none",
	{ needs: [program("prlimit")] },
	async () => {
		await using lab = await startLab();
		await lab.deploy("hogs", "faults/hogs.ts", { ...ALONE, maxInvocations: 3 });
		const pid = Number(textOf(await lab.call("hogs", "/fine")));
		assert.equal(spawnSync("prlimit", ["--pid", `${pid}`, "--nofile=256"]).status, 0);
		const before = descriptors();
		const record = await lab.call("hogs", "/fds");
		assert.equal(cameTo(record), "failed HANDLER_ERROR charged 1");
		assert.match(record.error?.message ?? "", /EMFILE/);
		// What needs none still runs there; the leak ends with the worker, here by maxInvocations.
		assert.equal(textOf(await lab.call("hogs", "/fine")), `${pid}`);
		await waitFor("the worker to be replaced", () => isGone(pid));
		assert.notEqual(textOf(await lab.call("hogs", "/fine")), `${pid}`);
		assert.ok(descriptors() <= before + 4, `${descriptors()} descriptors, ${before} before`);
	},
);

fault(
	"C6",
	"thousands of sockets left open in a worker: the daemon has none of them, and all end with the worker",
	async (f) => {
		await using lab = await startLab();
		await lab.deploy("hogs", "faults/hogs.ts", { ...ALONE, memoryMb: 1_024, timeoutMs: 60_000 });
		const before = descriptors();
		const count = f.runs(500, 10_000);
		assert.equal(textOf(await lab.call("hogs", "/sockets", { query: [["count", `${count}`]] })), `${count}`);
		const pid = Number(textOf(await lab.call("hogs", "/fine")));
		assert.ok(descriptors(pid) >= count);
		assert.ok(descriptors() <= before + 4);
		lab.engine.setEnvironment("hogs", { RECYCLED: "1" });
		await waitFor("the worker to end", () => isGone(pid));
		assert.equal(cameTo(await lab.call("hogs", "/fine")), "succeeded - charged 0");
	},
);

fault(
	"C6",
	"a fork bomb ends with its worker at the time limit, to the last process",
	{ needs: [cgroups("pids")] },
	async (f) => {
		await using lab = await startLab();
		await lab.deploy("hogs", "faults/hogs.ts", { ...ALONE, timeoutMs: 500 });
		for (let round = f.runs(1, 5); round > 0; round -= 1) {
			using group = cgroup("pids");
			group.set("pids.max", 150);
			const pid = Number(textOf(await lab.call("hogs", "/fine")));
			group.add(pid);
			const id = await lab.enqueue("hogs", "/fork-bomb");
			const most = await waitFor("the bomb to go off", () =>
				group.pids().length > 30 ? group.pids().length : undefined,
			);
			assert.equal(cameTo(await lab.ended(id)), "timed_out TIMED_OUT charged 1");
			assert.match(textOf(await lab.call("hogs", "/fine")), /^\d+$/);
			await waitFor("its last process to end", () => group.pids().every(isGone));
			f.record(`at least ${most} processes, none left`);
		}
	},
);

/** How many descriptors a process has open; by default this one, which is the engine's. */
function descriptors(pid: number = process.pid): number {
	return readdirSync(`/proc/${pid}/fd`).length;
}
