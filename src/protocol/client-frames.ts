/**
 * Frames of the client socket, for both ends. Little-endian; requests and responses have one shape:
 *
 *   u32 length · u64 requestId · u8 tag · u32 payloadLength · payload        (length counts what follows it)
 *
 * `tag` is a command on the way in and a status on the way out.
 *
 *   F1  the decoder never throws, and keeps at most twice the bytes of the unfinished frame that have arrived (or 1 KiB),
 *       whatever its length claims
 *   F2  a payload is a view: valid during the callback, and for as long as its bytes are kept afterwards
 *   F3  after a fault nothing more is decoded; the connection has no next frame boundary
 *   F4  the request id is 8 opaque bytes, kept as two u32 halves: lossless, where a Number is not, and no allocation
 */

/** Largest value of `length`. */
export const FRAME_BYTES_MAX = 16 * 1024 * 1024;
/** requestId, tag and payloadLength: the smallest value of `length`. */
export const FRAME_HEAD_BYTES = 13;
const LENGTH_BYTES = 4;
/** From the start of a frame to its payload. */
export const FRAME_PREFIX_BYTES = LENGTH_BYTES + FRAME_HEAD_BYTES;
/** Largest payload of one frame. */
export const PAYLOAD_BYTES_MAX = FRAME_BYTES_MAX - FRAME_HEAD_BYTES;
const ID_END = LENGTH_BYTES + 8;
const PENDING_BYTES_MIN = 1024;

/** The first and the second four bytes of a request id. */
export interface FrameId {
	readonly idLow: number;
	readonly idHigh: number;
}

/** Called once per frame, in order, inside `push`. */
export type FrameSink = (idLow: number, idHigh: number, tag: number, payload: Uint8Array) => void;

export interface FrameFault {
	readonly message: string;
	/** Undefined where the id has not arrived, or never will. */
	readonly id: FrameId | undefined;
	/** True where the id's bytes may still come: the fault is reported again, with the id, by a later `push`. */
	readonly idMayCome: boolean;
}

/** `length`, id, tag and `payloadLength` of a frame; the payload follows at the returned offset. */
export function writeFrameHead(
	into: Buffer,
	at: number,
	idLow: number,
	idHigh: number,
	tag: number,
	payloadBytes: number,
): number {
	let offset = into.writeUInt32LE(FRAME_HEAD_BYTES + payloadBytes, at);
	offset = into.writeUInt32LE(idLow, offset);
	offset = into.writeUInt32LE(idHigh, offset);
	offset = into.writeUInt8(tag, offset);
	return into.writeUInt32LE(payloadBytes, offset);
}

/** One whole frame; where many are sent at once, use FrameGatherer. */
export function encodeFrame(idLow: number, idHigh: number, tag: number, payload: Uint8Array): Buffer {
	const frame = Buffer.allocUnsafe(FRAME_PREFIX_BYTES + payload.byteLength);
	frame.set(payload, writeFrameHead(frame, 0, idLow, idHigh, tag, payload.byteLength));
	return frame;
}

/**
 * A raw payload: `u32 jsonLength · JSON · body`, used by the commands that carry a body as it is.
 * Returns undefined where the length does not fit.
 */
export function splitRawPayload(payload: Uint8Array): { json: Uint8Array; body: Uint8Array } | undefined {
	if (payload.byteLength < 4) return undefined;
	const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
	const jsonEnd = 4 + view.getUint32(0, true);
	if (jsonEnd > payload.byteLength) return undefined;
	return { json: payload.subarray(4, jsonEnd), body: payload.subarray(jsonEnd) };
}

interface Part {
	readonly idLow: number;
	readonly idHigh: number;
	readonly tag: number;
	readonly json: string;
	readonly jsonBytes: number;
	/** Set where the payload is raw: the JSON is preceded by its length and followed by this. */
	readonly body: Uint8Array | undefined;
}

/**
 * Collects the frames of one turn of the event loop and gives them as one buffer: one allocation and one write for
 * any number of answers. Strings are kept until then and encoded once, in place.
 */
export class FrameGatherer {
	#parts: Part[] = [];
	#bytes = 0;

	/** Bytes of all frames that were added since the last `take`. */
	get bytes(): number {
		return this.#bytes;
	}

	/** Returns false, and adds nothing, where the payload does not fit one frame. */
	add(idLow: number, idHigh: number, tag: number, json: string, body?: Uint8Array): boolean {
		const jsonBytes = Buffer.byteLength(json);
		const payloadBytes = body === undefined ? jsonBytes : 4 + jsonBytes + body.byteLength;
		if (payloadBytes > PAYLOAD_BYTES_MAX) return false;
		this.#parts.push({ idLow, idHigh, tag, json, jsonBytes, body });
		this.#bytes += FRAME_PREFIX_BYTES + payloadBytes;
		return true;
	}

