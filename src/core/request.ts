/**
 * InvokeRequest: what every Source hands over, whatever its wire. Not yet durable.
 *
 * `checkInvokeRequest` is the hand-written check of the hot path; `invokeRequestSchema` says the same in zod.
 * tests/unit/core/request.test.ts holds that both agree.
 */
import { z } from "zod";
import { EngineError } from "./errors.ts";
import { LIMITS } from "./limits.ts";

export const SOURCES = ["socket", "http", "cron", "event", "cli", "function"] as const;
export type SourceKind = (typeof SOURCES)[number];

/** Header or query pairs in the order they came; names may repeat. Header names are lower case. */
export type Pairs = ReadonlyArray<readonly [name: string, value: string]>;

export interface InvokeRequest {
	/** Id (`fn_…`) or name. */
	readonly function: string;
	readonly source: SourceKind;
	readonly method: string;
	/** What the handler sees as its path; starts with "/", no query. */
	readonly path: string;
	readonly headers: Pairs;
	readonly query: Pairs;
	readonly body: Uint8Array;
	/** 1 to 255 visible ASCII characters; one invocation per function and key within 24 h. */
	readonly idempotencyKey?: string;
	/** Milliseconds from acceptance until it may start. At most one of `delayMs` and `runAt`. */
	readonly delayMs?: number;
	/** UTC milliseconds before which it may not start. */
	readonly runAt?: number;
	/** Higher starts first; -1000 to 1000, default 0. */
	readonly priority?: number;
	/** Sub-lane; keys of one lane take turns. */
	readonly laneKey?: string;
	/** Milliseconds from acceptance; not started by then it expires, still running then it times out without retry. */
	readonly deadlineMs?: number;
	readonly maxAttempts?: number;
	readonly tags?: readonly string[];
	/** W3C trace context. */
	readonly traceparent?: string;
	/** True where the caller waits for the end: it is there to retry, so the default is one attempt. */
	readonly waits: boolean;
}

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] as const;
const METHOD_SET: ReadonlySet<string> = new Set(METHODS);
const VISIBLE_ASCII = /^[\x21-\x7e]+$/;
const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;
/** RFC 9110 token; what the Headers class of the handler's side accepts as a name. */
const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/;
// oxlint-disable-next-line no-control-regex -- these are exactly the characters that a field value may not hold
const HEADER_VALUE_BAD = /[\0\r\n]|[^\0-\xff]/;

function refuse(field: string, expected: string, got: unknown): never {
	const text = typeof got === "string" ? JSON.stringify(got.slice(0, 80)) : String(got);
	throw new EngineError("BAD_REQUEST", `expected ${field} to be ${expected}, got ${text}`);
}

function isIntegerIn(value: unknown, min: number, max: number): boolean {
	return Number.isInteger(value) && (value as number) >= min && (value as number) <= max;
}

function pairsBytes(pairs: Pairs): number {
	let bytes = 0;
	for (const [name, value] of pairs) bytes += name.length + value.length + 6;
	return bytes;
}

