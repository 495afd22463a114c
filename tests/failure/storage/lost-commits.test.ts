/**
 * Commits that are gone from a database are never passed over in silence; and a kill or a power cut, which loses
 * nothing that was acknowledged, is never taken for such a loss.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { readHighWater, type HighWaterMark } from "../../../src/store/index.ts";
import { startDaemon, type Daemon, type DaemonOptions } from "../../support/daemon.ts";
import { seededRandom } from "../../support/seed.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { powerCut } from "../needs.ts";
import { loopDisk, type LoopDisk } from "./disks.ts";

const MAIN = join(import.meta.dirname, "../../../src/main.ts");
const DYING = join(import.meta.dirname, "../../support/dying-daemon.ts");
const LEDGER = join(import.meta.dirname, "../../functions/ledger.ts");

function serve(dataDir: string, ...args: string[]): { status: number | null; stderr: string } {
	const { status, stderr } = spawnSync(
		process.execPath,
		[MAIN, "serve", "--data-dir", dataDir, "--socket", `${dataDir}.sock`, "--http-port", "0", ...args],
		{ encoding: "utf8", timeout: 20_000 },
	);
	return { status, stderr };
}

/** A paused lane, so that every acceptance is one commit and nothing else commits. */
async function pausedLane(daemon: Daemon): Promise<void> {
	await daemon.client.call("functions.deploy", { function: "ledger", path: LEDGER, build: true, register: true });
	await daemon.client.call("lanes.pause", { function: "ledger", paused: true });
}

const enqueue = async (daemon: Daemon): Promise<string> =>
	(await daemon.client.enqueue("ledger", { method: "POST", path: "/", body: "{}" })).invocationId;

async function marked(dataDir: string, seq: number): Promise<HighWaterMark> {
	return waitFor("the high-water mark", () => {
		const mark = readHighWater(dataDir);
		return mark !== undefined && mark.queue.seq >= seq ? mark : undefined;
	});
}

/** Starts daemons that do not outlive their test. */
function daemons(t: TestContext): (dataDir: string, options?: DaemonOptions) => Promise<Daemon> {
	return async (dataDir, options) => {
		const daemon = await startDaemon(dataDir, options);
		t.after(() => daemon.kill());
		return daemon;
	};
}

const flip = (bytes: Buffer): void => void bytes.writeUInt8(bytes.readUInt8(0) ^ 0x40, 0);

function overwrite(dataDir: string, from: number, change: (bytes: Buffer) => void): void {
	const path = join(dataDir, "queue.db-wal");
	const bytes = readFileSync(path);
	change(bytes.subarray(from));
	writeFileSync(path, bytes);
}

const LOSSES: readonly (readonly [what: string, lose: (dataDir: string) => void])[] = [
	["deleted", (dataDir) => rmSync(join(dataDir, "queue.db-wal"))],
	// After its header nothing is left; SQLite takes it for a WAL without a commit.
	["cut", (dataDir) => truncateSync(join(dataDir, "queue.db-wal"), 4096)],
	["cut to nothing", (dataDir) => truncateSync(join(dataDir, "queue.db-wal"), 0)],
	["overwritten with zeros", (dataDir) => overwrite(dataDir, 0, (bytes) => bytes.fill(0))],
	["changed in one byte of its header", (dataDir) => overwrite(dataDir, 8, flip)],
	["changed in one byte of its first page", (dataDir) => overwrite(dataDir, 1000, flip)],
];

