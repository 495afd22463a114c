/** What a refusal or a failed invocation looks like over HTTP: RFC 9457 problem+json, never with a stack trace. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Environment } from "../core/environment.ts";
import { ERROR_KINDS, EngineError } from "../core/errors.ts";
import type { ErrorCode } from "../core/errors.ts";
import { sendRefusal } from "./http-answer.ts";

/** Ends for which the function's code answers; everything else is the platform's. Becomes `X-BunBase-Error`. */
const FUNCTION_FAULTS: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
	"HANDLER_ERROR",
	"RESULT_NOT_RESPONSE",
	"RESULT_UNREADABLE",
	"RESULT_TOO_LARGE",
	"TIMED_OUT",
	"DEADLINE_EXCEEDED",
	"WORKER_CRASHED",
	"WORKER_MEMORY",
	"WORKER_PROTOCOL",
]);

/** When trying again makes sense although the error does not say. */
const RETRY_AFTER_DEFAULT_SECONDS = 1;

/** The client is gone; there is nobody to answer. Not an EngineError, because no wire ever shows it. */
export class ClientGone extends Error {
	override readonly name = "ClientGone";
}

/** An EngineError with headers that only HTTP has, such as `Allow`. */
export class HttpError extends EngineError {
	readonly headers: readonly string[];

	constructor(code: ErrorCode, message: string, headers: readonly string[]) {
		super(code, message);
		this.headers = headers;
	}
}

export interface ProblemBody {
	readonly type: string;
	readonly title: string;
	readonly status: number;
	readonly detail: string;
	readonly code: ErrorCode;
	readonly invocation_id?: string;
}

export function problemBody(code: ErrorCode, detail: string, invocationId: string | undefined): ProblemBody {
	const kind = ERROR_KINDS[code];
	const body = { type: `urn:bunbase:error:${code}`, title: kind.meaning, status: kind.http, detail, code };
	return invocationId === undefined ? body : { ...body, invocation_id: invocationId };
}

/** Answers with what was thrown. What is no EngineError is a defect of ours: logged whole, shown without detail. */
export function sendThrown(req: IncomingMessage, res: ServerResponse, thrown: unknown, environment: Environment): void {
	if (thrown instanceof ClientGone) return;
	if (res.headersSent) {
		// The answer had begun (a stream): it cannot turn into another, so the client sees it break off.
		environment.logger.error({ err: thrown, method: req.method, url: req.url }, "an HTTP answer broke off");
		res.destroy();
		return;
	}
	let error: EngineError;
	if (thrown instanceof EngineError) {
		error = thrown;
	} else {
		environment.logger.error({ err: thrown, method: req.method, url: req.url }, "an HTTP request met a defect");
		error = new EngineError("INTERNAL", "the daemon met a defect of its own; its log has the details");
	}
	sendProblem(req, res, error, environment);
}

export function sendProblem(
	req: IncomingMessage,
	res: ServerResponse,
	error: EngineError,
	environment: Environment,
): void {
	const status = error.httpStatus;
	const headers = [
		"content-type",
		"application/problem+json",
		"cache-control",
		"no-store",
		"x-bunbase-error",
		FUNCTION_FAULTS.has(error.code) ? "function" : "platform",
	];
	if (error instanceof HttpError) headers.push(...error.headers);
	if (error.invocationId !== undefined) headers.push("x-invocation-id", error.invocationId);
	const retryAfter =
		error.retryAfterSeconds ?? (status === 429 || status === 503 ? RETRY_AFTER_DEFAULT_SECONDS : undefined);
	if (retryAfter !== undefined) headers.push("retry-after", String(Math.max(1, Math.ceil(retryAfter))));
	const body = JSON.stringify(problemBody(error.code, error.message, error.invocationId));
	sendRefusal(req, res, status, headers, body, environment.clock);
}
