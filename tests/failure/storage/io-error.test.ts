/**
 * The disk answers with errors. One that leaves unknown what is on the disk ends the daemon within a second with exit 74;
 * the next start finds everything that was acknowledged. One that the system only asks to try again is nobody's business.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { statSync } from "node:fs";
import { join } from "node:path";
import type { Daemon } from "../../support/daemon.ts";
import { isGone } from "../../support/processes.ts";
import { seededRandom } from "../../support/seed.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault, type Fault } from "../fault.ts";
import { loopExt4, program, strace } from "../needs.ts";
import { loopDisk } from "./disks.ts";
import { assertWhole } from "./fsck.ts";
import { attachFault, type Attached, type FaultRule } from "./syscall-faults.ts";
import { assertAllThere, assertServes, drained, exitOf, prepare, work, type Accepted, type Prepared } from "./work.ts";

/** From the fault to the end. The promise is one second; a busy machine takes its time to schedule. */
const FAIL_STOP_MS = 5000;

/** Once, from then on, and every seventh from then on. */
const NTH = ["", "+", "+7"];

interface Died {
	readonly accepted: readonly Accepted[];
	readonly ms: number;
}

/**
 * The daemon has met an I/O error: it says so and ends with 74 at once. A traced process is a zombie until its tracer has
 * let go, so that is what is waited for.
 */
async function assertFailStop(daemon: Daemon, since: number, faulty?: Attached): Promise<number> {
	await waitFor("the daemon's end", () => isGone(daemon.pid), 20_000);
	const ms = performance.now() - since;
	await faulty?.end();
	assert.equal(await exitOf(daemon), 74, daemon.lines.slice(-5).join("\n"));
	assert.ok(ms < FAIL_STOP_MS, `it ended ${Math.round(ms)} ms after the fault`);
	assert.ok(
		daemon.lines.some((line) => line.includes('"IO_ERROR"')),
		"it says why",
	);
	return ms;
}

function assertUnknownOutcomes(refused: ReadonlyMap<string, number>): void {
	for (const code of refused.keys()) {
		assert.ok(["STORE_ERROR", "IO_ERROR", "DAEMON_UNREACHABLE"].includes(code), `refused with ${code}`);
	}
}

/** Injects under load until the daemon has ended; then everything acknowledged is there. */
async function dieUnderLoad(prepared: Prepared, dataDir: string, f: Fault, rule: FaultRule, n: number): Promise<Died> {
	const daemon = await prepared.start(dataDir);
	// Syncs run in several threads; n counts in each.
	const paths = [join(dataDir, "queue.db-wal"), join(dataDir, "queue.db")];
	const faulty = await attachFault(daemon.pid, [rule], { allThreads: true, paths });
	const working = work(daemon, { seed: f.seed + n });
	let at = 0;
	await waitFor("the fault to be met", () => {
		if (faulty.injected() === 0) return false;
		at = performance.now();
		return true;
	});
	const ms = await assertFailStop(daemon, at, faulty);
	const { accepted, refused } = await working.done;
	assertUnknownOutcomes(refused);
	return { accepted, ms };
}

fault(
	"B9",
	"EIO on the n-th fsync under load: exit 74 at once, nothing acknowledged is lost",
	{ needs: [strace] },
	async (f) => {
		const prepared = await prepare();
		const dataDir = prepared.copyTo(join(prepared.folder.path, "nth-fsync"));
		const random = seededRandom(f.seed);
		const accepted: Accepted[] = [];
		let slowest = 0;
		for (let run = 0; run < f.runs(2, 30); run += 1) {
			const n = 1 + Math.floor(random.next() * 20);
			const died = await dieUnderLoad(
				prepared,
				dataDir,
				f,
				{ calls: "fdatasync", inject: `error=EIO:when=${n}${NTH[run % NTH.length]}` },
				run,
			);
			accepted.push(...died.accepted);
			slowest = Math.max(slowest, died.ms);
		}
		const next = await prepared.start(dataDir);
		await assertAllThere(next.client, accepted);
		await drained(next.client);
		assert.equal(await next.stop(), 0);
		assertWhole(dataDir, { drained: true });
		f.record(`acknowledged ${accepted.length}, lost 0; slowest stop ${Math.round(slowest)} ms after the fault`);
	},
);

