/**
 * The socket client, `bunbase-functions/client`: one pipelined connection, opened when it is first needed and again
 * when it broke. No dependencies but Node's own.
 *
 *     import { createClient } from "bunbase-functions/client";
 *     const client = createClient("/tmp/functions.sock");
 *     const answer = await client.invoke("hello", { body: JSON.stringify({ name: "Ada" }) });
 *     console.log(answer.status, answer.json());
 *     client.close();
 *
 * Every method rejects with a ClientError whose `code` is one of the daemon's. A refusal means that nothing was
 * queued. DAEMON_UNREACHABLE with `outcomeUnknown` means that nobody knows: retry with the same idempotency key.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { COMMANDS } from "../protocol/index.ts";
import { ClientConnection } from "./client-connection.ts";
import { ClientError } from "./client-error.ts";
import {
	enqueued,
	invocationStatus,
	InvokeResult,
	jsonAnswer,
	requestBody,
	requestJson,
	string,
	type ClientRequest,
	type Enqueued,
	type InvocationStatus,
} from "./client-messages.ts";

export { ClientError } from "./client-error.ts";
export {
	ClientResponse,
	InvokeResult,
	type ClientRequest,
	type Enqueued,
	type InvocationError,
	type InvocationStatus,
	type PairsInput,
} from "./client-messages.ts";

const WAIT_MS_DEFAULT = 30_000;
/** One AWAIT at a time is at most this long, so that a wait of a month is a row of waits that the daemon allows. */
const AWAIT_MS_MAX = 3_600_000;
/** Between tries of `waitForResult` while no daemon answers. */
const WAIT_RETRY_MS = 100;

export interface ClientOptions {
	/** Recorded with what this client submits; default `socket`. */
	readonly source?: "socket" | "cli";
	/** How long a connection is tried for; default 300 ms at first, 2 s when a daemon was there before. */
	readonly connectTimeoutMs?: number;
	/**
	 * Default true: `enqueue` without an idempotency key makes one, so that it can be sent again when the connection
	 * broke. False saves the daemon a row per request; a broken connection then rejects.
	 */
	readonly automaticKeys?: boolean;
}

export interface RegisteredFunction {
	readonly functionId: string;
	readonly name: string;
	readonly runtime: string;
	/** Export that handles requests. */
	readonly handler: string;
	readonly status: "REGISTERED" | "BUILT" | "DEPLOYED";
}

export interface Deployed {
	readonly deploymentId: string;
	readonly functionId: string;
	readonly version: string;
	readonly status: string;
}

export interface LogLine {
	/** Rises with time. */
	readonly id: number;
	readonly functionId: string;
	readonly invocationId: string | undefined;
	readonly level: "debug" | "info" | "warn" | "error";
	readonly message: string;
	readonly metadata: unknown;
	/** UTC milliseconds. */
	readonly at: number;
}

export interface LogQuery {
	/** Id or name. */
	readonly function?: string | undefined;
	readonly invocationId?: string | undefined;
	readonly level?: LogLine["level"] | undefined;
	/** UTC milliseconds. */
	readonly since?: number | undefined;
	readonly until?: number | undefined;
	/** `nextAfter` of the page before. */
	readonly after?: number | undefined;
	/** Default 100, at most 1,000. */
	readonly limit?: number | undefined;
	/** The newest `limit` lines instead of the oldest. */
	readonly tail?: boolean | undefined;
	/** Waits this long for the first line. */
	readonly waitMs?: number | undefined;
}

export interface FunctionMetrics {
	readonly invocations: number;
	readonly errors: number;
	readonly averageDurationMs: number;
	readonly coldStarts: number;
	readonly lastInvokedAt: number | undefined;
	readonly period: "minute" | "hour" | "day";
}

type Json = Record<string, unknown>;

/** A client of the daemon at `socketPath`. Connects when it is first used. */
export function createClient(socketPath: string, options: ClientOptions = {}): Client {
	return new Client(socketPath, options);
}

export class Client implements Disposable {
	readonly #connection: ClientConnection;
	readonly #automaticKeys: boolean;

