import assert from "node:assert/strict";
import { Agent, request } from "node:http";
import { test } from "node:test";
import { EngineError } from "../../../src/core/errors.ts";
import { echo, response } from "../../support/fake-engine.ts";
import { startHttp, until } from "../../support/http-harness.ts";

function last<T>(list: readonly T[]): T {
	const item = list.at(-1);
	assert.ok(item !== undefined);
	return item;
}

function values(pairs: readonly (readonly [string, string])[], name: string): string[] {
	return pairs.filter(([key]) => key === name).map(([, value]) => value);
}

test("a handler's status, headers and bytes are the answer, with the invocation's id", async (t) => {
	const { engine, send } = await startHttp(t);
	const bytes = new Uint8Array([0, 255, 10, 13, 200]);
	engine.define("hello", () => ({
		status: 418,
		headers: [
			["Set-Cookie", "a=1"],
			["set-cookie", "b=2"],
			["content-type", "application/x-tea"],
		],
		body: bytes,
	}));
	const answer = await send("POST", "/functions/hello", { body: "x" });
	assert.equal(answer.status, 418);
	assert.deepEqual(answer.headers["set-cookie"], ["a=1", "b=2"]);
	assert.equal(answer.headers["content-type"], "application/x-tea");
	assert.equal(answer.headers["x-content-type-options"], "nosniff");
	assert.match(String(answer.headers["x-invocation-id"]), /^inv_/);
	assert.equal(answer.headers["x-bunbase-error"], undefined);
	assert.deepEqual(new Uint8Array(answer.body), bytes);
});

test("the handler sees its own path, the whole query, repeated headers in order, and where it hangs", async (t) => {
	const { engine, send } = await startHttp(t);
	engine.define("hello", echo);
	await send("PUT", "/functions/hello/a%2Fb/c%20d?x=1&x=2&y=%C3%A4+z&empty", {
		headers: ["X-Multi", "one", "X-Multi", "two", "X-Forwarded-For", "9.9.9.9", "X-Forwarded-Prefix", "/evil"],
		body: "body",
	});
	const seen = last(engine.requests);
	assert.equal(seen.method, "PUT");
	assert.equal(seen.path, "/a%2Fb/c%20d");
	assert.deepEqual(seen.query, [
		["x", "1"],
		["x", "2"],
		["y", "ä z"],
		["empty", ""],
	]);
	assert.deepEqual(values(seen.headers, "x-multi"), ["one", "two"]);
	assert.deepEqual(values(seen.headers, "x-forwarded-prefix"), ["/functions/hello"]);
	assert.deepEqual(values(seen.headers, "x-forwarded-for"), ["9.9.9.9, 127.0.0.1"]);
	assert.deepEqual(values(seen.headers, "x-forwarded-proto"), ["http"]);
	assert.equal(values(seen.headers, "x-forwarded-host").length, 1);
	assert.equal(Buffer.from(seen.body).toString(), "body");
	assert.equal(seen.source, "http");
	assert.equal(seen.waits, true);
});

for (const path of ["/functions/hello", "/functions/hello/", "/functions/hello?q=1"]) {
	test(`${path} is "/" for the handler`, async (t) => {
		const { engine, send } = await startHttp(t);
		engine.define("hello", echo);
		assert.equal((await send("GET", path)).status, 200);
		assert.equal(last(engine.requests).path, "/");
	});
}

test("hop-by-hop headers stop at the daemon, both ways, also those that Connection names", async (t) => {
	const { engine, send } = await startHttp(t);
	engine.define("hello", () =>
		response(200, "ok", [
			["connection", "x-mine"],
			["transfer-encoding", "chunked"],
			["keep-alive", "timeout=999"],
			["upgrade", "h2c"],
			["content-length", "12345"],
			["x-invocation-id", "inv_forged"],
			["x-bunbase-error", "platform"],
		]),
	);
	const answer = await send("POST", "/functions/hello", {
		headers: [
			"Connection",
			"close, X-Secret-Hop",
			"X-Kept",
			"1",
			"X-Secret-Hop",
			"1",
			"TE",
			"trailers",
			"Upgrade",
			"h2c",
		],
		body: "x",
	});
	assert.equal(answer.status, 200);
	assert.equal(answer.text, "ok");
	assert.equal(answer.headers["transfer-encoding"], undefined);
	assert.equal(answer.headers["upgrade"], undefined);
	assert.equal(answer.headers["content-length"], "2");
	assert.equal(answer.headers["x-bunbase-error"], undefined);
	assert.notEqual(answer.headers["x-invocation-id"], "inv_forged");
	const names = last(engine.requests).headers.map(([name]) => name);
	assert.ok(names.includes("x-kept"));
	for (const gone of ["connection", "te", "upgrade", "x-secret-hop"]) assert.ok(!names.includes(gone), gone);
});

