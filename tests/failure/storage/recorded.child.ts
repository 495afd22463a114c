/**
 * What write-recorder.ts records: the real store and queue at work on a data folder, told to a file of acknowledgements,
 * one JSON line each, at the moment when a caller would be told. `SEED`, `DATA_DIR`, `ACKS`, `TURNS`, `CHECKPOINTS`.
 *
 * It accepts (small and large bodies, keys, delays), answers (also with errors that are tried again), cancels, checkpoints,
 * prunes and deploys, as the engine does, in one process without workers.
 */
import { openSync, writeSync } from "node:fs";
import { setImmediate as endOfTurn } from "node:timers/promises";
import { crc32 } from "node:zlib";
import type { EngineError } from "../../../src/core/errors.ts";
import { BundleStore, FunctionStore } from "../../../src/store/index.ts";
import { OK, queueOnFile, THROWN } from "../../support/queue-on-file.ts";
import { seededRandom } from "../../support/seed.ts";
import type { Told } from "./write-recorder.ts";

const env = (name: string): string => process.env[name] ?? "";
const random = seededRandom(Number(env("SEED")));
const below = (count: number): number => Math.floor(random.next() * count);
const acks = openSync(env("ACKS"), "a");
const tell = (told: Told): void => void writeSync(acks, `${JSON.stringify(told)}\n`);
const turns = Number(env("TURNS"));
const checkpoints = env("CHECKPOINTS") === "often";

using harness = queueOnFile({
	dataDir: env("DATA_DIR"),
	durability: "power",
	lanes: [
		{ limit: 20, config: { retry: { maxAttempts: 3, backoffMs: 1000, maxBackoffMs: 1000, jitter: 0 } as never } },
	],
	slots: 20,
});
const { clock, folder, queue } = harness;
const bundles = new BundleStore(folder.paths);
const functions = new FunctionStore(folder.metadata);
const functionId = `fn_${"recorded".padEnd(18, "0")}`;
const known = functions.load().functions[0];
const lane = known ?? functions.insertFunction({ functionId, name: "f0", handler: "default", createdAt: clock.now() });
let versions = functions.load().versions.length;

async function deploy(): Promise<void> {
	versions += 1;
	const version = `v${versions}`;
	const bytes = Buffer.from(`export default () => new Response("${version}"); // ${"x".repeat(below(20_000))}`);
	const { sha256 } = await bundles.store(functionId, version, bytes, "{}");
	const createdAt = clock.now();
	const row = functions.insertVersion({
		function: lane.id,
		version,
		sha256,
		bytes: bytes.byteLength,
		config: {},
		createdAt,
	});
	functions.activate({
		function: lane.id,
		version: row.id,
		deploymentId: `dep_${versions}`,
		reason: "deploy",
		at: createdAt,
		schedules: [],
		events: [],
	});
	tell({ what: "deployed", version, sha256 });
}

function accept(): void {
	const bytes = random.next() < 0.15 ? 4097 + below(30_000) : below(600);
	const body = Buffer.alloc(bytes, String.fromCharCode(97 + below(26)));
	const key = random.next() < 0.2 ? `key ${random.next()}` : undefined;
	const submission = harness.submission(0, {
		body,
		...(key === undefined ? {} : { idempotencyKey: key }),
		...(random.next() < 0.1 ? { delayMs: 1000 * below(100) } : {}),
	});
	queue.enqueue(
		submission,
		({ invocationId: id }) => tell({ what: "accepted", id, bytes, crc: crc32(body), at: clock.now() }),
		(error: EngineError) => {
			throw error;
		},
	);
}

function answer(): void {
	for (const claim of harness.sent.splice(0)) {
		const dice = random.next();
		const body = Buffer.alloc(random.next() < 0.1 ? 4097 + below(9000) : below(100), "r");
		const outcome = dice < 0.15 ? THROWN : { ...OK, body };
		claim.ticket.release();
		harness.queue.settle(claim, outcome as typeof OK, (settled) => {
			if (settled === "queued" || settled === "stale") return;
			tell({ what: "ended", id: claim.invocationId, state: settled });
		});
	}
}

await deploy();
for (let turn = 1; turn <= turns; turn += 1) {
	for (let count = below(4); count > 0; count -= 1) accept();
	if (random.next() < 0.7) answer();
	harness.turn();
	const dice = random.next();
	if (dice < 0.02) await deploy();
	else if (dice < 0.04) await clock.advance(1000);
	else if (dice < 0.05) {
		tell({ what: "pruning", now: clock.now() + 86_400_000 });
		await clock.advance(86_400_000);
		let more = true;
		while (more) {
			const step = queue.prune();
			harness.turn();
			more = await step;
		}
	}
	const checkpoint = checkpoints ? 0 : random.next();
	if (checkpoint < 0.03) folder.queue.pragma("wal_checkpoint(TRUNCATE)");
	else if (checkpoint < 0.06) folder.queue.pragma("wal_checkpoint(PASSIVE)");
	harness.turn();
	// A sync that goes on beside the next turns ends when the event loop has one of its own.
	if (random.next() < 0.5) await endOfTurn();
}