fault(
	"B9",
	"EIO on an fsync of metadata.db: the daemon does not go on with what it does not know",
	{ needs: [strace] },
	async (f) => {
		const prepared = await prepare();
		const dataDir = prepared.copyTo(join(prepared.folder.path, "metadata-fsync"));
		const daemon = await prepared.start(dataDir);
		const path = join(dataDir, "metadata.db-wal");
		const faulty = await attachFault(daemon.pid, [{ calls: "fsync,fdatasync", inject: "error=EIO:when=1" }], {
			allThreads: true,
			paths: [path],
		});
		const asked = performance.now();
		await assert.rejects(
			daemon.client.call("functions.configure", { function: "ledger", overrides: { concurrency: 7 } }),
			(error) => ["IO_ERROR", "STORE_ERROR", "DAEMON_UNREACHABLE"].includes((error as { code: string }).code),
		);
		const ms = await assertFailStop(daemon, asked, faulty);
		const next = await prepared.start(dataDir);
		await assertServes(next.client);
		assert.equal(await next.stop(), 0);
		assertWhole(dataDir, { drained: true });
		f.record(`ended ${Math.round(ms)} ms after the fault`);
	},
);

fault(
	"B9",
	"EIO on the syncs of checkpoints: it stops, or tries them again; nothing acknowledged is lost",
	{ needs: [strace], longOnly: true },
	async (f) => {
		const prepared = await prepare();
		const dataDir = prepared.copyTo(join(prepared.folder.path, "checkpoint-fsync"));
		const accepted: Accepted[] = [];
		let hit = 0;
		for (let run = 0; run < f.runs(1, 10); run += 1) {
			const daemon = await prepared.start(dataDir);
			const paths = [join(dataDir, "queue.db-wal"), join(dataDir, "queue.db")];
			// SQLite syncs a checkpoint by fsync; commits are synced by fdatasync.
			const rule = { calls: "fsync", inject: `error=EIO:when=${2 + (run % 3)}+2` };
			await using faulty = await attachFault(daemon.pid, [rule], { allThreads: true, paths });
			const done = await work(daemon, { seed: f.seed + run, callers: 32, atMost: 1500 }).done;
			accepted.push(...done.accepted);
			assertUnknownOutcomes(done.refused);
			await faulty.end();
			hit += faulty.injected();
			await daemon.kill();
		}
		assert.ok(hit > 0, "checkpoints met the fault");
		const next = await prepared.start(dataDir);
		await assertAllThere(next.client, accepted);
		await drained(next.client);
		assert.equal(await next.stop(), 0);
		assertWhole(dataDir, { drained: true });
		f.record(`${hit} syncs of checkpoints failed, acknowledged ${accepted.length}, lost 0`);
	},
);

fault("B10", "EIO on reads: an error or the right answer, never a wrong one", { needs: [strace] }, async (f) => {
	const prepared = await prepare();
	const dataDir = prepared.copyTo(join(prepared.folder.path, "reads"));
	const before = await prepared.start(dataDir);
	const { accepted } = await work(before, { seed: f.seed, atMost: f.long ? 3000 : 300 }).done;
	await drained(before.client);
	assert.equal(await before.stop(), 0);
	let answered = 0;
	let refused = 0;
	const random = seededRandom(f.seed);
	for (let run = 0; run < f.runs(2, 20); run += 1) {
		const daemon = await prepared.start(dataDir);
		const every = 1 + Math.floor(random.next() * 5);
		const path = join(dataDir, "queue.db");
		const rule = { calls: "pread64", inject: `error=EIO:when=${every}+${every}` };
		await using faulty = await attachFault(daemon.pid, [rule], { paths: [path] });
		for (const { id, echo } of accepted) {
			try {
				const { response } = await daemon.client.getResult(id);
				const answer = response?.json() as { echo: string } | undefined;
				assert.equal(answer?.echo, echo);
				answered += 1;
			} catch (error) {
				const { code } = error as { code?: string };
				assert.ok(["IO_ERROR", "DATA_CORRUPT", "DAEMON_UNREACHABLE"].includes(code ?? ""), String(error));
				refused += 1;
				if (code === "DAEMON_UNREACHABLE") break;
			}
		}
		assert.ok(faulty.injected() > 0, "reads failed");
		await faulty.end();
		await daemon.kill();
	}
	assert.ok(refused > 0);
	const next = await prepared.start(dataDir);
	await assertAllThere(next.client, accepted);
	assert.equal(await next.stop(), 0);
	assertWhole(dataDir, { drained: true });
	f.record(`${answered} right answers, ${refused} errors, 0 wrong`);
});

