/** Frames of a worker's channel into messages, each checked as far as its sender cannot be trusted. */
import { apply, decode, has, isArray, isFinite, isInteger, parse, slice } from "./intrinsics.ts";
import { INVOKE_NUMBERS, NOTHING, part, readU32, RESPONSE_NUMBERS, TWO_32, type Frame } from "./worker-frames.ts";
import {
	HOST_TYPES,
	WORKER_TYPE_BASE,
	WORKER_TYPES,
	type ChannelLogLevel,
	type ChannelPairs,
	type HostMessage,
	type InvokeMessage,
	type WorkerMessage,
} from "./worker-messages.ts";

/** A byte order mark is a character like others: it has a place in the lengths. */
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const LEVELS: ReadonlySet<unknown> = new Set<ChannelLogLevel>(["debug", "info", "warn", "error"]);

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

function textOr(value: unknown): string | undefined {
	return typeof value === "string" ? value : undefined;
}
