import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { EngineError } from "../../../src/core/errors.ts";
import { LIMITS } from "../../../src/core/limits.ts";
import { ClientError, createClient, type Client } from "../../../src/sources/client.ts";
import { socketSource, type SocketSource } from "../../../src/sources/index.ts";
import { echo, FakeEngine, realEnvironment, response } from "../../support/fake-engine.ts";
import { tempFolder, type TempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";

let folder: TempFolder;
let path: string;
let engine: FakeEngine;
let source: SocketSource | undefined;
let client: Client;
let release: () => void;
/** Far ends that a test made. */
let servers: Server[];

async function startDaemon(): Promise<void> {
	source = socketSource({ path, environment: realEnvironment(), stopMs: 50 });
	await source.start(engine);
}

async function stopDaemon(): Promise<void> {
	await source?.stop();
	source = undefined;
}

beforeEach(async () => {
	folder = tempFolder();
	path = join(folder.path, "s.sock");
	servers = [];
	engine = new FakeEngine();
	engine.define("echo", echo);
	const { promise, resolve } = Promise.withResolvers<void>();
	release = resolve;
	engine.define("held", async () => {
		await promise;
		return response(200, "released");
	});
	await startDaemon();
	client = createClient(path);
});

afterEach(async () => {
	client.close();
	release();
	for (const server of servers) server.close();
	await stopDaemon();
	folder[Symbol.dispose]();
});

const failsWith =
	(code: string, outcomeUnknown = false) =>
	(error: unknown): boolean =>
		error instanceof ClientError && error.code === code && error.outcomeUnknown === outcomeUnknown;

/** A far end that breaks its first connections at their first request, and answers on those after them. */
function breakingServer(at: string, breaks: number): { frames: Buffer[]; connections: () => number } {
	const frames: Buffer[] = [];
	let connections = 0;
	const server = createServer((socket: Socket) => {
		const number = ++connections;
		let bytes = Buffer.alloc(0);
		socket.on("error", () => undefined);
		socket.on("data", (chunk: Buffer) => {
			bytes = Buffer.concat([bytes, chunk]);
			while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32LE(0)) {
				const frame = bytes.subarray(0, 4 + bytes.readUInt32LE(0));
				bytes = bytes.subarray(frame.length);
				if (frame.readUInt8(12) === 0x20) continue;
				frames.push(frame);
				if (number <= breaks) {
					socket.destroy();
					return;
				}
				const text = '{"success":true,"invocation_id":"inv_1","state":"queued","replayed":true}';
				const raw = Buffer.alloc(frame.readUInt8(12) === 0x22 ? 4 : 0, 0);
				if (raw.length > 0) raw.writeUInt32LE(text.length);
				const json = Buffer.concat([raw, Buffer.from(text)]);
				const head = Buffer.alloc(17);
				head.writeUInt32LE(13 + json.length, 0);
				frame.copy(head, 4, 4, 12);
				head.writeUInt32LE(json.length, 13);
				socket.write(Buffer.concat([head, json]));
			}
		});
	});
	server.listen(at);
	servers.push(server);
	return { frames, connections: () => connections };
}

