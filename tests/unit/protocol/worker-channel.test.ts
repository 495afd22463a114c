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
	const reader = new FrameReader((frame) => {
		const message = frame.type < 64 ? readHostMessage(frame) : readWorkerMessage(frame);
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
/** As ids are. */
const ascii = fc.string({ unit: "grapheme-ascii", maxLength: 40 });
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
	const message = record({ invocationId: ascii, attempt: call, method: text, path: text, body });
	const deadline = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
	const cutting = fc.array(fc.nat(), { maxLength: 6 });
	fc.assert(
		fc.property(call, deadline, message, pairs, pairs, cutting, (number, until, fields, headers, query, cuts) => {
			const writer = new FrameWriter();
			const [headersJson, queryJson] = [JSON.stringify(headers), JSON.stringify(query)];
			writer.host({ type: "ping" });
			writer.invoke(number, { ...fields, headersJson, queryJson }, until);
			writer.host({ type: "abort", call: 7, reason: "timeout" });
			const { messages } = receive(join(writer.take()), cuts);
			assert.equal(messages.length, 3);
			assert.deepEqual(messages[1], { type: "invoke", ...fields, call: number, deadline: until, headers, query });
		}),
		seeded(200),
	);
});

test("half a surrogate pair in a path leaves the texts behind it where they are", () => {
	const writer = new FrameWriter();
	const request = { invocationId: "inv_1", attempt: 1, method: "POST", path: "/\ud800x", body: new Uint8Array(0) };
	writer.invoke(1, { ...request, headersJson: '[["a","b"]]', queryJson: "[]" }, 9);
	const { messages } = receive(join(writer.take()), []);
	assert.deepEqual(messages, [
		{ type: "invoke", ...request, path: "/\ufffdx", call: 1, deadline: 9, headers: [["a", "b"]], query: [] },
	]);
});

test("a byte order mark at the beginning of a text is a character of it", () => {
	const writer = new FrameWriter();
	const headers = [["\ufeffname", "\ufeffvalue"]] as const;
	const [method, path] = ["\ufeffPOST", "/\ufeff"];
	writer.worker({ type: "response", call: 1, status: 200, headers, body: new Uint8Array(0) });
	const request = { invocationId: "inv_1", attempt: 1, method, path, body: new Uint8Array(0) };
	writer.invoke(1, { ...request, headersJson: "[]", queryJson: "[]" }, 9);
	const { messages, problem } = receive(join(writer.take()), []);
	assert.equal(problem, undefined);
	assert.deepEqual((messages[0] as { headers: unknown }).headers, headers);
	assert.deepEqual(messages[1], { type: "invoke", ...request, call: 1, deadline: 9, headers: [], query: [] });
});

test("a response with more headers than any before it is written whole", () => {
	const writer = new FrameWriter();
	const headers = Array.from({ length: 500 }, (_, index) => [`x-${index}`, "v".repeat(index % 7)] as const);
	writer.worker({ type: "response", call: 1, status: 200, headers, body: new Uint8Array(0) });
	writer.worker({ type: "response", call: 2, status: 200, headers: headers.slice(0, 2), body: new Uint8Array(0) });
	const { messages } = receive(join(writer.take()), []);
	assert.deepEqual(
		messages.map((message) => (message as { headers: unknown }).headers),
		[headers, headers.slice(0, 2)],
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

test("the body of a frame within one chunk is a view of it, not a copy", () => {
	const writer = new FrameWriter();
	writer.worker({ type: "response", call: 1, status: 200, headers: [], body: new Uint8Array(100) });
	const bytes = join(writer.take());
	const { messages } = receive(bytes, []);
	assert.equal((messages[0] as { body: Uint8Array }).body.buffer, bytes.buffer);
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
	bytes.set(Buffer.from(head, "latin1"), 9);
	return bytes;
}

/** The head of a response: its numbers, then its texts. */
function responseHead(numbers: readonly number[], texts: string): string {
	const bytes = Buffer.alloc(numbers.length * 4);
	for (const [index, number] of numbers.entries()) bytes.writeUInt32LE(number, index * 4);
	return bytes.toString("latin1") + texts;
}

const [RESPONSE, FAILED] = [66, 67];
for (const [what, bytes] of [
	["a head longer than its frame", frame(FAILED, "{}", 3)],
	["a head that is no JSON", frame(FAILED, "{")],
	["a head that is an array", frame(FAILED, "[]")],
	["a call that is no u32", frame(FAILED, '{"call":-1,"code":"x","message":""}')],
	["a response without a head", frame(RESPONSE, "")],
	["a response whose numbers are cut", frame(RESPONSE, responseHead([1, 100], ""))],
	["a status under 100", frame(RESPONSE, responseHead([1, 99, 0], ""))],
	["a status over 599", frame(RESPONSE, responseHead([1, 600, 0], ""))],
	["a header without a value", frame(RESPONSE, responseHead([1, 100, 1, 1], "a"))],
	["more texts than there are lengths", frame(RESPONSE, responseHead([1, 100, 2, 1], "ab"))],
	["as many texts as there are numbers", frame(RESPONSE, responseHead([1, 100, 0x7f7f7f7e, 1, 1], "ab"))],
	["texts that are shorter than their lengths", frame(RESPONSE, responseHead([1, 100, 2, 1, 2], "ab"))],
	["texts that are longer than their lengths", frame(RESPONSE, responseHead([1, 100, 2, 1, 1], "abc"))],
	["texts where there are no headers", frame(RESPONSE, responseHead([1, 100, 0], "a"))],
	["an invoke whose numbers are cut", frame(1, responseHead([1, 1, 1, 1, 1, 1, 1, 1], ""))],
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

test("the head that the others are made from is read", () => {
	const { messages } = receive(frame(RESPONSE, responseHead([1, 100, 2, 1, 1], "ab")), []);
	assert.deepEqual(messages, [
		{ type: "response", call: 1, status: 100, headers: [["a", "b"]], body: new Uint8Array(0) },
	]);
});

test("invalid UTF-8 in a head is a problem", () => {
	for (const bytes of [frame(FAILED, '{"a":"xx"}'), frame(RESPONSE, responseHead([1, 100, 2, 1, 1], "ab"))]) {
		bytes[bytes.byteLength - 1] = 0xff;
		assert.equal(typeof receive(bytes, []).problem, "string");
	}
});
