import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { beforeEach, describe, it } from "node:test";
import type { z } from "zod";
import { EngineError, type ErrorCode } from "../../../src/core/errors.ts";
import { COMMANDS } from "../../../src/protocol/index.ts";
import { callOperation, OPERATIONS, type WireJson } from "../../../src/sources/operations.ts";
import { echo, FakeEngine, realEnvironment } from "../../support/fake-engine.ts";
import { waitFor } from "../../support/wait-for.ts";

let engine: FakeEngine;
let abort: AbortController;

beforeEach(() => {
	engine = new FakeEngine();
	engine.define("echo", echo);
	abort = new AbortController();
});

const call = (op: string, params?: unknown): Promise<WireJson> =>
	callOperation(engine, op, params, { source: "cli", signal: abort.signal, clock: realEnvironment().clock });

const refuses = (op: string, params: unknown, code: ErrorCode, message?: RegExp): Promise<void> =>
	assert.rejects(
		call(op, params),
		(error: unknown) =>
			error instanceof EngineError && error.code === code && (message === undefined || message.test(error.message)),
	);

/** Every key of every object, at any depth, except inside what functions and callers wrote. */
function keysOf(value: unknown, into = new Set<string>()): Set<string> {
	if (Array.isArray(value)) for (const item of value) keysOf(item, into);
	else if (typeof value === "object" && value !== null) {
		for (const [key, inner] of Object.entries(value)) {
			into.add(key);
			if (!["config", "overrides", "data", "metadata", "workers", "headers", "query"].includes(key))
				keysOf(inner, into);
		}
	}
	return into;
}

/** One call of every operation, in an order in which all of them succeed. */
async function everyAnswer(): Promise<Map<string, WireJson>> {
	const answers = new Map<string, WireJson>();
	const run = async (op: string, params?: unknown): Promise<WireJson> => {
		const answer = await call(op, params);
		answers.set(op, answer);
		return answer;
	};
	await run("functions.register", { name: "made" });
	await run("functions.list");
	await run("functions.get", { function: "echo" });
	await run("functions.configure", { function: "echo", overrides: { timeoutMs: 5 } });
	await run("functions.deploy", { function: "made", path: "/tmp/made.ts" });
	await run("functions.deploy", { function: "made", path: "/tmp/made.js", version: "v2" });
	await run("functions.rollback", { function: "made" });
	await run("functions.versions", { function: "made" });
	await run("functions.deployments", { function: "made" });
	await run("env.set", { function: "echo", values: { A: "secret" } });
	await run("env.list", { function: "echo" });
	await run("env.unset", { function: "echo", names: ["A"] });
	const schedule = await run("schedules.put", { function: "echo", cron: "* * * * *", data: { a: 1 } });
	await run("schedules.list", {});
	await run("schedules.pause", { schedule_id: schedule["schedule_id"], paused: true });
	await run("schedules.delete", { schedule_id: schedule["schedule_id"] });
	await run("events.emit", { type: "order.created", data: { a: 1 } });
	await run("events.list");
	const request = { function_id: "echo", method: "POST", path: "/", body: "YQ==" };
	const batch = await run("invocations.enqueue_batch", { requests: [request] });
	const [made] = batch["results"] as { invocation_id: string }[];
	const invocation_id = made?.invocation_id;
	await run("invocations.await", { invocation_id, timeout_ms: 1000, with_body: true });
	await run("invocations.get", { invocation_id });
	await run("invocations.retry", { invocation_id });
	await run("invocations.list", { state: "succeeded" });
	await run("lanes.pause", { function: "echo", paused: true });
	await run("lanes.list");
	const queued = await call("invocations.enqueue_batch", { requests: [request] });
	const [held] = queued["results"] as { invocation_id: string }[];
	await run("invocations.cancel", { invocation_id: held?.invocation_id });
	await run("workers.list");
	engine.log("echo", "line");
	await run("logs.read", { function: "echo" });
	await run("metrics.get", { function: "echo" });
	await run("stats.get");
	await run("backup.create", { path: "/backups/one" });
	await run("backup.progress");
	await run("health.get");
	return answers;
}