describe("the client", () => {
	it("invokes and gives the handler's answer", async () => {
		engine.define("all", (request) =>
			response(201, request.body, [
				["content-type", "application/json"],
				["set-cookie", "a=1"],
				["set-cookie", "b=2"],
			]),
		);
		const answer = await client.invoke("all", {
			method: "PUT",
			path: "/x/y",
			headers: { "X-One": "1" },
			query: [
				["q", "1"],
				["q", "2"],
			],
			body: '{"a":"ü"}',
		});
		assert.equal(answer.success, true);
		assert.equal(answer.status, 201);
		assert.equal(answer.text(), '{"a":"ü"}');
		assert.deepEqual(answer.json(), { a: "ü" });
		assert.equal(answer.headers.get("Content-Type"), "application/json");
		assert.deepEqual(answer.headers.getSetCookie(), ["a=1", "b=2"]);
		assert.match(answer.invocationId, /^inv_/);
		assert.equal(answer.state, "succeeded");
		assert.equal(answer.error, undefined);
		const [request] = engine.requests;
		assert.deepEqual([request?.method, request?.path], ["PUT", "/x/y"]);
		assert.deepEqual(request?.headers, [["x-one", "1"]]);
		assert.deepEqual(request?.query, [
			["q", "1"],
			["q", "2"],
		]);
	});

	it("a handler that throws is an answer, not a rejection", async () => {
		engine.define("throws", () => {
			throw new TypeError("boom");
		});
		const answer = await client.invoke("throws");
		assert.equal(answer.success, false);
		assert.equal(answer.error?.code, "HANDLER_ERROR");
		assert.equal(answer.error?.message, "boom");
		assert.equal(answer.error?.name, "TypeError");
		assert.match(answer.error?.stack ?? "", /client\.test/);
	});

	it("a refusal rejects with the daemon's code, and says when to try again", async () => {
		await assert.rejects(client.invoke("nobody"), failsWith("FUNCTION_NOT_FOUND"));
		await assert.rejects(client.enqueue("echo", { priority: 5000 }), failsWith("BAD_REQUEST"));
		engine.refusal = new EngineError("LANE_FULL", "full", { retryAfterSeconds: 7 });
		await assert.rejects(client.enqueue("echo"), (error: unknown) => {
			assert.ok(error instanceof ClientError);
			assert.equal(error.code, "LANE_FULL");
			assert.equal(error.retryAfterSeconds, 7);
			return true;
		});
	});

	it("enqueues with every option, polls, waits and cancels", async () => {
		const made = await client.enqueue("echo", {
			body: new Uint8Array([0, 255, 1]),
			idempotencyKey: "k",
			runAt: new Date(5),
			priority: 2,
			laneKey: "l",
			deadlineMs: 1000,
			maxAttempts: 3,
			tags: ["t"],
		});
		assert.equal(made.replayed, false);
		const end = await client.waitForResult(made.invocationId);
		assert.equal(end.state, "succeeded");
		assert.deepEqual(Buffer.from(end.response?.body ?? []), Buffer.from([0, 255, 1]));
		assert.deepEqual(await client.getResult(made.invocationId), end);
		const { runAt, tags, laneKey } = engine.requests[0] ?? {};
		assert.deepEqual([runAt, tags, laneKey], [5, ["t"], "l"]);
		const held = await client.enqueue("held");
		const now = await client.getResult(held.invocationId);
		assert.equal(now.ended, false);
		assert.equal(now.response, undefined);
		assert.equal((await client.cancel(held.invocationId)).state, "cancelled");
		assert.equal((await client.waitForResult(held.invocationId)).error?.code, "CANCELLED");
		await assert.rejects(client.getResult("inv_none"), failsWith("INVOCATION_NOT_FOUND"));
	});

	it("a wait that runs out is WAIT_TIMEOUT, one that is aborted rejects with the reason; the invocation goes on", async () => {
		const { invocationId } = await client.enqueue("held");
		await assert.rejects(client.waitForResult(invocationId, { timeoutMs: 20 }), failsWith("WAIT_TIMEOUT"));
		const abort = new AbortController();
		const waiting = client.waitForResult(invocationId, { timeoutMs: 60_000, signal: abort.signal });
		await waitFor("the wait", () => engine.waiters === 1);
		abort.abort(new Error("enough"));
		await assert.rejects(waiting, /enough/);
		release();
		assert.equal((await client.waitForResult(invocationId)).state, "succeeded");
	});

	it("registers, deploys, reads logs and metrics, emits and calls operations", async () => {
		const made = await client.registerFunction("fresh");
		assert.equal(made.status, "REGISTERED");
		const deployed = await client.deployFunction("fresh", "v3", "/tmp/x.js");
		assert.deepEqual([deployed.functionId, deployed.version, deployed.status], [made.functionId, "v3", "deployed"]);
		engine.log("fresh", "hello", { metadata: { a: 1 } });
		const page = await client.logs({ function: "fresh" });
		assert.equal(page.logs[0]?.message, "hello");
		assert.deepEqual(page.logs[0]?.metadata, { a: 1 });
		const next = client.logs({ function: "fresh", after: page.logs[0]?.id, waitMs: 10_000 });
		await waitFor("the wait", () => engine.waiters === 1);
		engine.log("fresh", "more");
		assert.equal((await next).logs[0]?.message, "more");
		assert.equal((await client.metrics("fresh", "day")).period, "day");
		assert.match((await client.emit("a.b", { x: 1 })).eventId, /^evt_/);
		assert.equal(((await client.call("functions.list"))["functions"] as unknown[]).length, 3);
	});

	it("a thousand calls at once go over one connection, each with its own answer", async () => {
		const answers = await Promise.all(
			Array.from({ length: 1000 }, (_, index) => client.invoke("echo", { body: `${index}` })),
		);
		for (const [index, answer] of answers.entries()) assert.equal(answer.text(), `${index}`);
		assert.equal(source?.counts().connections, 1);
	});

	it("bodies of 11 MiB pass both ways, and what does not fit a frame is refused before it is sent", async () => {
		engine.configureFunction("echo", { maxBodyBytes: LIMITS.bodyBytesMax });
		const body = Buffer.alloc(LIMITS.bodyBytesMax, 3);
		assert.ok(body.equals((await client.invoke("echo", { body })).body));
		await assert.rejects(client.invoke("echo", { body: Buffer.alloc(17 * 1024 * 1024) }), failsWith("BODY_TOO_LARGE"));
		assert.equal((await client.invoke("echo")).success, true);
	});
});

