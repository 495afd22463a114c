/**
 * The disk is full: new work is refused and says so, what runs still records its end, nothing that was acknowledged is
 * lost, and when there is space again the same daemon goes on.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ClientError } from "../../../src/sources/client.ts";
import type { Daemon } from "../../support/daemon.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault, type Fault } from "../fault.ts";
import { loopExt4, strace, tmpfs } from "../needs.ts";
import { loopDisk, tmpfsDisk, type Disk } from "./disks.ts";
import { assertWhole } from "./fsck.ts";
import { attachFault } from "./syscall-faults.ts";
import { assertAllThere, assertServes, drained, prepare, work, type Accepted } from "./work.ts";

const MiB = 1024 * 1024;

interface Full {
	readonly daemon: Daemon;
	readonly dataDir: string;
	readonly accepted: Accepted[];
	/** They run while the disk is full. */
	readonly running: readonly string[];
}

/** A daemon at work whose disk is full; `fill` is called while callers submit. */
async function fullDisk(f: Fault, disk: Disk, options: { ballast: boolean; fill: () => void }): Promise<Full> {
	const prepared = await prepare();
	const dataDir = prepared.copyTo(join(disk.path, "data"), { ballast: options.ballast });
	const daemon = await prepared.start(dataDir);
	const running: string[] = [];
	for (let index = 0; index < 3; index += 1) {
		const body = '{"ms":3000,"echo":"long"}';
		running.push((await daemon.client.enqueue("ledger", { method: "POST", path: "/", body })).invocationId);
	}
	await waitFor("three that run", async () => Number((await daemon.client.call("stats.get", {}))["running"]) === 3);
	const working = work(daemon, { seed: f.seed });
	await waitFor("some work", () => working.accepted.length >= 20);
	options.fill();
	const { accepted, refused } = await working.done;
	assert.deepEqual([...refused.keys()], ["STORAGE_FULL"], "every refusal says that the disk is full");
	return { daemon, dataDir, accepted: [...accepted], running };
}

/** Submits until it is refused, for what the ballast gave up may be taken first. */
async function assertRefusesAsFull({ daemon, accepted }: Full): Promise<void> {
	const echo = "x".repeat(1 * MiB);
	for (let count = 0; count < 64; count += 1) {
		try {
			const body = JSON.stringify({ echo });
			const { invocationId } = await daemon.client.enqueue("ledger", { method: "POST", path: "/", body });
			accepted.push({ id: invocationId, echo });
		} catch (error) {
			assert.ok(error instanceof ClientError);
			assert.equal(error.code, "STORAGE_FULL");
			assert.ok((error.retryAfterSeconds ?? 0) > 0, "it says when to try again");
			return;
		}
	}
	assert.fail("64 MiB were taken on a full disk");
}

/** Space is looked for now and then, so new work may be refused for a moment after it has come back. */
function whenTaken<T>(ask: () => Promise<T>): Promise<T> {
	const asked = (): Promise<T | undefined> =>
		ask().catch((error: unknown) => {
			assert.ok(error instanceof ClientError && error.code === "STORAGE_FULL", String(error));
			return undefined;
		});
	return waitFor("new work to be taken", asked, 15_000);
}

/** The same daemon takes work again, and everything that was acknowledged has ended. */
async function assertGoesOn({ daemon, dataDir, accepted, running }: Full): Promise<void> {
	const { client } = daemon;
	await whenTaken(async () => {
		await assertServes(client);
		return true;
	});
	for (const id of running) assert.equal((await client.waitForResult(id)).state, "succeeded");
	await assertAllThere(client, accepted);
	await drained(client);
	assert.equal(await daemon.stop(), 0);
	assertWhole(dataDir, { drained: true });
}

fault(
	"B6",
	"tmpfs filled by work: what runs records its end, and work goes on when there is space",
	{ needs: [tmpfs] },
	async (f) => {
		using disk = tmpfsDisk(14 * MiB);
		const full = await fullDisk(f, disk, { ballast: true, fill: () => undefined });
		// The ballast made the room for it.
		for (const id of full.running) {
			assert.equal((await full.daemon.client.waitForResult(id, { timeoutMs: 10_000 })).state, "succeeded");
		}
		assert.ok(!existsSync(join(full.dataDir, "ballast")), "the ballast was given up");
		await assertRefusesAsFull(full);
		execFileSync("mount", ["-o", `remount,size=${64 * MiB}`, disk.path]);
		await assertGoesOn(full);
		f.record(`acknowledged ${full.accepted.length} before the disk was full, lost 0`);
	},
);

fault(
	"B6",
	"tmpfs without any ballast left: answers wait for space, none is dropped",
	{ needs: [tmpfs] },
	async (f) => {
		using disk = tmpfsDisk(4 * MiB);
		const full = await fullDisk(f, disk, { ballast: false, fill: () => undefined });
		await assertRefusesAsFull(full);
		execFileSync("mount", ["-o", `remount,size=${64 * MiB}`, disk.path]);
		await assertGoesOn(full);
		f.record(`acknowledged ${full.accepted.length} before the disk was full, lost 0`);
	},
);

