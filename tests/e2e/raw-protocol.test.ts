/**
 * A client written from the protocol's description alone (no code of ours): it can register, deploy, invoke, enqueue,
 * await, cancel and roll back, pipelined, with frames split anywhere.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { startDaemon, type Daemon } from "../support/daemon.ts";
import { tempFolder } from "../support/temp-folder.ts";

type Json = Record<string, unknown>;
interface Answer {
	readonly status: number;
	readonly payload: Json;
}

const folder = tempFolder();
let daemon: Daemon;

before(async () => {
	daemon = await startDaemon(join(folder.path, "data"));
});
after(async () => {
	assert.equal(await daemon.stop(), 0);
	folder[Symbol.dispose]();
});

function frame(requestId: bigint, command: number, payload: string): Buffer {
	const body = Buffer.from(payload, "utf8");
	const bytes = Buffer.alloc(17 + body.length);
	bytes.writeUInt32LE(13 + body.length, 0);
	bytes.writeBigUInt64LE(requestId, 4);
	bytes.writeUInt8(command, 12);
	bytes.writeUInt32LE(body.length, 13);
	body.copy(bytes, 17);
	return bytes;
}

class RawClient {
	readonly socket: Socket;
	readonly #waiting = new Map<bigint, (answer: Answer) => void>();
	#bytes = Buffer.alloc(0);
	#next = 1n;

	constructor(path: string) {
		this.socket = connect(path);
		this.socket.on("data", (chunk: Buffer) => {
			this.#bytes = Buffer.concat([this.#bytes, chunk]);
			for (;;) {
				if (this.#bytes.length < 4) return;
				const length = this.#bytes.readUInt32LE(0);
				if (this.#bytes.length < 4 + length) return;
				const id = this.#bytes.readBigUInt64LE(4);
				const status = this.#bytes.readUInt8(12);
				const payloadLength = this.#bytes.readUInt32LE(13);
				const payload = JSON.parse(this.#bytes.toString("utf8", 17, 17 + payloadLength)) as Json;
				this.#bytes = this.#bytes.subarray(4 + length);
				this.#waiting.get(id)?.({ status, payload });
				this.#waiting.delete(id);
			}
		});
	}

	send(
		command: number,
		payload: Json | string,
		write = (bytes: Buffer) => void this.socket.write(bytes),
	): Promise<Answer> {
		const id = this.#next;
		this.#next += 1n;
		const answer = new Promise<Answer>((resolve) => this.#waiting.set(id, resolve));
		write(frame(id, command, typeof payload === "string" ? payload : JSON.stringify(payload)));
		return answer;
	}

	async ok(command: number, payload: Json): Promise<Json> {
		const answer = await this.send(command, payload);
		assert.equal(answer.status, 0x00, JSON.stringify(answer.payload));
		return answer.payload;
	}
}

function bundle(name: string, source: string): string {
	const path = join(folder.path, `${name}.js`);
	writeFileSync(path, source);
	return path;
}

const base64 = (text: string): string => Buffer.from(text).toString("base64");
const text = (value: unknown): string => Buffer.from(String(value), "base64").toString("utf8");

test("register, deploy, invoke, roll back", async () => {
	const client = new RawClient(daemon.socketPath);
	const registered = await client.ok(0x04, { name: "greeter", runtime: "bun", handler: "default" });
	assert.deepEqual(Object.keys(registered).sort(), ["function_id", "handler", "name", "runtime", "status"]);
	const id = registered["function_id"];
	assert.equal((await client.ok(0x04, { name: "greeter", runtime: "bun", handler: "default" }))["function_id"], id);

	const one = bundle(
		"one",
		'export default async (req) => new Response("one " + await req.text(), { status: 201, headers: { "x-a": "b" } });',
	);
	const two = bundle("two", 'export default async (req) => new Response("two " + await req.text());');
	const deployed = await client.ok(0x05, { function_id: id, version: "1.0", bundle_path: one });
	assert.deepEqual([deployed["status"], deployed["version"], deployed["function_id"]], ["deployed", "1.0", id]);

	const call = { function_id: id, method: "POST", path: "/x", headers: null, query: null, body: base64("body") };
	const first = await client.ok(0x01, call);
	assert.equal(first["success"], true);
	assert.equal(first["status"], 201);
	assert.equal(text(first["body"]), "one body");
	assert.equal((first["headers"] as Json)["x-a"], "b");
	assert.ok(Number.isInteger(first["execution_time_ms"]));
	assert.match(String(first["execution_id"]), /^inv_/);

	await client.ok(0x05, { function_id: id, version: "2.0", bundle_path: two });
	assert.equal(text((await client.ok(0x01, { ...call, function_id: "greeter" }))["body"]), "two body");
	const conflict = await client.send(0x05, { function_id: id, version: "1.0", bundle_path: two });
	assert.deepEqual([conflict.status, conflict.payload["code"]], [0x01, "VERSION_CONFLICT"]);
	await client.ok(0x05, { function_id: id, version: "1.0", bundle_path: one });
	assert.equal(
		text((await client.ok(0x01, call))["body"]),
		"one body",
		"an existing version is activated again: rollback",
	);
	client.socket.destroy();
});

test("enqueue, await, cancel; a second await after the end", async () => {
	const client = new RawClient(daemon.socketPath);
	await client.ok(0x04, { name: "waiter" });
	const path = bundle(
		"waiter",
		'export default async (req) => { await Bun.sleep(Number(await req.text())); return new Response("done"); };',
	);
	await client.ok(0x05, { function_id: "waiter", version: "v1", bundle_path: path });
	const call = { function_id: "waiter", method: "POST", path: "/", body: base64("30") };

	const accepted = await client.ok(0x10, { ...call, idempotency_key: "k1" });
	assert.equal(accepted["replayed"], false);
	const again = await client.ok(0x10, { ...call, idempotency_key: "k1" });
	assert.deepEqual([again["replayed"], again["invocation_id"]], [true, accepted["invocation_id"]]);
	const other = await client.send(0x10, { ...call, body: base64("31"), idempotency_key: "k1" });
	assert.equal(other.payload["code"], "IDEMPOTENCY_CONFLICT");

	const ended = await client.ok(0x12, { invocation_id: accepted["invocation_id"], timeout_ms: 10_000 });
	assert.equal(ended["state"], "succeeded");
	assert.equal(text((ended["result"] as Json)["body"]), "done");
	assert.ok(Number.isInteger(ended["created_at"]) && Number.isInteger(ended["finished_at"]));
	assert.equal((await client.ok(0x11, { invocation_id: accepted["invocation_id"] }))["state"], "succeeded");

	const delayed = await client.ok(0x10, { ...call, delay_ms: 60_000 });
	const waited = await client.ok(0x12, { invocation_id: delayed["invocation_id"], timeout_ms: 20 });
	assert.deepEqual([waited["state"], waited["timed_out_waiting"]], ["queued", true]);
	assert.equal((await client.ok(0x13, { invocation_id: delayed["invocation_id"] }))["state"], "cancelled");
	client.socket.destroy();
});

test("a handler that throws answers OK with success false", async () => {
	const client = new RawClient(daemon.socketPath);
	await client.ok(0x04, { name: "thrower" });
	const path = bundle("thrower", 'export default () => { throw new Error("on purpose"); };');
	await client.ok(0x05, { function_id: "thrower", version: "v1", bundle_path: path });
	const answer = await client.ok(0x01, {
		function_id: "thrower",
		method: "GET",
		path: "/",
		headers: {},
		query: {},
		body: "",
	});
	assert.equal(answer["success"], false);
	assert.equal(answer["code"], "HANDLER_ERROR");
	assert.match(String(answer["error"]), /on purpose/);
	assert.match(String(answer["execution_id"]), /^inv_/);
	client.socket.destroy();
});

test("errors keep the connection; a hundred pipelined calls in one write, split anywhere, are all answered", async () => {
	const client = new RawClient(daemon.socketPath);
	for (const [command, payload, code] of [
		[0x01, { function_id: "nobody", method: "GET", path: "/", body: "" }, "FUNCTION_NOT_FOUND"],
		[0x01, { method: "GET", path: "/" }, "BAD_REQUEST"],
		[0x01, "{not json", "BAD_JSON"],
		[0x77, {}, "UNKNOWN_COMMAND"],
		[0x11, { invocation_id: "inv_nope" }, "INVOCATION_NOT_FOUND"],
		[0x04, { name: "Bad Name" }, "BAD_NAME"],
		[0x04, { name: "ok", runtime: "quickjs" }, "UNSUPPORTED_RUNTIME"],
		[0x05, { function_id: "greeter", version: "../x", bundle_path: "/tmp/x.js" }, "BAD_NAME"],
	] as const) {
		const answer = await client.send(command, payload as Json);
		assert.deepEqual([answer.status, answer.payload["code"]], [0x01, code]);
		for (const value of Object.values(answer.payload)) assert.equal(typeof value, "string");
	}
	let together = Buffer.alloc(0);
	const call = { function_id: "greeter", method: "POST", path: "/", body: base64("x") };
	const answers = Array.from({ length: 100 }, () =>
		client.send(0x01, call, (bytes) => void (together = Buffer.concat([together, bytes]))),
	);
	for (let at = 0; at < together.length; at += 1013) {
		client.socket.write(together.subarray(at, at + 1013));
		await new Promise((resolve) => setImmediate(resolve));
	}
	for (const answer of await Promise.all(answers)) assert.equal(answer.payload["success"], true);
	client.socket.destroy();
});

test("a malformed frame closes its own connection only", async () => {
	const good = new RawClient(daemon.socketPath);
	await good.ok(0x04, { name: "greeter" });
	const bad = connect(daemon.socketPath);
	bad.on("error", () => undefined);
	const bytes = Buffer.alloc(17);
	bytes.writeUInt32LE(0xff_ff_ff_ff, 0);
	bad.write(bytes);
	bad.resume();
	await once(bad, "close");
	await good.ok(0x04, { name: "greeter" });
	good.socket.destroy();
});

test("logs and metrics of a function, as the existing server asks for them", async () => {
	const client = new RawClient(daemon.socketPath);
	await client.ok(0x04, { name: "talker" });
	const path = bundle("talker", 'export default () => { console.log("said so"); return new Response("x"); };');
	await client.ok(0x05, { function_id: "talker", version: "v1", bundle_path: path });
	const { execution_id: id } = await client.ok(0x01, { function_id: "talker", method: "GET", path: "/", body: "" });
	const { logs, total } = await client.ok(0x02, {
		function_id: "talker",
		since: new Date(Date.now() - 60_000).toISOString(),
		limit: 10,
	});
	assert.equal(total, 1);
	const [line] = logs as Json[];
	assert.deepEqual([line?.["message"], line?.["level"], line?.["execution_id"]], ["said so", "info", id]);
	assert.ok(!Number.isNaN(Date.parse(String(line?.["timestamp"]))));
	const metrics = await client.ok(0x03, { function_id: "talker", period: "hour" });
	assert.deepEqual([metrics["invocations"], metrics["errors"], metrics["cold_starts"]], [1, 0, 0]);
	assert.ok(!Number.isNaN(Date.parse(String(metrics["last_invoked"]))));
	client.socket.destroy();
});