test("headers that HTTP cannot carry are left out; the answer arrives", async (t) => {
	const { engine, send } = await startHttp(t);
	engine.define("hello", () =>
		response(200, "ok", [
			["x-split", "a\r\nx-injected: 1"],
			["x-nul", "a\0b"],
			["x-wide", "\u20ac"],
			["bad name", "1"],
			["", "1"],
			["x-latin", "\u00e4"],
		]),
	);
	const answer = await send("GET", "/functions/hello");
	assert.equal(answer.status, 200);
	for (const gone of ["x-split", "x-nul", "x-wide", "bad name", "x-injected"]) {
		assert.equal(answer.headers[gone], undefined, gone);
	}
	assert.equal(answer.headers["x-latin"], "\u00e4");
});

test("a status that HTTP cannot carry is the function's fault, not a crash", async (t) => {
	const { engine, send } = await startHttp(t);
	for (const status of [0, 101, 1000, 200.5]) {
		engine.define("hello", () => response(status));
		const answer = await send("GET", "/functions/hello");
		assert.equal(answer.status, 500);
		assert.equal(answer.json()["code"], "RESULT_NOT_RESPONSE");
		assert.equal(answer.headers["x-bunbase-error"], "function");
	}
});

test("204 and 304 have no body, and HEAD has the headers of GET without the body", async (t) => {
	const { engine, send } = await startHttp(t);
	for (const status of [204, 304]) {
		engine.define("hello", () => response(status, "must not be sent"));
		const answer = await send("GET", "/functions/hello");
		assert.equal(answer.status, status);
		assert.equal(answer.body.length, 0);
		assert.equal(answer.headers["content-length"], undefined);
	}
	engine.define("head", () => response(200, "twelve bytes"));
	assert.equal((await send("HEAD", "/functions/head")).headers["content-length"], "12");
	engine.define("declared", () => response(200, "", [["content-length", "777"]]));
	const declared = await send("HEAD", "/functions/declared");
	assert.equal(declared.headers["content-length"], "777");
	assert.equal(declared.body.length, 0);
});

test("what the caller wishes travels in headers that the handler does not see", async (t) => {
	const { engine, send } = await startHttp(t);
	engine.define("hello", echo);
	const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
	const wishes = {
		"Idempotency-Key": "k1",
		"X-BunBase-Delay-Ms": "0",
		"X-BunBase-Priority": "-5",
		"X-BunBase-Deadline-Ms": "60000",
		"X-BunBase-Max-Attempts": "4",
		"X-BunBase-Lane-Key": "tenant 7",
		"X-BunBase-Tags": "a, b",
		traceparent,
	};
	const headers = Object.entries(wishes).flat();
	assert.equal((await send("POST", "/functions/hello", { headers, body: "x" })).status, 200);
	const seen = last(engine.requests);
	assert.deepEqual(
		[seen.idempotencyKey, seen.delayMs, seen.priority, seen.deadlineMs, seen.maxAttempts, seen.laneKey, seen.tags],
		["k1", 0, -5, 60000, 4, "tenant 7", ["a", "b"]],
	);
	assert.equal(seen.traceparent, traceparent);
	assert.deepEqual(values(seen.headers, "traceparent"), [traceparent]);
	assert.ok(!seen.headers.some(([name]) => name.startsWith("x-bunbase-")));
	await send("POST", "/functions/hello", { headers: ["X-BunBase-Run-At", "2026-01-31T12:00:00Z"], body: "x" });
	assert.equal(last(engine.requests).runAt, Date.UTC(2026, 0, 31, 12));
	await send("POST", "/functions/hello", { headers: ["traceparent", "nonsense"], body: "x" });
	assert.equal(last(engine.requests).traceparent, undefined);
});

for (const headers of [
	["X-BunBase-Delay-Ms", "soon"],
	["X-BunBase-Delay-Ms", "-1"],
	["X-BunBase-Priority", "1.5"],
	["X-BunBase-Run-At", "tomorrow"],
	["X-BunBase-Dealy-Ms", "5"],
	["Idempotency-Key", "a", "Idempotency-Key", "b"],
	["Idempotency-Key", "has space"],
	["X-BunBase-Max-Attempts", "0"],
]) {
	test(`a wish that is not understood queues nothing: ${headers.join(" ")}`, async (t) => {
		const { engine, send } = await startHttp(t);
		engine.define("hello", echo);
		const answer = await send("POST", "/functions/hello", { headers, body: "x" });
		assert.equal(answer.status, 400);
		assert.equal(answer.headers["content-type"], "application/problem+json");
		assert.equal(answer.json()["code"], "BAD_REQUEST");
		assert.equal(engine.requests.length, 0);
	});
}

test("respond-async answers 202 with the place of the result, and many attempts", async (t) => {
	const { engine, send } = await startHttp(t);
	engine.define("hello", echo);
	const headers = ["Prefer", "respond-async", "Idempotency-Key", "k"];
	const answer = await send("POST", "/functions/hello", { headers, body: "x" });
	assert.equal(answer.status, 202);
	const id = String(answer.json()["invocation_id"]);
	assert.equal(answer.headers["location"], `/v1/invocations/${id}`);
	assert.equal(answer.headers["preference-applied"], "respond-async");
	assert.equal(answer.headers["x-invocation-id"], id);
	assert.equal(answer.headers["idempotent-replayed"], undefined);
	assert.equal(last(engine.requests).waits, false);
	const again = await send("POST", "/functions/hello", { headers, body: "x" });
	assert.equal(again.json()["invocation_id"], id);
	assert.equal(again.headers["idempotent-replayed"], "true");
	const other = await send("POST", "/functions/hello", { headers, body: "other" });
	assert.equal(other.status, 422);
	assert.equal(other.json()["code"], "IDEMPOTENCY_CONFLICT");
});