	/** All frames in the order they were added, or undefined where there are none. */
	take(): Buffer | undefined {
		if (this.#parts.length === 0) return undefined;
		const out = Buffer.allocUnsafe(this.#bytes);
		let at = 0;
		for (const { idLow, idHigh, tag, json, jsonBytes, body } of this.#parts) {
			if (body === undefined) {
				at = writeFrameHead(out, at, idLow, idHigh, tag, jsonBytes);
				at += out.write(json, at, jsonBytes, "utf8");
			} else {
				at = writeFrameHead(out, at, idLow, idHigh, tag, 4 + jsonBytes + body.byteLength);
				at = out.writeUInt32LE(jsonBytes, at);
				at += out.write(json, at, jsonBytes, "utf8");
				out.set(body, at);
				at += body.byteLength;
			}
		}
		this.#parts = [];
		this.#bytes = 0;
		return out;
	}
}

/** Finds frames in chunks that may be split anywhere. Frames that lie whole in a chunk are not copied. */
export class FrameDecoder {
	readonly #sink: FrameSink;
	/** The beginning of a frame whose end has not arrived. */
	#pending: Uint8Array = new Uint8Array(0);
	#held = 0;
	#fault: FrameFault | undefined;

	constructor(sink: FrameSink) {
		this.#sink = sink;
	}

	/** Bytes of an unfinished frame. */
	get heldBytes(): number {
		return this.#held;
	}

	/** Bytes kept for it, at most twice what has arrived (F1). */
	get allocatedBytes(): number {
		return this.#pending.byteLength;
	}

	/** Calls the sink for every frame that is complete now. A fault is final (F3). */
	push(chunk: Uint8Array): FrameFault | undefined {
		if (this.#fault !== undefined && !this.#fault.idMayCome) return this.#fault;
		let at = 0;
		while (this.#held > 0 && at < chunk.byteLength) {
			// First only up to the head, which says how much more belongs to this frame.
			const whole = this.#held < FRAME_PREFIX_BYTES ? FRAME_PREFIX_BYTES : frameBytes(this.#pending, 0);
			const take = Math.min(whole - this.#held, chunk.byteLength - at);
			this.#append(chunk.subarray(at, at + take), whole);
			at += take;
			const fault = faultOf(this.#pending, 0, this.#held);
			if (fault !== undefined) return this.#fail(fault);
			if (this.#held < FRAME_PREFIX_BYTES || this.#held < frameBytes(this.#pending, 0)) continue;
			const frame = this.#pending;
			this.#pending = new Uint8Array(0);
			this.#held = 0;
			this.#emit(frame, 0);
		}
		while (at < chunk.byteLength) {
			const left = chunk.byteLength - at;
			const fault = faultOf(chunk, at, left);
			if (fault !== undefined) {
				if (fault.idMayCome) this.#append(chunk.subarray(at), FRAME_PREFIX_BYTES);
				return this.#fail(fault);
			}
			const whole = left < FRAME_PREFIX_BYTES ? FRAME_PREFIX_BYTES : frameBytes(chunk, at);
			if (left < whole) {
				this.#append(chunk.subarray(at), whole);
				return undefined;
			}
			this.#emit(chunk, at);
			at += whole;
		}
		return undefined;
	}

	/** A copy grows by doubling, towards `whole` and never past it, so it follows what arrives and not what is claimed. */
	#append(bytes: Uint8Array, whole: number): void {
		const needed = this.#held + bytes.byteLength;
		if (needed > this.#pending.byteLength) {
			const grown = new Uint8Array(Math.max(needed, Math.min(whole, Math.max(2 * needed, PENDING_BYTES_MIN))));
			grown.set(this.#pending.subarray(0, this.#held));
			this.#pending = grown;
		}
		this.#pending.set(bytes, this.#held);
		this.#held = needed;
	}

	#emit(bytes: Uint8Array, at: number): void {
		const start = at + FRAME_PREFIX_BYTES;
		const payload = bytes.subarray(start, start + u32(bytes, start - 4));
		this.#sink(u32(bytes, at + 4), u32(bytes, at + 8), bytes[at + ID_END] ?? 0, payload);
	}

	#fail(fault: FrameFault): FrameFault {
		this.#fault = fault;
		if (!fault.idMayCome) {
			this.#pending = new Uint8Array(0);
			this.#held = 0;
		}
		return fault;
	}
}

function u32(bytes: Uint8Array, at: number): number {
	return (
		((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)) >>> 0
	);
}

/** Bytes of the frame that begins at `at`, its length field included; its head has been checked. */
function frameBytes(bytes: Uint8Array, at: number): number {
	return LENGTH_BYTES + u32(bytes, at);
}

/** What is wrong with the frame that begins at `at`, as far as `held` bytes of it tell. */
function faultOf(bytes: Uint8Array, at: number, held: number): FrameFault | undefined {
	if (held < LENGTH_BYTES) return undefined;
	const length = u32(bytes, at);
	const lengthFits = length >= FRAME_HEAD_BYTES && length <= FRAME_BYTES_MAX;
	if (lengthFits && held < FRAME_PREFIX_BYTES) return undefined;
	const payloadBytes = lengthFits ? u32(bytes, at + FRAME_PREFIX_BYTES - 4) : 0;
	if (lengthFits && payloadBytes <= length - FRAME_HEAD_BYTES) return undefined;
	const id = held < ID_END || length < 8 ? undefined : { idLow: u32(bytes, at + 4), idHigh: u32(bytes, at + 8) };
	return {
		message: lengthFits
			? `payload length ${payloadBytes} does not fit frame length ${length}`
			: `frame length ${length} is not between ${FRAME_HEAD_BYTES} and ${FRAME_BYTES_MAX}`,
		id,
		idMayCome: id === undefined && length >= 8,
	};
}
