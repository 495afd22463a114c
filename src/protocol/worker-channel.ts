/**
 * The private channel between the pool (Node) and the runtime (Bun): how bytes become messages, and back.
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

/** Both sides must say the same number; raise it with every change that an older side would misread. */
export const CHANNEL_VERSION = 2;
/** The largest body is 11 MiB; heads stay far under the rest. */
export const CHANNEL_FRAME_BYTES_MAX = 16 * 1024 * 1024;
/** Bodies up to here are copied beside their head, because one write of 20 KiB is cheaper than two. */
const BODY_COPY_BYTES_MAX = 16 * 1024;
/** Frames are written into one buffer after the other, over many turns, so that most turns allocate none. */
const BUFFER_BYTES = 32 * 1024;
/** Type and head length. */
const FIXED_BYTES = 5;

// User code shares the worker's process and may replace globals and their methods. Whatever is needed here is taken
// before it runs and called by `apply`; and no iterator, `subarray` or `push` is used, because those can be replaced
// too. One that came through would make garbage of the frames of every later call.
// oxlint-disable typescript/unbound-method -- for that reason
const { apply, getOwnPropertyDescriptor, getPrototypeOf } = Reflect;
const { parse, stringify } = JSON;
const { isArray } = Array;
const { isFinite, isInteger } = Number;
const { max, min } = Math;
const { has } = Set.prototype;
const OwnBytes = Uint8Array;
const OwnNumbers = Uint32Array;
const OwnBuffer = ArrayBuffer;
const { set } = Uint8Array.prototype;
const { encodeInto } = TextEncoder.prototype;
const { decode } = TextDecoder.prototype;
const { slice } = String.prototype;
const encoder = new TextEncoder();
/** A byte order mark is a character like others: it has a place in the lengths. */
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const NOTHING = new Uint8Array(0);
/** In an invoke, and in a response before the lengths. */
const [INVOKE_NUMBERS, RESPONSE_NUMBERS] = [9, 3];
const TWO_32 = 2 ** 32;
const [bufferOf, offsetOf, sizeOf] = [bytesGetter("buffer"), bytesGetter("byteOffset"), bytesGetter("byteLength")];

function bytesGetter<Name extends "buffer" | "byteOffset" | "byteLength">(
	name: Name,
): (this: Uint8Array) => Uint8Array[Name] {
	const { get } = getOwnPropertyDescriptor(getPrototypeOf(Uint8Array.prototype) as object, name) ?? {};
	if (get === undefined) throw new Error(`a Uint8Array has no ${name}`);
	return get as (this: Uint8Array) => Uint8Array[Name];
}

/** A view, as `subarray` makes it. */
function part(bytes: Uint8Array, from: number, to: number): Uint8Array<ArrayBuffer> {
	return new OwnBytes(apply(bufferOf, bytes, []) as ArrayBuffer, apply(offsetOf, bytes, []) + from, to - from);
}

export type ChannelPairs = ReadonlyArray<readonly [name: string, value: string]>;
export type ChannelLogLevel = "debug" | "info" | "warn" | "error";
export type AbortReason = "timeout" | "cancelled";

/** Bounds that the runtime keeps; the pool takes them from its limits, because the protocol imports nothing. */
export interface RuntimeLimits {
	readonly bodyBytesMax: number;
	readonly headersBytesMax: number;
	readonly errorTextBytesMax: number;
	readonly logLineBytesMax: number;
	readonly logBytesPerAttemptMax: number;
	readonly configBytesMax: number;
}

export interface InitMessage {
	readonly type: "init";
	readonly protocol: number;
	readonly bundlePath: string;
	/** Export that handles requests. */
	readonly handler: string;
	readonly functionName: string;
	readonly version: string;
	readonly limits: RuntimeLimits;
}

export interface InvokeMessage {
	readonly type: "invoke";
	/** Unique within one worker's life. */
	readonly call: number;
	readonly invocationId: string;
	readonly attempt: number;
	readonly method: string;
	readonly path: string;
	readonly headers: ChannelPairs;
	readonly query: ChannelPairs;
	/** UTC ms of the abort signal. */
	readonly deadline: number;
	readonly body: Uint8Array;
}

/** What an `invoke` is written from: the JSON texts of `headers` and `query` go out as they are stored. */
export interface InvokeSource extends Pick<InvokeMessage, "invocationId" | "attempt" | "method" | "path" | "body"> {
	readonly headersJson: string;
	readonly queryJson: string;
}