fault("B11", "EINTR and EAGAIN on reads and writes are tried again: nobody notices", { needs: [strace] }, async (f) => {
	const prepared = await prepare();
	const dataDir = prepared.copyTo(join(prepared.folder.path, "interrupted"));
	const daemon = await prepared.start(dataDir);
	const rules: FaultRule[] = [
		{ calls: "pwrite64", inject: "error=EINTR:when=1+3" },
		{ calls: "pread64", inject: "error=EINTR:when=1+3" },
		{ calls: "ftruncate", inject: "error=EINTR:when=1+2" },
	];
	const sockets: FaultRule[] = [{ calls: "write,writev,sendmsg", inject: "error=EAGAIN:when=5+3" }];
	const accepted: Accepted[] = [];
	let hit = 0;
	for (const faults of [rules, sockets]) {
		await using faulty = await attachFault(daemon.pid, faults);
		const done = await work(daemon, { seed: f.seed, atMost: f.long ? 3000 : 200 }).done;
		assert.deepEqual([...done.refused], [], "nothing is refused");
		accepted.push(...done.accepted);
		await assertAllThere(daemon.client, done.accepted);
		await faulty.end();
		hit += faulty.injected();
	}
	assert.equal(await daemon.stop(), 0);
	assertWhole(dataDir, { drained: true });
	f.ran(hit);
	f.record(`${hit} calls were interrupted, ${accepted.length} acknowledged, refused 0`);
});

fault(
	"B11",
	"short writes to the disk and to sockets lose and garble nothing",
	{ needs: [program("gcc")] },
	async (f) => {
		const prepared = await prepare();
		const library = join(prepared.folder.path, "short-writes.so");
		execFileSync("gcc", [
			"-shared",
			"-fPIC",
			"-O1",
			"-o",
			library,
			join(import.meta.dirname, "short-writes.c"),
			"-ldl",
		]);
		const dataDir = prepared.copyTo(join(prepared.folder.path, "short"));
		const daemon = await prepared.start(dataDir, { env: { LD_PRELOAD: library } });
		const { accepted, refused } = await work(daemon, { seed: f.seed, atMost: f.long ? 5000 : 300 }).done;
		assert.deepEqual([...refused], []);
		await assertAllThere(daemon.client, accepted);
		await daemon.kill();
		const next = await prepared.start(dataDir);
		await assertAllThere(next.client, accepted);
		assert.equal(await next.stop(), 0);
		assertWhole(dataDir, { drained: true });
		f.record(`${accepted.length} acknowledged, all right`);
	},
);

fault(
	"B13",
	"a limit on the size of files is an I/O error: exit 74, nothing acknowledged is lost",
	{ needs: [program("prlimit")] },
	async (f) => {
		const prepared = await prepare();
		const dataDir = prepared.copyTo(join(prepared.folder.path, "limit"));
		const accepted: Accepted[] = [];
		for (let run = 0; run < f.runs(1, 10); run += 1) {
			const daemon = await prepared.start(dataDir);
			const working = work(daemon, { seed: f.seed + run });
			await waitFor("some work", () => working.accepted.length >= 30);
			const { size } = statSync(join(dataDir, "queue.db-wal"));
			execFileSync("prlimit", ["--pid", String(daemon.pid), `--fsize=${size + 10_000}`]);
			const done = await working.done;
			assert.equal(await exitOf(daemon), 74, daemon.lines.slice(-5).join("\n"));
			assertUnknownOutcomes(done.refused);
			accepted.push(...done.accepted);
		}
		const next = await prepared.start(dataDir);
		await assertAllThere(next.client, accepted);
		assert.equal(await next.stop(), 0);
		assertWhole(dataDir, { drained: true });
		f.record(`acknowledged ${accepted.length}, lost 0`);
	},
);

fault(
	"B14",
	"a file system that turns read-only under the daemon: exit 74 and a clear message",
	{ needs: [loopExt4] },
	async (f) => {
		const prepared = await prepare();
		for (let run = 0; run < f.runs(1, 5); run += 1) {
			using disk = loopDisk();
			const dataDir = prepared.copyTo(join(disk.path, "data"));
			const daemon = await prepared.start(dataDir);
			const working = work(daemon, { seed: f.seed + run });
			await waitFor("some work", () => working.accepted.length >= 30);
			const accepted = [...working.accepted];
			const since = performance.now();
			disk.turnReadOnly();
			assertUnknownOutcomes((await working.done).refused);
			await assertFailStop(daemon, since);
			// A start finds it read-only, says so, and changes nothing.
			await assert.rejects(prepared.start(dataDir), /exited with (74|78)[^]*(READONLY|EROFS|read-only)/);
			using found = disk.afterPowerCut();
			const next = await prepared.start(join(found.path, "data"));
			await assertAllThere(next.client, accepted);
			assert.equal(await next.stop(), 0);
			assertWhole(join(found.path, "data"), { drained: true });
			f.record(`acknowledged ${accepted.length}, lost 0`);
		}
	},
);