test("Prefer: wait=N gives the answer in time, else 202", async (t) => {
	const { engine, send } = await startHttp(t);
	let release = (): void => undefined;
	engine.define("quick", () => response(201, "made"));
	engine.define("slow", async () => {
		await new Promise<void>((resolve) => (release = resolve));
		return response(200);
	});
	const quick = await send("POST", "/functions/quick", { headers: ["Prefer", "wait=5"], body: "x" });
	assert.deepEqual([quick.status, quick.text], [201, "made"]);
	const slow = await send("POST", "/functions/slow", { headers: ["Prefer", "wait=0"], body: "x" });
	assert.equal(slow.status, 202);
	assert.equal(slow.headers["preference-applied"], "wait=0");
	assert.equal(slow.json()["state"], "running");
	release();
});

test("a handler that throws is a problem with the function's name on it and no stack", async (t) => {
	const { engine, send } = await startHttp(t);
	engine.define("hello", () => {
		throw new TypeError("no such order");
	});
	const answer = await send("POST", "/functions/hello", { body: "x" });
	assert.equal(answer.status, 500);
	assert.equal(answer.headers["x-bunbase-error"], "function");
	const problem = answer.json();
	assert.equal(problem["code"], "HANDLER_ERROR");
	assert.equal(problem["detail"], "no such order");
	assert.equal(problem["invocation_id"], answer.headers["x-invocation-id"]);
	assert.ok(!answer.text.includes("at "), answer.text);
});

test("a refusal is the platform's, with its status and when to come back", async (t) => {
	const { engine, send } = await startHttp(t);
	engine.define("hello", echo);
	assert.equal((await send("POST", "/functions/unknown", { body: "x" })).json()["code"], "FUNCTION_NOT_FOUND");
	engine.registerFunction({ name: "empty" });
	assert.equal((await send("POST", "/functions/empty", { body: "x" })).status, 409);
	engine.refusal = new EngineError("LANE_FULL", "full", { retryAfterSeconds: 6.2 });
	const full = await send("POST", "/functions/hello", { body: "x" });
	assert.deepEqual([full.status, full.headers["retry-after"], full.headers["x-bunbase-error"]], [429, "7", "platform"]);
	engine.refusal = new EngineError("STORAGE_FULL", "full");
	const stored = await send("POST", "/functions/hello", { body: "x" });
	assert.deepEqual([stored.status, stored.headers["retry-after"]], [503, "1"]);
});

test("what is no EngineError is answered without its text", async (t) => {
	const { engine, send } = await startHttp(t);
	engine.define("hello", echo);
	engine.refusal = new Error("secret path /x") as EngineError;
	const answer = await send("POST", "/functions/hello", { body: "x" });
	assert.equal(answer.status, 500);
	assert.equal(answer.json()["code"], "INTERNAL");
	assert.ok(!answer.text.includes("secret"));
});

test("a method that functions do not take is 405 with those that they take", async (t) => {
	const { engine, send } = await startHttp(t);
	engine.define("hello", echo);
	const answer = await send("PROPFIND", "/functions/hello");
	assert.equal(answer.status, 405);
	assert.match(String(answer.headers["allow"]), /POST/);
});

test("one connection serves many requests, with and without bodies", async (t) => {
	const { engine, send } = await startHttp(t);
	engine.define("hello", echo);
	const agent = new Agent({ keepAlive: true, maxSockets: 1 });
	t.after(() => agent.destroy());
	for (let index = 0; index < 20; index++) {
		const body = index % 2 === 0 ? "x".repeat(index * 1000) : undefined;
		const answer = await send(index % 2 === 0 ? "POST" : "GET", "/functions/hello", { agent, ...(body && { body }) });
		assert.equal(answer.text, body ?? "");
		assert.equal(answer.headers["connection"], "keep-alive");
	}
});

test("a client that leaves ends its wait only; the invocation goes on", async (t) => {
	const { engine, port } = await startHttp(t);
	let release = (): void => undefined;
	let isAborted = false;
	engine.define("slow", async (_, { signal }) => {
		await new Promise<void>((resolve) => (release = resolve));
		isAborted = signal.aborted;
		return response(200, "done");
	});
	const req = request({ port, method: "POST", path: "/functions/slow", agent: false, headers: { prefer: "wait=60" } });
	req.on("error", () => undefined);
	req.end("x");
	await until(() => engine.waiters === 1);
	req.destroy();
	await until(() => engine.waiters === 0);
	release();
	await until(() => engine.listInvocations({}).every((made) => made.state === "succeeded"));
	assert.equal(isAborted, false);
});