export type HostMessage =
	| InitMessage
	| InvokeMessage
	| { readonly type: "abort"; readonly call: number; readonly reason: AbortReason }
	| { readonly type: "ping" }
	/** Other limits than at the start, from the next call on. */
	| { readonly type: "limits"; readonly limits: RuntimeLimits }
	/** Finish what `waitUntil` holds, then exit. Sent only when no call is aboard. */
	| { readonly type: "stop" };

export interface LogMessage {
	readonly type: "log";
	/** The call that printed it; undefined outside of any call. */
	readonly call: number | undefined;
	readonly level: ChannelLogLevel;
	readonly message: string;
	readonly metadata: Readonly<Record<string, unknown>> | undefined;
	readonly at: number;
}

export type WorkerMessage =
	| { readonly type: "ready"; readonly protocol: number; readonly config: unknown }
	| { readonly type: "start_failed"; readonly message: string; readonly stack: string | undefined }
	/** The handler answered before an abort reached it. */
	| {
			readonly type: "response";
			readonly call: number;
			readonly status: number;
			readonly headers: ChannelPairs;
			readonly body: Uint8Array;
	  }
	/** The handler failed before an abort reached it. */
	| {
			readonly type: "failed";
			readonly call: number;
			readonly code: string;
			readonly name: string | undefined;
			readonly message: string;
			readonly stack: string | undefined;
	  }
	/** The handler ended, somehow, after an abort reached it. */
	| { readonly type: "ended"; readonly call: number }
	| LogMessage
	/** An error that no handler caught: the worker should be replaced. */
	| { readonly type: "tainted"; readonly message: string }
	| { readonly type: "pong" };

const HOST_TYPES = [
	"init",
	"invoke",
	"abort",
	"ping",
	"limits",
	"stop",
] as const satisfies readonly HostMessage["type"][];
const WORKER_TYPES = [
	"ready",
	"start_failed",
	"response",
	"failed",
	"ended",
	"log",
	"tainted",
	"pong",
] as const satisfies readonly WorkerMessage["type"][];
/** Worker types start here, so that a message sent the wrong way is never taken for another. */
const WORKER_TYPE_BASE = 64;
const INVOKE_TYPE = HOST_TYPES.indexOf("invoke");
const RESPONSE_TYPE = WORKER_TYPE_BASE + WORKER_TYPES.indexOf("response");
const LEVELS: ReadonlySet<unknown> = new Set<ChannelLogLevel>(["debug", "info", "warn", "error"]);

/** Collects the frames of one turn, so that they leave in one write. */
export class FrameWriter {
	#chunks: Uint8Array[] = [];
	/** Of the head that is being written. */
	#numbers = new OwnNumbers(16);
	#memory = new ArrayBuffer(0);
	/** All of `#memory`. */
	#buffer = NOTHING;
	#size = 0;
	/** What was not taken yet is from `#start` to `#used`. */
	#start = 0;
	#used = 0;

	get empty(): boolean {
		return this.#used === this.#start && this.#chunks.length === 0;
	}

	host(message: Exclude<HostMessage, InvokeMessage>): void {
		this.#add(indexOf(HOST_TYPES, message.type), 0, stringify(message), NOTHING);
	}

	invoke(call: number, source: InvokeSource, deadline: number): void {
		const { invocationId, attempt, method, path, headersJson, queryJson } = source;
		const numbers = this.#numbers;
		numbers[0] = call;
		numbers[1] = attempt;
		numbers[2] = deadline % TWO_32;
		numbers[3] = deadline / TWO_32;
		numbers[4] = invocationId.length;
		numbers[5] = method.length;
		numbers[6] = path.length;
		numbers[7] = headersJson.length;
		numbers[8] = queryJson.length;
		this.#add(INVOKE_TYPE, INVOKE_NUMBERS, invocationId + method + path + headersJson + queryJson, source.body);
	}

