/**
 * From an HTTP request to an InvokeRequest: path, headers, query and the caller's wishes.
 *
 *   R1  pairs keep their order and their repetitions
 *   R2  hop-by-hop headers stop here, also those that `Connection` names
 *   R3  `X-BunBase-*` and `X-Invocation-Id` are between caller and platform: a handler that sees one knows that we wrote it
 *   R4  the path goes on as it came, percent signs and dots included; only NUL is refused
 */
import type { IncomingMessage } from "node:http";
import { EngineError } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";
import type { InvokeRequest, Pairs } from "../core/request.ts";
import { HOP_BY_HOP } from "./http-answer.ts";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type Wishes = Mutable<
	Pick<
		InvokeRequest,
		| "idempotencyKey"
		| "delayMs"
		| "runAt"
		| "priority"
		| "laneKey"
		| "deadlineMs"
		| "maxAttempts"
		| "tags"
		| "traceparent"
	>
>;

const NO_PAIRS: Pairs = Object.freeze([]);
const FUNCTION_ID_OR_NAME = /^[a-z][a-z0-9_-]{0,127}$/;
const INTEGER = /^-?[0-9]{1,16}$/;
const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** What an id or name can be, before anything is looked up under it. */
export function checkFunctionSegment(segment: string): string {
	if (FUNCTION_ID_OR_NAME.test(segment)) return segment;
	throw new EngineError("FUNCTION_NOT_FOUND", `no function has the id or name ${JSON.stringify(segment.slice(0, 80))}`);
}

/** What follows the function's name in the target, and the text after "?". */
export function splitTarget(target: string, from: number): { segment: string; path: string; query: string } {
	const mark = target.indexOf("?", from);
	const end = mark === -1 ? target.length : mark;
	const slash = target.indexOf("/", from);
	const nameEnd = slash === -1 || slash > end ? end : slash;
	const path = nameEnd === end ? "/" : target.slice(nameEnd, end);
	if (path.includes("%00")) throw new EngineError("BAD_REQUEST", "expected a path without NUL (%00)"); // R4
	return { segment: target.slice(from, nameEnd), path, query: mark === -1 ? "" : target.slice(mark + 1) };
}

export function queryPairs(query: string): Pairs {
	return query === "" ? NO_PAIRS : [...new URLSearchParams(query)];
}

function integerOf(name: string, text: string): number {
	if (!INTEGER.test(text)) {
		throw new EngineError(
			"BAD_REQUEST",
			`expected ${name} to be a whole number, got ${JSON.stringify(text.slice(0, 40))}`,
		);
	}
	return Number(text);
}

/** Milliseconds since 1970, or RFC 3339 as `2026-01-31T12:00:00Z`. */
export function instantOf(name: string, text: string): number {
	if (INTEGER.test(text)) return Number(text);
	const at = /^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(text) && /(?:Z|[+-]\d\d:\d\d)$/.test(text) ? Date.parse(text) : NaN;
	if (Number.isNaN(at)) {
		throw new EngineError(
			"BAD_REQUEST",
			`expected ${name} to be UTC milliseconds or RFC 3339 with a zone, got ${JSON.stringify(text.slice(0, 40))}`,
		);
	}
	return at;
}

function tagsOf(text: string): string[] {
	return text
		.split(",")
		.map((tag) => tag.trim())
		.filter((tag) => tag !== "");
}

/** Takes one control header into `wishes`; an unknown `X-BunBase-*` is an error, because a typo would change meaning. */
function takeWish(wishes: Wishes, name: string, value: string): void {
	switch (name) {
		case "idempotency-key":
			wishes.idempotencyKey = once(name, wishes.idempotencyKey, value);
			return;
		case "x-bunbase-delay-ms":
			wishes.delayMs = once(name, wishes.delayMs, integerOf(name, value));
			return;
		case "x-bunbase-run-at":
			wishes.runAt = once(name, wishes.runAt, instantOf(name, value));
			return;
		case "x-bunbase-priority":
			wishes.priority = once(name, wishes.priority, integerOf(name, value));
			return;
		case "x-bunbase-deadline-ms":
			wishes.deadlineMs = once(name, wishes.deadlineMs, integerOf(name, value));
			return;
		case "x-bunbase-max-attempts":
			wishes.maxAttempts = once(name, wishes.maxAttempts, integerOf(name, value));
			return;
		case "x-bunbase-lane-key":
			wishes.laneKey = once(name, wishes.laneKey, value);
			return;
		case "x-bunbase-tags":
			wishes.tags = [...(wishes.tags ?? []), ...tagsOf(value)];
			return;
		// What a handler got from us and may pass on when it calls another function.
		case "x-bunbase-source":
		case "x-bunbase-scheduled-at":
		case "x-bunbase-error":
			return;
		default:
			throw new EngineError(
				"BAD_REQUEST",
				`no header is called ${name.slice(0, 80)}; see docs/http.md for those that are`,
			);
	}
}