describe("the table of operations", () => {
	it("every operation answers an object of snake_case keys without undefined", async () => {
		const answers = await everyAnswer();
		assert.deepEqual([...answers.keys()].toSorted(), Object.keys(OPERATIONS).toSorted(), "all of them were called");
		for (const [op, answer] of answers) {
			for (const key of keysOf(answer)) assert.match(key, /^[a-z][a-z0-9_]*$/, `${op}: ${key}`);
			assert.deepEqual(JSON.parse(JSON.stringify(answer)), answer, `${op} is JSON as it is`);
		}
	});

	it("values of variables never come out", async () => {
		const answers = await everyAnswer();
		assert.equal(JSON.stringify([...answers.values()]).includes("secret"), false);
	});

	it("every command and operation, with every parameter, is in docs/protocol.md", () => {
		const doc = readFileSync(new URL("../../../docs/protocol.md", import.meta.url), "utf8");
		for (const [name, code] of Object.entries(COMMANDS)) {
			assert.ok(doc.includes(`| 0x${code.toString(16).padStart(2, "0")} | ${name} |`), name);
		}
		for (const [name, { params }] of Object.entries(OPERATIONS)) {
			const row = doc.split("\n").find((line) => line.startsWith(`| \`${name}\` |`));
			assert.ok(row !== undefined, name);
			for (const [key, schema] of Object.entries<z.ZodType>(params.shape)) {
				// z.unknown() takes undefined without being called optional.
				const optional = schema.safeParse(undefined).success;
				assert.ok(row.includes(`\`${key}${optional ? "?" : ""}\``), `${name}: ${key}`);
			}
		}
	});

	it("what is read-only changes nothing", async () => {
		const { invocationId } = await engine.enqueue({
			function: "echo",
			source: "cli",
			method: "POST",
			path: "/",
			headers: [],
			query: [],
			body: new Uint8Array(0),
			waits: false,
		});
		const accepted = engine.requests.length;
		const params = { function: "echo", invocation_id: invocationId };
		for (const [name, operation] of Object.entries(OPERATIONS)) {
			if (!operation.readOnly) continue;
			const known = Object.entries(params).filter(([key]) => key in operation.params.shape);
			await call(name, Object.fromEntries(known));
		}
		assert.equal(engine.requests.length, accepted);
		assert.equal(engine.listFunctions().length, 1);
	});

	it("unknown operations, unknown keys and wrong types are refused, all problems at once", async () => {
		await refuses("functions.lst", {}, "UNKNOWN_COMMAND", /known are functions.list/);
		await refuses("toString", {}, "UNKNOWN_COMMAND");
		await refuses("functions.list", { verbose: true }, "BAD_REQUEST", /verbose/);
		await refuses("functions.list", [], "BAD_REQUEST");
		await refuses("lanes.pause", { function: "", paused: "yes" }, "BAD_REQUEST", /function.*paused/);
		await refuses("functions.deploy", { function: "echo", path: "relative.js" }, "BAD_REQUEST", /absolute/);
		await refuses("backup.create", { path: "relative" }, "BAD_REQUEST", /absolute/);
		await refuses("invocations.list", { limit: 1001 }, "BAD_REQUEST", /limit/);
		await refuses("functions.get", { function: "nobody" }, "FUNCTION_NOT_FOUND");
	});

	it("TypeScript is built unless the caller says otherwise", async () => {
		for (const path of ["/a.ts", "/a.TSX", "/a.mts", "/a.jsx", "/a.js", "/a.mjs", "/a"]) {
			await call("functions.deploy", { function: "echo", path });
		}
		await call("functions.deploy", { function: "echo", path: "/folder", build: true });
		await call("functions.deploy", { function: "echo", path: "/a.ts", build: false });
		assert.deepEqual(
			engine.deploys.map((request) => request.build),
			[true, true, true, true, false, false, false, true, false],
		);
	});

	it("a bad request of a batch is refused in its place, and the others are accepted", async () => {
		const good = { function_id: "echo", method: "POST", path: "/" };
		const requests = [good, { ...good, body: "#" }, { ...good, function_id: "nobody" }, 5, good];
		const { results } = (await call("invocations.enqueue_batch", { requests })) as { results: WireJson[] };
		assert.deepEqual(
			results.map((result) => result["code"] ?? "accepted"),
			["accepted", "BAD_REQUEST", "FUNCTION_NOT_FOUND", "BAD_REQUEST", "accepted"],
		);
		assert.equal(engine.requests[0]?.source, "cli");
		assert.deepEqual(await call("invocations.enqueue_batch", { requests: [] }), { results: [] });
		await refuses("invocations.enqueue_batch", { requests: Array.from({ length: 1001 }, () => good) }, "BAD_REQUEST");
	});

	it("pages of invocations continue until there are none", async () => {
		const request = { function_id: "echo", method: "POST", path: "/" };
		await call("invocations.enqueue_batch", { requests: Array.from({ length: 25 }, () => request) });
		const seen: unknown[] = [];
		let before: unknown;
		for (let pages = 0; before !== null; pages++) {
			assert.ok(pages < 5);
			const page = await call("invocations.list", { limit: 10, ...(before === undefined ? {} : { before }) });
			seen.push(...(page["invocations"] as WireJson[]).map((record) => record["invocation_id"]));
			before = page["next_before"];
		}
		assert.equal(new Set(seen).size, 25);
	});
});

describe("following logs", () => {
	it("waits for the first line that the filter lets through, and moves past the others", async () => {
		engine.define("loud", echo);
		engine.log("echo", "old");
		const first = await call("logs.read", { function: "echo", tail: true, limit: 10, wait_ms: 0 });
		const after = (first["logs"] as { id: number }[]).at(-1)?.id;
		const following = call("logs.read", { function: "echo", after, wait_ms: 10_000 });
		await waitFor("the wait", () => engine.waiters === 1);
		engine.log("loud", "noise");
		await waitFor("the next wait", () => engine.waiters === 1);
		const line = engine.log("echo", "new");
		const page = await following;
		assert.deepEqual(
			(page["logs"] as WireJson[]).map((record) => record["message"]),
			["new"],
		);
		assert.equal(page["next_after"], line.id);
		assert.equal(engine.waiters, 0);
	});

	it("an empty answer moves the cursor past what others wrote, so that a follower does not spin", async () => {
		engine.define("loud", echo);
		const noise = engine.log("loud", "noise");
		const page = await call("logs.read", { function: "echo", after: 0, wait_ms: 1 });
		assert.deepEqual(page["logs"], []);
		assert.equal(page["next_after"], noise.id);
	});

	it("ends when the caller is gone", async () => {
		const following = call("logs.read", { wait_ms: 60_000 });
		await waitFor("the wait", () => engine.waiters === 1);
		abort.abort();
		assert.deepEqual((await following)["logs"], []);
	});
});
