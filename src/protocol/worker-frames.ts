/**
 * The bytes of a worker's channel.
 *
 * A frame is `u32 length · u8 type · u32 headLength · head · body (raw bytes)`, little-endian; length counts what
 * follows it. Bodies are never base64 and never copied where a view will do. Neither side trusts the other: whatever
 * cannot be read is a sentence (a "problem") that the pool turns into WORKER_PROTOCOL.
 *
 * A head is UTF-8 JSON, but of the two frames that every call has: u32 numbers, then the texts, all in one, whose lengths
 * in UTF-16 units are the last of the numbers.
 *
 *   invoke    call · attempt · deadline as low and high half · units of invocationId (ASCII), method, path, headers,
 *             query · those texts, the last two as JSON
 *   response  call · status · number of texts · units of each · the texts: name, value, name, value …
 */
import { apply, min, OwnBytes, set, sizeOf, bufferOf, offsetOf } from "./intrinsics.ts";

/** The largest body is 11 MiB; heads stay far under the rest. */
export const CHANNEL_FRAME_BYTES_MAX = 16 * 1024 * 1024;
/** Type and head length. */
export const FIXED_BYTES = 5;
/** In the head of an invoke, and of a response before the lengths. */
export const [INVOKE_NUMBERS, RESPONSE_NUMBERS] = [9, 3];
export const TWO_32 = 2 ** 32;
export const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(0);

/** One frame in what arrived: its head is from `head` to `body`, its body from there to `end`. */
export interface Frame {
	readonly type: number;
	readonly bytes: Uint8Array;
	readonly head: number;
	readonly body: number;
	readonly end: number;
}

/** Gets one frame; a sentence says why it cannot be accepted, and ends the reading. */
export type FrameHandler = (frame: Frame) => string | undefined;

/** Cuts a byte stream into frames. A frame within one chunk is where it arrived; a split one is copied once. */
export class FrameReader {
	readonly #onFrame: FrameHandler;
	readonly #length = new Uint8Array(4);
	#lengthHas = 0;
	#frame: Uint8Array | undefined;
	#frameSize = 0;
	#frameHas = 0;
	#problem: string | undefined;

	constructor(onFrame: FrameHandler) {
		this.#onFrame = onFrame;
	}

	/** True where the stream ends inside a frame. */
	get partial(): boolean {
		return this.#lengthHas > 0 || this.#frame !== undefined;
	}

	/** Returns the problem, the first one for ever. */
	push(chunk: Uint8Array): string | undefined {
		const size = apply(sizeOf, chunk, []);
		let at = 0;
		while (at < size && this.#problem === undefined) {
			if (this.#frame !== undefined) {
				const takes = min(size - at, this.#frameSize - this.#frameHas);
				apply(set, this.#frame, [part(chunk, at, at + takes), this.#frameHas]);
				this.#frameHas += takes;
				at += takes;
				if (this.#frameHas === this.#frameSize) {
					const whole = this.#frame;
					this.#frame = undefined;
					this.#deliver(whole, 0, this.#frameSize);
				}
			} else if (this.#lengthHas === 0 && size - at >= 4) {
				at = this.#begin(readU32(chunk, at), chunk, at + 4, size);
			} else {
				this.#length[this.#lengthHas] = chunk[at] ?? 0;
				this.#lengthHas += 1;
				at += 1;
				if (this.#lengthHas === 4) {
					this.#lengthHas = 0;
					at = this.#begin(readU32(this.#length, 0), chunk, at, size);
				}
			}
		}
		return this.#problem;
	}

	#begin(length: number, chunk: Uint8Array, at: number, size: number): number {
		if (length < FIXED_BYTES || length > CHANNEL_FRAME_BYTES_MAX) {
			this.#problem = `a frame of ${length} bytes, where ${FIXED_BYTES} to ${CHANNEL_FRAME_BYTES_MAX} are possible`;
			return at;
		}
		if (size - at >= length) {
			this.#deliver(chunk, at, at + length);
			return at + length;
		}
		this.#frame = new OwnBytes(length);
		this.#frameSize = length;
		this.#frameHas = 0;
		return at;
	}

	/** The frame from `at` to `end`. */
	#deliver(chunk: Uint8Array, at: number, end: number): void {
		const headAt = at + FIXED_BYTES;
		const headLength = readU32(chunk, at + 1);
		if (headLength > end - headAt) {
			this.#problem = `a head of ${headLength} bytes in a frame of ${end - at}`;
			return;
		}
		this.#problem = this.#onFrame({
			type: chunk[at] ?? 0,
			bytes: chunk,
			head: headAt,
			body: headAt + headLength,
			end,
		});
	}
}

/** A view, as `subarray` makes it. */
export function part(bytes: Uint8Array, from: number, to: number): Uint8Array<ArrayBuffer> {
	return new OwnBytes(apply(bufferOf, bytes, []) as ArrayBuffer, apply(offsetOf, bytes, []) + from, to - from);
}

export function writeU32(bytes: Uint8Array, at: number, value: number): void {
	bytes[at] = value;
	bytes[at + 1] = value >>> 8;
	bytes[at + 2] = value >>> 16;
	bytes[at + 3] = value >>> 24;
}

export function readU32(bytes: Uint8Array, at: number): number {
	return (
		((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)) >>> 0
	);
}
