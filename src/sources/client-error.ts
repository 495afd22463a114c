/** What a client rejects with. Callers branch on `code`; the codes are those of the daemon. */
import type { ErrorCode } from "../core/errors.ts";

export interface ClientErrorOptions {
	readonly cause?: unknown;
	readonly retryAfterSeconds?: number | undefined;
	readonly invocationId?: string | undefined;
	readonly outcomeUnknown?: boolean;
}

export class ClientError extends Error {
	override readonly name = "ClientError";
	/** One of the daemon's error codes, or a newer daemon's code that this client does not know. */
	readonly code: ErrorCode | (string & {});
	/** When trying again makes sense, where the daemon says so. */
	readonly retryAfterSeconds: number | undefined;
	readonly invocationId: string | undefined;
	/**
	 * True where the request was sent and the connection broke before its answer: it may have been accepted.
	 * Retry with the same idempotency key and you get the same invocation, never a second one.
	 */
	readonly outcomeUnknown: boolean;

	constructor(code: ErrorCode | (string & {}), message: string, options: ClientErrorOptions = {}) {
		super(message, options.cause === undefined ? undefined : { cause: options.cause });
		this.code = code;
		this.retryAfterSeconds = options.retryAfterSeconds;
		this.invocationId = options.invocationId;
		this.outcomeUnknown = options.outcomeUnknown ?? false;
	}
}

/** The payload of an error frame: `{error, code?, …}`, every value a string. */
export function refusalOf(payload: unknown): ClientError {
	const fields = typeof payload === "object" && payload !== null ? (payload as Record<string, unknown>) : {};
	const { error, code, retry_after_seconds: retryAfter, invocation_id: invocationId } = fields;
	return new ClientError(
		typeof code === "string" ? code : "INTERNAL",
		typeof error === "string" ? error : "the daemon refused and gave no reason",
		{
			retryAfterSeconds: typeof retryAfter === "string" ? Number(retryAfter) : undefined,
			invocationId: typeof invocationId === "string" ? invocationId : undefined,
		},
	);
}

export function unreachable(message: string, outcomeUnknown: boolean, cause?: unknown): ClientError {
	return new ClientError("DAEMON_UNREACHABLE", message, { outcomeUnknown, cause });
}