fault("B7", "ext4 filled by another program and freed: no restart is needed", { needs: [loopExt4] }, async (f) => {
	for (let run = 0; run < f.runs(1, 8); run += 1) {
		using disk = loopDisk({ bytes: 32 * MiB });
		const full = await fullDisk(f, disk, { ballast: run % 2 === 0, fill: () => disk.fill() });
		await assertRefusesAsFull(full);
		disk.empty();
		await assertGoesOn(full);
	}
});

fault(
	"B7",
	"a deploy on a full disk is refused whole, and does not stand in the way of another",
	{ needs: [loopExt4] },
	async (f) => {
		using disk = loopDisk({ bytes: 32 * MiB });
		const prepared = await prepare();
		const dataDir = prepared.copyTo(join(disk.path, "data"));
		const daemon = await prepared.start(dataDir);
		const deploy = async (text: string, version: string): Promise<void> => {
			const path = join(prepared.folder.path, "deployed.js");
			writeFileSync(path, `export default () => new Response("${text}"); // ${"x".repeat(50_000)}`);
			await daemon.client.call("functions.deploy", { function: "deployed", path, register: true, version });
		};
		const served = async (): Promise<string> => {
			const answer = await whenTaken(() => daemon.client.invoke("deployed", { method: "GET", path: "/" }));
			return Buffer.from(answer.body).toString();
		};
		let serves = "first";
		await deploy(serves, "first");
		assert.equal(await served(), serves);
		// Room for nothing, for the bundle, for its row, for its worker.
		let refusals = 0;
		for (let run = 0; run < f.runs(2, 24); run += 1) {
			const leave = run * 20_480;
			disk.fill(leave);
			const version = `full-${run}`;
			const text = `on a full disk ${run}`;
			const outcome = await deploy(text, version).catch((error: unknown) => error);
			disk.empty();
			if (outcome instanceof ClientError) {
				refusals += 1;
				assert.equal(outcome.code, "STORAGE_FULL", `with ${leave} bytes left: ${outcome.message}`);
			} else serves = text;
			assert.equal(await served(), serves);
			const { versions } = await daemon.client.call("functions.versions", { function: "deployed" });
			// A version that is not there left nothing behind that keeps other bytes from being it.
			if ((versions as { version: string }[]).some((known) => known.version === version)) continue;
			serves = `after ${run}`;
			await deploy(serves, version);
			assert.equal(await served(), serves);
		}
		assert.ok(refusals > 0);
		f.record(`${refusals} deploys refused`);
		assert.equal(await daemon.stop(), 0);
		assertWhole(dataDir);
	},
);

fault(
	"B7",
	"a start on a full disk recovers what ran, and runs it when there is space",
	{ needs: [loopExt4] },
	async (f) => {
		using disk = loopDisk({ bytes: 32 * MiB });
		const prepared = await prepare();
		const dataDir = prepared.copyTo(join(disk.path, "data"));
		const first = await prepared.start(dataDir);
		const { accepted } = await work(first, { seed: f.seed, atMost: 50 }).done;
		await first.kill();
		disk.fill();
		const second = await prepared.start(dataDir);
		// What ran is recovered, if need be from the ballast. Workers need a folder each, so the work may wait.
		const { queued, running } = await second.client.call("stats.get", {});
		assert.ok(Number(queued) + Number(running) <= accepted.length);
		disk.empty();
		await assertAllThere(second.client, accepted);
		assert.equal(await second.stop(), 0);
		assertWhole(dataDir, { drained: true });
	},
);

fault(
	"B8",
	"ENOSPC at the n-th write, each n: nothing acknowledged is lost, and the daemon stays",
	{ needs: [strace], timeout: 1_200_000 },
	async (f) => {
		const prepared = await prepare();
		const dataDir = prepared.copyTo(join(prepared.folder.path, "nth-write"));
		const daemon = await prepared.start(dataDir);
		const accepted: Accepted[] = [];
		let hit = 0;
		let refusals = 0;
		const runs = f.runs(3, 60);
		for (let n = 1; n <= runs; n += 1) {
			await using faulty = await attachFault(daemon.pid, [{ calls: "pwrite64", inject: `error=ENOSPC:when=${n}` }]);
			const done = await work(daemon, { seed: f.seed + n, callers: 4, atMost: 6 + n / 4, insist: true }).done;
			accepted.push(...done.accepted);
			for (const [code, count] of done.refused) {
				assert.equal(code, "STORAGE_FULL");
				refusals += count;
			}
			await drained(daemon.client);
			await faulty.end();
			hit += faulty.injected();
		}
		assert.ok(hit > runs / 2, `only ${hit} of ${runs} faults were met`);
		await assertAllThere(daemon.client, accepted);
		await assertServes(daemon.client);
		await daemon.kill();
		const next = await prepared.start(dataDir);
		await assertAllThere(next.client, accepted);
		assert.equal(await next.stop(), 0);
		assertWhole(dataDir, { drained: true });
		f.record(`${hit} writes failed, ${refusals} refused, acknowledged ${accepted.length}, lost 0`);
	},
);
