import assert from "node:assert/strict";
import { test } from "node:test";
import {
	CHANNEL_FRAME_BYTES_MAX,
	FrameReader,
	FrameWriter,
	readHostMessage,
	readWorkerMessage,
	type WorkerMessage,
} from "../../../src/protocol/index.ts";
import { fc, seeded } from "../../support/seed.ts";

function join(chunks: readonly Uint8Array[]): Uint8Array {
	return new Uint8Array(Buffer.concat(chunks));
}

/** Reads a stream that arrives in the given pieces. */
function receive(bytes: Uint8Array, cuts: readonly number[]): { messages: unknown[]; problem: string | undefined } {
	const messages: unknown[] = [];
	const reader = new FrameReader((type, head, body) => {
		const message = type < 64 ? readHostMessage(type, head, body) : readWorkerMessage(type, head, body);
		if (typeof message === "string") return message;
		messages.push(message);
		return undefined;
	});
	const places = [...new Set([...cuts.map((cut) => cut % (bytes.byteLength + 1)), bytes.byteLength])].sort(
		(a, b) => a - b,
	);
	let from = 0;
	let problem: string | undefined;
	for (const place of places) {
		problem = reader.push(bytes.subarray(from, place));
		from = place;
	}
	return { messages, problem };
}

const pairs = fc.array(fc.tuple(fc.string({ unit: "grapheme" }), fc.string()), { maxLength: 4 });
const call = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const text = fc.string({ unit: "grapheme", maxLength: 300 });
const body = fc.oneof(
	fc.uint8Array({ maxLength: 64 }),
	fc.integer({ min: 16_380, max: 16_390 }).map((bytes) => new Uint8Array(bytes).fill(7)),
);
/** Plain objects, as JSON.parse makes them. */
const record: typeof fc.record = (model: object) => fc.record(model, { noNullPrototype: true }) as never;
const workerMessage: fc.Arbitrary<WorkerMessage> = fc.oneof(
	record({
		type: fc.constant("response" as const),
		call,
		status: fc.integer({ min: 200, max: 599 }),
		headers: pairs,
		body,
	}),
	record({
		type: fc.constant("failed" as const),
		call,
		code: text,
		name: fc.option(text, { nil: undefined }),
		message: text,
		stack: fc.option(text, { nil: undefined }),
	}),
	record({ type: fc.constant("ended" as const), call }),
	record({
		type: fc.constant("log" as const),
		call: fc.option(call, { nil: undefined }),
		level: fc.constantFrom("debug" as const, "info" as const, "warn" as const, "error" as const),
		message: text,
		metadata: fc.constantFrom(undefined, { a: 1 }),
		at: fc.nat(),
	}),
	record({ type: fc.constant("tainted" as const), message: text }),
	fc.constant({ type: "pong" as const }),
);

test("what a worker says arrives as it was said, however the bytes are cut", () => {
	fc.assert(
		fc.property(fc.array(workerMessage, { maxLength: 8 }), fc.array(fc.nat(), { maxLength: 12 }), (said, cuts) => {
			const writer = new FrameWriter();
			for (const message of said) writer.worker(message);
			const { messages, problem } = receive(join(writer.take()), cuts);
			assert.equal(problem, undefined);
			assert.deepEqual(messages, said);
			assert.equal(writer.empty, true);
		}),
		seeded(100),
	);
});

test("an invoke carries its stored header and query texts without a change", () => {
	fc.assert(
		fc.property(pairs, pairs, text, body, fc.array(fc.nat(), { maxLength: 6 }), (headers, query, path, bytes, cuts) => {
			const writer = new FrameWriter();
			const message = { invocationId: "inv_1", attempt: 2, method: "POST", path, body: bytes };
			const [headersJson, queryJson] = [JSON.stringify(headers), JSON.stringify(query)];
			writer.host({ type: "ping" });
			writer.invoke(7, { ...message, headersJson, queryJson }, 9);
			writer.host({ type: "abort", call: 7, reason: "timeout" });
			const { messages } = receive(join(writer.take()), cuts);
			assert.equal(messages.length, 3);
			assert.deepEqual(messages[1], { type: "invoke", ...message, call: 7, deadline: 9, headers, query });
		}),
		seeded(100),
	);
});

test("no bytes make the reader throw, and after a problem it reads no more", () => {
	fc.assert(
		fc.property(fc.uint8Array({ maxLength: 200 }), fc.array(fc.nat(), { maxLength: 6 }), (bytes, cuts) => {
			const { messages, problem } = receive(bytes, cuts);
			assert.ok(problem === undefined || typeof problem === "string");
			assert.ok(messages.length <= bytes.byteLength / 9);
		}),
		seeded(100),
	);
});

test("a frame within one chunk is a view of it, not a copy", () => {
	const writer = new FrameWriter();
	writer.worker({ type: "response", call: 1, status: 200, headers: [], body: new Uint8Array(100) });
	const bytes = join(writer.take());
	let seen: Uint8Array | undefined;
	new FrameReader((_type, _head, body) => {
		seen = body;
		return undefined;
	}).push(bytes);
	assert.equal(seen?.buffer, bytes.buffer);
});

test("a large body is handed on without a copy", () => {
	const large = new Uint8Array(100_000);
	const writer = new FrameWriter();
	writer.worker({ type: "response", call: 1, status: 200, headers: [], body: large });
	writer.worker({ type: "pong" });
	const chunks = writer.take();
	assert.equal(chunks.length, 3);
	assert.equal(chunks[1], large);
});

test("a length over the bound is refused before memory is taken for it", () => {
	const frame = new Uint8Array(4);
	new DataView(frame.buffer).setUint32(0, CHANNEL_FRAME_BYTES_MAX + 1, true);
	assert.match(receive(frame, []).problem ?? "", /16777217 bytes/);
	new DataView(frame.buffer).setUint32(0, 4, true);
	assert.match(receive(frame, []).problem ?? "", /a frame of 4 bytes/);
});

function frame(type: number, head: string, headLength = head.length): Uint8Array {
	const bytes = new Uint8Array(9 + head.length);
	const view = new DataView(bytes.buffer);
	view.setUint32(0, 5 + head.length, true);
	view.setUint8(4, type);
	view.setUint32(5, headLength, true);
	bytes.set(new TextEncoder().encode(head), 9);
	return bytes;
}

const RESPONSE = 66;
for (const [what, bytes] of [
	["a head longer than its frame", frame(RESPONSE, "{}", 3)],
	["a head that is no JSON", frame(RESPONSE, "{")],
	["a head that is an array", frame(RESPONSE, "[]")],
	["a call that is no u32", frame(RESPONSE, '{"call":-1,"status":200,"headers":[]}')],
	["a status that is none", frame(RESPONSE, '{"call":1,"status":99,"headers":[]}')],
	["headers that are no pairs", frame(RESPONSE, '{"call":1,"status":200,"headers":[["a"]]}')],
	["headers that are no strings", frame(RESPONSE, '{"call":1,"status":200,"headers":[["a",1]]}')],
	["an unknown type", frame(99, "{}")],
	["a log without a level", frame(69, '{"message":"x","at":1}')],
	["a ready without a version", frame(64, "{}")],
] as const) {
	test(`${what} is a problem, not an exception`, () => {
		const { messages, problem } = receive(bytes, []);
		assert.deepEqual(messages, []);
		assert.equal(typeof problem, "string");
	});
}

test("invalid UTF-8 in a head is a problem", () => {
	const bytes = frame(RESPONSE, '{"a":"xx"}');
	bytes[15] = 0xff;
	assert.equal(typeof receive(bytes, []).problem, "string");
});
