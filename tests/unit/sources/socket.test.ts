import assert from "node:assert/strict";
import { existsSync, mkdirSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, Socket } from "node:net";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import * as fc from "fast-check";
import type { Logger } from "../../../src/core/environment.ts";
import { silentLogger } from "../../../src/core/environment.ts";
import { EngineError, type ErrorCode } from "../../../src/core/errors.ts";
import { LIMITS } from "../../../src/core/limits.ts";
import { socketSource, type SocketSource } from "../../../src/sources/index.ts";
import { echo, FakeEngine, realEnvironment, response } from "../../support/fake-engine.ts";
import { RawClient } from "../../support/raw-client.ts";
import { tempFolder, type TempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";

const INVOKE = 0x01;
const GET_LOGS = 0x02;
const GET_METRICS = 0x03;
const REGISTER = 0x04;
const DEPLOY = 0x05;
const ENQUEUE = 0x10;
const GET = 0x11;
const AWAIT = 0x12;
const CANCEL = 0x13;
const HELLO = 0x20;
const CALL = 0x21;
const INVOKE_RAW = 0x22;
const ENQUEUE_RAW = 0x23;
const GET_RAW = 0x24;
const AWAIT_RAW = 0x25;

let folder: TempFolder;
let path: string;
let engine: FakeEngine;
let source: SocketSource;
let errors: string[];
/** Released by a test to let the function `held` answer. */
let release: () => void;

beforeEach(async () => {
	folder = tempFolder();
	path = join(folder.path, "s.sock");
	errors = [];
	const logger: Logger = { ...silentLogger, error: (_fields, message) => void errors.push(message) };
	engine = new FakeEngine();
	engine.define("echo", echo);
	const { promise, resolve } = Promise.withResolvers<void>();
	release = resolve;
	engine.define("held", async () => {
		await promise;
		return response(200, "released");
	});
	source = socketSource({ path, environment: realEnvironment({ logger }) });
	await source.start(engine);
});

afterEach(async () => {
	release();
	await source.stop();
	folder[Symbol.dispose]();
	assert.deepEqual(errors, []);
});

const call = (fn: string, fields: object = {}): object => ({ function_id: fn, method: "POST", path: "/", ...fields });
const base64 = (text: string): string => Buffer.from(text).toString("base64");

describe("the compatible commands", () => {
	it("INVOKE answers status, headers, body and the execution id", async () => {
		await using client = await RawClient.connect(path);
		const answer = await client.ask(0xfedcba9876543210n, INVOKE, {
			...call("echo"),
			headers: { "X-Test": "1" },
			query: { a: "b" },
			body: base64("grüße"),
		});
		assert.equal(answer.status, 0);
		const { execution_id, execution_time_ms, ...rest } = answer.json;
		assert.deepEqual(rest, {
			success: true,
			status: 200,
			headers: { "content-type": "application/octet-stream", "x-test": "1" },
			body: base64("grüße"),
		});
		assert.match(String(execution_id), /^inv_/);
		assert.ok(Number.isInteger(execution_time_ms));
		const [request] = engine.requests;
		assert.deepEqual(request?.headers, [["x-test", "1"]], "header names are lower-cased");
		assert.deepEqual(request?.query, [["a", "b"]]);
		assert.equal(request?.waits, true);
		assert.equal(request?.source, "socket");
	});

	it("null and absent headers, query and body are empty", async () => {
		await using client = await RawClient.connect(path);
		const nulls = { headers: null, query: null, body: null, idempotency_key: null, tags: null };
		assert.equal((await client.ask(1n, INVOKE, call("echo", nulls))).json["body"], "");
		assert.equal((await client.ask(2n, INVOKE, call("echo"))).json["success"], true);
		assert.equal((await client.ask(3n, INVOKE, call("echo", { body: "" }))).json["success"], true);
	});

	it("values of one header are joined, and of Set-Cookie only the first is given", async () => {
		engine.define("headers", () =>
			response(404, "x", [
				["set-cookie", "a=1"],
				["vary", "a"],
				["set-cookie", "b=2"],
				["vary", "b"],
			]),
		);
		await using client = await RawClient.connect(path);
		const { json } = await client.ask(1n, INVOKE, call("headers"));
		assert.deepEqual(json["headers"], { "set-cookie": "a=1", vary: "a, b" });
		assert.equal(json["status"], 404, "a status of the handler is a success of the platform");
		assert.equal(json["success"], true);
	});

	it("a handler that throws is status OK with success false", async () => {
		engine.define("throws", () => {
			throw new TypeError('on "purpose"\n');
		});
		await using client = await RawClient.connect(path);
		const { status, json } = await client.ask(1n, INVOKE, call("throws"));
		const { execution_id, ...rest } = json;
		assert.equal(status, 0);
		assert.deepEqual(rest, { success: false, error: 'on "purpose"\n', code: "HANDLER_ERROR" });
		assert.match(String(execution_id), /^inv_/);
	});

	it("what is refused is status 0x01 with strings, and the connection stays", async () => {
		engine.registerFunction({ name: "empty" });
		await using client = await RawClient.connect(path);
		const refused: [command: number, payload: string, code: ErrorCode][] = [
			[INVOKE, JSON.stringify(call("nobody")), "FUNCTION_NOT_FOUND"],
			[INVOKE, JSON.stringify(call("empty")), "NOT_DEPLOYED"],
			[INVOKE, "{", "BAD_JSON"],
			[INVOKE, "", "BAD_JSON"],
			[INVOKE, "[]", "BAD_REQUEST"],
			[INVOKE, "null", "BAD_REQUEST"],
			[INVOKE, "{}", "BAD_REQUEST"],
			[INVOKE, JSON.stringify({ function_id: "echo", path: "/" }), "BAD_REQUEST"],
			[INVOKE, JSON.stringify({ function_id: "echo", method: "POST" }), "BAD_REQUEST"],
			[INVOKE, JSON.stringify(call("echo", { method: "BREW" })), "BAD_REQUEST"],
			[INVOKE, JSON.stringify(call("echo", { body: "#" })), "BAD_REQUEST"],
			[INVOKE, JSON.stringify(call("echo", { body: "YQ" })), "BAD_REQUEST"],
			[INVOKE, JSON.stringify(call("echo", { headers: { a: 1 } })), "BAD_REQUEST"],
			[INVOKE, JSON.stringify(call("echo", { headers: [["a"]] })), "BAD_REQUEST"],
			[ENQUEUE, JSON.stringify(call("echo", { priority: 1001 })), "BAD_REQUEST"],
			[ENQUEUE, JSON.stringify(call("echo", { delay_ms: "1" })), "BAD_REQUEST"],
			[GET, JSON.stringify({ invocation_id: "inv_nothing" }), "INVOCATION_NOT_FOUND"],
			[GET, "{}", "BAD_REQUEST"],
			[AWAIT, JSON.stringify({ invocation_id: "x", timeout_ms: -1 }), "BAD_REQUEST"],
			[GET_LOGS, JSON.stringify({ function_id: "echo", since: "yesterday" }), "BAD_REQUEST"],
			[GET_METRICS, JSON.stringify({ function_id: "echo", period: "year" }), "BAD_REQUEST"],
			[REGISTER, JSON.stringify({ name: "x", runtime: "deno" }), "UNSUPPORTED_RUNTIME"],
			[REGISTER, JSON.stringify({ name: "Ünicode" }), "BAD_NAME"],
			[DEPLOY, JSON.stringify({ function_id: "echo", version: "v1" }), "BAD_REQUEST"],
			[CALL, JSON.stringify({ op: "nothing" }), "UNKNOWN_COMMAND"],
			[INVOKE_RAW, JSON.stringify(call("echo")), "BAD_REQUEST"],
			[0x06, "{}", "UNKNOWN_COMMAND"],
			[0xff, "{}", "UNKNOWN_COMMAND"],
		];
		for (const [index, [command, payload, code]] of refused.entries()) {
			const id = BigInt(index) + 1n;
			client.socket.write(RawClient.frame(id, command, payload));
			const answer = await client.answer(id);
			assert.equal(answer.status, 1, payload);
			assert.equal(answer.json["code"], code, `${payload}: ${String(answer.json["error"])}`);
			for (const value of Object.values(answer.json)) assert.equal(typeof value, "string");
		}
		assert.equal((await client.ask(99n, INVOKE, call("echo"))).status, 0);
	});

	it("JSON that is not UTF-8 is refused instead of changed; a real U+FFFD passes", async () => {
		await using client = await RawClient.connect(path);
		const broken = Buffer.from(JSON.stringify(call("echo", { lane_key: "?" })));
		broken[broken.indexOf("?")] = 0xff;
		client.socket.write(RawClient.frame(1n, INVOKE, broken));
		assert.equal((await client.answer(1n)).json["code"], "BAD_JSON");
		assert.equal((await client.ask(2n, INVOKE, call("echo", { lane_key: "\ufffd" }))).status, 0);
	});

	it("a refusal says when to try again, as a string", async () => {
		engine.refusal = new EngineError("LANE_FULL", "full", { retryAfterSeconds: 3 });
		await using client = await RawClient.connect(path);
		const { json } = await client.ask(1n, ENQUEUE, call("echo"));
		assert.deepEqual(json, { error: "full", code: "LANE_FULL", retry_after_seconds: "3" });
	});

	it("GET_LOGS has RFC 3339 times, a default of 100 lines and at most 1,000", async () => {
		const at = Date.parse("2026-01-31T12:00:00.500Z");
		for (let index = 0; index < 1200; index++) engine.log("echo", `line ${index}`, { at: at + index });
		engine.log("echo", "special", { at: at + 5000, level: "error", invocationId: "inv_x", metadata: { a: 1 } });
		await using client = await RawClient.connect(path);
		const ask = async (id: bigint, fields: object) => {
			const { json } = await client.ask(id, GET_LOGS, { function_id: "echo", ...fields });
			return { logs: json["logs"] as Record<string, unknown>[], total: json["total"] };
		};
		const page = await ask(1n, { since: "2026-01-31T13:00:00+01:00" });
		assert.equal(page.logs.length, 100);
		assert.equal(page.total, 1201);
		assert.equal(page.logs[0]?.["timestamp"], "2026-01-31T12:00:00.500Z");
		assert.equal((await ask(2n, { limit: 5000 })).logs.length, 1000);
		assert.equal((await ask(3n, { limit: 0, since: "", level: "", offset: 1200 })).logs.length, 1);
		assert.deepEqual((await ask(4n, { level: "error" })).logs, [
			{
				id: "1201",
				execution_id: "inv_x",
				level: "error",
				message: "special",
				metadata: { a: 1 },
				timestamp: "2026-01-31T12:00:05.500Z",
			},
		]);
		assert.equal((await ask(5n, { execution_id: "inv_x" })).total, 1);
		assert.equal((await ask(6n, { end_date: "2026-01-31T12:00:00.502Z" })).total, 3);
		assert.equal((await ask(7n, { start_date: "2026-01-31T12:00:01.000Z" })).total, 701);
	});

	it("GET_METRICS, REGISTER_FUNCTION and DEPLOY_FUNCTION answer the fields that the API server reads", async () => {
		await using client = await RawClient.connect(path);
		const registered = await client.ask(1n, REGISTER, { name: "fresh" });
		const functionId = registered.json["function_id"];
		assert.deepEqual(registered.json, {
			function_id: functionId,
			name: "fresh",
			runtime: "bun",
			handler: "default",
			status: "REGISTERED",
		});
		assert.equal((await client.ask(2n, REGISTER, { name: "fresh" })).json["function_id"], functionId);
		const bundle = join(folder.path, "bundle.js");
		const deployed = await client.ask(3n, DEPLOY, { function_id: "fresh", version: "v7", bundle_path: bundle });
		const { deployment_id, ...rest } = deployed.json;
		assert.match(String(deployment_id), /^dep_/);
		assert.deepEqual(rest, { function_id: functionId, version: "v7", status: "deployed" });
		await client.ask(4n, DEPLOY, { function_id: "fresh", version: "v8", bundle_path: "/x/y.ts" });
		assert.deepEqual(
			engine.deploys.map((request) => [request.path, request.build]),
			[
				[bundle, false],
				["/x/y.ts", true],
			],
		);
		const metrics = async (id: bigint) =>
			(await client.ask(id, GET_METRICS, { function_id: "fresh", period: "hour" })).json;
		const fields = { errors: 0, average_duration_ms: 1.5, cold_starts: 0, period: "hour" };
		assert.deepEqual(await metrics(5n), { ...fields, invocations: 0, last_invoked: null });
		await client.ask(6n, INVOKE, call("fresh"));
		const { last_invoked, ...counts } = await metrics(7n);
		assert.deepEqual(counts, { ...fields, invocations: 1 });
		assert.equal(new Date(String(last_invoked)).toISOString(), last_invoked);
	});
});

describe("our commands", () => {
	it("ENQUEUE carries every option to the request, and a known key is replayed", async () => {
		await using client = await RawClient.connect(path);
		const payload = call("echo", {
			idempotency_key: "k1",
			run_at: 5,
			priority: -3,
			lane_key: "customer",
			deadline_ms: 60_000,
			max_attempts: 7,
			tags: ["a", "b"],
			traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01`,
		});
		const first = await client.ask(1n, ENQUEUE, payload);
		assert.deepEqual(Object.keys(first.json), ["invocation_id", "state", "replayed"]);
		assert.equal(first.json["replayed"], false);
		const again = await client.ask(2n, ENQUEUE, payload);
		assert.equal(again.json["invocation_id"], first.json["invocation_id"]);
		assert.equal(again.json["replayed"], true);
		const [request] = engine.requests;
		const { function: _function, source: _source, method: _method, path: _path, ...rest } = request ?? {};
		assert.deepEqual(rest, {
			headers: [],
			query: [],
			body: new Uint8Array(0),
			waits: false,
			idempotencyKey: "k1",
			runAt: 5,
			priority: -3,
			laneKey: "customer",
			deadlineMs: 60_000,
			maxAttempts: 7,
			tags: ["a", "b"],
			traceparent: `00-${"a".repeat(32)}-${"b".repeat(16)}-01`,
		});
		assert.equal((await client.ask(3n, ENQUEUE, call("echo", { delay_ms: 250 }))).status, 0);
		assert.equal(engine.requests[1]?.delayMs, 250);
	});

	it("GET_INVOCATION has result or error, and times in milliseconds", async () => {
		await using client = await RawClient.connect(path);
		const { json: made } = await client.ask(1n, INVOKE, call("echo", { body: base64("hi") }));
		const { json } = await client.ask(2n, GET, { invocation_id: made["execution_id"] });
		assert.deepEqual(Object.keys(json), [
			"invocation_id",
			"function_id",
			"version",
			"state",
			"attempt",
			"created_at",
			"started_at",
			"finished_at",
			"result",
		]);
		assert.equal(json["state"], "succeeded");
		assert.ok(Number.isInteger(json["created_at"]));
		assert.equal((json["result"] as { body: string }).body, base64("hi"));
		engine.define("throws", () => {
			throw new Error("boom");
		});
		const failed = (await client.ask(3n, INVOKE, call("throws"))).json["execution_id"];
		const record = (await client.ask(4n, GET, { invocation_id: failed })).json;
		assert.equal("result" in record, false);
		const error = record["error"] as Record<string, string>;
		assert.deepEqual(Object.keys(error), ["code", "message", "stack"]);
		assert.equal(error["message"], "boom");
	});

	it("AWAIT_INVOCATION answers at the end, or with timed_out_waiting; CANCEL ends it", async () => {
		await using client = await RawClient.connect(path);
		const id = (await client.ask(1n, ENQUEUE, call("held"))).json["invocation_id"];
		const soon = await client.ask(2n, AWAIT, { invocation_id: id, timeout_ms: 10 });
		assert.equal(soon.json["timed_out_waiting"], true);
		assert.equal(soon.json["state"], "running");
		client.send(3n, AWAIT, { invocation_id: id, timeout_ms: 60_000 });
		await waitFor("the wait", () => engine.waiters === 1);
		assert.deepEqual((await client.ask(4n, CANCEL, { invocation_id: id })).json, {
			invocation_id: id,
			state: "cancelled",
		});
		const end = (await client.answer(3n)).json;
		assert.equal(end["state"], "cancelled");
		assert.equal("timed_out_waiting" in end, false);
		assert.equal((await client.ask(5n, CANCEL, { invocation_id: id })).json["code"], "ALREADY_FINISHED");
	});

	it("answers come as they are ready, each with its own id", async () => {
		await using client = await RawClient.connect(path);
		client.send(1n, INVOKE, call("held"));
		for (let id = 2n; id <= 200n; id++) client.send(id, INVOKE, call("echo", { body: base64(String(id)) }));
		for (let id = 2n; id <= 200n; id++) assert.equal((await client.answer(id)).json["body"], base64(String(id)));
		assert.equal(
			client.frames.some((frame) => frame.id === 1n),
			false,
		);
		release();
		assert.equal((await client.answer(1n)).json["body"], base64("released"));
	});

	it("all answers of one turn leave in one write", async (t) => {
		// Nor is it cut into slices, because this clock stands still.
		const { clock } = realEnvironment();
		const still = realEnvironment({ clock: { ...clock, monotonic: () => 0 } });
		const own = socketSource({ path: join(folder.path, "still.sock"), environment: still });
		t.after(() => own.stop());
		await own.start(engine);
		await using client = await RawClient.connect(join(folder.path, "still.sock"));
		const id = (await client.ask(1n, ENQUEUE, call("echo"))).json["invocation_id"];
		const ids = Array.from({ length: 100 }, (_, index) => BigInt(index + 2));
		const frames = ids.map((frame) => RawClient.frame(frame, GET, JSON.stringify({ invocation_id: id })));
		const write = t.mock.method(Socket.prototype, "write");
		client.socket.write(Buffer.concat(frames));
		for (const frame of ids) await client.answer(frame);
		assert.equal(write.mock.callCount(), 2, "one of ours and one of the daemon's");
	});

	it("HELLO agrees on raw bodies; raw commands carry bytes both ways and pairs of headers", async () => {
		await using client = await RawClient.connect(path);
		const hello = await client.ask(1n, HELLO, { protocol: 9, raw_bodies: true, source: "cli", client: "test/1" });
		assert.deepEqual(hello.json, {
			protocol: 1,
			version: "0.0.0-fake",
			features: ["raw_bodies", "pairs", "call"],
			raw_bodies: true,
			pairs: false,
			source: "cli",
		});
		const raw = (json: unknown, body: Buffer): Buffer => {
			const text = Buffer.from(JSON.stringify(json));
			const length = Buffer.alloc(4);
			length.writeUInt32LE(text.length);
			return Buffer.concat([length, text, body]);
		};
		const open = (payload: Buffer): { json: Record<string, unknown>; body: Buffer } => {
			const end = 4 + payload.readUInt32LE(0);
			return {
				json: JSON.parse(payload.subarray(4, end).toString()) as Record<string, unknown>,
				body: payload.subarray(end),
			};
		};
		for (const size of [0, 1, 5000, 300_000]) {
			const body = Buffer.alloc(size, 0xa5);
			const id = BigInt(100 + size);
			const headers = [
				["X-Two", "1"],
				["X-Two", "2"],
			];
			client.socket.write(RawClient.frame(id, INVOKE_RAW, raw(call("echo", { headers }), body)));
			const answer = open((await client.answer(id)).payload);
			assert.deepEqual(answer.body, body);
			assert.equal(answer.json["success"], true);
			assert.deepEqual((answer.json["headers"] as string[][]).slice(1), [
				["x-two", "1"],
				["x-two", "2"],
			]);
		}
		assert.equal(engine.requests.at(-1)?.source, "cli");
		client.socket.write(RawClient.frame(2n, ENQUEUE_RAW, raw(call("echo"), Buffer.from([0, 255]))));
		const id = (await client.answer(2n)).json["invocation_id"];
		const waited = open((await client.ask(3n, AWAIT_RAW, { invocation_id: id, timeout_ms: 1000 })).payload);
		assert.equal(waited.json["state"], "succeeded");
		assert.deepEqual(waited.body, Buffer.from([0, 255]));
		assert.deepEqual(open((await client.ask(4n, GET_RAW, { invocation_id: id })).payload).body, Buffer.from([0, 255]));
		for (const [index, bad] of [Buffer.from([1]), raw(call("echo", { body: "" }), Buffer.alloc(0))].entries()) {
			client.socket.write(RawClient.frame(BigInt(10 + index), INVOKE_RAW, bad));
			assert.equal((await client.answer(BigInt(10 + index))).json["code"], "BAD_REQUEST");
		}
		// The compatible commands stay as they are.
		const plain = await client.ask(20n, INVOKE, call("echo"));
		assert.deepEqual(plain.json["headers"], { "content-type": "application/octet-stream" });
		await client.ask(21n, HELLO, { pairs: true });
		const listed = await client.ask(22n, INVOKE, call("echo"));
		assert.deepEqual(listed.json["headers"], [["content-type", "application/octet-stream"]]);
	});

	it("HELLO holds for the frame right behind it", async () => {
		await using client = await RawClient.connect(path);
		const id = (await client.ask(1n, ENQUEUE, call("echo"))).json["invocation_id"];
		client.socket.write(
			Buffer.concat([
				RawClient.frame(2n, HELLO, '{"raw_bodies":true}'),
				RawClient.frame(3n, GET_RAW, JSON.stringify({ invocation_id: id })),
			]),
		);
		assert.equal((await client.answer(3n)).status, 0);
	});

	it("an answer over a frame is refused with advice", async () => {
		const message = "x".repeat(20_000);
		for (let index = 0; index < 1000; index++) engine.log("echo", message);
		await using client = await RawClient.connect(path);
		const answer = await client.ask(1n, GET_LOGS, { function_id: "echo", limit: 1000 });
		assert.equal(answer.json["code"], "BAD_REQUEST");
		assert.match(String(answer.json["error"]), /limit/);
		assert.equal((await client.ask(2n, GET_LOGS, { function_id: "echo", limit: 100 })).status, 0);
	});

	it("a body of 11 MiB passes both ways in base64", async () => {
		engine.configureFunction("echo", { maxBodyBytes: LIMITS.bodyBytesMax });
		await using client = await RawClient.connect(path);
		const body = Buffer.alloc(LIMITS.bodyBytesMax, 7).toString("base64");
		const answer = await client.ask(1n, INVOKE, call("echo", { body }));
		assert.equal(answer.json["body"], body);
	});
});

describe("frames", () => {
	it("a frame may arrive in any pieces, and other connections do not care", async () => {
		await using client = await RawClient.connect(path);
		await using other = await RawClient.connect(path);
		const frame = RawClient.frame(7n, INVOKE, JSON.stringify(call("echo", { body: base64("slow") })));
		for (let at = 0; at < frame.length; at++) {
			client.socket.write(frame.subarray(at, at + 1));
			if (at % 40 === 0) assert.equal((await other.ask(BigInt(at), INVOKE, call("echo"))).status, 0);
		}
		assert.equal((await client.answer(7n)).json["body"], base64("slow"));
	});

	it("a malformed frame is answered where its id is known, then only that connection closes", async () => {
		await using other = await RawClient.connect(path);
		const head = (length: number, payloadLength: number): Buffer => {
			const bytes = RawClient.frame(9n, INVOKE, "{}");
			bytes.writeUInt32LE(length, 0);
			bytes.writeUInt32LE(payloadLength, 13);
			return bytes;
		};
		for (const bytes of [head(12, 0), head(16 * 1024 * 1024 + 1, 2), head(0xffffffff, 2), head(15, 3)]) {
			await using client = await RawClient.connect(path);
			client.send(1n, INVOKE, call("echo"));
			client.socket.write(bytes);
			assert.equal((await client.answer(1n)).status, 0, "what came before is answered");
			const answer = await client.answer(9n);
			assert.equal(answer.status, 1);
			assert.equal(answer.json["code"], "BAD_FRAME");
			await client.end();
		}
		for (const bytes of [head(0, 0), head(7, 0)]) {
			await using client = await RawClient.connect(path);
			client.socket.write(bytes);
			await client.end();
			assert.deepEqual(client.frames, []);
		}
		assert.equal((await other.ask(1n, INVOKE, call("echo"))).status, 0);
	});

	it("a bad length whose id never comes closes the connection as well", async () => {
		await using client = await RawClient.connect(path);
		client.socket.write(Buffer.from([0xff, 0xff, 0xff, 0xff]));
		await client.end();
		assert.deepEqual(client.frames, []);
	});

	it("garbage ends its own connection at worst", async () => {
		await using witness = await RawClient.connect(path);
		await fc.assert(
			fc.asyncProperty(fc.array(fc.uint8Array({ minLength: 1, maxLength: 300 }), { maxLength: 5 }), async (chunks) => {
				await using client = await RawClient.connect(path);
				for (const chunk of chunks) client.socket.write(chunk);
				witness.frames.length = 0;
				assert.equal((await witness.ask(1n, INVOKE, call("echo"))).status, 0);
			}),
			{ numRuns: 100 },
		);
		assert.deepEqual(errors, []);
	});
});

describe("clients that come and go", () => {
	it("a client that disconnects ends its waits, and its invocation goes on", async () => {
		const client = await RawClient.connect(path);
		const id = String((await client.ask(1n, ENQUEUE, call("held"))).json["invocation_id"]);
		client.send(2n, AWAIT, { invocation_id: id, timeout_ms: 60_000 });
		client.send(3n, CALL, { op: "logs.read", params: { wait_ms: 60_000 } });
		await waitFor("two waits", () => engine.waiters === 2);
		client.socket.destroy();
		await waitFor("no waits", () => engine.waiters === 0);
		await waitFor("no connection", () => source.counts().connections === 0);
		release();
		await waitFor("the end", () => engine.getInvocation(id).state === "succeeded");
	});

	it("a client that ends its side after its last request still gets the answers", async () => {
		await using client = await RawClient.connect(path, { allowHalfOpen: true });
		client.send(1n, INVOKE, call("held"));
		client.socket.end();
		await waitFor("the invocation", () => engine.requests.length === 1);
		release();
		assert.equal((await client.answer(1n)).json["success"], true);
		await client.end();
	});

	it("a client that does not read is disconnected at the bound, counted, and others go on", async () => {
		engine.configureFunction("echo", { maxBodyBytes: LIMITS.bodyBytesMax });
		engine.define("big", () => response(200, Buffer.alloc(6 * 1024 * 1024)));
		await using other = await RawClient.connect(path);
		await using slow = await RawClient.connect(path);
		slow.socket.pause();
		for (let id = 1n; id <= 12n; id++) slow.send(id, INVOKE, call("big"));
		await waitFor("the disconnection", () => source.counts().tooSlow === 1);
		assert.equal((await other.ask(1n, INVOKE, call("echo"))).status, 0);
	});

	it("a write full of requests to read is served one by one: neither the memory nor the loop is theirs alone", async () => {
		const size = 6 * 1024 * 1024;
		engine.define("big", () => response(200, Buffer.alloc(size)));
		await using client = await RawClient.connect(path);
		await using other = await RawClient.connect(path);
		const id = (await other.ask(1n, INVOKE, call("big"))).json["execution_id"];
		let made = 0;
		const getInvocation = engine.getInvocation.bind(engine);
		engine.getInvocation = (asked) => {
			made += 1;
			return getInvocation(asked);
		};
		client.socket.pause();
		const ids = Array.from({ length: 40 }, (_, index) => BigInt(index + 1));
		const get = JSON.stringify({ invocation_id: id });
		client.socket.write(Buffer.concat(ids.map((each) => RawClient.frame(each, GET, get))));
		await waitFor("the first to be read", () => made > 0);
		for (let round = 2n; round < 10n; round += 1n)
			assert.equal((await other.ask(round, INVOKE, call("echo"))).status, 0);
		// 16 MiB of answers, the one that went past that, and what the kernel has taken.
		assert.ok(made <= 5, `${made} answers of 8 MiB were made for nobody who reads`);
		client.socket.resume();
		for (const each of ids) assert.equal((await client.answer(each)).status, 0);
		assert.equal(made, ids.length);
		assert.equal(source.counts().tooSlow, 0, "who reads late is not too slow");
	});

	it("waits that were sent together end together when the client ends its side", async () => {
		await using client = await RawClient.connect(path, { allowHalfOpen: true });
		const id = (await client.ask(1n, ENQUEUE, call("held"))).json["invocation_id"];
		const ids = Array.from({ length: 100 }, (_, index) => BigInt(index + 2));
		const wait = JSON.stringify({ invocation_id: id, timeout_ms: 60_000 });
		client.socket.end(Buffer.concat(ids.map((each) => RawClient.frame(each, AWAIT, wait))));
		for (const each of ids) assert.equal((await client.answer(each)).json["timed_out_waiting"], true);
		await client.end();
		assert.equal(engine.waiters, 0);
	});

	it("stop answers what is in flight, refuses what is new, and leaves nothing", async () => {
		await using client = await RawClient.connect(path);
		await using idle = await RawClient.connect(path);
		const id = (await client.ask(1n, ENQUEUE, call("held"))).json["invocation_id"];
		client.send(2n, INVOKE, call("held"));
		client.send(3n, AWAIT, { invocation_id: id, timeout_ms: 60_000 });
		await waitFor("the wait", () => engine.waiters === 1);
		const stopped = source.stop();
		assert.equal(source.stop(), stopped, "twice is the same promise");
		await idle.end();
		assert.equal((await client.answer(3n)).json["timed_out_waiting"], true, "waits end at once");
		assert.equal((await client.ask(4n, INVOKE, call("echo"))).json["code"], "SHUTTING_DOWN");
		release();
		assert.equal((await client.answer(2n)).json["success"], true);
		await client.end();
		await stopped;
		assert.equal(existsSync(path), false);
		assert.equal(source.counts().connections, 0);
	});

	it("a stop does not wait longer than it was told for work that does not end", async () => {
		const other = join(folder.path, "short.sock");
		const short = socketSource({ path: other, environment: realEnvironment(), stopMs: 20 });
		await short.start(engine);
		await using client = await RawClient.connect(other);
		client.send(1n, INVOKE, call("held"));
		await waitFor("the invocation", () => engine.requests.length === 1);
		await short.stop();
		await client.end();
	});
});

describe("the path", () => {
	const start = async (at: string): Promise<SocketSource> => {
		const source = socketSource({ path: at, environment: realEnvironment() });
		await source.start(engine);
		return source;
	};
	const refuses = (at: string, code: ErrorCode, message: RegExp): Promise<void> =>
		assert.rejects(
			start(at),
			(error: unknown) => error instanceof EngineError && error.code === code && message.test(error.message),
		);

	it("is a socket that only its owner may open, and start twice is the same promise", () => {
		assert.equal(statSync(path).mode & 0o777, 0o600);
		assert.equal(source.start(engine), source.start(engine));
	});

	it("held by a daemon is refused, and that daemon goes on", async () => {
		await refuses(path, "SECOND_DAEMON", /stop it/);
		await using client = await RawClient.connect(path);
		assert.equal((await client.ask(1n, INVOKE, call("echo"))).status, 0);
	});

	it("left by a dead daemon is taken over", async () => {
		const stale = join(folder.path, "stale.sock");
		const script = `require("net").createServer().listen(${JSON.stringify(stale)}, () => process.kill(process.pid, "SIGKILL"))`;
		spawnSync(process.execPath, ["-e", script]);
		assert.ok(existsSync(stale));
		const taken = await start(stale);
		await using client = await RawClient.connect(stale);
		assert.equal((await client.ask(1n, INVOKE, call("echo"))).status, 0);
		await client[Symbol.asyncDispose]();
		await taken.stop();
	});

	it("that is anything else is refused and left alone", async () => {
		const file = join(folder.path, "file");
		writeFileSync(file, "precious");
		mkdirSync(join(folder.path, "dir"));
		symlinkSync(path, join(folder.path, "link"));
		await refuses(file, "BAD_ENVIRONMENT", /regular file/);
		await refuses(join(folder.path, "dir"), "BAD_ENVIRONMENT", /a folder/);
		await refuses(join(folder.path, "link"), "BAD_ENVIRONMENT", /symbolic link/);
		await refuses(join(folder.path, "none", "s"), "BAD_ENVIRONMENT", /create it/);
		await refuses(join(file, "s"), "BAD_ENVIRONMENT", /no folder/);
		await refuses(join(folder.path, "x".repeat(108)), "BAD_ENVIRONMENT", /shorter/);
		await refuses("", "BAD_ENVIRONMENT", /bytes/);
		assert.ok(existsSync(file));
	});

	it("of a listener that is no daemon of ours counts as held", async () => {
		const at = join(folder.path, "foreign.sock");
		const foreign = createServer().listen(at);
		await once(foreign, "listening");
		await refuses(at, "SECOND_DAEMON", /answers/);
		foreign.close();
	});

	it("a source that was stopped before it started leaves nothing", async () => {
		const unused = socketSource({ path: join(folder.path, "unused"), environment: realEnvironment() });
		await unused.stop();
		assert.equal(existsSync(join(folder.path, "unused")), false);
	});
});
