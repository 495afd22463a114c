/** An engine's life is started and stopped at any time, by anybody, as often as they like; real Bun, real files. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Engine, Source } from "../../src/core/contracts.ts";
import { EngineError } from "../../src/core/errors.ts";
import { createEngine, type EngineHandle, type InvokeRequest } from "../../src/index.ts";
import { tempFolder } from "../support/temp-folder.ts";
import { waitFor } from "../support/wait-for.ts";

function request(change: Partial<InvokeRequest> = {}): InvokeRequest {
	return {
		function: "gate",
		source: "cli",
		method: "POST",
		path: "/",
		headers: [],
		query: [],
		body: new Uint8Array(),
		waits: false,
		...change,
	};
}

/** Answers once the file named by the body exists. */
const GATE = `import { existsSync } from "node:fs";
export default async (req: Request, ctx: { attempt: number }) => {
	const path = await req.text();
	while (path !== "" && !existsSync(path)) await new Promise((resolve) => setTimeout(resolve, 5));
	return new Response(String(ctx.attempt));
};`;

async function deployGate(engine: EngineHandle, folder: string): Promise<void> {
	const path = join(folder, "gate.ts");
	writeFileSync(path, GATE);
	await engine.deploy({ function: "gate", path, build: true, register: true });
}

const isRefusal = (code: string) => (error: unknown) => error instanceof EngineError && error.code === code;

function watching(): Source & { readonly calls: string[] } {
	const calls: string[] = [];
	return {
		kind: "watching",
		calls,
		async start() {
			calls.push("start");
		},
		async stop() {
			calls.push("stop");
		},
	};
}

test("start and stop, each called many times at once, happen once", async () => {
	using folder = tempFolder();
	const source = watching();
	const engine = createEngine({ dataDir: join(folder.path, "data"), sources: [source] });
	await Promise.all(Array.from({ length: 5 }, () => engine.start()));
	assert.equal(engine.ready, true);
	await Promise.all(Array.from({ length: 5 }, () => engine.stop()));
	assert.equal(engine.ready, false);
	assert.deepEqual(source.calls, ["start", "stop"]);
	await using next = createEngine({ dataDir: join(folder.path, "data") });
	await next.start();
});

test("a stop during the start leaves nothing open: the folder is free at once", async () => {
	using folder = tempFolder();
	const dataDir = join(folder.path, "data");
	for (let life = 0; life < 4; life += 1) {
		const engine = createEngine({ dataDir });
		const started = engine.start().then(
			() => "started",
			(error: unknown) => (error instanceof EngineError ? error.code : String(error)),
		);
		if (life > 0) for (let turns = 0; turns < life * 3; turns += 1) await new Promise(setImmediate);
		await Promise.all([engine.stop(), engine.stop()]);
		assert.ok(["started", "SHUTTING_DOWN"].includes(await started), await started);
		assert.equal(engine.ready, false);
		// A lock that was left behind refuses this with SECOND_DAEMON.
		await using next = createEngine({ dataDir });
		await next.start();
		assert.equal(next.stats().functions, 0);
	}
});

test("a stop before the start: the start is refused, and opens nothing", async () => {
	using folder = tempFolder();
	const engine = createEngine({ dataDir: join(folder.path, "data") });
	await engine.stop();
	await assert.rejects(engine.start(), isRefusal("SHUTTING_DOWN"));
	assert.equal(engine.ready, false);
});

test("a source that cannot start ends the start, stops the others, and frees the folder", async () => {
	using folder = tempFolder();
	const dataDir = join(folder.path, "data");
	const first = watching();
	const bad: Source = {
		kind: "bad",
		start: () => Promise.reject(new EngineError("BAD_ENVIRONMENT", "the port is taken")),
		stop: async () => undefined,
	};
	const engine = createEngine({ dataDir, sources: [first, bad] });
	await assert.rejects(engine.start(), isRefusal("BAD_ENVIRONMENT"));
	assert.deepEqual(first.calls, ["start", "stop"]);
	await engine.stop();
	await engine.stop();
	await using next = createEngine({ dataDir });
	await next.start();
});

