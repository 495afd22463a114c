/** F17: JSON that parsers disagree about, through HTTP, socket and command line: one result, no crash, nothing polluted. */
import assert from "node:assert/strict";
import { fault } from "../fault.ts";
import { cli } from "../../support/cli-harness.ts";
import { RawClient } from "../../support/raw-client.ts";
import { COMMANDS } from "../../../src/protocol/index.ts";
import { memoryOf, scene } from "./scene.ts";

const s = scene();
const deep = (depth: number, open: string, close: string): string => open.repeat(depth) + close.repeat(depth);

/** A document in the place of an event's data: what the daemon takes, and what the event then is; or the code of its refusal. */
const CORPUS: readonly (readonly [
	title: string,
	data: string | Buffer,
	result: { readonly is: string } | { readonly code: string },
])[] = [
	["duplicate keys: the last one counts", '{"a":1,"a":2}', { is: '{"a":2}' }],
	[
		"__proto__ is a key like any other",
		'{"__proto__":{"polluted":1},"a":1}',
		{ is: '{"__proto__":{"polluted":1},"a":1}' },
	],
	[
		"constructor.prototype is data",
		'{"constructor":{"prototype":{"polluted":1}}}',
		{ is: '{"constructor":{"prototype":{"polluted":1}}}' },
	],
	["a number past every number is null", "1e999", { is: "null" }],
	["minus zero is zero", "-0", { is: "0" }],
	["an integer past 2^53 is the nearest double", "9007199254740993", { is: "9007199254740992" }],
	["a number of 10,000 digits", "1".repeat(10_000), { is: "null" }],
	["an escaped lone surrogate stays what it is", '"\\ud800"', { is: '"\\ud800"' }],
	["an escaped NUL stays what it is", '"a\\u0000b"', { is: '"a\\u0000b"' }],
	["256 deep in all", deep(254, "[", "]"), { is: deep(254, "[", "]") }],
	["257 deep", deep(257, "[", "]"), { code: "BAD_JSON" }],
	["100,000 lists deep", deep(100_000, "[", "]"), { code: "BAD_JSON" }],
	["100,000 objects deep", `${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}`, { code: "BAD_JSON" }],
	["100,000 brackets in a string are text", `"${"[".repeat(100_000)}"`, { is: `"${"[".repeat(100_000)}"` }],
	["a byte order mark", Buffer.from("\ufeff1"), { code: "BAD_JSON" }],
	["bytes that are no UTF-8", Buffer.from([0x22, 0xff, 0xfe, 0x22]), { code: "BAD_JSON" }],
	["a surrogate in UTF-8", Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), { code: "BAD_JSON" }],
	["an overlong slash", Buffer.from([0x22, 0xc0, 0xaf, 0x22]), { code: "BAD_JSON" }],
	["a raw control character", '"a\u0001"', { code: "BAD_JSON" }],
	["NaN", "NaN", { code: "BAD_JSON" }],
	["a trailing comma", "[1,]", { code: "BAD_JSON" }],
	["a comment", "1/*x*/", { code: "BAD_JSON" }],
	["single quotes", "'a'", { code: "BAD_JSON" }],
	["a leading zero", "01", { code: "BAD_JSON" }],
	["hexadecimal", "0x10", { code: "BAD_JSON" }],
	["two documents", "1}{", { code: "BAD_JSON" }],
	["nothing", "", { code: "BAD_JSON" }],
	["an unclosed string", '"a', { code: "BAD_JSON" }],
];

function around(before: string, data: string | Buffer, after: string): Buffer {
	return Buffer.concat([Buffer.from(before), Buffer.from(data), Buffer.from(after)]);
}

/** The data of the newest event, as the bytes in which it was stored. */
async function newest(): Promise<string> {
	const { events } = JSON.parse((await s.call("GET", "/v1/events?limit=1")).text) as { events: { data: unknown }[] };
	return JSON.stringify(events[0]?.data);
}

async function callRaw(payload: Buffer): Promise<Record<string, unknown>> {
	await using client = await RawClient.connect(s.daemon.socketPath);
	client.socket.write(RawClient.frame(1n, COMMANDS.CALL, payload));
	return (await client.answer(1n)).json;
}

for (const [title, data, result] of CORPUS) {
	fault("F17", `${title}: the same over HTTP and socket`, async () => {
		const [type, params] = ['{"type":"json.case","data":', "}"];
		const body = around(type, data, params);
		const faces: (readonly [face: string, answer: () => Promise<Record<string, unknown>>])[] = [
			["http", async () => JSON.parse((await s.call("POST", "/v1/events", { body })).text) as Record<string, unknown>],
			["socket", () => callRaw(Buffer.concat([Buffer.from('{"op":"events.emit","params":'), body, Buffer.from("}")]))],
		];
		for (const [face, ask] of faces) {
			const answer = await ask();
			if ("code" in result) assert.equal(answer["code"], result.code, `${face}: ${JSON.stringify(answer)}`);
			else {
				assert.equal(answer["code"], undefined, `${face}: ${JSON.stringify(answer).slice(0, 300)}`);
				assert.equal(await newest(), result.is, face);
			}
		}
		assert.equal((await s.call("GET", "/healthz")).status, 200);
	});
}

