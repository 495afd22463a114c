/**
 * From an INVOKE or ENQUEUE payload to an InvokeRequest.
 *
 * `parseInvokePayload` is the hot path and is checked by hand; `invokePayloadSchema` says the same in zod, and a
 * property test holds that both agree. Only types are decided here (a string is a string, base64 is base64); ranges
 * and lengths are core's `checkInvokeRequest`, which the engine applies to requests of every source.
 */
import { isUtf8 } from "node:buffer";
import { z } from "zod";
import { EngineError, messageOf } from "../core/errors.ts";
import type { InvokeRequest, Pairs, SourceKind } from "../core/request.ts";

const NO_PAIRS: Pairs = Object.freeze([]);
const NO_BODY = new Uint8Array(0);

/** No honest document comes near. */
const JSON_DEPTH_MAX = 256;
const [QUOTE, BACKSLASH, OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x22, 0x5c, 0x5b, 0x5d, 0x7b, 0x7d];

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Fields = Readonly<Record<string, unknown>>;

function refuse(field: string, expected: string, got: unknown): never {
	const kind = got === null ? "null" : Array.isArray(got) ? "a list" : typeof got;
	throw new EngineError("BAD_REQUEST", `expected ${field} to be ${expected}, got ${kind}`);
}

/** A JSON payload. Throws BAD_JSON, also for bytes that are no UTF-8, which a lenient decoder would silently change. */
export function parseJson(bytes: Uint8Array): unknown {
	const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
	// Only broken UTF-8 or a real U+FFFD shows as U+FFFD, so the full check runs almost never.
	if (text.includes("\ufffd") && !isUtf8(bytes)) {
		throw new EngineError("BAD_JSON", "the payload is not valid UTF-8; encode it as UTF-8 JSON");
	}
	try {
		return JSON.parse(text) as unknown;
	} catch (error) {
		throw new EngineError("BAD_JSON", `the payload is not valid JSON: ${messageOf(error)}`, { cause: error });
	}
}

/**
 * A JSON document of any shape, nested at most 256 deep. The depth is counted before it is parsed: V8 parses a list
 * that is 200,000 deep and then overflows the stack of whoever writes it out again. Requests to invoke are spared the
 * count, because nothing deep of theirs is kept.
 */
export function parseDocument(bytes: Uint8Array): unknown {
	let depth = 0;
	let isInString = false;
	for (let index = 0; index < bytes.length; index++) {
		const byte = bytes[index];
		if (isInString) {
			if (byte === BACKSLASH) index++;
			else if (byte === QUOTE) isInString = false;
		} else if (byte === QUOTE) {
			isInString = true;
		} else if (byte === OPEN_LIST || byte === OPEN_OBJECT) {
			depth++;
			if (depth > JSON_DEPTH_MAX) {
				throw new EngineError("BAD_JSON", `expected JSON nested at most ${JSON_DEPTH_MAX} deep`);
			}
		} else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) {
			depth--;
		}
	}
	return parseJson(bytes);
}

/** The payload as an object; lists, numbers and null are refused. */
export function objectOf(json: unknown): Fields {
	if (typeof json !== "object" || json === null || Array.isArray(json)) refuse("the payload", "a JSON object", json);
	return json as Fields;
}

/** A field that must be there as a string that is not empty. */
export function requiredString(fields: Fields, name: string): string {
	const value = fields[name];
	if (typeof value !== "string" || value === "") {
		if (value === "") throw new EngineError("BAD_REQUEST", `${name} is required, got an empty string`);
		if (value === undefined) throw new EngineError("BAD_REQUEST", `${name} is required`);
		refuse(name, "a string", value);
	}
	return value;
}

/** A string, or undefined where it is absent, null or empty: Go sends "" for a field that was never set. */
export function optionalString(fields: Fields, name: string): string | undefined {
	const value = fields[name];
	if (value === undefined || value === null || value === "") return undefined;
	if (typeof value !== "string") refuse(name, "a string", value);
	return value;
}

export function optionalNumber(fields: Fields, name: string): number | undefined {
	const value = fields[name];
	if (value === undefined || value === null) return undefined;
	if (typeof value !== "number" || !Number.isFinite(value)) refuse(name, "a number", value);
	return value;
}

/**
 * Strict base64 with padding. Node's decoder skips ASCII that it does not know, so its output length betrays it; but
 * it takes only the low byte of other characters, so U+0141 would pass for A.
 */
export function decodeBase64(text: string): Uint8Array {
	if (text.length === 0) return NO_BODY;
	const bytes = Buffer.from(text, "base64");
	const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
	// The URL alphabet is decoded by Node as well; it is refused so that one body has one spelling.
	const expected = (text.length / 4) * 3 - padding;
	const ascii = Buffer.byteLength(text) === text.length;
	if (!ascii || bytes.length !== expected || text.includes("-") || text.includes("_")) {
		throw new EngineError("BAD_REQUEST", "expected body to be base64 with padding (RFC 4648 §4)");
	}
	return bytes;
}

