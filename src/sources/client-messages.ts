/** What the client takes and gives: requests as payloads, payloads as results. No sockets here. */
import type { ErrorCode } from "../core/errors.ts";
import type { State } from "../core/invocation.ts";
import { splitRawPayload } from "../protocol/index.ts";
import { ClientError } from "./client-error.ts";

/** `{name: value}`, or pairs where a name repeats. */
export type PairsInput = Readonly<Record<string, string>> | ReadonlyArray<readonly [name: string, value: string]>;

export interface ClientRequest {
	/** Default POST. */
	readonly method?: string | undefined;
	/** What the handler sees as its path; default "/". */
	readonly path?: string | undefined;
	readonly headers?: PairsInput | undefined;
	readonly query?: PairsInput | undefined;
	readonly body?: string | Uint8Array | undefined;
	/** Makes retries safe: one invocation per function and key within 24 h. */
	readonly idempotencyKey?: string | undefined;
	/** Milliseconds from acceptance until it may start. */
	readonly delayMs?: number | undefined;
	/** UTC milliseconds, or a Date, before which it may not start. */
	readonly runAt?: number | Date | undefined;
	/** -1000 to 1000; higher starts first. */
	readonly priority?: number | undefined;
	/** Sub-lane; the keys of one lane take turns. */
	readonly laneKey?: string | undefined;
	readonly deadlineMs?: number | undefined;
	readonly maxAttempts?: number | undefined;
	readonly tags?: readonly string[] | undefined;
	/** W3C trace context. */
	readonly traceparent?: string | undefined;
}

const EMPTY = new Uint8Array(0);

/** The JSON of INVOKE_RAW and ENQUEUE_RAW. */
export function requestJson(functionId: string, request: ClientRequest): string {
	const { runAt } = request;
	return JSON.stringify({
		function_id: functionId,
		method: request.method ?? "POST",
		path: request.path ?? "/",
		headers: request.headers,
		query: request.query,
		idempotency_key: request.idempotencyKey,
		delay_ms: request.delayMs,
		run_at: runAt instanceof Date ? runAt.getTime() : runAt,
		priority: request.priority,
		lane_key: request.laneKey,
		deadline_ms: request.deadlineMs,
		max_attempts: request.maxAttempts,
		tags: request.tags,
		traceparent: request.traceparent,
	});
}

export function requestBody(request: ClientRequest): Uint8Array {
	const { body } = request;
	if (body === undefined) return EMPTY;
	return typeof body === "string" ? Buffer.from(body) : body;
}

/** A handler's answer. */
export class ClientResponse {
	readonly status: number;
	readonly headers: Headers;
	readonly body: Uint8Array;

	constructor(status: number, headers: Headers, body: Uint8Array) {
		this.status = status;
		this.headers = headers;
		this.body = body;
	}

	/** The body as UTF-8 text. */
	text(): string {
		return new TextDecoder().decode(this.body);
	}

	/** The body parsed as JSON. Throws a SyntaxError where it is none. */
	json(): unknown {
		return JSON.parse(this.text()) as unknown;
	}
}

/** How an invocation failed. */
export interface InvocationError {
	readonly code: ErrorCode | (string & {});
	readonly message: string;
	/** Class name of what the handler threw. */
	readonly name: string | undefined;
	readonly stack: string | undefined;
}

/** The answer to `invoke`: the handler's response, or `success: false` and why. */
export class InvokeResult extends ClientResponse {
	/** True where the handler answered, with whatever status. */
	readonly success: boolean;
	readonly invocationId: string;
	readonly state: State;
	/** Run time of the last attempt. */
	readonly executionMs: number;
	/** Set exactly where `success` is false; `status` is then 0 and the body empty. */
	readonly error: InvocationError | undefined;

