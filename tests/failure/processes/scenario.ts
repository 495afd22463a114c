/**
 * A small life of the engine's durable half, for killing at every system call: it opens a data folder, deploys, accepts,
 * claims, settles, deploys again, sweeps bundles and closes, with the real store and queue and without the workers and
 * sockets that make a daemon slow to start. Started again on the same folder it does the same under the same idempotency
 * keys, so it completes what a kill cut short.
 *
 *     node scenario.ts DATA_DIR LEDGER [wait | complete]
 *
 * What it told "clients" and what "handlers" did goes into LEDGER as lines of a history. It writes them with pwrite64,
 * one call a line, so that "after the commit, before anybody was told" is one of the moments that a kill can hit.
 * With `wait` it prints its threads and goes on when its input says so, for attaching to one; with `complete` it tells
 * the rows too, at the end.
 */
import { createHash } from "node:crypto";
import { openSync, readdirSync, readFileSync, readSync, writeSync } from "node:fs";
import { stat } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { silentLogger, silentProbe, type Environment } from "../../../src/core/environment.ts";
import { BUILT_IN, type ResolvedConfig } from "../../../src/core/function-config.ts";
import type { Outcome } from "../../../src/core/invocation.ts";
import { systemClock, systemRandom } from "../../../src/engine/index.ts";
import { Lane, Queue, type Claim, type Submission } from "../../../src/queue/index.ts";
import { BundleStore, FunctionStore, openDataFolder, type FunctionRow } from "../../../src/store/index.ts";
import { monotonicMs } from "../../support/ledger.ts";
import type { Line } from "../harness/history.ts";
import { ELEMENTS, PLANS, type ScenarioElement } from "./scenario-facts.ts";

const [, , dataDir = "", ledger = "", mode] = process.argv;
const out = openSync(ledger, "a");
const born = Math.round(monotonicMs());
let op = process.pid * 1000;

function tell(line: Line): void {
	const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
	// Appended whatever the position says, because of O_APPEND; given, it makes the call a pwrite64.
	writeSync(out, bytes, 0, bytes.byteLength, 0);
}

const environment: Environment = {
	clock: systemClock,
	random: systemRandom,
	probe: silentProbe,
	logger: silentLogger,
};

if (mode === "wait") {
	// The pool's one thread (UV_THREADPOOL_SIZE=1) begins with its first work.
	await stat(dataDir).catch(() => undefined);
	const names = readdirSync("/proc/self/task").map((tid) => ({
		tid,
		name: readFileSync(`/proc/self/task/${tid}/comm`, "utf8").trim(),
	}));
	process.stdout.write(`${JSON.stringify(names)}\n`);
	readSync(0, Buffer.alloc(1));
}

const folder = openDataFolder({ dataDir, durability: "power", environment });
const store = new FunctionStore(folder.metadata);
const bundles = new BundleStore(folder.paths);
const catalogue = store.load();
await bundles.sweep((functionId, version) => {
	const fn = catalogue.functions.find((found) => found.functionId === functionId);
	return catalogue.versions.some((found) => found.function === fn?.id && found.version === version);
});

// A version whose row is there has its bundle, whole: a daemon's workers would load it from here on.
for (const version of catalogue.versions) {
	const fn = catalogue.functions.find(({ id }) => id === version.function);
	await bundles.verify(fn?.functionId ?? "", version.version, version.sha256);
}

/** As engine/deploy.ts orders it: bytes, version, switch. */
async function deploy(fn: FunctionRow, version: string): Promise<number> {
	const bytes = Buffer.from(`export default () => new Response(${JSON.stringify(`${fn.name} ${version}`)});\n`);
	await bundles.store(fn.functionId, version, bytes, "{}");
	const row = store.insertVersion({
		function: fn.id,
		version,
		sha256: createHash("sha256").update(bytes).digest("hex"),
		bytes: bytes.byteLength,
		config: {},
		createdAt: Date.now(),
	});
	store.activate({
		function: fn.id,
		version: row.id,
		deploymentId: `dep_${crypto.randomUUID()}`,
		reason: "deploy",
		at: Date.now(),
		schedules: [],
		events: [],
	});
	tell({ kind: "fault", fault: `deployed ${fn.name} ${version}`, at: monotonicMs() });
	return row.id;
}

const functions = new Map<string, { row: FunctionRow; version: number; config: ResolvedConfig }>();
for (const [name, { overrides, facts }] of Object.entries(PLANS)) {
	const row =
		catalogue.functions.find((found) => found.name === name) ??
		store.insertFunction({ functionId: `fn_${name}`, name, handler: "default", createdAt: Date.now() });
	const config = { ...BUILT_IN, ...overrides, concurrency: facts.limit };
	functions.set(name, { row, version: row.activeVersion ?? (await deploy(row, "v1")), config });
}

function fnOf(id: number): { name: string; row: FunctionRow; config: ResolvedConfig } {
	for (const [name, { row, config }] of functions) if (row.id === id) return { name, row, config };
	throw new Error(`no function ${id}`);
}

