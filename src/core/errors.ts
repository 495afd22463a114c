/**
 * Every way the engine says no, in one closed list.
 *
 * A code is part of the public protocol: it is the same on the socket, over HTTP and from the CLI, and only
 * this file says which HTTP status and which exit code it has. Callers branch on codes, never on messages.
 */

interface ErrorKind {
	/** HTTP status of the problem+json answer. */
	readonly http: number;
	/** Exit code of the CLI. */
	readonly exit: number;
	/** One line for documentation. */
	readonly meaning: string;
}

export const EXIT = {
	ok: 0,
	functionFailed: 1,
	usage: 2,
	notFound: 3,
	conflict: 4,
	badData: 65,
	secondDaemon: 69,
	io: 74,
	unreachable: 75,
	config: 78,
	waitRanOut: 124,
} as const;

export const ERROR_KINDS = {
	// The request cannot be understood.
	BAD_REQUEST: { http: 400, exit: EXIT.usage, meaning: "A field is missing, unknown or of the wrong type." },
	BAD_JSON: { http: 400, exit: EXIT.usage, meaning: "The payload is not valid JSON." },
	BAD_NAME: { http: 400, exit: EXIT.usage, meaning: "A name breaks the rule for its kind of name." },
	BAD_FRAME: { http: 400, exit: EXIT.usage, meaning: "A socket frame is malformed; the connection is closed." },
	BAD_SCHEDULE: {
		http: 400,
		exit: EXIT.usage,
		meaning: "The cron expression or its time zone can never fire or is not understood.",
	},
	BAD_CONFIG: { http: 400, exit: EXIT.usage, meaning: "A configuration key is unknown or its value is out of bounds." },
	UNKNOWN_COMMAND: { http: 400, exit: EXIT.usage, meaning: "The socket command or operation does not exist." },
	UNSUPPORTED_RUNTIME: { http: 400, exit: EXIT.usage, meaning: "Only the runtime `bun` exists." },
	METHOD_NOT_ALLOWED: { http: 405, exit: EXIT.usage, meaning: "The path exists, the method does not." },
	BODY_TOO_LARGE: { http: 413, exit: EXIT.usage, meaning: "The body is over the function's `maxBodyBytes`." },
	HOST_NOT_ALLOWED: { http: 421, exit: EXIT.usage, meaning: "The Host header is not one this daemon serves." },
	UNAUTHORIZED: {
		http: 401,
		exit: EXIT.usage,
		meaning: "The daemon asks for a token over HTTP, and none of its own came.",
	},
	ORIGIN_NOT_ALLOWED: { http: 403, exit: EXIT.usage, meaning: "A browser on another site tried to change something." },

	// What it names is not there.
	ROUTE_NOT_FOUND: { http: 404, exit: EXIT.notFound, meaning: "No such path in the HTTP API." },
	FUNCTION_NOT_FOUND: { http: 404, exit: EXIT.notFound, meaning: "No function has this id or name." },
	VERSION_NOT_FOUND: { http: 404, exit: EXIT.notFound, meaning: "The function has no such version." },
	INVOCATION_NOT_FOUND: { http: 404, exit: EXIT.notFound, meaning: "No invocation has this id." },
	SCHEDULE_NOT_FOUND: { http: 404, exit: EXIT.notFound, meaning: "No schedule has this id or name." },
	RESULT_PRUNED: {
		http: 410,
		exit: EXIT.notFound,
		meaning: "The invocation ended and its record has passed retention.",
	},

	// It conflicts with what is there.
	NOT_DEPLOYED: { http: 409, exit: EXIT.conflict, meaning: "The function is registered but has no active version." },
	NO_RESPONSE: { http: 409, exit: EXIT.conflict, meaning: "The invocation has no response, or none yet." },
	VERSION_CONFLICT: {
		http: 409,
		exit: EXIT.conflict,
		meaning: "The version exists with other bytes; versions are immutable.",
	},
	ALREADY_FINISHED: {
		http: 409,
		exit: EXIT.conflict,
		meaning: "The invocation has ended; terminal records never change.",
	},
	IDEMPOTENCY_CONFLICT: {
		http: 422,
		exit: EXIT.conflict,
		meaning: "The idempotency key was used with another request.",
	},
	BAD_BUNDLE: {
		http: 422,
		exit: EXIT.usage,
		meaning: "The bundle cannot be read, loaded, or exports no usable handler.",
	},
	BUILD_FAILED: { http: 422, exit: EXIT.usage, meaning: "The TypeScript source does not build." },

	// Not now.
	LANE_FULL: {
		http: 429,
		exit: EXIT.unreachable,
		meaning: "The function's lane holds `maxQueued` invocations; nothing was queued.",
	},
	STORAGE_FULL: { http: 503, exit: EXIT.unreachable, meaning: "The disk is full; nothing was queued." },
	STORE_BUSY: {
		http: 503,
		exit: EXIT.unreachable,
		meaning: "Another program has locked a database; nothing was queued.",
	},
	SHUTTING_DOWN: { http: 503, exit: EXIT.unreachable, meaning: "The daemon is stopping; nothing was queued." },
	WAIT_TIMEOUT: { http: 504, exit: EXIT.waitRanOut, meaning: "The wait ran out; the invocation goes on." },
	DAEMON_UNREACHABLE: {
		http: 503,
		exit: EXIT.unreachable,
		meaning: "No daemon answers on the socket, or the connection broke.",
	},
	STORE_ERROR: { http: 500, exit: EXIT.io, meaning: "The store failed; whether the request was queued is unknown." },
	INTERNAL: { http: 500, exit: EXIT.functionFailed, meaning: "A defect in the engine." },

	// The daemon cannot start or go on.
	SECOND_DAEMON: { http: 503, exit: EXIT.secondDaemon, meaning: "Another daemon holds this data folder or socket." },
	DATA_NEWER: { http: 500, exit: EXIT.badData, meaning: "The data was written by a newer version." },
	DATA_FOREIGN: {
		http: 500,
		exit: EXIT.badData,
		meaning: "A file in the data folder is not ours, or of another instance.",
	},
	DATA_MISSING: { http: 500, exit: EXIT.badData, meaning: "A database that must exist is missing or empty." },
	DATA_ROLLED_BACK: {
		http: 500,
		exit: EXIT.badData,
		meaning: "A database lacks commits that it had: its WAL was damaged, or an older copy was put back.",
	},
	DATA_CORRUPT: { http: 500, exit: EXIT.badData, meaning: "A checksum or a database check failed." },
	IO_ERROR: { http: 500, exit: EXIT.io, meaning: "The disk answered with an I/O error; the daemon stops." },
	BAD_ENVIRONMENT: {
		http: 500,
		exit: EXIT.config,
		meaning: "Something the daemon needs is missing (Node, Bun, a port).",
	},

	// How an invocation ended without success; recorded in its row.
	HANDLER_ERROR: { http: 500, exit: EXIT.functionFailed, meaning: "The handler threw or rejected." },
	RESULT_NOT_RESPONSE: {
		http: 500,
		exit: EXIT.functionFailed,
		meaning: "The handler returned something that is no Response.",
	},
	RESULT_UNREADABLE: {
		http: 500,
		exit: EXIT.functionFailed,
		meaning: "The response body could not be read (used already, or its stream failed).",
	},
	RESULT_TOO_LARGE: { http: 500, exit: EXIT.functionFailed, meaning: "The response body is over `maxBodyBytes`." },
	TIMED_OUT: { http: 504, exit: EXIT.functionFailed, meaning: "The attempt ran longer than `timeoutMs`." },
	DEADLINE_EXCEEDED: {
		http: 504,
		exit: EXIT.functionFailed,
		meaning: "The invocation was still running at its deadline.",
	},
	EXPIRED: { http: 504, exit: EXIT.functionFailed, meaning: "The invocation did not start before its deadline." },
	WORKER_CRASHED: {
		http: 502,
		exit: EXIT.functionFailed,
		meaning: "The worker process died while it ran this invocation alone.",
	},
	WORKER_MEMORY: { http: 502, exit: EXIT.functionFailed, meaning: "The worker process was killed at `memoryMb`." },
	WORKER_PROTOCOL: { http: 502, exit: EXIT.functionFailed, meaning: "The worker broke its channel." },
	DAEMON_DEATHS: {
		http: 502,
		exit: EXIT.functionFailed,
		meaning: "The daemon died ten times in a row while this invocation ran.",
	},
	LOST: {
		http: 502,
		exit: EXIT.functionFailed,
		meaning: "At-most-once: the process that ran it died; it may have run and will not run again.",
	},
	CANCELLED: { http: 409, exit: EXIT.functionFailed, meaning: "The invocation was cancelled." },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof ERROR_KINDS;

export function isErrorCode(value: unknown): value is ErrorCode {
	return typeof value === "string" && Object.hasOwn(ERROR_KINDS, value);
}

export interface EngineErrorOptions {
	readonly cause?: unknown;
	/** When trying again makes sense, seconds from now. Becomes `Retry-After`. */
	readonly retryAfterSeconds?: number;
	/** The invocation that the error is about. */
	readonly invocationId?: string;
}

/** What a caller, an operator or a disk did wrong. Defects of ours are assertions, not EngineErrors. */
export class EngineError extends Error {
	override readonly name = "EngineError";
	readonly code: ErrorCode;
	readonly retryAfterSeconds: number | undefined;
	readonly invocationId: string | undefined;

	constructor(code: ErrorCode, message: string, options: EngineErrorOptions = {}) {
		super(message, options.cause === undefined ? undefined : { cause: options.cause });
		this.code = code;
		this.retryAfterSeconds = options.retryAfterSeconds;
		this.invocationId = options.invocationId;
	}

	get httpStatus(): number {
		return ERROR_KINDS[this.code].http;
	}

	get exitCode(): number {
		return ERROR_KINDS[this.code].exit;
	}
}

/** What went wrong, as it is stored with an invocation and sent to callers. Every value a string. */
export interface ErrorRecord {
	readonly code: ErrorCode;
	readonly message: string;
	/** Class name of what the handler threw, e.g. `TypeError`. */
	readonly name?: string;
	readonly stack?: string;
}

/** The text of anything that can be thrown, including what is no Error. */
export function messageOf(thrown: unknown): string {
	return thrown instanceof Error ? thrown.message : String(thrown);
}
