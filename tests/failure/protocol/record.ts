/**
 * Records a conversation with the daemon of this checkout: `node tests/failure/protocol/record.ts FILE`. One is kept for
 * each release under golden/; a recorded one is never recorded anew.
 */
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { RawClient } from "../../support/raw-client.ts";
import { startDaemon } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { VERSION } from "../../../src/index.ts";
import { makeFrame, type Conversation, type Turn } from "./conversation.ts";

/** Where the recorded deploy read its bundle; whoever holds the conversation again exchanges it for a path of its own. */
export const BUNDLE = "/tmp/bunbase-golden-bundle.js";
export const BUNDLE_TEXT = `export default async (req) => {
	const url = new URL(req.url);
	if (url.pathname === "/throw") throw new TypeError("thrown on purpose");
	if (url.pathname === "/log") console.log("a line");
	if (url.pathname === "/sleep") await Bun.sleep(60_000);
	const headers = new Headers({ "x-method": req.method, "x-query": url.search });
	headers.append("set-cookie", "a=1");
	headers.append("set-cookie", "b=2");
	return new Response(await req.arrayBuffer(), { status: 201, headers });
};
`;

const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const base64 = (text: string): string => Buffer.from(text).toString("base64");

function raw(fields: unknown, body: string): Buffer {
	const head = json(fields);
	const length = Buffer.alloc(4);
	length.writeUInt32LE(head.length);
	return Buffer.concat([length, head, Buffer.from(body)]);
}

if (import.meta.main) {
	const path = process.argv[2];
	if (path === undefined) throw new Error("expected the file to write");
	using folder = tempFolder();
	writeFileSync(BUNDLE, BUNDLE_TEXT);
	const daemon = await startDaemon(join(folder.path, "data"));
	const client = await RawClient.connect(daemon.socketPath);
	const received: Buffer[] = [];
	client.socket.on("data", (chunk: Buffer) => received.push(chunk));
	const turns: Turn[] = [];
	let next = 0x0102_0304_0506_0700n;
	const ask = async (what: string, command: number, payload: Buffer): Promise<Record<string, unknown>> => {
		next += 1n;
		const request = makeFrame(next, command, payload);
		received.length = 0;
		client.socket.write(request);
		const { json: answer } = await client.answer(next);
		turns.push({ what, command, request: request.toString("hex"), answer: Buffer.concat(received).toString("hex") });
		return answer;
	};
	const call = { function_id: "golden", method: "POST", path: "/a/b", headers: { "X-A": "1" }, query: { q: "ä" } };

	await ask("register", 0x04, json({ name: "golden", runtime: "bun", handler: "default" }));
	await ask("register again", 0x04, json({ name: "golden" }));
	await ask("deploy", 0x05, json({ function_id: "golden", version: "1.0", bundle_path: BUNDLE }));
	await ask("invoke", 0x01, json({ ...call, body: base64("hello") }));
	await ask(
		"invoke with nulls",
		0x01,
		json({ function_id: "golden", method: "GET", path: "/", headers: null, query: null, body: null }),
	);
	await ask("a handler that throws", 0x01, json({ ...call, path: "/throw", body: "" }));
	await ask("an unknown function", 0x01, json({ ...call, function_id: "nobody", body: "" }));
	await ask("a missing field", 0x01, json({ function_id: "golden", body: "" }));
	await ask("bad JSON", 0x01, Buffer.from("{"));
	await ask("an unknown command", 0x77, json({}));
	await ask("a command that is never assigned", 0xf0, json({}));
	await ask("a name that breaks the rule", 0x04, json({ name: "Bad Name" }));
	await ask("a runtime that does not exist", 0x04, json({ name: "x", runtime: "deno" }));
	await ask(
		"a bundle that is not there",
		0x05,
		json({ function_id: "golden", version: "2.0", bundle_path: "/nowhere.js" }),
	);
	const accepted = await ask(
		"enqueue",
		0x10,
		json({ ...call, body: base64("later"), idempotency_key: "k1", priority: 3, tags: ["t"] }),
	);
	await ask(
		"enqueue again under its key",
		0x10,
		json({ ...call, body: base64("later"), idempotency_key: "k1", priority: 3, tags: ["t"] }),
	);
	await ask("another request under the key", 0x10, json({ ...call, body: base64("other"), idempotency_key: "k1" }));
	await ask("await", 0x12, json({ invocation_id: accepted["invocation_id"], timeout_ms: 20_000 }));
	await ask("get", 0x11, json({ invocation_id: accepted["invocation_id"] }));
	await ask("an id that is none", 0x11, json({ invocation_id: "inv_nope" }));
	const delayed = await ask("enqueue with a delay", 0x10, json({ ...call, body: "", delay_ms: 3_600_000 }));
	await ask("a wait that runs out", 0x12, json({ invocation_id: delayed["invocation_id"], timeout_ms: 20 }));
	await ask("cancel", 0x13, json({ invocation_id: delayed["invocation_id"] }));
	await ask("cancel again", 0x13, json({ invocation_id: delayed["invocation_id"] }));
	await ask("metrics of an unknown period", 0x03, json({ function_id: "golden", period: "year" }));
	await ask("logs of nothing", 0x02, json({ function_id: "golden", since: "2100-01-01T00:00:00Z", limit: 5 }));
	await ask("raw before hello", 0x22, raw(call, "x"));
	await ask("hello", 0x20, json({ protocol: 1, raw_bodies: true, source: "socket", client: "golden/1" }));
	await ask(
		"invoke raw",
		0x22,
		raw(
			{
				...call,
				headers: [
					["X-A", "1"],
					["X-A", "2"],
				],
			},
			"raw bytes",
		),
	);
	const enqueued = await ask("enqueue raw", 0x23, raw({ ...call, idempotency_key: "k2" }, "raw later"));
	await ask("await raw", 0x25, json({ invocation_id: enqueued["invocation_id"], timeout_ms: 20_000 }));
	await ask("get raw", 0x24, json({ invocation_id: enqueued["invocation_id"] }));
	await ask("hello with pairs", 0x20, json({ pairs: true }));
	await ask("invoke with pairs", 0x01, json({ ...call, body: "" }));
	await ask("call", 0x21, json({ op: "functions.versions", params: { function: "golden" } }));
	await ask("an unknown operation", 0x21, json({ op: "nothing.at.all", params: {} }));
	await ask("an unknown parameter", 0x21, json({ op: "functions.list", params: { colour: "blue" } }));

	await client[Symbol.asyncDispose]();
	await daemon.stop();
	rmSync(BUNDLE);
	const conversation: Conversation = { version: VERSION, turns };
	writeFileSync(path, `${JSON.stringify(conversation, undefined, "\t")}\n`);
	console.log(`recorded ${turns.length} turns with ${VERSION}`);
}