describe("a connection that breaks", () => {
	it("no daemon is DAEMON_UNREACHABLE, soon, and nothing was sent", async () => {
		using nobody = createClient(join(folder.path, "none.sock"), { connectTimeoutMs: 30 });
		await assert.rejects(nobody.invoke("echo"), failsWith("DAEMON_UNREACHABLE"));
		await assert.rejects(nobody.call("stats.get"), failsWith("DAEMON_UNREACHABLE"));
	});

	it("a daemon that starts a moment later is found", async () => {
		await stopDaemon();
		using early = createClient(path, { connectTimeoutMs: 10_000 });
		const asked = early.invoke("echo", { body: "x" });
		await startDaemon();
		assert.equal((await asked).text(), "x");
	});

	it("a client goes on after the daemon was restarted", async () => {
		assert.equal((await client.invoke("echo")).success, true);
		await stopDaemon();
		await startDaemon();
		assert.equal((await client.invoke("echo")).success, true);
	});

	it("enqueue makes a key and is sent again once under the same key", async () => {
		const at = join(folder.path, "breaks.sock");
		const { frames, connections } = breakingServer(at, 1);
		using other = createClient(at);
		assert.equal((await other.enqueue("echo")).invocationId, "inv_1");
		assert.equal(connections(), 2);
		assert.equal(frames.length, 2);
		assert.deepEqual(frames[0]?.subarray(17), frames[1]?.subarray(17), "the same payload, the same key");
		assert.match(String(frames[0]), /"idempotency_key":"[0-9a-f-]{36}"/);
	});

	it("once, and not for ever", async () => {
		const at = join(folder.path, "breaks.sock");
		const { frames } = breakingServer(at, 2);
		using other = createClient(at);
		await assert.rejects(other.enqueue("echo"), failsWith("DAEMON_UNREACHABLE", true));
		assert.equal(frames.length, 2);
	});

	it("what must not happen twice is not sent twice: invoke without a key, a call, an enqueue without automatic keys", async () => {
		const at = join(folder.path, "breaks.sock");
		const { frames } = breakingServer(at, 3);
		using other = createClient(at, { automaticKeys: false });
		await assert.rejects(other.invoke("echo"), failsWith("DAEMON_UNREACHABLE", true));
		await assert.rejects(other.call("invocations.retry", {}), failsWith("DAEMON_UNREACHABLE", true));
		await assert.rejects(other.enqueue("echo"), failsWith("DAEMON_UNREACHABLE", true));
		assert.equal(frames.length, 3);
	});

	it("invoke with a key is sent again", async () => {
		const at = join(folder.path, "breaks.sock");
		const { frames } = breakingServer(at, 1);
		using other = createClient(at);
		await other.invoke("echo", { idempotencyKey: "k" });
		assert.equal(frames.length, 2);
	});

	it("a wait for a result survives a daemon that is away for a while", async () => {
		const { invocationId } = await client.enqueue("held");
		const waiting = client.waitForResult(invocationId, { timeoutMs: 20_000 });
		await waitFor("the wait", () => engine.waiters === 1);
		await stopDaemon();
		rmSync(path, { force: true });
		await startDaemon();
		await waitFor("the wait again", () => engine.waiters === 1);
		release();
		assert.equal((await waiting).state, "succeeded");
	});

	it("a far end that speaks no protocol of ours breaks the request, not the process", async () => {
		const at = join(folder.path, "http.sock");
		const server = createServer((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")).listen(at);
		servers.push(server);
		await once(server, "listening");
		using other = createClient(at, { automaticKeys: false });
		await assert.rejects(other.enqueue("echo"), failsWith("DAEMON_UNREACHABLE", true));
	});

	it("close rejects what is open and everything after, and ends a wait at once", async () => {
		const { invocationId } = await client.enqueue("held");
		const rejected = Promise.all([
			assert.rejects(client.invoke("held"), failsWith("DAEMON_UNREACHABLE", true)),
			assert.rejects(client.waitForResult(invocationId, { timeoutMs: 60_000 }), failsWith("DAEMON_UNREACHABLE", true)),
		]);
		await waitFor("both", () => engine.requests.length === 2 && engine.waiters === 1);
		client.close();
		await rejected;
		await assert.rejects(client.invoke("echo"), failsWith("DAEMON_UNREACHABLE"));
		await assert.rejects(client.waitForResult("inv_0", { timeoutMs: 60_000 }), failsWith("DAEMON_UNREACHABLE"));
	});
});

it("an idle client does not keep its process alive, and the client loads nothing but itself and the protocol", async () => {
	const url = new URL("../../../src/sources/client.ts", import.meta.url).href;
	const script = `
		import { registerHooks } from "node:module";
		registerHooks({ load(url, context, next) { if (url.startsWith("file:")) console.log("loaded", url); return next(url, context); } });
		const { createClient } = await import(${JSON.stringify(url)});
		console.log((await createClient(${JSON.stringify(path)}).invoke("echo", { body: "done" })).text());
	`;
	const child = spawn(process.execPath, ["--input-type=module", "-e", script], {
		stdio: ["ignore", "pipe", "inherit"],
	});
	let out = "";
	child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
	const [code] = (await once(child, "close")) as [number | null];
	assert.equal(code, 0);
	assert.match(out, /done/);
	const loaded = [...out.matchAll(/loaded .*\/src\/([^/]+)\/([^/\s]+)/g)].map((match) => `${match[1]}/${match[2]}`);
	assert.ok(loaded.includes("sources/client.ts"));
	for (const file of loaded) assert.match(file, /^(?:sources\/client|protocol\/)/);
});