test("a stop with running work: the waiter gets SHUTTING_DOWN with the id; the work finishes after the next start, uncharged", async () => {
	using folder = tempFolder();
	const dataDir = join(folder.path, "data");
	const gate = join(folder.path, "open");
	const body = new TextEncoder().encode(gate);
	const engine = createEngine({ dataDir, drainMs: 100 });
	await engine.start();
	await deployGate(engine, folder.path);
	const waits = engine.invoke(request({ body, waits: true })).catch((error: unknown) => error);
	const asked = await engine.enqueue(request({ body }));
	const delayed = await engine.enqueue(request({ delayMs: 60_000 }));
	await waitFor("both run", () => engine.stats().running === 2);
	const refused: unknown[] = [];
	const stopped = engine.stop();
	refused.push(await engine.enqueue(request()).catch((error: unknown) => error));
	refused.push(await engine.invoke(request({ waits: true })).catch((error: unknown) => error));
	refused.push(await engine.deploy({ function: "gate", path: "x" }).catch((error: unknown) => error));
	await stopped;
	for (const error of refused) assert.ok(isRefusal("SHUTTING_DOWN")(error), String(error));
	const told = await waits;
	assert.ok(told instanceof EngineError && told.code === "SHUTTING_DOWN", String(told));
	const waited = told.invocationId ?? "";
	assert.match(waited, /^inv_/);

	writeFileSync(gate, "");
	await using next = createEngine({ dataDir });
	await next.start();
	for (const id of [waited, asked.invocationId]) {
		const { record } = await next.awaitInvocation(id, { timeoutMs: 10_000 });
		assert.equal(record.state, "succeeded");
		assert.deepEqual(
			record.attempts.map(({ outcome }) => outcome),
			["released", "succeeded"],
			"the drain was recorded, and not found at boot as a death",
		);
		assert.equal(record.charged, 0, "the interrupted attempt is not charged");
	}
	assert.equal(next.getInvocation(delayed.invocationId).state, "queued");
});

test("work that ends within the drain is recorded and told; nothing new starts meanwhile", async () => {
	using folder = tempFolder();
	const dataDir = join(folder.path, "data");
	const gate = join(folder.path, "open");
	const body = new TextEncoder().encode(gate);
	const engine = createEngine({ dataDir, drainMs: 10_000, defaults: { concurrency: 1 } });
	await engine.start();
	await deployGate(engine, folder.path);
	const waits = engine.invoke(request({ body, waits: true }));
	const queued = await engine.enqueue(request());
	await waitFor("it runs", () => engine.stats().running === 1);
	const stopped = engine.stop();
	writeFileSync(gate, "");
	const end = await waits;
	assert.equal(end.state, "succeeded");
	await stopped;
	await using next = createEngine({ dataDir });
	await next.start();
	const { record } = await next.awaitInvocation(queued.invocationId, { timeoutMs: 10_000 });
	assert.deepEqual([record.state, record.attempt], ["succeeded", 1]);
});

test("who asks to wait while the sources stop is told, and does not hold the stop up", async () => {
	using folder = tempFolder();
	let seen: Engine | undefined;
	let answer: unknown;
	let id = "";
	const late: Source = {
		kind: "late",
		async start(engine) {
			seen = engine;
		},
		async stop() {
			answer = await seen?.awaitInvocation(id, { timeoutMs: 60_000 }).catch((error: unknown) => error);
		},
	};
	const engine = createEngine({ dataDir: join(folder.path, "data"), sources: [late] });
	await engine.start();
	await deployGate(engine, folder.path);
	id = (await engine.enqueue(request({ delayMs: 60_000 }))).invocationId;
	await engine.stop();
	assert.ok(isRefusal("SHUTTING_DOWN")(answer), String(answer));
});

test("a replay of an invocation whose stored result was damaged is refused with DATA_CORRUPT, and the engine goes on", async () => {
	using folder = tempFolder();
	const dataDir = join(folder.path, "data");
	await using engine = createEngine({ dataDir });
	await engine.start();
	await deployGate(engine, folder.path);
	const keyed = request({ idempotencyKey: "k", waits: true });
	const end = await engine.invoke(keyed);
	assert.equal(end.state, "succeeded");
	const { default: BetterSqlite3 } = await import("better-sqlite3");
	const shell = new BetterSqlite3(join(dataDir, "queue.db"));
	shell.exec("UPDATE invocation SET result_crc = result_crc + 1");
	shell.close();
	await assert.rejects(engine.invoke(keyed), isRefusal("DATA_CORRUPT"));
	assert.equal((await engine.invoke(request({ waits: true }))).state, "succeeded");
});