	constructor(socketPath: string, options: ClientOptions = {}) {
		this.#automaticKeys = options.automaticKeys ?? true;
		this.#connection = new ClientConnection({
			path: socketPath,
			source: options.source ?? "socket",
			connectTimeoutMs: options.connectTimeoutMs,
		});
	}

	/** Registers a name; an existing one is returned as it is. The only runtime is `bun`. */
	async registerFunction(name: string, runtime = "bun", handler = "default"): Promise<RegisteredFunction> {
		const answer = await this.#json(COMMANDS.REGISTER_FUNCTION, { name, runtime, handler });
		return {
			functionId: string(answer["function_id"]),
			name: string(answer["name"]),
			runtime: string(answer["runtime"]),
			handler: string(answer["handler"]),
			status: string(answer["status"]) as RegisteredFunction["status"],
		};
	}

	/**
	 * Stores the bundle at an absolute path of the daemon's machine as `version` and activates it; a TypeScript file is
	 * built first. An existing version is activated again, with other bytes it is refused (VERSION_CONFLICT).
	 */
	async deployFunction(functionId: string, version: string, bundlePath: string): Promise<Deployed> {
		const params = { function_id: functionId, version, bundle_path: bundlePath };
		const answer = await this.#json(COMMANDS.DEPLOY_FUNCTION, params);
		return {
			deploymentId: string(answer["deployment_id"]),
			functionId: string(answer["function_id"]),
			version: string(answer["version"]),
			status: string(answer["status"]),
		};
	}

	/**
	 * Runs a function (id or name) and resolves when the invocation has ended, also where it failed: look at `success`.
	 * One attempt unless `maxAttempts` says more. With an idempotency key it is sent again once if the connection broke.
	 */
	async invoke(functionId: string, request: ClientRequest = {}): Promise<InvokeResult> {
		const send = (): Promise<Uint8Array> =>
			this.#connection.request(COMMANDS.INVOKE_RAW, requestJson(functionId, request), requestBody(request));
		return new InvokeResult(await (request.idempotencyKey === undefined ? send() : againIfBroken(send)));
	}

	/**
	 * Resolves when the invocation is durable; its result is kept under `invocationId`. Without an idempotency key one
	 * is made (see `automaticKeys`), and a request whose connection broke is sent again once under the same key.
	 */
	async enqueue(functionId: string, request: ClientRequest = {}): Promise<Enqueued> {
		const idempotencyKey = request.idempotencyKey ?? (this.#automaticKeys ? crypto.randomUUID() : undefined);
		const json = requestJson(functionId, { ...request, idempotencyKey });
		const body = requestBody(request);
		const send = (): Promise<Uint8Array> => this.#connection.request(COMMANDS.ENQUEUE_RAW, json, body);
		return enqueued(await (idempotencyKey === undefined ? send() : againIfBroken(send)));
	}

	/** The invocation as it is now. RESULT_PRUNED where its record has passed retention. */
	async getResult(invocationId: string): Promise<InvocationStatus> {
		const json = JSON.stringify({ invocation_id: invocationId });
		return invocationStatus(await againIfBroken(() => this.#connection.request(COMMANDS.GET_RAW, json))).status;
	}

	/**
	 * The invocation when it has ended, however it ended. Survives a broken connection and a restart of the daemon.
	 * Rejects with WAIT_TIMEOUT after `timeoutMs` (default 30 s; the invocation goes on), or when `signal` aborts.
	 */
	async waitForResult(
		invocationId: string,
		options: { readonly timeoutMs?: number | undefined; readonly signal?: AbortSignal | undefined } = {},
	): Promise<InvocationStatus> {
		const { timeoutMs = WAIT_MS_DEFAULT, signal } = options;
		const until = performance.now() + timeoutMs;
		for (let left = timeoutMs; ; left = until - performance.now()) {
			const asked = Math.max(0, Math.min(Math.ceil(left), AWAIT_MS_MAX));
			const json = JSON.stringify({ invocation_id: invocationId, timeout_ms: asked });
			try {
				const payload = await this.#connection.request(COMMANDS.AWAIT_RAW, json, undefined, signal);
				const { status } = invocationStatus(payload);
				if (status.ended) return status;
			} catch (error) {
				if (!isTransient(error) || this.#connection.closed || performance.now() >= until) throw error;
			}
			if (performance.now() >= until) {
				throw new ClientError("WAIT_TIMEOUT", `${invocationId} has not ended after ${timeoutMs} ms; it goes on`, {
					invocationId,
				});
			}
			// A daemon that stops answers early; a dead one does not answer. Neither is asked in a tight loop.
			await sleep(Math.min(WAIT_RETRY_MS, Math.max(0, until - performance.now())), undefined, signal && { signal });
		}
	}

	/** Cancels queued work at once; running work is told, and killed after its grace. */
	async cancel(invocationId: string): Promise<{ readonly invocationId: string; readonly state: string }> {
		const answer = await this.#json(COMMANDS.CANCEL_INVOCATION, { invocation_id: invocationId });
		return { invocationId: string(answer["invocation_id"]), state: string(answer["state"]) };
	}

	/** Log lines, oldest first. `after: nextAfter` continues, and with `waitMs` follows. */
	async logs(query: LogQuery = {}): Promise<{ logs: LogLine[]; total: number; nextAfter: number }> {
		const { invocationId, waitMs, ...rest } = query;
		const answer = await this.call("logs.read", { ...rest, invocation_id: invocationId, wait_ms: waitMs });
		return {
			logs: (answer["logs"] as Json[]).map((line) => ({
				id: line["id"] as number,
				functionId: string(line["function_id"]),
				invocationId: (line["invocation_id"] as string | null) ?? undefined,
				level: line["level"] as LogLine["level"],
				message: string(line["message"]),
				metadata: line["metadata"] ?? undefined,
				at: line["at"] as number,
			})),
			total: answer["total"] as number,
			nextAfter: answer["next_after"] as number,
		};
	}

	/** Counts of one function over the last minute, hour or day. */
	async metrics(functionId: string, period: FunctionMetrics["period"] = "hour"): Promise<FunctionMetrics> {
		const answer = await this.call("metrics.get", { function: functionId, period });
		return {
			invocations: answer["invocations"] as number,
			errors: answer["errors"] as number,
			averageDurationMs: answer["average_duration_ms"] as number,
			coldStarts: answer["cold_starts"] as number,
			lastInvokedAt: (answer["last_invoked_at"] as number | null) ?? undefined,
			period,
		};
	}

	/** Commits an event together with one invocation per subscribed function. With an `id` it is safe to send again. */
	async emit(
		type: string,
		data: unknown = null,
		options: { readonly source?: string | undefined; readonly id?: string | undefined } = {},
	): Promise<{ eventId: string; invocations: { functionName: string; invocationId: string }[] }> {
		const send = (): Promise<Json> => this.call("events.emit", { type, data, ...options });
		const answer = await (options.id === undefined ? send() : againIfBroken(send));
		return {
			eventId: string(answer["event_id"]),
			invocations: (answer["invocations"] as Json[]).map((made) => ({
				functionName: string(made["function_name"]),
				invocationId: string(made["invocation_id"]),
			})),
		};
	}

	/** Any operation of the administration table by name, e.g. `functions.list`; wire JSON in and out. */
	async call(operation: string, params: Readonly<Json> = {}): Promise<Json> {
		return this.#json(COMMANDS.CALL, { op: operation, params });
	}

	/** Closes the connection; requests that are open reject with DAEMON_UNREACHABLE. Work that was accepted goes on. */
	close(): void {
		this.#connection.close();
	}

	/** As `close`, for `using`. */
	[Symbol.dispose](): void {
		this.close();
	}

	async #json(command: number, fields: Json): Promise<Json> {
		return jsonAnswer(await this.#connection.request(command, JSON.stringify(fields)));
	}
}

/** Sends again, once, where the connection broke under the request: only for what may arrive twice. */
async function againIfBroken<T>(send: () => Promise<T>): Promise<T> {
	try {
		return await send();
	} catch (error) {
		if (error instanceof ClientError && error.outcomeUnknown) return send();
		throw error;
	}
}

/** A daemon that is restarting; its invocations are on disk and worth waiting for. */
function isTransient(error: unknown): boolean {
	return error instanceof ClientError && (error.code === "DAEMON_UNREACHABLE" || error.code === "SHUTTING_DOWN");
}
