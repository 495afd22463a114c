/**
 * Streams of frames, whole and broken, and what docs/protocol.md says must come back. The reading here is written from
 * that page alone, so that it shares no mistake with the decoder.
 */
import assert from "node:assert/strict";
import { isErrorCode } from "../../../src/core/errors.ts";
import { fc, seededRandom } from "../../support/seed.ts";

const MiB = 1024 * 1024;
const FRAME_MAX = 16 * MiB;
const COMMANDS = [0x01, 0x02, 0x03, 0x04, 0x05, 0x10, 0x11, 0x12, 0x13, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25];
/** No deploy: it reads files and builds. */
const OPERATIONS = [
	"functions.list",
	"functions.get",
	"functions.register",
	"functions.configure",
	"functions.versions",
	"env.list",
	"env.set",
	"schedules.list",
	"schedules.put",
	"events.emit",
	"events.list",
	"invocations.list",
	"invocations.get",
	"invocations.cancel",
	"invocations.enqueue_batch",
	"lanes.list",
	"workers.list",
	"logs.read",
	"metrics.get",
	"stats.get",
	"nothing",
	"__proto__",
];
const FIELDS = [
	"function_id",
	"function",
	"name",
	"method",
	"path",
	"headers",
	"query",
	"body",
	"invocation_id",
	"timeout_ms",
	"idempotency_key",
	"delay_ms",
	"priority",
	"lane_key",
	"deadline_ms",
	"max_attempts",
	"tags",
	"traceparent",
	"op",
	"params",
	"period",
	"since",
	"limit",
	"level",
	"raw_bodies",
	"pairs",
	"protocol",
	"overrides",
	"values",
	"requests",
	"__proto__",
	"constructor",
];
const VALUES: readonly unknown[] = [
	null,
	true,
	0,
	-1,
	1.5,
	1e308,
	Number.MAX_SAFE_INTEGER,
	"",
	"x",
	"echo",
	"POST",
	"GET",
	"/",
	"/../..",
	"inv_00000000000000000000",
	"aGVsbG8=",
	"=",
	"\u0000",
	"\ud800",
	"x".repeat(300),
	[],
	[1],
	["a", "b"],
	[["a", "b"]],
	{},
	{ a: "b" },
	{ "\r\n": "x" },
	{ a: { b: { c: [] } } },
];

export interface Part {
	readonly kind:
		| "whole"
		| "garbage"
		| "flipped"
		| "truncated"
		| "short length"
		| "long length"
		| "long payload"
		| "loose payload";
	readonly salt: number;
	/** Few, so that they are repeated. */
	readonly id: number;
}

export interface Stream {
	readonly parts: readonly Part[];
	/** Where it is cut into chunks: relative places, or byte by byte. */
	readonly cuts: readonly number[];
	readonly byteByByte: boolean;
}

/** Mostly whole frames, because nothing is read behind the first broken one. */
export const streams: fc.Arbitrary<Stream> = fc.record({
	parts: fc.array(
		fc.record({
			kind: fc.oneof(
				{ weight: 120, arbitrary: fc.constant("whole" as const) },
				{
					weight: 2,
					arbitrary: fc.constantFrom<Part["kind"][]>(
						"garbage",
						"flipped",
						"truncated",
						"short length",
						"long length",
						"long payload",
						"loose payload",
					),
				},
			),
			salt: fc.nat(),
			id: fc.nat(7),
		}),
		{ minLength: 1, maxLength: 60, size: "max" },
	),
	cuts: fc.array(fc.nat(1_000_000), { maxLength: 12 }),
	byteByByte: fc.boolean(),
});

/** Frames of a stream as they are counted for the page: parts that reach the daemon. */
export function framesOf(stream: Stream): number {
	return stream.parts.length;
}

export function bytesOf(stream: Stream): Buffer {
	return Buffer.concat(stream.parts.map(partBytes));
}

/** The same bytes in pieces. */
export function chunksOf(stream: Stream, bytes: Buffer): Buffer[] {
	// Byte by byte only where it is short: it is the same rule at any length.
	if (stream.byteByByte && bytes.length <= 400) return [...bytes].map((byte) => Buffer.from([byte]));
	const places = stream.cuts.map((cut) => Math.floor((cut / 1_000_001) * bytes.length)).toSorted((a, b) => a - b);
	return [0, ...places]
		.map((from, index) => bytes.subarray(from, places[index] ?? bytes.length))
		.filter((c) => c.length > 0);
}

function partBytes({ kind, salt, id }: Part): Buffer {
	const random = seededRandom(salt);
	const pick = <T>(list: readonly T[]): T => list[Math.floor(random.next() * list.length)] as T;
	const command = random.next() < 0.9 ? pick(COMMANDS) : Math.floor(random.next() * 256);
	const payload = payloadBytes(pick, random);
	const head = Buffer.alloc(17);
	head.writeUInt32LE(13 + payload.length, 0);
	head.writeBigUInt64LE(id === 7 ? 0xffff_ffff_ffff_ffffn : BigInt(id), 4);
	head.writeUInt8(command, 12);
	head.writeUInt32LE(payload.length, 13);
	const whole = Buffer.concat([head, payload]);
	switch (kind) {
		case "whole":
			return whole;
		case "garbage":
			return Buffer.from(
				Array.from({ length: 1 + Math.floor(random.next() * 60) }, () => Math.floor(random.next() * 256)),
			);
		case "flipped": {
			const bit = Math.floor(random.next() * Math.min(whole.length, 24) * 8);
			whole[bit >> 3] = (whole[bit >> 3] ?? 0) ^ (1 << (bit & 7));
			return whole;
		}
		case "truncated":
			return whole.subarray(0, Math.floor(random.next() * whole.length));
		case "short length":
			whole.writeUInt32LE(Math.floor(random.next() * 13), 0);
			return whole;
		case "long length":
			whole.writeUInt32LE(pick([FRAME_MAX + 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]), 0);
			return whole;
		case "long payload":
			whole.writeUInt32LE(payload.length + pick([1, 255, 0x7fff_ffff]), 13);
			return whole;
		case "loose payload": {
			const loose = Math.floor(random.next() * 9);
			whole.writeUInt32LE(13 + payload.length + loose, 0);
			return Buffer.concat([whole, Buffer.alloc(loose, 0xff)]);
		}
	}
}

