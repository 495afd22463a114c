import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import {
	encodeFrame,
	FRAME_BYTES_MAX,
	FRAME_HEAD_BYTES,
	FrameDecoder,
	type FrameFault,
	FrameGatherer,
	PAYLOAD_BYTES_MAX,
	splitRawPayload,
} from "../../../src/protocol/index.ts";

interface Seen {
	readonly idLow: number;
	readonly idHigh: number;
	readonly tag: number;
	readonly payload: string;
}

function collect(): { decoder: FrameDecoder; seen: Seen[] } {
	const seen: Seen[] = [];
	const decoder = new FrameDecoder((idLow, idHigh, tag, payload) => {
		seen.push({ idLow, idHigh, tag, payload: Buffer.from(payload).toString("latin1") });
	});
	return { decoder, seen };
}

/** Cuts bytes at the given places (fractions of the whole). */
function cut(bytes: Uint8Array, places: readonly number[]): Uint8Array[] {
	const at = [...new Set(places.map((place) => Math.floor(place * bytes.byteLength)))].sort((a, b) => a - b);
	return [0, ...at].map((from, index) => bytes.subarray(from, at[index] ?? bytes.byteLength));
}

/** A frame of any length fields, right or wrong. */
function rawFrame(length: number, id: bigint, tag: number, payloadLength: number, payload: string): Buffer {
	const head = Buffer.alloc(17);
	head.writeUInt32LE(length, 0);
	head.writeBigUInt64LE(id, 4);
	head.writeUInt8(tag, 12);
	head.writeUInt32LE(payloadLength, 13);
	return Buffer.concat([head, Buffer.from(payload)]);
}

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const frames = fc.array(
	fc.record({
		idLow: u32,
		idHigh: u32,
		tag: fc.integer({ min: 0, max: 255 }),
		payload: fc.uint8Array({ maxLength: 3000 }),
	}),
	{ maxLength: 8 },
);
const places = fc.array(fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }), { maxLength: 30 });

test("a frame is laid out as the protocol says, and its id is eight opaque bytes", () => {
	const id = 0xfedcba9876543210n;
	const frame = encodeFrame(0x76543210, 0xfedcba98, 0x12, Buffer.from("{}"));
	assert.deepEqual(frame, rawFrame(15, id, 0x12, 2, "{}"));
});

test("frames come out whole and in order, however the bytes are split", () => {
	fc.assert(
		fc.property(frames, places, (sent, places) => {
			const bytes = Buffer.concat(sent.map((f) => encodeFrame(f.idLow, f.idHigh, f.tag, f.payload)));
			const { decoder, seen } = collect();
			for (const chunk of cut(bytes, places)) assert.equal(decoder.push(chunk), undefined);
			assert.deepEqual(
				seen,
				sent.map((f) => ({ ...f, payload: Buffer.from(f.payload).toString("latin1") })),
			);
			assert.equal(decoder.heldBytes, 0);
		}),
		{ numRuns: 2000 },
	);
});

test("one byte at a time is a split like any other", () => {
	const { decoder, seen } = collect();
	const bytes = Buffer.concat([encodeFrame(1, 0, 2, Buffer.from("abc")), encodeFrame(2, 0, 3, Buffer.alloc(0))]);
	for (let at = 0; at < bytes.length; at++) decoder.push(bytes.subarray(at, at + 1));
	assert.deepEqual(
		seen.map((frame) => frame.payload),
		["abc", ""],
	);
});

test("bytes between the payload's end and the frame's end are skipped", () => {
	const { decoder, seen } = collect();
	const loose = rawFrame(FRAME_HEAD_BYTES + 5, 7n, 1, 2, "ab###");
	decoder.push(Buffer.concat([loose, encodeFrame(8, 0, 1, Buffer.from("next"))]));
	assert.deepEqual(
		seen.map((frame) => [frame.idLow, frame.payload]),
		[
			[7, "ab"],
			[8, "next"],
		],
	);
});

test("garbage never throws and never makes the decoder keep more than twice what arrived", () => {
	fc.assert(
		fc.property(fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 20 }), (chunks) => {
			const { decoder } = collect();
			let fault: FrameFault | undefined;
			let arrived = 0;
			for (const chunk of chunks) {
				arrived += chunk.byteLength;
				fault = decoder.push(chunk);
				assert.ok(decoder.allocatedBytes <= Math.max(1024, 2 * arrived));
				assert.ok(decoder.heldBytes <= arrived);
			}
			if (fault !== undefined) assert.match(fault.message, /length/);
		}),
		{ numRuns: 5000 },
	);
});

test("a valid prefix followed by garbage still gives the valid frames, then a fault or a wait", () => {
	fc.assert(
		fc.property(frames, fc.uint8Array({ minLength: 1, maxLength: 100 }), places, (sent, garbage, places) => {
			const valid = sent.map((f) => encodeFrame(f.idLow, f.idHigh, f.tag, f.payload));
			const { decoder, seen } = collect();
			for (const chunk of cut(Buffer.concat([...valid, garbage]), places)) decoder.push(chunk);
			assert.ok(seen.length >= sent.length);
		}),
		{ numRuns: 1000 },
	);
});

