/**
 * The private channel between the pool (Node) and the runtime (Bun): how bytes become messages, and back.
 *
 * A frame is `u32 length · u8 type · u32 headLength · head (UTF-8 JSON) · body (raw bytes)`, little-endian; length
 * counts what follows it. Bodies are never base64 and never copied where a view will do. Neither side trusts the
 * other: whatever cannot be read is a sentence (a "problem") that the pool turns into WORKER_PROTOCOL.
 */

/** Both sides must say the same number; raise it with every change that an older side would misread. */
export const CHANNEL_VERSION = 1;
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
const OwnBuffer = ArrayBuffer;
const { set } = Uint8Array.prototype;
const { encodeInto } = TextEncoder.prototype;
const { decode } = TextDecoder.prototype;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });
const NOTHING = new Uint8Array(0);
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
		this.#add(indexOf(HOST_TYPES, message.type), stringify(message), NOTHING);
	}

	invoke(call: number, source: InvokeSource, deadline: number): void {
		const { invocationId, attempt, method, path, headersJson, queryJson } = source;
		const head = `{"call":${call},"invocationId":${stringify(invocationId)},"attempt":${attempt},"method":${stringify(method)},"path":${stringify(path)},"deadline":${deadline},"headers":${headersJson},"query":${queryJson}}`;
		this.#add(INVOKE_TYPE, head, source.body);
	}

	worker(message: WorkerMessage): void {
		if (message.type === "response") {
			const head = `{"call":${message.call},"status":${message.status},"headers":${pairsJson(message.headers)}}`;
			this.#add(RESPONSE_TYPE, head, message.body);
		} else {
			this.#add(WORKER_TYPE_BASE + indexOf(WORKER_TYPES, message.type), stringify(bare(message)), NOTHING);
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

	#add(type: number, head: string, body: Uint8Array): void {
		const bodyBytes = apply(sizeOf, body, []);
		const copied = bodyBytes <= BODY_COPY_BYTES_MAX ? bodyBytes : 0;
		// One UTF-16 unit becomes at most three bytes.
		const room = 4 + FIXED_BYTES + head.length * 3 + copied;
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
		const rest = new OwnBytes(this.#memory, headAt, this.#size - headAt);
		const headLength = apply(encodeInto, encoder, [head, rest]).written;
		writeU32(buffer, start, FIXED_BYTES + headLength + bodyBytes);
		buffer[start + 4] = type;
		writeU32(buffer, start + 5, headLength);
		this.#used = headAt + headLength;
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

/** Gets one frame; a sentence says why it cannot be accepted, and ends the reading. */
export type FrameHandler = (type: number, head: Uint8Array, body: Uint8Array) => string | undefined;

/** Cuts a byte stream into frames. A frame within one chunk is a view of it; a split one is copied once. */
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
		const bodyAt = headAt + headLength;
		// Views as `part` makes them; asked for once, because the two getters are 4 % of what a short call costs the runtime.
		const buffer = apply(bufferOf, chunk, []) as ArrayBuffer;
		const offset = apply(offsetOf, chunk, []);
		const head = new OwnBytes(buffer, offset + headAt, headLength);
		const body = bodyAt === end ? NOTHING : new OwnBytes(buffer, offset + bodyAt, end - bodyAt);
		this.#problem = this.#onFrame(chunk[at] ?? 0, head, body);
	}
}

/** The message of a frame that the pool sent, or the problem with it. */
export function readHostMessage(type: number, head: Uint8Array, body: Uint8Array): HostMessage | string {
	const name = HOST_TYPES[type];
	if (name === undefined) return `the frame type ${type} does not exist`;
	const fields = readHead(head);
	if (fields === undefined) return `the head of a frame "${name}" is no JSON object`;
	// The pool is ours and both sides say CHANNEL_VERSION: its fields are taken as they are.
	const message = fields as Record<string, unknown>;
	message["type"] = name;
	message["body"] = body;
	return message as unknown as HostMessage;
}

/** The message of a frame that a worker sent, or the problem with it. User code shares that process: all is checked. */
export function readWorkerMessage(type: number, head: Uint8Array, body: Uint8Array): WorkerMessage | string {
	const name = WORKER_TYPES[type - WORKER_TYPE_BASE];
	if (name === undefined) return `the frame type ${type} does not exist`;
	const fields = readHead(head);
	if (fields === undefined) return `the head of a frame "${name}" is no JSON object`;
	const bad = (field: string): string => `the field ${field} of a frame "${name}" is missing or of the wrong type`;
	const { call, message, stack } = fields;
	if ((name === "response" || name === "failed" || name === "ended") && !isU32(call)) return bad("call");
	switch (name) {
		case "ready":
			return isU32(fields["protocol"])
				? { type: name, protocol: fields["protocol"], config: fields["config"] }
				: bad("protocol");
		case "start_failed":
			return typeof message === "string" ? { type: name, message, stack: textOr(stack) } : bad("message");
		case "response": {
			const { status, headers } = fields;
			if (!isU32(status) || status < 100 || status > 599) return bad("status");
			if (!isPairs(headers)) return bad("headers");
			return { type: name, call: call as number, status, headers, body };
		}
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

interface Fields {
	readonly [field: string]: unknown;
	readonly call?: unknown;
	readonly message?: unknown;
	readonly stack?: unknown;
	readonly status?: unknown;
	readonly headers?: unknown;
	readonly code?: unknown;
	readonly level?: unknown;
	readonly metadata?: unknown;
	readonly at?: unknown;
}

function readHead(head: Uint8Array): Fields | undefined {
	try {
		const value: unknown = parse(apply(decode, decoder, [head]));
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

function isPairs(value: unknown): value is ChannelPairs {
	if (!isArray(value)) return false;
	for (let i = 0; i < value.length; i += 1) {
		const pair: unknown = value[i];
		if (!isArray(pair) || pair.length !== 2) return false;
		if (typeof pair[0] !== "string" || typeof pair[1] !== "string") return false;
	}
	return true;
}

/** Of strings alone, because an inherited toJSON cannot change those. */
function pairsJson(pairs: ChannelPairs): string {
	let text = "[";
	for (let i = 0; i < pairs.length; i += 1) {
		const pair = pairs[i];
		if (pair === undefined) continue;
		text += `${i === 0 ? "" : ","}[${stringify(pair[0])},${stringify(pair[1])}]`;
	}
	return `${text}]`;
}

/** The same without what `Object.prototype.toJSON` would make of it. */
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