	worker(message: WorkerMessage): void {
		if (message.type === "response") {
			const { call, status, headers, body } = message;
			const count = RESPONSE_NUMBERS + headers.length * 2;
			// An array would ask its prototype, which user code may have given setters.
			if (this.#numbers.length < count) this.#numbers = new OwnNumbers(count);
			const numbers = this.#numbers;
			numbers[0] = call;
			numbers[1] = status;
			numbers[2] = headers.length * 2;
			let texts = "";
			for (let i = 0, at = RESPONSE_NUMBERS; i < headers.length; i += 1, at += 2) {
				const pair = headers[i] as ChannelPairs[number];
				numbers[at] = pair[0].length;
				numbers[at + 1] = pair[1].length;
				texts += pair[0] + pair[1];
			}
			this.#add(RESPONSE_TYPE, count, texts, body);
		} else {
			const type = WORKER_TYPE_BASE + indexOf(WORKER_TYPES, message.type);
			this.#add(type, 0, stringify(bare(message)), NOTHING);
		}
	}

	/** What is to be written now, in order. The chunks belong to the caller. */
	take(): Uint8Array[] {
		this.#cut();
		const chunks = this.#chunks;
		this.#chunks = [];
		return chunks;
	}

	#cut(): void {
		if (this.#used === this.#start) return;
		this.#chunks[this.#chunks.length] = new OwnBytes(this.#memory, this.#start, this.#used - this.#start);
		this.#start = this.#used;
	}

	/** The head is so many of `#numbers`, then the text. */
	#add(type: number, numbers: number, text: string, body: Uint8Array): void {
		const bodyBytes = apply(sizeOf, body, []);
		const copied = bodyBytes <= BODY_COPY_BYTES_MAX ? bodyBytes : 0;
		// One UTF-16 unit becomes at most three bytes.
		const room = 4 + FIXED_BYTES + numbers * 4 + text.length * 3 + copied;
		if (this.#size - this.#used < room) {
			this.#cut();
			this.#size = max(room, BUFFER_BYTES);
			this.#memory = new OwnBuffer(this.#size);
			this.#buffer = new OwnBytes(this.#memory);
			this.#start = this.#used = 0;
		}
		const buffer = this.#buffer;
		const start = this.#used;
		const headAt = start + 4 + FIXED_BYTES;
		let at = headAt;
		for (let i = 0; i < numbers; i += 1) {
			writeU32(buffer, at, this.#numbers[i] ?? 0);
			at += 4;
		}
		if (text.length > 0) {
			const rest = new OwnBytes(this.#memory, at, this.#size - at);
			at += apply(encodeInto, encoder, [text, rest]).written;
		}
		writeU32(buffer, start, FIXED_BYTES + at - headAt + bodyBytes);
		buffer[start + 4] = type;
		writeU32(buffer, start + 5, at - headAt);
		this.#used = at;
		if (bodyBytes === 0) return;
		if (copied > 0) {
			apply(set, buffer, [body, this.#used]);
			this.#used += copied;
		} else {
			this.#cut();
			this.#chunks[this.#chunks.length] = body;
		}
	}
}

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

/** The message of a frame that the pool sent, or the problem with it. */
export function readHostMessage(frame: Frame): HostMessage | string {
	const name = HOST_TYPES[frame.type];
	if (name === undefined) return `the frame type ${frame.type} does not exist`;
	// The pool is ours and both sides say CHANNEL_VERSION: its fields are taken as they are.
	if (name === "invoke") return readInvoke(frame) ?? headProblem(name);
	const message = readJson(frame) as Record<string, unknown> | undefined;
	if (message === undefined) return headProblem(name);
	message["type"] = name;
	return message as unknown as HostMessage;
}

function readInvoke(frame: Frame): InvokeMessage | undefined {
	const { bytes, head } = frame;
	const number = (index: number): number => readU32(bytes, head + index * 4);
	const textsAt = head + INVOKE_NUMBERS * 4;
	if (textsAt > frame.body) return undefined;
	// By itself, because a handler may keep it, and what is cut from a text keeps all of that: 80 MB with 4,000 ids of calls with
	// 20 KB of headers. It is ASCII, so that units are bytes.
	const methodFrom = textsAt + number(4);
	const invocationId = readText(bytes, textsAt, methodFrom);
	const text = readText(bytes, methodFrom, frame.body);
	if (invocationId === undefined || text === undefined) return undefined;
	const pathAt = number(5);
	const headersAt = pathAt + number(6);
	const queryAt = headersAt + number(7);
	return {
		type: "invoke",
		call: number(0),
		attempt: number(1),
		deadline: number(3) * TWO_32 + number(2),
		invocationId,
		method: apply(slice, text, [0, pathAt]),
		path: apply(slice, text, [pathAt, headersAt]),
		headers: pairsOf(apply(slice, text, [headersAt, queryAt])),
		query: pairsOf(apply(slice, text, [queryAt, queryAt + number(8)])),
		body: bodyOf(frame),
	};
}

/** As they are stored; most have none. */
function pairsOf(json: string): ChannelPairs {
	return json === "[]" ? [] : (parse(json) as ChannelPairs);
}

/** The message of a frame that a worker sent, or the problem with it. User code shares that process: all is checked. */
export function readWorkerMessage(frame: Frame): WorkerMessage | string {
	const name = WORKER_TYPES[frame.type - WORKER_TYPE_BASE];
	if (name === undefined) return `the frame type ${frame.type} does not exist`;
	if (name === "response") return readResponse(frame) ?? headProblem(name);
	const fields = readJson(frame);
	if (fields === undefined) return headProblem(name);
	const bad = (field: string): string => `the field ${field} of a frame "${name}" is missing or of the wrong type`;
	const { call, message, stack } = fields;
	if ((name === "failed" || name === "ended") && !isU32(call)) return bad("call");
	switch (name) {
		case "ready":
			return isU32(fields["protocol"])
				? { type: name, protocol: fields["protocol"], config: fields["config"] }
				: bad("protocol");
		case "start_failed":
			return typeof message === "string" ? { type: name, message, stack: textOr(stack) } : bad("message");
		case "failed": {
			const { code } = fields;
			if (typeof code !== "string") return bad("code");
			if (typeof message !== "string") return bad("message");
			return { type: name, call: call as number, code, name: textOr(fields["name"]), message, stack: textOr(stack) };
		}
		case "ended":
			return { type: name, call: call as number };
		case "log": {
			const { level, metadata, at } = fields;
			if (call !== undefined && !isU32(call)) return bad("call");
			if (!apply(has, LEVELS, [level])) return bad("level");
			if (typeof message !== "string") return bad("message");
			if (typeof at !== "number" || !isFinite(at)) return bad("at");
			return {
				type: name,
				call,
				level: level as ChannelLogLevel,
				message,
				metadata: isObject(metadata) ? metadata : undefined,
				at,
			};
		}
		case "tainted":
			return typeof message === "string" ? { type: name, message } : bad("message");
		case "pong":
			return { type: name };
	}
}

function readResponse(frame: Frame): WorkerMessage | undefined {
	const { bytes, head, body } = frame;
	if (body - head < RESPONSE_NUMBERS * 4) return undefined;
	const status = readU32(bytes, head + 4);
	const texts = readU32(bytes, head + 8);
	if (status < 100 || status > 599 || texts % 2 !== 0) return undefined;
	const headers: (readonly [string, string])[] = [];
	let lengthAt = head + RESPONSE_NUMBERS * 4;
	const text = readText(bytes, lengthAt + texts * 4, body);
	if (text === undefined) return undefined;
	let at = 0;
	for (let i = 0; i < texts; i += 2) {
		const valueAt = at + readU32(bytes, lengthAt);
		const end = valueAt + readU32(bytes, lengthAt + 4);
		headers[headers.length] = [apply(slice, text, [at, valueAt]), apply(slice, text, [valueAt, end])];
		at = end;
		lengthAt += 8;
	}
	return at === text.length
		? { type: "response", call: readU32(bytes, head), status, headers, body: bodyOf(frame) }
		: undefined;
}

interface Fields {
	readonly [field: string]: unknown;
	readonly call?: unknown;
	readonly message?: unknown;
	readonly stack?: unknown;
	readonly code?: unknown;
	readonly level?: unknown;
	readonly metadata?: unknown;
	readonly at?: unknown;
}

function headProblem(name: string): string {
	return `the head of a frame "${name}" cannot be read`;
}

function bodyOf({ bytes, body, end }: Frame): Uint8Array {
	return body === end ? NOTHING : part(bytes, body, end);
}

/** Undefined where that is not there, or no UTF-8. */
function readText(bytes: Uint8Array, from: number, to: number): string | undefined {
	if (from >= to) return from === to ? "" : undefined;
	try {
		return apply(decode, decoder, [part(bytes, from, to)]);
	} catch {
		return undefined;
	}
}

function readJson(frame: Frame): Fields | undefined {
	const text = readText(frame.bytes, frame.head, frame.body);
	if (text === undefined) return undefined;
	try {
		const value: unknown = parse(text);
		return isObject(value) ? value : undefined;
	} catch {
		return undefined;
	}
}

function isObject(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null && !isArray(value);
}

function isU32(value: unknown): value is number {
	return typeof value === "number" && isInteger(value) && value >= 0 && value <= 0xffff_ffff;
}

/** Without what `Object.prototype.toJSON` would make of it. */
function bare(message: WorkerMessage): object {
	return { ...message, toJSON: undefined };
}

function indexOf<Type>(types: readonly Type[], type: Type): number {
	let at = 0;
	while (types[at] !== type) at += 1;
	return at;
}

function textOr(value: unknown): string | undefined {
	return typeof value === "string" ? value : undefined;
}

function writeU32(bytes: Uint8Array, at: number, value: number): void {
	bytes[at] = value;
	bytes[at + 1] = value >>> 8;
	bytes[at + 2] = value >>> 16;
	bytes[at + 3] = value >>> 24;
}

function readU32(bytes: Uint8Array, at: number): number {
	return (
		((bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8) | ((bytes[at + 2] ?? 0) << 16) | ((bytes[at + 3] ?? 0) << 24)) >>> 0
	);
}
