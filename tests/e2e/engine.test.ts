/** The library, end to end with real Bun: what a user of createEngine sees. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { EngineError } from "../../src/core/errors.ts";
import { createEngine, type EngineHandle, type InvokeRequest } from "../../src/index.ts";
import { tempFolder } from "../support/temp-folder.ts";
import { waitFor } from "../support/wait-for.ts";

const folder = tempFolder("bunbase e2e ünïcode ");
const encoder = new TextEncoder();
const decoder = new TextDecoder();
let engine: EngineHandle;

before(async () => {
	engine = createEngine({ dataDir: join(folder.path, "data"), drainMs: 2_000 });
	await engine.start();
});
after(async () => {
	await engine.stop();
	folder[Symbol.dispose]();
});

function request(name: string, change: Partial<InvokeRequest> = {}): InvokeRequest {
	return {
		function: name,
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

async function deploy(name: string, source: string, version?: string): Promise<void> {
	const path = join(folder.path, `${name}.ts`);
	writeFileSync(path, source);
	await engine.deploy({
		function: name,
		path,
		build: true,
		register: true,
		...(version === undefined ? {} : { version }),
	});
}

async function ended(invocationId: string) {
	const { record, timedOutWaiting } = await engine.awaitInvocation(invocationId, { timeoutMs: 20_000 });
	assert.equal(timedOutWaiting, false);
	return record;
}

const refusal = (code: string) => (error: unknown) => error instanceof EngineError && error.code === code;

test("method, sub-path, repeated headers and query, and binary bodies arrive as sent, and come back", async () => {
	await deploy(
		"mirror",
		`export default async (req: Request, ctx: { invocationId: string }) => {
			const url = new URL(req.url);
			const seen = { method: req.method, path: url.pathname, query: [...url.searchParams], a: req.headers.get("x-a"),
				id: req.headers.get("x-invocation-id"), same: req.headers.get("x-invocation-id") === ctx.invocationId };
			const headers = new Headers({ "x-seen": JSON.stringify(seen) });
			headers.append("set-cookie", "a=1"); headers.append("set-cookie", "b=2");
			return new Response(await req.arrayBuffer(), { status: 207, headers });
		};`,
	);
	const body = Uint8Array.from({ length: 300_000 }, (_, index) => index % 256);
	const end = await engine.invoke(
		request("mirror", {
			method: "PUT",
			path: "/cart/7%20b",
			query: [
				["q", "1"],
				["q", "2"],
				["e", "ä&="],
			],
			headers: [
				["x-a", "1"],
				["x-a", "2"],
			],
			body,
			waits: true,
		}),
	);
	assert.equal(end.state, "succeeded");
	assert.equal(end.result?.status, 207);
	assert.deepEqual(Buffer.from(end.result.body), Buffer.from(body));
	const headers = end.result.headers;
	const seen = JSON.parse(headers.find(([name]) => name === "x-seen")?.[1] ?? "{}") as Record<string, unknown>;
	assert.deepEqual(seen, {
		method: "PUT",
		path: "/cart/7%20b",
		query: [
			["q", "1"],
			["q", "2"],
			["e", "ä&="],
		],
		a: "1, 2",
		id: end.invocationId,
		same: true,
	});
	assert.deepEqual(
		headers.filter(([name]) => name === "set-cookie").map(([, value]) => value),
		["a=1", "b=2"],
	);
});

test("a path that looks like another host stays a path", async () => {
	for (const path of ["//evil.example/x", "/../up", "/a//b"]) {
		const end = await engine.invoke(request("mirror", { path, waits: true }));
		assert.equal(end.state, "succeeded", end.error?.message);
	}
});

test("sync, async, named and fetch-object handlers", async () => {
	await deploy("sync-fn", "export default () => new Response('sync');");
	await deploy("fetch-fn", "export default { fetch: async () => new Response('fetch') };");
	engine.registerFunction({ name: "named-fn", handler: "onRequest" });
	await deploy("named-fn", "export const onRequest = () => new Response('named'); export default 5;");
	for (const [name, text] of [
		["sync-fn", "sync"],
		["fetch-fn", "fetch"],
		["named-fn", "named"],
	] as const) {
		const end = await engine.invoke(request(name, { waits: true }));
		assert.equal(decoder.decode(end.result?.body), text, end.error?.message);
	}
});

test("a retry backs off and succeeds; the record has every attempt with its error", async () => {
	await deploy(
		"second-time",
		"export const config = { retry: { maxAttempts: 3, baseMs: 50, jitter: false } };" +
			"export default (_: Request, ctx: { attempt: number }) => { if (ctx.attempt < 2) throw new RangeError('not yet'); return new Response('ok'); };",
	);
	const { invocationId } = await engine.enqueue(request("second-time"));
	const record = await ended(invocationId);
	assert.deepEqual([record.state, record.attempt, record.charged], ["succeeded", 2, 1]);
	assert.deepEqual(
		record.attempts.map(({ outcome }) => outcome),
		["failed", "succeeded"],
	);
	const [first] = record.attempts;
	assert.deepEqual(
		[first?.error?.code, first?.error?.name, first?.error?.message],
		["HANDLER_ERROR", "RangeError", "not yet"],
	);
	assert.ok(first?.error?.stack?.includes(`${join(folder.path, "second-time.ts")}:1:`), first?.error?.stack);
	assert.ok((record.startedAt ?? 0) - (first?.finishedAt ?? 0) >= 50, "the backoff was waited for");
	assert.equal(record.request.method, "POST");
	assert.equal(record.source, "cli");
});

test("a caller who waits gets one attempt", async () => {
	const end = await engine.invoke(request("second-time", { waits: true }));
	assert.deepEqual([end.state, end.error?.code], ["failed", "HANDLER_ERROR"]);
});

test("priority, delay and cancel of queued work; nothing starts in a paused lane", async () => {
	await deploy("ordered", "export const config = { concurrency: 1 }; export default () => new Response('x');");
	engine.pauseLane("ordered", true);
	const low = await engine.enqueue(request("ordered", { priority: -1 }));
	const first = await engine.enqueue(request("ordered"));
	const second = await engine.enqueue(request("ordered"));
	const high = await engine.enqueue(request("ordered", { priority: 5 }));
	const delayed = await engine.enqueue(request("ordered", { delayMs: 3_600_000 }));
	assert.equal(high.state, "queued");
	assert.equal((await engine.cancel(delayed.invocationId)).state, "cancelled");
	engine.pauseLane("ordered", false);
	const records = await Promise.all([high, first, second, low].map(({ invocationId }) => ended(invocationId)));
	const starts = records.map(({ startedAt }) => startedAt ?? 0);
	assert.deepEqual(
		starts,
		[...starts].sort((a, b) => a - b),
	);
	await assert.rejects(
		engine
			.retry(delayed.invocationId)
			.then(({ invocationId }) => ended(invocationId))
			.then((record) => {
				assert.equal(record.state, "succeeded");
				throw new Error("retried");
			}),
		/retried/,
	);
});

test("cancel of running work aborts the signal; the end is cancelled", async () => {
	await deploy(
		"patient",
		"export default (_: Request, ctx: { signal: AbortSignal }) => new Promise((_resolve, reject) => { ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason)); });",
	);
	const { invocationId } = await engine.enqueue(request("patient"));
	await waitFor("its start", () => engine.getInvocation(invocationId).state === "running");
	await engine.cancel(invocationId);
	assert.equal((await ended(invocationId)).state, "cancelled");
});

test("not started by its deadline: expired; still running at its deadline: timed_out without retry", async () => {
	engine.pauseLane("patient", true);
	const late = await engine.enqueue(request("patient", { deadlineMs: 50 }));
	assert.equal((await ended(late.invocationId)).state, "expired");
	engine.pauseLane("patient", false);
	const running = await engine.enqueue(request("patient", { deadlineMs: 100 }));
	const record = await ended(running.invocationId);
	assert.deepEqual([record.state, record.error?.code, record.attempt], ["timed_out", "DEADLINE_EXCEEDED", 1]);
});

test("a full lane refuses with LANE_FULL and Retry-After, and nothing was queued", async () => {
	await deploy("narrow", "export const config = { maxQueued: 2 }; export default () => new Response('x');");
	engine.pauseLane("narrow", true);
	await engine.enqueue(request("narrow"));
	await engine.enqueue(request("narrow"));
	await assert.rejects(
		engine.enqueue(request("narrow")),
		(error) => refusal("LANE_FULL")(error) && (error as EngineError).retryAfterSeconds === 1,
	);
	assert.equal(engine.listInvocations({ function: "narrow" }).length, 2);
	engine.pauseLane("narrow", false);
});

test("an event reaches every subscriber, committed with it; the same event id again makes no second one", async () => {
	const source =
		"export const config = { events: ['thing.happened'] }; export default async (req: Request) => Response.json({ type: req.headers.get('ce-type'), data: await req.json() });";
	await deploy("listener-a", source);
	await deploy("listener-b", source);
	const emitted = await engine.emit({ type: "thing.happened", data: { n: 1 }, id: "e-1" });
	assert.deepEqual(
		emitted.invocations.map(({ functionName }) => functionName),
		["listener-a", "listener-b"],
	);
	for (const { invocationId } of emitted.invocations) {
		const record = await ended(invocationId);
		assert.deepEqual(JSON.parse(decoder.decode(record.result?.body)), { type: "thing.happened", data: { n: 1 } });
		assert.deepEqual([record.source, record.origin], ["event", "e-1"]);
	}
	const again = await engine.emit({ type: "thing.happened", data: { n: 1 }, id: "e-1" });
	assert.deepEqual(again.invocations, emitted.invocations);
});

test("a bad bundle is refused with what is wrong, and the old version stays live", async () => {
	await deploy("steady", "export default () => new Response('old');");
	for (const [source, code, why] of [
		["throw new Error('at the top');", "BAD_BUNDLE", /at the top/],
		["export const other = 1;", "BAD_BUNDLE", /default/],
		["export default 5;", "BAD_BUNDLE", /function/],
		["export default () => {", "BUILD_FAILED", /steady\.ts/],
		["import './nowhere.ts'; export default () => new Response('');", "BUILD_FAILED", /nowhere/],
		["export const config = { timeoutMS: 5 }; export default () => new Response('');", "BAD_CONFIG", /timeoutMS/],
		[
			"export const config = { schedules: [{ cron: '0 0 30 2 *' }] }; export default () => new Response('');",
			"BAD_SCHEDULE",
			/30 2/,
		],
		[
			"export const config = { events: ['bad type'] }; export default () => new Response('');",
			"BAD_NAME",
			/event type/,
		],
	] as const) {
		await assert.rejects(deploy("steady", source), (error) => {
			assert.ok(error instanceof EngineError, String(error));
			assert.equal(error.code, code, error.message);
			assert.match(error.message, why);
			return true;
		});
		const end = await engine.invoke(request("steady", { waits: true }));
		assert.equal(decoder.decode(end.result?.body), "old");
	}
	assert.equal(engine.listVersions("steady").length, 1);
});

test("switching versions: running work finishes on the old one, new work starts on the new one, rollback is one call", async () => {
	await deploy("switched", "export default async () => { await Bun.sleep(300); return new Response('one'); };");
	const running = engine.invoke(request("switched", { waits: true }));
	await waitFor("its start", () => engine.listInvocations({ function: "switched", state: "running" }).length === 1);
	await deploy("switched", "export default () => new Response('two');");
	const two = await engine.invoke(request("switched", { waits: true }));
	assert.equal(decoder.decode(two.result?.body), "two");
	assert.equal(decoder.decode((await running).result?.body), "one");
	const rolled = await engine.rollback("switched");
	assert.deepEqual([rolled.version, rolled.reason], ["v1", "rollback"]);
	assert.equal(decoder.decode((await engine.invoke(request("switched", { waits: true }))).result?.body), "one");
	assert.deepEqual(
		engine.listDeployments("switched").map(({ version, reason }) => `${version} ${reason}`),
		["v1 rollback", "v2 deploy", "v1 deploy"],
	);
});

test("work of a replaced version that cannot start any more does not hold up the work of the new one", async () => {
	engine.registerFunction({ name: "stranded" });
	engine.setEnvironment("stranded", { KEY: "1" });
	await deploy(
		"stranded",
		"if (process.env.KEY === undefined) throw new Error('KEY is gone'); export default () => new Response('old');",
	);
	engine.pauseLane("stranded", true);
	const old = await engine.enqueue(request("stranded"));
	engine.unsetEnvironment("stranded", ["KEY"]);
	await deploy("stranded", "export default () => new Response('new');");
	const young = await engine.enqueue(request("stranded"));
	engine.pauseLane("stranded", false);
	const record = await ended(young.invocationId);
	assert.equal(decoder.decode(record.result?.body), "new");
	assert.equal(engine.getInvocation(old.invocationId).state, "queued", "it is kept");
	assert.equal((await engine.cancel(old.invocationId)).state, "cancelled");
});

test("environment is the function's own, and a change reaches the next call", async () => {
	await deploy("secretive", "export default () => Response.json({ ...process.env });");
	engine.setEnvironment("secretive", { API_KEY: "one" });
	const read = async (): Promise<Record<string, string>> =>
		JSON.parse(decoder.decode((await engine.invoke(request("secretive", { waits: true }))).result?.body)) as Record<
			string,
			string
		>;
	const env = await read();
	assert.equal(env["API_KEY"], "one");
	assert.deepEqual(
		Object.keys(env).filter(
			(name) => !["API_KEY", "PATH", "HOME", "TZ", "LANG", "BUN_FEATURE_FLAG_NO_ORPHANS"].includes(name),
		),
		[],
	);
	engine.setEnvironment("secretive", { API_KEY: "two" });
	assert.equal((await read())["API_KEY"], "two");
	engine.unsetEnvironment("secretive", ["API_KEY"]);
	assert.equal((await read())["API_KEY"], undefined);
});

test("console, stdout and ctx.log become lines of the right invocation, twenty at once", async () => {
	await deploy(
		"chatty",
		`export default async (req: Request, ctx: any) => {
			const me = await req.text();
			console.log("console", me); await Bun.sleep(20); process.stdout.write("stdout " + me + "\\n");
			ctx.log.warn("ctx " + me, { me }); return new Response(me);
		};`,
	);
	const ends = await Promise.all(
		Array.from({ length: 20 }, (_, index) =>
			engine.invoke(request("chatty", { body: encoder.encode(`n${index}`), waits: true })),
		),
	);
	for (const end of ends) {
		const me = decoder.decode(end.result?.body);
		const lines = await waitFor("three lines", () => {
			const { logs } = engine.readLogs({ invocationId: end.invocationId });
			return logs.length === 3 ? logs : undefined;
		});
		assert.deepEqual(lines.map(({ message }) => message).sort(), [`console ${me}`, `ctx ${me}`, `stdout ${me}`]);
		assert.deepEqual(lines.find(({ level }) => level === "warn")?.metadata, { me });
	}
});

test("metrics, lanes, workers and totals say what happened", async () => {
	const metrics = engine.getMetrics("steady", "hour");
	assert.ok(metrics.invocations >= 8 && metrics.errors === 0);
	const text = engine.renderMetrics();
	assert.match(text, /^bunbase_invocations_total\{function="steady",state="succeeded"\} \d+$/m);
	assert.ok(engine.listWorkers().some(({ state }) => state === "IDLE" || state === "WARM"));
	assert.ok(engine.listLanes().every(({ running, limit }) => running <= limit));
	assert.ok(engine.stats().commits > 0);
	const [summary] = engine.listInvocations({ function: "steady", limit: 1 });
	assert.ok(summary !== undefined && summary.queueWaitMs !== undefined && summary.runMs !== undefined);
});

test("unknown ids, names and options are refused with a code", async () => {
	assert.throws(() => engine.getInvocation("nonsense"), refusal("INVOCATION_NOT_FOUND"));
	assert.throws(() => engine.getFunction("nobody"), refusal("FUNCTION_NOT_FOUND"));
	assert.throws(() => engine.configureFunction("steady", { nonsense: 1 }), refusal("BAD_CONFIG"));
	assert.throws(() => engine.registerFunction({ name: "a", runtime: "quickjs" }), refusal("UNSUPPORTED_RUNTIME"));
	engine.registerFunction({ name: "empty" });
	await assert.rejects(engine.enqueue(request("empty")), refusal("NOT_DEPLOYED"));
	await assert.rejects(engine.rollback("steady", "v9"), refusal("VERSION_NOT_FOUND"));
	assert.throws(
		() => engine.putSchedule({ function: "steady", cron: "* * * * *", timezone: "Mars/Olympus" }),
		refusal("BAD_SCHEDULE"),
	);
	assert.throws(() => createEngine({ nonsense: true } as never), refusal("BAD_CONFIG"));
});