let rows = 0;
const unfinished = new Set<string>();
let wake = (): void => undefined;
const queue: Queue = new Queue({
	database: folder.queue,
	disk: folder.queueDisk,
	environment,
	slots: { isStuck: () => false, reserve: () => ({ worker: "w1", cold: false, release: () => undefined }) },
	names: {
		functionOf: (id) => ({ functionId: fnOf(id).row.functionId, name: fnOf(id).name }),
		versionOf: (version) => `v${version}`,
	},
	resultRetentionMs: 7 * 86_400_000,
	defer: setImmediate,
	claimed: (claims) => claims.forEach(run),
	ended({ invocationId, state, result }) {
		tell({ kind: "saw", id: invocationId, state, digest: result === undefined ? 0 : crc32(result.body), at: 0 });
		unfinished.delete(invocationId);
		wake();
	},
	retryOf: (lane) => fnOf(lane).config.retry,
	freeBallast: () => folder.ballast.free(),
	broken(error) {
		throw error;
	},
});
for (const { row, config } of functions.values()) {
	queue.lanes.add(new Lane(row.id, row.functionId, { limit: config.concurrency, maxQueued: 1000, paused: false }));
}
queue.recover();

/** The handler: answers with what it was given, or throws as often as it is asked to. */
function run(claim: Claim): void {
	const { invocationId: id, attempt } = claim;
	const at = { id, attempt, pid: process.pid, born, at: monotonicMs() };
	tell({ kind: "ran", what: "start", ...at });
	const { element, fail = 0 } = JSON.parse(Buffer.from(claim.body).toString()) as ScenarioElement;
	let outcome: Outcome = { kind: "failed", error: { code: "HANDLER_ERROR", message: "as asked" } };
	if (attempt <= fail) {
		tell({ kind: "ran", what: "throw", ...at });
	} else {
		const answer = { echo: element, sum: crc32(claim.body), pattern: "" };
		outcome = { kind: "succeeded", status: 200, headers: [], body: Buffer.from(JSON.stringify(answer)) };
		tell({ kind: "ran", what: "finish", ...at });
	}
	queue.settle(claim, outcome, () => undefined);
}

function submissionOf({ function: name, element, key, ...more }: ScenarioElement): Submission {
	const found = functions.get(name);
	if (found === undefined) throw new Error(name);
	const body = Buffer.from(JSON.stringify({ function: name, element, key, ...more }));
	op += 1;
	tell({
		kind: "op",
		type: "invoke",
		process: process.pid,
		op,
		element,
		at: monotonicMs(),
		function: name,
		via: "socket",
		key,
		laneKey: "",
		sum: crc32(body),
		patternSum: 0,
	});
	return {
		lane: queue.lanes.get(found.row.id),
		version: found.version,
		config: found.config,
		origin: null,
		request: {
			function: name,
			source: "socket",
			method: "POST",
			path: "/",
			headers: [],
			query: [],
			body,
			waits: false,
			idempotencyKey: key,
			tags: [element],
		},
	};
}

function accepted(element: string, id: string, replayed: boolean): void {
	tell({ kind: "op", type: "ok", process: process.pid, op, element, at: monotonicMs(), id, replayed });
	if (queue.read.record(id).finishedAt === undefined) unfinished.add(id);
}

function rowOf(id: string): Line {
	const record = queue.read.record(id);
	const { functionName, state, attempt, charged, maxAttempts, finishedAt, laneKey, result, error } = record;
	return {
		kind: "row",
		order: rows++,
		id,
		function: functionName,
		element: record.tags[0],
		key: record.idempotencyKey,
		laneKey,
		state,
		attempt,
		charged,
		maxAttempts,
		finishedAt,
		code: error?.code,
		attempts: record.attempts.map(({ attempt, outcome }) => ({ attempt, outcome })),
		answer: result === undefined ? undefined : answerOf(result.body),
		digest: result === undefined ? 0 : crc32(result.body),
	};
}

function answerOf(body: Uint8Array): { echo: unknown; sum: number; patternSum: number } {
	const { echo, sum, pattern } = JSON.parse(Buffer.from(body).toString()) as {
		echo: unknown;
		sum: number;
		pattern: string;
	};
	return { echo, sum, patternSum: crc32(pattern) };
}

/** Until everything that was accepted has ended. */
async function ended(): Promise<void> {
	while (unfinished.size > 0) await new Promise<void>((resolve) => (wake = resolve));
}

// One alone; several in one turn of the loop, one of them larger than a row; the rest one after another.
const [first, ...rest] = ELEMENTS;
for (const elements of [first === undefined ? [] : [first], rest.slice(0, 4), ...rest.slice(4).map((one) => [one])]) {
	await Promise.all(
		elements.map(
			(element) =>
				new Promise<void>((resolve, reject) => {
					queue.enqueue(
						submissionOf(element),
						({ invocationId, replayed }) => {
							accepted(element.element, invocationId, replayed);
							resolve();
						},
						reject,
					);
				}),
		),
	);
}
await ended();

const [one] = functions.values();
if (one !== undefined) {
	await deploy(one.row, "v2");
	// A bundle whose row was never written, as a deploy leaves it that does not load.
	await bundles.store(one.row.functionId, "v3", Buffer.from("export default 1;\n"), "{}");
	await bundles.discard(one.row.functionId, "v3");
}
while (await queue.prune()) {
	// Step by step, as maintenance does.
}
if (mode === "complete") {
	for (const { invocationId } of queue.read.list({ limit: 1000 }).toReversed()) tell(rowOf(invocationId));
}
queue.close();
folder.close();
