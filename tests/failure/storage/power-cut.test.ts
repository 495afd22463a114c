/**
 * The power goes while a daemon accepts and runs work. What it acknowledged is there when the power comes back, and
 * ends; with `durability: "process"` the newest of it may be gone, but nothing from the middle.
 */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { join } from "node:path";
import BetterSqlite3 from "better-sqlite3";
import { invocationId, parseInvocationId } from "../../../src/core/ids.ts";
import { seededRandom } from "../../support/seed.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault, type Fault } from "../fault.ts";
import { powerCut } from "../needs.ts";
import { loopDisk, powerCutWith, type Cut } from "./disks.ts";
import { assertWhole } from "./fsck.ts";
import { assertAllThere, assertServes, drained, exitOf, prepare, work, type Accepted, type Prepared } from "./work.ts";

/** A hundred cuts, of two starts of a daemon each. */
const LONG_MS = 1_500_000;

/** In memory, and with other processes beside it. */
const SYNC_MS_MAX = 100;

interface Found extends Disposable {
	/** The data folder as it is found when the power comes back. */
	readonly dataDir: string;
	readonly accepted: readonly Accepted[];
}

interface CutOptions {
	readonly args?: readonly string[];
	/** Starts a program beside the load; the cut ends it as well. */
	readonly beside?: (dataDir: string) => ChildProcess;
	/** Only the disk goes: the daemon has to notice. */
	readonly daemonStays?: boolean;
}

/** One daemon under load whose disk loses power after a random amount of work. */
async function cutUnderLoad(prepared: Prepared, f: Fault, run: number, options: CutOptions = {}): Promise<Found> {
	using disk = loopDisk();
	const random = seededRandom(f.seed + run);
	const dataDir = prepared.copyTo(join(disk.path, "data"));
	const daemon = await prepared.start(dataDir, { args: options.args ?? [] });
	const beside = options.beside?.(dataDir);
	const working = work(daemon, { seed: f.seed + run });
	const enough = 1 + Math.floor(random.next() * 1000);
	await waitFor(`${enough} acknowledgements`, () => working.accepted.length >= enough, 30_000);
	const told = working.accepted.length;
	let cut: Cut | undefined;
	if (options.daemonStays === true) cut = disk.cutPower();
	else powerCutWith(disk, beside === undefined ? [daemon.process] : [daemon.process, beside]);
	const { accepted, refused } = await working.done;
	for (const code of refused.keys()) {
		assert.ok(["STORE_ERROR", "IO_ERROR", "DATA_CORRUPT", "DAEMON_UNREACHABLE"].includes(code), `refused with ${code}`);
	}
	const code = await exitOf(daemon);
	// It ends at its first write. 65 where it read before: pages that ext4 could not write any more come back as zeros.
	if (options.daemonStays === true) assert.ok([74, 65].includes(code ?? 0), daemon.lines.slice(-5).join("\n"));
	const found = disk.afterPowerCut();
	return {
		dataDir: join(found.path, "data"),
		accepted: cut === undefined ? accepted : toldForSure(accepted, told, cut),
		[Symbol.dispose]: () => found[Symbol.dispose](),
	};
}

/**
 * Of what a daemon told that stayed: the first `told`, which were told before the cut began, and what was committed so long
 * before it that its sync had returned. A sync that is under way may return success for what is not on the disk (disks.ts); one that
 * began after the cut may not, and so nobody was told of a commit that came after it.
 */
function toldForSure(accepted: readonly Accepted[], told: number, { from, until }: Cut): readonly Accepted[] {
	const committedAt = ({ id }: Accepted): number => parseInvocationId(id)?.createdAt ?? assert.fail(id);
	assert.deepEqual(
		// Of the millisecond in which it ends only the end is known.
		accepted.filter((each) => committedAt(each) > until + 1),
		[],
		"committed after the cut, and told",
	);
	return accepted.filter((each, index) => index < told || committedAt(each) < from - SYNC_MS_MAX);
}

async function nothingIsLost(f: Fault, runs: number, options: CutOptions = {}): Promise<void> {
	const prepared = await prepare();
	let acknowledged = 0;
	for (let run = 0; run < runs; run += 1) {
		using cut = await cutUnderLoad(prepared, f, run, options);
		acknowledged += cut.accepted.length;
		const daemon = await prepared.start(cut.dataDir);
		await assertAllThere(daemon.client, cut.accepted);
		await drained(daemon.client);
		await assertServes(daemon.client);
		assert.equal(await daemon.stop(), 0);
		assertWhole(cut.dataDir, { drained: true });
	}
	f.record(`acknowledged ${acknowledged.toLocaleString("en")}, lost 0`);
}

fault(
	"B1",
	"power cut under load: nothing acknowledged is lost, and all of it ends",
	{ needs: [powerCut], timeout: LONG_MS },
	(f) => nothingIsLost(f, f.runs(1, 100)),
);

fault(
	"B1",
	"the disk goes and the daemon stays: it ends by itself, and nothing acknowledged is lost",
	{ needs: [powerCut] },
	(f) => nothingIsLost(f, f.runs(1, 25), { daemonStays: true }),
);

fault(
	"B5",
	"power cut while another program checkpoints: nothing acknowledged is lost",
	{ needs: [powerCut], longOnly: true, timeout: LONG_MS },
	(f) => nothingIsLost(f, f.runs(1, 100), { beside: checkpointer }),
);

/** A program that moves the WAL into the file and cuts it, as often as it can. */
function checkpointer(dataDir: string): ChildProcess {
	return spawn(process.execPath, [join(import.meta.dirname, "checkpointer.child.ts"), join(dataDir, "queue.db")], {
		stdio: "ignore",
	});
}

fault(
	"B2",
	'power cut with durability "process": what is lost is the newest, and the rest is whole',
	{ needs: [powerCut] },
	async (f) => {
		const prepared = await prepare();
		let acknowledged = 0;
		let lost = 0;
		let lossy = 0;
		for (let run = 0; run < f.runs(1, 12); run += 1) {
			using cut = await cutUnderLoad(prepared, f, run, { args: ["--durability", "process"] });
			acknowledged += cut.accepted.length;
			const daemon = await prepared.start(cut.dataDir, { args: ["--durability", "process"] });
			await drained(daemon.client);
			const there = seqsOf(cut.dataDir);
			const kept = cut.accepted.filter(({ id }) => there.has(id));
			await assertAllThere(daemon.client, kept);
			assert.equal(await daemon.stop(), 0);
			assertWhole(cut.dataDir, { drained: true });
			// In order of acceptance: seqs have no gap up to the newest that is there.
			assert.deepEqual(
				[...there.values()],
				[...there.values()].map((_, index) => index + 1),
			);
			lost += cut.accepted.length - kept.length;
			if (kept.length < cut.accepted.length) lossy += 1;
		}
		f.record(
			`acknowledged ${acknowledged.toLocaleString("en")}, lost ${lost} in ${lossy} cuts, all of them the newest`,
		);
	},
);

/** seq by id, of every row. */
function seqsOf(dataDir: string): Map<string, number> {
	const db = new BetterSqlite3(join(dataDir, "queue.db"), { readonly: true });
	try {
		const rows = db.prepare<[], [number, number]>("SELECT created_at, seq FROM invocation").raw().all();
		return new Map(rows.map(([createdAt, seq]) => [invocationId(createdAt, seq), seq]));
	} finally {
		db.close();
	}
}