/** `{name: value}` or `[[name, value], …]`; null and absent are empty. */
function pairsOf(field: string, value: unknown, lowerCase: boolean): Pairs {
	if (value === undefined || value === null) return NO_PAIRS;
	if (typeof value !== "object") refuse(field, "an object of strings or a list of pairs", value);
	const pairs: [string, string][] = [];
	if (Array.isArray(value)) {
		for (const pair of value as unknown[]) {
			if (!Array.isArray(pair) || pair.length !== 2 || typeof pair[0] !== "string" || typeof pair[1] !== "string") {
				refuse(`each of ${field}`, "a pair of strings", pair);
			}
			pairs.push([lowerCase ? pair[0].toLowerCase() : pair[0], pair[1]]);
		}
		return pairs;
	}
	const map = value as Fields;
	for (const name of Object.keys(map)) {
		const text = map[name];
		if (typeof text !== "string") refuse(`${field}.${name.slice(0, 80)}`, "a string", text);
		pairs.push([lowerCase ? name.toLowerCase() : name, text]);
	}
	return pairs;
}

function tagsOf(value: unknown): readonly string[] | undefined {
	if (value === undefined || value === null) return undefined;
	if (!Array.isArray(value)) refuse("tags", "a list of strings", value);
	for (const tag of value as unknown[]) if (typeof tag !== "string") refuse("each of tags", "a string", tag);
	return value as string[];
}

/** What the connection or face knows about a request, beside its payload. */
export interface RequestOrigin {
	readonly source: SourceKind;
	/** True where the caller waits for the end. */
	readonly waits: boolean;
	/** The raw body after the JSON (0x22, 0x23); `body` in the JSON is then refused. */
	readonly rawBody?: Uint8Array;
}

/** The payload of INVOKE, ENQUEUE and of each request of a batch. Unknown keys are ignored, as Go's decoder does. */
export function parseInvokePayload(json: unknown, origin: RequestOrigin): InvokeRequest {
	const fields = objectOf(json);
	const { method, path, body } = fields;
	const target = requiredString(fields, "function_id");
	if (typeof method !== "string") refuse("method", "a string", method);
	if (typeof path !== "string") refuse("path", "a string", path);
	let bytes = origin.rawBody;
	if (bytes !== undefined) {
		if (body !== undefined && body !== null) refuse("body", "absent, because it follows the JSON as raw bytes", body);
	} else if (body === undefined || body === null) {
		bytes = NO_BODY;
	} else {
		if (typeof body !== "string") refuse("body", "base64", body);
		bytes = decodeBase64(body);
	}
	const request: Mutable<InvokeRequest> = {
		function: target,
		source: origin.source,
		method,
		path,
		headers: pairsOf("headers", fields["headers"], true),
		query: pairsOf("query", fields["query"], false),
		body: bytes,
		waits: origin.waits,
	};
	const idempotencyKey = optionalString(fields, "idempotency_key");
	if (idempotencyKey !== undefined) request.idempotencyKey = idempotencyKey;
	const delayMs = optionalNumber(fields, "delay_ms");
	if (delayMs !== undefined) request.delayMs = delayMs;
	const runAt = optionalNumber(fields, "run_at");
	if (runAt !== undefined) request.runAt = runAt;
	const priority = optionalNumber(fields, "priority");
	if (priority !== undefined) request.priority = priority;
	const laneKey = optionalString(fields, "lane_key");
	if (laneKey !== undefined) request.laneKey = laneKey;
	const deadlineMs = optionalNumber(fields, "deadline_ms");
	if (deadlineMs !== undefined) request.deadlineMs = deadlineMs;
	const maxAttempts = optionalNumber(fields, "max_attempts");
	if (maxAttempts !== undefined) request.maxAttempts = maxAttempts;
	const tags = tagsOf(fields["tags"]);
	if (tags !== undefined) request.tags = tags;
	const traceparent = optionalString(fields, "traceparent");
	if (traceparent !== undefined) request.traceparent = traceparent;
	return request;
}

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;
const pairsSchema = z.union([z.record(z.string(), z.string()), z.array(z.tuple([z.string(), z.string()]))]).nullish();

/** The same rules as `parseInvokePayload`, for documents and for tests. */
export const invokePayloadSchema = z.object({
	/** Id or name. */
	function_id: z.string().min(1),
	method: z.string(),
	path: z.string(),
	headers: pairsSchema,
	query: pairsSchema,
	body: z.string().regex(BASE64).nullish(),
	idempotency_key: z.string().nullish(),
	delay_ms: z.number().nullish(),
	run_at: z.number().nullish(),
	priority: z.number().nullish(),
	lane_key: z.string().nullish(),
	deadline_ms: z.number().nullish(),
	max_attempts: z.number().nullish(),
	tags: z.array(z.string()).nullish(),
	traceparent: z.string().nullish(),
});
