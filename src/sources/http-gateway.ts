/**
 * `ANY /functions/{name}[/sub/path]`: invokes, and answers with what the handler answered.
 *
 * This is the hot path: between the socket and the InvokeRequest stand one pass over the headers and nothing that
 * allocates per byte. A client that leaves ends only its own wait; the invocation goes on (durable means durable).
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Accepted, Engine, InvocationResult } from "../core/contracts.ts";
import { EngineError } from "../core/errors.ts";
import type { ErrorRecord } from "../core/errors.ts";
import { isTerminal } from "../core/invocation.ts";
import type { State } from "../core/invocation.ts";
import type { InvokeRequest } from "../core/request.ts";
import { isFinalStatus, send, sendResult } from "./http-answer.ts";
import { hasBody, readBody } from "./http-body.ts";
import { waitFor } from "./http-context.ts";
import type { HttpContext } from "./http-context.ts";
import { HttpError } from "./http-problem.ts";
import { checkFunctionSegment, invokeRequestOf, preferencesOf, splitTarget } from "./http-request.ts";

export const GATEWAY_PREFIX = "/functions/";
const METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
const NO_BYTES = new Uint8Array(0);

/** How an invocation ended, from a waiter or from its record. */
interface End {
	readonly invocationId: string;
	readonly result: InvocationResult | undefined;
	readonly error: ErrorRecord | undefined;
}

export async function serveFunction(context: HttpContext, req: IncomingMessage, res: ServerResponse): Promise<void> {
	const { engine } = context;
	const method = req.method ?? "";
	if (!METHODS.has(method)) {
		const allow = [...METHODS].join(", ");
		throw new HttpError("METHOD_NOT_ALLOWED", `functions take ${allow}, not ${method}`, ["allow", allow]);
	}
	const target = splitTarget(req.url ?? "", GATEWAY_PREFIX.length);
	checkFunctionSegment(target.segment);
	const body = await readFunctionBody(engine, req, res, target.segment);
	const preferences = preferencesOf(req);
	const request = invokeRequestOf(req, target, body, !preferences.isAsync);
	if (preferences.isAsync && preferences.waitMs === undefined) {
		sendAccepted(res, await engine.enqueue(request), "respond-async");
	} else if (preferences.waitMs !== undefined) {
		await serveWithin(context, res, request, preferences.waitMs, preferences.isAsync);
	} else {
		sendEnd(context, res, await engine.invoke(request));
	}
}

/** The function's own body limit is asked for only where there is a body; an unknown function is refused before it is read. */
export async function readFunctionBody(
	engine: Engine,
	req: IncomingMessage,
	res: ServerResponse,
	functionIdOrName: string,
): Promise<Uint8Array> {
	if (!hasBody(req)) return NO_BYTES;
	if (req.method === "GET" || req.method === "HEAD") {
		throw new EngineError("BAD_REQUEST", `expected no body, because the method is ${req.method}; use POST to send one`);
	}
	return await readBody(req, res, engine.maxBodyBytes(functionIdOrName));
}

/** `Prefer: wait=N`: the answer where it comes in time, else 202. */
async function serveWithin(
	context: HttpContext,
	res: ServerResponse,
	request: InvokeRequest,
	waitMs: number,
	isAsync: boolean,
): Promise<void> {
	const { engine } = context;
	const accepted = await engine.enqueue(request);
	const { record } = await waitFor(context, res, accepted.invocationId, waitMs);
	if (isTerminal(record.state)) {
		sendEnd(context, res, record);
	} else {
		const applied = `${isAsync ? "respond-async, " : ""}wait=${waitMs / 1000}`;
		sendAccepted(res, { ...accepted, state: record.state }, applied);
	}
}

export function sendAccepted(res: ServerResponse, accepted: Accepted, applied: string | undefined): void {
	const headers = [
		"content-type",
		"application/json",
		"location",
		`/v1/invocations/${accepted.invocationId}`,
		"x-invocation-id",
		accepted.invocationId,
	];
	if (applied !== undefined) headers.push("preference-applied", applied);
	if (accepted.replayed) headers.push("idempotent-replayed", "true");
	const shown: { invocation_id: string; state: State } = {
		invocation_id: accepted.invocationId,
		state: accepted.state,
	};
	send(res, 202, headers, JSON.stringify(shown));
}

/** The handler's own answer, or what the invocation ended with instead. */
export function sendEnd(context: HttpContext, res: ServerResponse, end: End): void {
	const { invocationId, result, error } = end;
	if (result !== undefined) {
		if (!isFinalStatus(result.status)) {
			throw new EngineError(
				"RESULT_NOT_RESPONSE",
				`the handler answered with status ${result.status}; HTTP can carry 200 to 599`,
				{ invocationId },
			);
		}
		sendResult(res, result.status, result.headers, result.body, invocationId, context.trustFunctionPages);
		return;
	}
	if (error !== undefined) throw new EngineError(error.code, error.message, { invocationId });
	throw new Error(`${invocationId} ended with neither a result nor an error`);
}