function payloadBytes(pick: <T>(list: readonly T[]) => T, random: { next(): number }): Buffer {
	const chance = random.next();
	if (chance < 0.05) return Buffer.alloc(0);
	if (chance < 0.1)
		return Buffer.from(Array.from({ length: Math.floor(random.next() * 40) }, () => Math.floor(random.next() * 256)));
	if (chance < 0.12) return Buffer.from("[".repeat(1 + Math.floor(random.next() * 2_000)));
	if (chance < 0.14) return Buffer.from(pick(["null", "[]", "1", '"x"', "{", '{"a":', "NaN", "\ufeff{}", '{"a":1}x']));
	const fields: Record<string, unknown> = {};
	const set = (name: string, value: unknown): void => {
		// As JSON.parse would have it: an own field, also where it is called __proto__.
		Object.defineProperty(fields, name, { value, enumerable: true, configurable: true, writable: true });
	};
	if (random.next() < 0.8) {
		set("function_id", pick(["echo", "echo", "nobody", "fn_0", "../x", ""]));
		set("method", pick(["POST", "GET", "BREW", ""]));
		set("path", pick(["/", "/a/b?c", "x", ""]));
		set("body", pick(["", "aGk=", "aGk", "###"]));
	}
	if (random.next() < 0.4) {
		set("op", pick(OPERATIONS));
		set("params", { function: pick(["echo", "nobody", ""]), [pick(FIELDS)]: pick(VALUES) });
	}
	for (let count = Math.floor(random.next() * 4); count > 0; count -= 1) {
		const name = pick(FIELDS);
		// A wait is cut off by the end of the stream, a delay holds nothing up; both stay short all the same.
		set(name, name === "timeout_ms" ? pick([0, 1, -1, "1", null]) : pick(VALUES));
	}
	const json = Buffer.from(JSON.stringify(fields));
	if (random.next() < 0.8) return json;
	// A raw payload, or one whose inner length is wrong.
	const length = Buffer.alloc(4);
	length.writeUInt32LE(random.next() < 0.8 ? json.length : Math.floor(random.next() * 2 ** 32));
	return Buffer.concat([length, json, Buffer.alloc(Math.floor(random.next() * 30), 0x80)]);
}

export interface Reading {
	/** Ids of whole frames before the first broken one, in order. */
	readonly answered: readonly bigint[];
	/** The id that BAD_FRAME goes to, where it has arrived. */
	readonly refused: bigint | undefined;
	/** The framing was broken: nothing behind it is read, and the daemon closes. */
	readonly broken: boolean;
}

/** "length under 13 or over 16 MiB, payload length over length − 13", read off the bytes. */
export function readingOf(bytes: Buffer): Reading {
	const answered: bigint[] = [];
	for (let at = 0; at + 4 <= bytes.length;) {
		const left = bytes.length - at;
		const length = bytes.readUInt32LE(at);
		const id = left >= 12 ? bytes.readBigUInt64LE(at + 4) : undefined;
		// A frame that says it is too short for an id has none.
		if (length < 13 || length > FRAME_MAX) return { answered, refused: length < 8 ? undefined : id, broken: true };
		if (left >= 17 && bytes.readUInt32LE(at + 13) > length - 13) return { answered, refused: id, broken: true };
		if (left < 4 + length) break;
		answered.push(id ?? 0n);
		at += 4 + length;
	}
	return { answered, refused: undefined, broken: false };
}

/** Every frame before the first broken one has one answer, BAD_FRAME has one where its id came, and there is no other. */
export function checkAnswers(bytes: Buffer, answers: Buffer): void {
	const expected = readingOf(bytes);
	const ids: bigint[] = [];
	let badFrames = 0;
	let at = 0;
	while (at + 17 <= answers.length) {
		const length = answers.readUInt32LE(at);
		const payload = answers.subarray(at + 17, at + 4 + length);
		assert.equal(answers.readUInt32LE(at + 13), length - 13, "an answer's payload fills its frame");
		ids.push(answers.readBigUInt64LE(at + 4));
		const status = answers.readUInt8(at + 12);
		if (status === 0x01) {
			const refusal = JSON.parse(payload.toString()) as Record<string, unknown>;
			for (const value of Object.values(refusal)) assert.equal(typeof value, "string", payload.toString());
			assert.ok(isErrorCode(refusal["code"]), `an unknown code: ${payload.toString()}`);
			assert.notEqual(refusal["code"], "INTERNAL", payload.toString());
			if (refusal["code"] === "BAD_FRAME") badFrames += 1;
		} else assert.equal(status, 0x00);
		at += 4 + length;
	}
	assert.equal(at, answers.length, "the answers end with a whole frame");
	const wanted = [...expected.answered, ...(expected.refused === undefined ? [] : [expected.refused])];
	const order = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0);
	assert.deepEqual(ids.toSorted(order), wanted.toSorted(order), "one answer for each frame, with its id");
	assert.equal(badFrames, expected.refused === undefined ? 0 : 1);
}