/** Throws BAD_REQUEST or BODY_TOO_LARGE at the first problem; returns its argument. */
export function checkInvokeRequest(request: InvokeRequest): InvokeRequest {
	const { method, path, headers, query, body } = request;
	if (!METHOD_SET.has(method)) refuse("method", `one of ${METHODS.join(", ")}`, method);
	if (path.charCodeAt(0) !== 47 || path.length > LIMITS.pathBytesMax || path.includes("?") || path.includes("#")) {
		refuse(
			"path",
			`a path that starts with "/", without "?" or "#", of at most ${LIMITS.pathBytesMax} characters`,
			path,
		);
	}
	for (const [name, value] of headers) {
		if (!HEADER_NAME.test(name)) refuse("a header name", "a lower-case HTTP token", name);
		if (HEADER_VALUE_BAD.test(value)) refuse(`header ${name}`, "free of NUL, CR, LF and characters over U+00FF", value);
	}
	if (pairsBytes(headers) > LIMITS.headersBytesMax)
		refuse("headers", `at most ${LIMITS.headersBytesMax} bytes`, "more");
	if (pairsBytes(query) > LIMITS.headersBytesMax) refuse("query", `at most ${LIMITS.headersBytesMax} bytes`, "more");
	if (body.byteLength > LIMITS.bodyBytesMax) {
		throw new EngineError(
			"BODY_TOO_LARGE",
			`the body has ${body.byteLength} bytes; at most ${LIMITS.bodyBytesMax} are possible`,
		);
	}
	if (body.byteLength > 0 && (method === "GET" || method === "HEAD")) {
		refuse("body", `empty, because the method is ${method}; use POST to send a body`, `${body.byteLength} bytes`);
	}
	const { idempotencyKey, delayMs, runAt, priority, laneKey, deadlineMs, maxAttempts, tags, traceparent } = request;
	if (
		idempotencyKey !== undefined &&
		(idempotencyKey.length > LIMITS.idempotencyKeyCharsMax || !VISIBLE_ASCII.test(idempotencyKey))
	) {
		refuse("idempotency_key", `1 to ${LIMITS.idempotencyKeyCharsMax} visible ASCII characters`, idempotencyKey);
	}
	if (delayMs !== undefined && !isIntegerIn(delayMs, 0, LIMITS.delayMsMax)) {
		refuse("delay_ms", `whole milliseconds from 0 to ${LIMITS.delayMsMax}`, delayMs);
	}
	if (runAt !== undefined && !isIntegerIn(runAt, 0, LIMITS.runAtMax)) {
		refuse("run_at", `UTC milliseconds from 0 to ${LIMITS.runAtMax}, the end of the year 9999`, runAt);
	}
	if (runAt !== undefined && delayMs !== undefined) refuse("run_at", "absent where delay_ms is given", runAt);
	if (priority !== undefined && !isIntegerIn(priority, -LIMITS.priorityMax, LIMITS.priorityMax)) {
		refuse("priority", `a whole number from ${-LIMITS.priorityMax} to ${LIMITS.priorityMax}`, priority);
	}
	if (laneKey !== undefined && laneKey.length > LIMITS.laneKeyCharsMax) {
		refuse("lane_key", `at most ${LIMITS.laneKeyCharsMax} characters`, laneKey);
	}
	if (deadlineMs !== undefined && !isIntegerIn(deadlineMs, 1, LIMITS.delayMsMax)) {
		refuse("deadline_ms", `whole milliseconds from 1 to ${LIMITS.delayMsMax}`, deadlineMs);
	}
	if (maxAttempts !== undefined && !isIntegerIn(maxAttempts, 1, LIMITS.maxAttemptsMax)) {
		refuse("max_attempts", `a whole number from 1 to ${LIMITS.maxAttemptsMax}`, maxAttempts);
	}
	if (tags !== undefined) {
		if (tags.length > LIMITS.tagsMax) refuse("tags", `at most ${LIMITS.tagsMax} strings`, `${tags.length}`);
		for (const tag of tags) {
			if (typeof tag !== "string" || tag.length === 0 || tag.length > LIMITS.tagCharsMax) {
				refuse("a tag", `1 to ${LIMITS.tagCharsMax} characters`, tag);
			}
		}
	}
	if (traceparent !== undefined && !TRACEPARENT.test(traceparent))
		refuse("traceparent", "a W3C trace context", traceparent);
	return request;
}

const pairsSchema = (name: z.ZodString, value: z.ZodString) =>
	z
		.array(z.tuple([name, value]))
		.refine((pairs) => pairsBytes(pairs) <= LIMITS.headersBytesMax, `at most ${LIMITS.headersBytesMax} bytes`);

/** The same rules as `checkInvokeRequest`, for documents and for tests. */
export const invokeRequestSchema = z
	.strictObject({
		function: z.string(),
		source: z.enum(SOURCES),
		method: z.enum(METHODS),
		path: z
			.string()
			.startsWith("/")
			.max(LIMITS.pathBytesMax)
			.regex(/^[^?#]*$/),
		headers: pairsSchema(
			z.string().regex(HEADER_NAME),
			z.string().refine((value) => !HEADER_VALUE_BAD.test(value)) as unknown as z.ZodString,
		),
		query: pairsSchema(z.string(), z.string()),
		body: z.instanceof(Uint8Array).refine((body) => body.byteLength <= LIMITS.bodyBytesMax),
		idempotencyKey: z.string().max(LIMITS.idempotencyKeyCharsMax).regex(VISIBLE_ASCII).optional(),
		delayMs: z.int().min(0).max(LIMITS.delayMsMax).optional(),
		runAt: z.int().min(0).optional(),
		priority: z.int().min(-LIMITS.priorityMax).max(LIMITS.priorityMax).optional(),
		laneKey: z.string().max(LIMITS.laneKeyCharsMax).optional(),
		deadlineMs: z.int().min(1).max(LIMITS.delayMsMax).optional(),
		maxAttempts: z.int().min(1).max(LIMITS.maxAttemptsMax).optional(),
		tags: z.array(z.string().min(1).max(LIMITS.tagCharsMax)).max(LIMITS.tagsMax).optional(),
		traceparent: z.string().regex(TRACEPARENT).optional(),
		waits: z.boolean(),
	})
	.refine((request) => request.runAt === undefined || request.delayMs === undefined)
	.refine((request) => request.body.byteLength === 0 || (request.method !== "GET" && request.method !== "HEAD"));