for (const [index, [what, lose]] of LOSSES.entries()) {
	fault(
		"B17",
		`a WAL that was ${what} after a kill is told with exit 65, and --accept-rollback goes on above it`,
		{ longOnly: index > 0 },
		async ({ context: t }) => {
			using folder = tempFolder();
			const start = daemons(t);
			const dataDir = join(folder.path, "data");
			const first = await start(dataDir);
			await pausedLane(first);
			const kept = await enqueue(first);
			assert.equal(await first.stop(), 0);
			const second = await start(dataDir);
			const lost: string[] = [];
			for (let each = 0; each < 5; each += 1) lost.push(await enqueue(second));
			await marked(dataDir, 6);
			await second.kill();
			assert.ok(existsSync(join(dataDir, "queue.db-wal")));
			lose(dataDir);

			const refused = serve(dataDir);
			assert.equal(refused.status, 65, refused.stderr);
			assert.match(refused.stderr, /DATA_ROLLED_BACK/);
			for (const part of ["queue.db", "seq 2 to seq 6", "bunbase doctor", "bunbase restore", "--accept-rollback"]) {
				assert.ok(refused.stderr.includes(part), `${part} in ${refused.stderr}`);
			}
			assert.equal(serve(dataDir).status, 65, "a refusal changes nothing");

			const third = await start(dataDir, { args: ["--accept-rollback"] });
			try {
				assert.ok(
					third.lines.some((line) => line.includes("seq 2 to seq 6")),
					"it is logged",
				);
				assert.equal((await third.client.call("invocations.get", { invocation_id: kept }))["state"], "queued");
				for (const id of lost) await assert.rejects(third.client.call("invocations.get", { invocation_id: id }));
				const next = await enqueue(third);
				assert.ok(next.slice(-11) > (lost.at(-1) ?? "").slice(-11), "no seq is given out twice");
			} finally {
				assert.equal(await third.stop(), 0);
			}
			const fourth = await start(dataDir);
			assert.equal(await fourth.stop(), 0);
		},
	);
}

fault(
	"B17",
	"an older copy of metadata.db is told, and with --accept-rollback the rest goes on",
	async ({ context: t }) => {
		using folder = tempFolder();
		const start = daemons(t);
		const dataDir = join(folder.path, "data");
		const first = await start(dataDir);
		await pausedLane(first);
		const kept = await enqueue(first);
		assert.equal(await first.stop(), 0);
		const path = join(dataDir, "metadata.db");
		copyFileSync(path, `${path}.old`);
		const second = await start(dataDir);
		await second.client.call("functions.deploy", { function: "other", path: LEDGER, build: true, register: true });
		await second.client.call("lanes.pause", { function: "other", paused: true });
		const { invocationId } = await second.client.enqueue("other", { method: "POST", path: "/", body: "{}" });
		assert.equal(await second.stop(), 0);
		copyFileSync(`${path}.old`, path);

		const refused = serve(dataDir);
		assert.equal(refused.status, 65, refused.stderr);
		assert.match(refused.stderr, /DATA_ROLLED_BACK.*metadata\.db|metadata\.db.*DATA_ROLLED_BACK/);

		const third = await start(dataDir, { args: ["--accept-rollback"] });
		try {
			assert.equal((await third.client.call("invocations.get", { invocation_id: kept }))["state"], "queued");
			await assert.rejects(third.client.call("invocations.get", { invocation_id: invocationId }));
			await third.client.call("lanes.pause", { function: "ledger", paused: false });
			assert.equal((await third.client.waitForResult(kept, { timeoutMs: 20_000 })).state, "succeeded");
		} finally {
			assert.equal(await third.stop(), 0);
		}
	},
);

/** Callers that go on until the daemon is gone. */
function load(daemon: Daemon): { accepted: Set<string>; end: () => Promise<void> } {
	const accepted = new Set<string>();
	const ended = new AbortController();
	const callers = [0, 1, 2, 3].map(async () => {
		while (!ended.signal.aborted) accepted.add(await enqueue(daemon));
	});
	return {
		accepted,
		async end() {
			ended.abort();
			daemon.client.close();
			await Promise.allSettled(callers);
		},
	};
}