	constructor(payload: Uint8Array) {
		const { json, body } = rawAnswer(payload);
		super(integer(json["status"]) ?? 0, headersOf(json["headers"]), body);
		this.success = json["success"] === true;
		this.invocationId = string(json["execution_id"]);
		this.state = string(json["state"]) as State;
		this.executionMs = integer(json["execution_time_ms"]) ?? 0;
		this.error = this.success ? undefined : errorOf({ ...json, message: json["error"] });
	}
}

export interface Enqueued {
	readonly invocationId: string;
	readonly state: State;
	/** True where the idempotency key was seen before: this is the first request's invocation. */
	readonly replayed: boolean;
}

/** An invocation as it is now. */
export interface InvocationStatus {
	readonly invocationId: string;
	readonly functionId: string;
	readonly functionName: string;
	readonly version: string;
	readonly state: State;
	/** Number of the latest attempt; 0 before the first. */
	readonly attempt: number;
	/** UTC milliseconds. */
	readonly createdAt: number;
	readonly startedAt: number | undefined;
	readonly finishedAt: number | undefined;
	/** False while it is queued or running. */
	readonly ended: boolean;
	/** Set exactly where it succeeded. */
	readonly response: ClientResponse | undefined;
	/** Set exactly where it ended without success. */
	readonly error: InvocationError | undefined;
}

/** An answer to AWAIT_RAW also tells whether the wait ran out. */
export function invocationStatus(payload: Uint8Array): { status: InvocationStatus; ranOut: boolean } {
	const { json, body } = rawAnswer(payload);
	const result = json["result"];
	const error = json["error"];
	const state = string(json["state"]) as State;
	return {
		ranOut: json["timed_out_waiting"] === true,
		status: {
			invocationId: string(json["invocation_id"]),
			functionId: string(json["function_id"]),
			functionName: string(json["function_name"]),
			version: string(json["version"]),
			state,
			attempt: integer(json["attempt"]) ?? 0,
			createdAt: integer(json["created_at"]) ?? 0,
			startedAt: integer(json["started_at"]),
			finishedAt: integer(json["finished_at"]),
			ended: state !== "queued" && state !== "running",
			response: isObject(result)
				? new ClientResponse(integer(result["status"]) ?? 0, headersOf(result["headers"]), body)
				: undefined,
			error: isObject(error) && state !== "queued" && state !== "running" ? errorOf(error) : undefined,
		},
	};
}

export function enqueued(payload: Uint8Array): Enqueued {
	const json = jsonAnswer(payload);
	return {
		invocationId: string(json["invocation_id"]),
		state: string(json["state"]) as State,
		replayed: json["replayed"] === true,
	};
}

/** The payload of an answer that is JSON alone. */
export function jsonAnswer(payload: Uint8Array): Record<string, unknown> {
	const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
	try {
		const json = JSON.parse(bytes.toString("utf8")) as unknown;
		if (isObject(json)) return json;
	} catch {
		// said below
	}
	throw new ClientError(
		"BAD_FRAME",
		"the daemon's answer is not understood; client and daemon are of different versions",
	);
}

function rawAnswer(payload: Uint8Array): { json: Record<string, unknown>; body: Uint8Array } {
	const parts = splitRawPayload(payload);
	return { json: jsonAnswer(parts?.json ?? EMPTY), body: parts?.body ?? EMPTY };
}

function errorOf(fields: Readonly<Record<string, unknown>>): InvocationError {
	return {
		code: string(fields["code"]),
		message: string(fields["message"]),
		name: typeof fields["name"] === "string" ? fields["name"] : undefined,
		stack: typeof fields["stack"] === "string" ? fields["stack"] : undefined,
	};
}

function headersOf(pairs: unknown): Headers {
	const headers = new Headers();
	if (!Array.isArray(pairs)) return headers;
	for (const [name, value] of pairs as [string, string][]) headers.append(name, value);
	return headers;
}

function isObject(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function string(value: unknown): string {
	return typeof value === "string" ? value : "";
}

function integer(value: unknown): number | undefined {
	return typeof value === "number" ? value : undefined;
}