function once<T>(name: string, before: T | undefined, value: T): T {
	if (before === undefined) return value;
	throw new EngineError("BAD_REQUEST", `expected the header ${name} once`);
}

/** The header names that this message's `Connection` declares hop-by-hop, beside those that always are. */
function connectionNames(connection: string | undefined): ReadonlySet<string> {
	if (connection === undefined || connection === "keep-alive" || connection === "close") return HOP_BY_HOP;
	const names = new Set(HOP_BY_HOP);
	for (const token of connection.split(",")) names.add(token.trim().toLowerCase());
	return names;
}

/** The request that the function will see, and what the caller asked of the platform. */
export function invokeRequestOf(
	req: IncomingMessage,
	target: { readonly segment: string; readonly path: string; readonly query: string },
	body: Uint8Array,
	waits: boolean,
): InvokeRequest {
	const dropped = connectionNames(req.headers.connection);
	const headers: [string, string][] = [];
	const wishes: Wishes = {};
	let forwardedFor = "";
	let isForwarded = false;
	let hasProto = false;
	let traces = 0;
	const raw = req.rawHeaders;
	for (let index = 0; index < raw.length; index += 2) {
		const name = (raw[index] ?? "").toLowerCase();
		const value = raw[index + 1] ?? "";
		if (dropped.has(name) || name === "expect") continue; // R2
		if (name.startsWith("x-")) {
			if (name.startsWith("x-bunbase-")) {
				takeWish(wishes, name, value);
				continue; // R3
			}
			if (name === "x-invocation-id" || name === "x-forwarded-prefix") continue; // R3
			if (name === "x-forwarded-for") {
				forwardedFor = forwardedFor === "" ? value : `${forwardedFor}, ${value}`;
				continue;
			}
			if (name === "x-forwarded-host") isForwarded = true;
			else if (name === "x-forwarded-proto") hasProto = true;
		} else if (name === "idempotency-key") {
			takeWish(wishes, name, value);
		} else if (name === "traceparent") {
			traces++;
			// One that is broken or doubled is ignored, as W3C Trace Context asks.
			if (TRACEPARENT.test(value)) wishes.traceparent = value;
		}
		headers.push([name, value]);
	}
	if (traces > 1) delete wishes.traceparent;
	// A proxy before us knows better than we do where the request came from; the prefix is always ours.
	const peer = req.socket.remoteAddress ?? "";
	headers.push(["x-forwarded-for", forwardedFor === "" ? peer : `${forwardedFor}, ${peer}`]);
	if (!isForwarded) headers.push(["x-forwarded-host", req.headers.host ?? ""]);
	if (!hasProto) headers.push(["x-forwarded-proto", "http"]);
	headers.push(["x-forwarded-prefix", `/functions/${target.segment}`]);
	return {
		function: target.segment,
		source: "http",
		method: req.method ?? "GET",
		path: target.path,
		headers,
		query: queryPairs(target.query),
		body,
		waits,
		...wishes,
	};
}

/** `Prefer` (RFC 7240), as far as it means something here. */
export interface Preferences {
	readonly isAsync: boolean;
	/** How long the caller waits for the end before it takes a 202. */
	readonly waitMs: number | undefined;
}

const NO_PREFERENCES: Preferences = Object.freeze({ isAsync: false, waitMs: undefined });

export function preferencesOf(req: IncomingMessage): Preferences {
	const text = req.headers["prefer"];
	if (text === undefined) return NO_PREFERENCES;
	let isAsync = false;
	let waitMs: number | undefined;
	for (const part of String(text).split(",")) {
		const token = part.trim().toLowerCase();
		if (token === "respond-async") isAsync = true;
		const wait = /^wait\s*=\s*"?([0-9]{1,9})"?$/.exec(token);
		if (wait !== null && waitMs === undefined) waitMs = Math.min(Number(wait[1]) * 1000, LIMITS.awaitMsMax);
	}
	return { isAsync, waitMs };
}