for (const durability of ["power", "process"]) {
	fault(
		"B17",
		`kill -9 at any moment, with a mark every 2 ms, is never taken for a loss (${durability})`,
		async (f) => {
			using folder = tempFolder();
			const start = daemons(f.context);
			const dataDir = join(folder.path, "data");
			const random = seededRandom(f.seed);
			const env = { KEEPER_MS: "2", BUNBASE_DURABILITY: durability };
			let daemon = await start(dataDir, { program: DYING, env });
			await pausedLane(daemon);
			let acceptedBefore = 0;
			for (let round = 0; round < f.runs(2, 40); round += 1) {
				const { accepted, end } = load(daemon);
				const enough = 20 + Math.floor(random.next() * 300);
				await waitFor("acceptances", () => accepted.size >= enough);
				// Twenty may be accepted before the first mark has reached the disk, and then the kill would try nothing.
				if (durability === "power") {
					await waitFor("a mark", () => (readHighWater(dataDir)?.queue.seq ?? 0) > 0);
				}
				if (round % 2 === 1) {
					// In a quiet moment, when the mark says all that there is: one more would be one too many.
					await end();
					await marked(dataDir, acceptedBefore + accepted.size);
				}
				daemon.process.kill("SIGKILL");
				await end();
				await daemon.kill();
				acceptedBefore += accepted.size;
				const mark = readHighWater(dataDir);
				// A false refusal would be this start's rejection.
				daemon = await start(dataDir, { program: DYING, env });
				if (durability === "power") assert.ok((mark?.queue.seq ?? 0) > 0, "marks were written");
				const { queued } = (await daemon.client.call("stats.get", {})) as { queued: number };
				assert.ok(queued >= acceptedBefore, `round ${round}: ${queued} of ${acceptedBefore}`);
				assert.ok(queued >= (mark?.queue.seq ?? 0), `the mark is not ahead`);
			}
			assert.equal(await daemon.stop(), 0);
		},
	);
}

for (const durability of ["power", "process"]) {
	fault(
		"B17",
		`a power cut, with a mark every 2 ms, is never taken for a loss (${durability})`,
		{ needs: [powerCut] },
		async (f) => {
			using folder = tempFolder();
			const start = daemons(f.context);
			const random = seededRandom(f.seed + 1);
			// With a share of it to be free, as every disk.
			let disk: LoopDisk = loopDisk({ bytes: 160 * 1024 * 1024 });
			try {
				const open = (): Promise<Daemon> =>
					start(join(disk.path, "data"), {
						program: DYING,
						socketPath: join(folder.path, "s.sock"),
						env: { KEEPER_MS: "2", BUNBASE_DURABILITY: durability },
					});
				let daemon = await open();
				await pausedLane(daemon);
				assert.equal(await daemon.stop(), 0);
				daemon = await open();
				let acceptedBefore = 0;
				for (let round = 0; round < f.runs(1, 12); round += 1) {
					const { accepted, end } = load(daemon);
					const enough = 50 + Math.floor(random.next() * 300);
					await waitFor("acceptances", () => accepted.size >= enough);
					if (durability === "process" && round % 2 === 1) {
						// Quiet for long enough that a checkpoint was made and marked.
						await end();
						await marked(join(disk.path, "data"), 1);
					}
					disk.cutPower();
					daemon.process.kill("SIGKILL");
					await end();
					await daemon.kill();
					acceptedBefore += accepted.size;
					const found = disk.afterPowerCut();
					disk[Symbol.dispose]();
					disk = found;
					// A false refusal would be this start's rejection.
					daemon = await open();
					const { queued } = (await daemon.client.call("stats.get", {})) as { queued: number };
					if (durability === "power") {
						assert.ok(queued >= acceptedBefore, `round ${round}: ${queued} of ${acceptedBefore} acknowledged`);
					}
					acceptedBefore = queued;
				}
				assert.equal(await daemon.stop(), 0);
				assert.ok(readFileSync(join(disk.path, "data/high-water.json"), "utf8").includes("commits"));
			} finally {
				disk[Symbol.dispose]();
			}
		},
	);
}
