/**
 * The disk as a power cut may leave it at worst: writes that were not synced are there or not, in any combination, torn
 * at sectors. Every image opens, nothing that a caller was told is missing or different, and all of it can go on.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as endOfTurn } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { invocationId } from "../../../src/core/ids.ts";
import { LIMITS } from "../../../src/core/limits.ts";
import { BundleStore, FunctionStore } from "../../../src/store/index.ts";
import { OK, queueOnFile, type QueueOnFile } from "../../support/queue-on-file.ts";
import { seededRandom } from "../../support/seed.ts";
import { fault, type Fault } from "../fault.ts";
import { strace } from "../needs.ts";
import { assertWhole } from "./fsck.ts";
import { rebuild, record, type Recording, type Told } from "./write-recorder.ts";

const PROGRAM = [process.execPath, join(import.meta.dirname, "recorded.child.ts")];

interface Images {
	readonly images: number;
	readonly told: number;
}

function memoryFolder(): Disposable & { readonly path: string } {
	const path = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "bunbase-record-"));
	return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

function recordAt(path: string, env: Record<string, string>): Recording {
	const dataDir = join(path, "data");
	mkdirSync(dataDir);
	const acks = join(path, "acks");
	return record(PROGRAM, { dataDir, acks, trace: join(path, "trace"), env: { ...env, DATA_DIR: dataDir, ACKS: acks } });
}

/** Cuts at random moments, half of them right after somebody was told something. */
async function cutOften(f: Fault, recording: Recording, path: string, images: number, seed: number): Promise<Images> {
	const random = seededRandom(seed);
	const tellings = recording.steps.flatMap((step, index) => (step.kind === "told" ? [index] : []));
	let told = 0;
	for (let image = 0; image < images; image += 1) {
		const anywhere = Math.floor(random.next() * recording.steps.length);
		const after = random.next() < 0.5 ? anywhere : (tellings[Math.floor(random.next() * tellings.length)] ?? anywhere);
		const kept = [0, 0.1, 0.5, 0.9, 1][Math.floor(random.next() * 5)] ?? 0;
		const sectorBytes = random.next() < 0.5 ? 512 : 4096;
		const dataDir = join(path, "image");
		const known = rebuild(recording, dataDir, { after, random, kept, sectorBytes });
		try {
			await checkImage(dataDir, known);
		} catch (error) {
			throw new Error(`image ${image}, cut after step ${after}, kept ${kept}, sectors of ${sectorBytes}`, {
				cause: error,
			});
		}
		rmSync(dataDir, { recursive: true });
		told += known.length;
	}
	f.ran(images);
	return { images, told };
}

async function checkImage(dataDir: string, told: readonly Told[]): Promise<void> {
	const prunedUntil = Math.max(0, ...told.map((line) => (line.what === "pruning" ? line.now : 0)));
	const ended = new Map(told.flatMap((line) => (line.what === "ended" ? [[line.id, line.state]] : [])));
	{
		using harness = queueOnFile({ dataDir, durability: "power", lanes: [{ limit: 20 }], slots: 20 });
		const { folder, queue } = harness;
		const stored = new FunctionStore(folder.metadata).load();
		for (const line of told) {
			if (line.what === "accepted") {
				const state = ended.get(line.id);
				if (state !== undefined && line.at + LIMITS.resultRetentionMs <= prunedUntil) continue;
				const row = queue.read.row(line.id);
				assert.equal(row.bodyBytes, line.bytes);
				assert.equal(crc32(queue.read.request(line.id).request.body), line.crc);
				if (state !== undefined)
					assert.equal(harness.state(line.id), state, `${line.id} ended, and that never changes`);
			} else if (line.what === "deployed") {
				const row = stored.versions.find(({ version }) => version === line.version);
				assert.equal(row?.sha256, line.sha256, `version ${line.version} is there`);
			}
		}
		assert.equal(harness.logged.filter((line) => line.includes("defect")).length, 0);
		await drain(harness);
	}
	assertWhole(dataDir, { drained: true, now: prunedUntil });
}

/** Everything that is left runs to its end. */
async function drain(harness: QueueOnFile): Promise<void> {
	const { folder, queue } = harness;
	const waiting = folder.queue.prepare<[], [number, number]>(
		"SELECT created_at, seq FROM invocation WHERE state = 0 AND ready = 0",
	);
	for (const [createdAt, seq] of waiting.raw().all()) void queue.cancel(invocationId(createdAt, seq));
	harness.turn();
	// What is committed is sent when it is on disk, in a later turn of the event loop.
	while (harness.sent.length > 0 || !queue.idle) {
		for (const claim of harness.sent.splice(0)) harness.settle(claim, OK);
		harness.turn();
		await endOfTurn();
	}
	// As a daemon does at its start.
	const { versions, functions } = new FunctionStore(folder.metadata).load();
	await new BundleStore(folder.paths).sweep((functionId, version) =>
		versions.some(
			(row) =>
				row.version === version && functions.some((fn) => fn.id === row.function && fn.functionId === functionId),
		),
	);
}

fault(
	"B3",
	"torn and reordered writes: whatever is on the disk, what was told is there",
	{ needs: [strace] },
	async (f) => {
		using memory = memoryFolder();
		const recording = recordAt(memory.path, { SEED: String(f.seed), TURNS: f.long ? "600" : "80" });
		const { images, told } = await cutOften(f, recording, memory.path, f.long ? 600 : 12, f.seed);
		f.record(
			`${recording.syncs} syncs recorded, ${images} images, ${told.toLocaleString("en")} acknowledgements checked, lost 0`,
		);
	},
);

fault("B5", "torn writes around checkpoints and pruning: nothing told is lost", { needs: [strace] }, async (f) => {
	using memory = memoryFolder();
	const env = { SEED: String(f.seed + 1), TURNS: f.long ? "300" : "50", CHECKPOINTS: "often" };
	const recording = recordAt(memory.path, env);
	const { images, told } = await cutOften(f, recording, memory.path, f.long ? 300 : 10, f.seed + 1);
	f.record(`a checkpoint each turn: ${images} images, ${told.toLocaleString("en")} acknowledgements checked, lost 0`);
});