test("a frame that claims 16 MiB costs only what arrives", () => {
	const { decoder } = collect();
	assert.equal(decoder.push(rawFrame(FRAME_BYTES_MAX, 1n, 1, PAYLOAD_BYTES_MAX, "x")), undefined);
	assert.ok(decoder.allocatedBytes <= 1024);
});

test("the largest frame passes, one byte more is a fault", () => {
	const { decoder, seen } = collect();
	const payload = Buffer.alloc(PAYLOAD_BYTES_MAX, 1);
	const frame = encodeFrame(1, 0, 1, payload);
	for (let at = 0; at < frame.length; at += 65_536) decoder.push(frame.subarray(at, at + 65_536));
	assert.equal(seen.length, 1);
	assert.equal(seen[0]?.payload.length, PAYLOAD_BYTES_MAX);
	const fault = decoder.push(rawFrame(FRAME_BYTES_MAX + 1, 5n, 1, 0, ""));
	assert.deepEqual(fault?.id, { idLow: 5, idHigh: 0 });
});

test("a fault names the request where its id has arrived", () => {
	const cases: [bytes: Buffer, id: number | undefined, idMayCome: boolean][] = [
		[rawFrame(12, 9n, 1, 0, ""), 9, false],
		[rawFrame(0xffffffff, 9n, 1, 0, ""), 9, false],
		[rawFrame(13, 9n, 1, 1, "x"), 9, false],
		[rawFrame(20, 9n, 1, 0xffffffff, "x"), 9, false],
		[rawFrame(7, 9n, 1, 0, ""), undefined, false],
		[rawFrame(0, 9n, 1, 0, ""), undefined, false],
		[rawFrame(12, 9n, 1, 0, "").subarray(0, 4), undefined, true],
		[rawFrame(0xffffffff, 9n, 1, 0, "").subarray(0, 11), undefined, true],
	];
	for (const [bytes, id, idMayCome] of cases) {
		const fault = collect().decoder.push(bytes);
		assert.ok(fault !== undefined);
		assert.equal(fault.id?.idLow, id);
		assert.equal(fault.idMayCome, idMayCome);
	}
});

test("a fault whose id is still on its way is reported again with the id, wherever it is split", () => {
	const bytes = rawFrame(0xffffffff, 9n, 1, 0, "");
	for (let split = 4; split < 12; split++) {
		const { decoder, seen } = collect();
		assert.equal(decoder.push(bytes.subarray(0, split))?.idMayCome, true);
		assert.deepEqual(decoder.push(bytes.subarray(split))?.id, { idLow: 9, idHigh: 0 });
		decoder.push(encodeFrame(1, 0, 1, Buffer.from("late")));
		assert.deepEqual(seen, []);
	}
});

test("gathered frames are the same bytes as frames encoded one by one, raw bodies included", () => {
	fc.assert(
		fc.property(
			fc.array(
				fc.record({ idLow: u32, idHigh: u32, json: fc.string({ unit: "binary" }), body: fc.option(fc.uint8Array()) }),
			),
			(sent) => {
				const gatherer = new FrameGatherer();
				const each = sent.map(({ idLow, idHigh, json, body }) => {
					assert.ok(gatherer.add(idLow, idHigh, 0, json, body ?? undefined));
					const text = Buffer.from(json);
					if (body === null) return encodeFrame(idLow, idHigh, 0, text);
					const length = Buffer.alloc(4);
					length.writeUInt32LE(text.length);
					const payload = Buffer.concat([length, text, body]);
					const split = splitRawPayload(payload);
					assert.deepEqual(Buffer.from(split?.body ?? []), Buffer.from(body));
					return encodeFrame(idLow, idHigh, 0, payload);
				});
				const expected = Buffer.concat(each);
				assert.equal(gatherer.bytes, expected.length);
				assert.deepEqual(gatherer.take() ?? Buffer.alloc(0), expected);
				assert.equal(gatherer.take(), undefined);
			},
		),
	);
});

test("the gatherer refuses a payload that does not fit one frame", () => {
	const gatherer = new FrameGatherer();
	assert.equal(gatherer.add(1, 0, 0, "x".repeat(PAYLOAD_BYTES_MAX + 1)), false);
	assert.equal(gatherer.add(1, 0, 0, "{}", new Uint8Array(PAYLOAD_BYTES_MAX)), false);
	assert.equal(gatherer.bytes, 0);
});

test("a raw payload whose lengths do not fit is refused", () => {
	assert.equal(splitRawPayload(Buffer.from([1, 0, 0])), undefined);
	assert.equal(splitRawPayload(Buffer.from([5, 0, 0, 0, 1])), undefined);
	assert.deepEqual(splitRawPayload(Buffer.from([1, 0, 0, 0, 65, 66]))?.body, Buffer.from([66]));
});