/** Where a key's name could reach a prototype: every place that takes an object of ours. */
const POLLUTERS: readonly (readonly [method: string, path: string, body: string])[] = [
	["POST", "/v1/functions", '{"name":"a","__proto__":{"polluted":"yes"}}'],
	["POST", "/v1/functions", '{"name":"a","constructor":{"prototype":{"polluted":"yes"}}}'],
	["POST", "/v1/functions", '{"__proto__":{"name":"by-prototype"}}'],
	["PATCH", "/v1/functions/web", '{"__proto__":{"memoryMb":1024}}'],
	["PATCH", "/v1/functions/web", '{"retry":{"__proto__":{"maxAttempts":50}}}'],
	["PATCH", "/v1/functions/web", '{"constructor":1}'],
	["PUT", "/v1/functions/web/env", '{"__proto__":{"polluted":"yes"}}'],
	["POST", "/v1/functions/web/schedules", '{"cron":"0 0 1 1 *","__proto__":{"timezone":"Europe/Berlin"}}'],
	["POST", "/v1/events", '{"type":"x","__proto__":{"data":1}}'],
	["POST", "/v1/invocations", '{"requests":[],"__proto__":{}}'],
];

for (const [method, path, body] of POLLUTERS) {
	fault("F17", `refused by name, changes nothing and reaches no prototype: ${method} ${path} ${body}`, async () => {
		const before = (await s.call("GET", "/v1/functions/web")).text;
		const answer = await s.call(method, path, { body });
		assert.equal(answer.status, 400, answer.text);
		assert.match(answer.text, /__proto__|constructor|Invalid|expected/);
		assert.equal((await s.call("GET", "/v1/functions/web")).text, before);
		assert.doesNotMatch((await s.call("GET", "/v1/functions")).text, /by-prototype/);
		// A polluted prototype would show in every object that the daemon writes.
		assert.doesNotMatch((await s.call("GET", "/v1/stats")).text, /polluted/);
	});
}

fault("F17", "a query and headers named like a prototype are pairs for the handler", async () => {
	const answer = await s.call("GET", "/functions/web?__proto__=a&constructor=b&__proto__=c", {
		headers: { __proto__x: "1", constructor: "d" },
	});
	const seen = JSON.parse(answer.text) as { search: string[][]; headers: string[][] };
	assert.deepEqual(seen.search, [
		["__proto__", "a"],
		["constructor", "b"],
		["__proto__", "c"],
	]);
	assert.ok(seen.headers.some(([name, value]) => name === "constructor" && value === "d"));
	await using client = await RawClient.connect(s.daemon.socketPath);
	const payload =
		'{"function_id":"web","method":"POST","path":"/","headers":{"__proto__":"1"},"query":{"__proto__":"a","toString":"b"},"body":""}';
	client.socket.write(RawClient.frame(1n, COMMANDS.INVOKE, payload));
	const { json } = await client.answer(1n);
	assert.match(JSON.stringify(json), /200/);
	const inside = JSON.parse(Buffer.from(json["body"] as string, "base64").toString()) as typeof seen;
	assert.deepEqual(inside.search, [
		["__proto__", "a"],
		["toString", "b"],
	]);
	assert.ok(inside.headers.some(([name]) => name === "__proto__"));
});

fault("F17", "a document of as many keys as fit is answered while others are served", async (f) => {
	const keys = f.long ? 1_000_000 : 100_000;
	f.ran(1);
	const many = `{"type":"x","data":{${Array.from({ length: keys }, (_, at) => `"${at.toString(36)}":0`).join(",")}}}`;
	const before = memoryOf(s.daemon.pid).now;
	// Over 1 MiB the API does not take it; the socket's frame holds 16 MiB.
	const http = await s.call("POST", "/v1/events", { body: many });
	assert.equal(http.status, many.length > 1024 * 1024 ? 413 : 202);
	const answer = await callRaw(Buffer.from(`{"op":"events.emit","params":${many}}`));
	assert.ok(answer["code"] === undefined || answer["code"] === "BODY_TOO_LARGE", JSON.stringify(answer).slice(0, 200));
	const { now } = memoryOf(s.daemon.pid);
	f.record(
		`${keys.toLocaleString("en")} keys, ${(many.length / 1024 / 1024).toFixed(1)} MiB: ${http.status} over HTTP, ${answer["code"] ?? "taken"} over the socket; grew by ${(now - before).toFixed(0)} MiB`,
	);
	assert.equal((await s.call("GET", "/healthz")).status, 200);
});

fault("F17", "a body for a handler is bytes, whatever JSON it is no JSON of", async () => {
	for (const [, data] of CORPUS) {
		const body = Buffer.from(data);
		const answer = await s.call("POST", "/functions/web", { headers: { "content-type": "application/json" }, body });
		assert.equal((JSON.parse(answer.text) as { bytes: number }).bytes, body.length);
	}
});

fault(
	"F17",
	"the command line refuses what is no JSON before it asks anybody, and passes the rest on as typed",
	async () => {
		for (const [title, data, result] of CORPUS) {
			const text = Buffer.from(data).toString();
			if (text === "" || !Buffer.from(text).equals(Buffer.from(data)) || text.length > 100_000) continue;
			const { code, out, err } = await cli(["--socket", s.daemon.socketPath, "invoke", "web", "--", text]);
			// Depth is bounded in our own documents only: a request's body is its handler's.
			const isJson = "is" in result || title.endsWith("deep");
			assert.equal(code, isJson ? 0 : 2, `${title}: ${err}`);
			if (isJson) assert.match(out, new RegExp(`"bytes":${Buffer.byteLength(text)}`));
		}
		for (const pair of ["__proto__=1", "retry.__proto__.maxAttempts=50", "constructor.prototype.x=1"]) {
			const { code, err } = await cli(["--socket", s.daemon.socketPath, "configure", "web", pair]);
			assert.equal(code, 2, `${pair}: ${err}`);
		}
		assert.equal(({} as Record<string, unknown>)["maxAttempts"], undefined);
	},
);
