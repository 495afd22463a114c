/**
 * What each command of the client socket does: payload in, answer out. Knows nothing of frames or sockets.
 * Refusals are EngineErrors; what HELLO agreed on is the only state.
 */
import { resolve } from "node:path";
import { z } from "zod";
import type { Engine, LogLevel, MetricsPeriod } from "../core/contracts.ts";
import { LOG_LEVELS } from "../core/contracts.ts";
import type { Clock } from "../core/environment.ts";
import { EngineError } from "../core/errors.ts";
import { describeProblems } from "../core/function-config.ts";
import { LIMITS } from "../core/limits.ts";
import type { InvokeRequest } from "../core/request.ts";
import { commandName, COMMANDS, FEATURES, PROTOCOL_VERSION, splitRawPayload } from "../protocol/index.ts";
import { callOperation, needsBuild } from "./operations.ts";
import { invocationAnswer, invocationRawAnswer, invokeAnswer, invokeRawAnswer, type Answer } from "./socket-answers.ts";
import {
	objectOf,
	optionalNumber,
	optionalString,
	parseInvokePayload,
	parseDocument,
	parseJson,
	requiredString,
} from "./wire-request.ts";
import { wireAccepted, wireLegacyLogs, wireLegacyMetrics } from "./wire.ts";

const LOGS_DEFAULT = 100;
const PERIODS: readonly string[] = ["minute", "hour", "day"] satisfies MetricsPeriod[];
/** Bodies up to here are copied out of the chunk they arrived in, so that they do not keep 64 KiB of it alive. */
const COPIED_BYTES_MAX = 16 * 1024;

const RFC_3339 = /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})$/;

type Fields = Readonly<Record<string, unknown>>;

const helloSchema = z.object({
	/** The newest version that the client speaks. */
	protocol: z.int().min(1).optional(),
	raw_bodies: z.boolean().optional(),
	/** Headers of answers as lists of pairs, also on 0x01, 0x11 and 0x12. */
	pairs: z.boolean().optional(),
	/** Recorded with what the client submits. */
	source: z.enum(["socket", "cli"]).optional(),
	/** Name and version, for the log. */
	client: z.string().max(256).optional(),
});

/** One connection's side of a command: what was agreed, and how its waits end early. */
export class CommandSession {
	readonly #engine: Engine;
	readonly #clock: Clock;
	readonly #waits = new Set<AbortController>();
	#waitsEnded = false;
	#source: "socket" | "cli" = "socket";
	#rawBodies = false;
	#style = { pairs: false };

	constructor(engine: Engine, clock: Clock) {
		this.#engine = engine;
		this.#clock = clock;
	}

	/** Ends every wait, now and from now on: each is answered with the state as it is. */
	endWaits(): void {
		this.#waitsEnded = true;
		for (const wait of this.#waits) wait.abort();
	}

	/**
	 * Runs synchronously up to its first wait, so that HELLO holds for the frame right behind it. What waits for a handler has a
	 * function of its own, because while it waits its frame is kept: 1.3 KB with all that the other commands need.
	 */
	run(command: number, payload: Uint8Array): Promise<Answer> {
		if (command === COMMANDS.INVOKE) return this.#invoke(payload);
		if (command === COMMANDS.INVOKE_RAW) return this.#invokeRaw(payload);
		return this.#answer(command, payload);
	}

	async #invoke(payload: Uint8Array): Promise<Answer> {
		return invokeAnswer(await this.#engine.invoke(this.#request(payload, true)), this.#style);
	}

	async #invokeRaw(payload: Uint8Array): Promise<Answer> {
		return invokeRawAnswer(await this.#engine.invoke(this.#rawRequest(COMMANDS.INVOKE_RAW, payload, true)));
	}

	async #answer(command: number, payload: Uint8Array): Promise<Answer> {
		switch (command) {
			case COMMANDS.ENQUEUE:
				return JSON.stringify(wireAccepted(await this.#engine.enqueue(this.#request(payload, false))));
			case COMMANDS.ENQUEUE_RAW: {
				const request = this.#rawRequest(command, payload, false);
				return JSON.stringify(wireAccepted(await this.#engine.enqueue(request)));
			}
			case COMMANDS.GET_INVOCATION: {
				const id = requiredString(fieldsOf(payload), "invocation_id");
				return invocationAnswer(this.#engine.getInvocation(id), this.#style);
			}
			case COMMANDS.GET_RAW: {
				this.#needRaw(command);
				const id = requiredString(fieldsOf(payload), "invocation_id");
				return invocationRawAnswer(this.#engine.getInvocation(id));
			}
			case COMMANDS.AWAIT_INVOCATION: {
				const { record, extra } = await this.#await(fieldsOf(payload));
				return invocationAnswer(record, this.#style, extra);
			}
			case COMMANDS.AWAIT_RAW: {
				this.#needRaw(command);
				const { record, extra } = await this.#await(fieldsOf(payload));
				return invocationRawAnswer(record, extra);
			}
			case COMMANDS.CANCEL_INVOCATION: {
				const cancelled = await this.#engine.cancel(requiredString(fieldsOf(payload), "invocation_id"));
				return JSON.stringify({ invocation_id: cancelled.invocationId, state: cancelled.state });
			}
			case COMMANDS.GET_LOGS:
				return this.#getLogs(fieldsOf(payload));
			case COMMANDS.GET_METRICS:
				return this.#getMetrics(fieldsOf(payload));
			case COMMANDS.REGISTER_FUNCTION:
				return this.#register(fieldsOf(payload));
			case COMMANDS.DEPLOY_FUNCTION:
				return this.#deploy(fieldsOf(payload));
			case COMMANDS.HELLO:
				return this.#hello(fieldsOf(payload));
			case COMMANDS.CALL:
				return this.#call(fieldsOf(payload));
			default:
				throw new EngineError("UNKNOWN_COMMAND", `unknown command ${commandName(command)}`);
		}
	}

	#request(payload: Uint8Array, waits: boolean): InvokeRequest {
		return parseInvokePayload(parseJson(payload), { source: this.#source, waits });
	}

	#rawRequest(command: number, payload: Uint8Array, waits: boolean): InvokeRequest {
		this.#needRaw(command);
		const parts = splitRawPayload(payload);
		if (parts === undefined) {
			throw new EngineError(
				"BAD_REQUEST",
				"expected a raw payload: u32 JSON length, JSON, body; the length does not fit",
			);
		}
		const rawBody = parts.body.byteLength > COPIED_BYTES_MAX ? parts.body : Buffer.from(parts.body);
		return parseInvokePayload(parseJson(parts.json), { source: this.#source, waits, rawBody });
	}

	#needRaw(command: number): void {
		if (this.#rawBodies) return;
		throw new EngineError("BAD_REQUEST", `${commandName(command)} needs HELLO (0x20) with "raw_bodies": true first`);
	}

	async #await(fields: Fields) {
		const id = requiredString(fields, "invocation_id");
		const timeoutMs = optionalNumber(fields, "timeout_ms") ?? LIMITS.waitMsDefault;
		if (!Number.isInteger(timeoutMs) || timeoutMs < 0 || timeoutMs > LIMITS.awaitMsMax) {
			throw new EngineError(
				"BAD_REQUEST",
				`expected timeout_ms to be whole milliseconds from 0 to ${LIMITS.awaitMsMax}`,
			);
		}
		return this.#whileConnected(async (signal) => {
			const { record, timedOutWaiting } = await this.#engine.awaitInvocation(id, { timeoutMs, signal });
			return { record, extra: timedOutWaiting ? { timed_out_waiting: true } : {} };
		});
	}

	/** One controller per wait: a listener left on a signal that lives as long as the connection would be a leak. */
	async #whileConnected<T>(wait: (signal: AbortSignal) => Promise<T>): Promise<T> {
		const controller = new AbortController();
		if (this.#waitsEnded) controller.abort();
		this.#waits.add(controller);
		try {
			return await wait(controller.signal);
		} finally {
			this.#waits.delete(controller);
		}
	}

	#getLogs(fields: Fields): string {
		const since = [optionalTime(fields, "since"), optionalTime(fields, "start_date")].filter((at) => at !== undefined);
		const level = optionalString(fields, "level");
		if (level !== undefined && !LOG_LEVELS.some((known) => known === level)) {
			throw new EngineError("BAD_REQUEST", `expected level to be one of ${LOG_LEVELS.join(", ")}`);
		}
		const limit = optionalCount(fields, "limit");
		const page = this.#engine.readLogs({
			function: requiredString(fields, "function_id"),
			invocationId: optionalString(fields, "execution_id"),
			level: level as LogLevel | undefined,
			since: since.length === 0 ? undefined : Math.max(...since),
			until: optionalTime(fields, "end_date"),
			offset: optionalCount(fields, "offset"),
			// 0 is Go's way to say nothing; more than a page is a page, as it always was.
			limit: Math.min(limit === undefined || limit === 0 ? LOGS_DEFAULT : limit, LIMITS.logPageMax),
		});
		return JSON.stringify(wireLegacyLogs(page));
	}

	#getMetrics(fields: Fields): string {
		const name = requiredString(fields, "function_id");
		const period = requiredString(fields, "period");
		if (!PERIODS.includes(period)) {
			throw new EngineError("BAD_REQUEST", `expected period to be one of ${PERIODS.join(", ")}`);
		}
		return JSON.stringify(wireLegacyMetrics(this.#engine.getMetrics(name, period as MetricsPeriod)));
	}

	#register(fields: Fields): string {
		const made = this.#engine.registerFunction({
			name: requiredString(fields, "name"),
			runtime: optionalString(fields, "runtime") ?? "bun",
			handler: optionalString(fields, "handler") ?? "default",
		});
		return JSON.stringify({
			function_id: made.functionId,
			name: made.name,
			runtime: made.runtime,
			handler: made.handler,
			status: made.status,
		});
	}

	async #deploy(fields: Fields): Promise<string> {
		const path = resolve(requiredString(fields, "bundle_path"));
		const deployed = await this.#engine.deploy({
			function: requiredString(fields, "function_id"),
			version: requiredString(fields, "version"),
			path,
			build: needsBuild(path),
		});
		return JSON.stringify({
			deployment_id: deployed.deploymentId,
			function_id: deployed.functionId,
			version: deployed.version,
			status: "deployed",
		});
	}

	#hello(fields: Fields): string {
		const parsed = helloSchema.safeParse(fields);
		if (!parsed.success) throw new EngineError("BAD_REQUEST", describeProblems("hello", parsed.error));
		const { raw_bodies = false, pairs = false, source = "socket" } = parsed.data;
		this.#rawBodies = raw_bodies;
		this.#style = { pairs };
		this.#source = source;
		// The smaller of both versions; 1 is the first, so there is always one to speak.
		const protocol = Math.min(parsed.data.protocol ?? PROTOCOL_VERSION, PROTOCOL_VERSION);
		const { version } = this.#engine.stats();
		return JSON.stringify({ protocol, version, features: FEATURES, raw_bodies, pairs, source });
	}

	async #call(fields: Fields): Promise<string> {
		const op = requiredString(fields, "op");
		const answer = await this.#whileConnected((signal) =>
			callOperation(this.#engine, op, fields["params"], { source: this.#source, signal, clock: this.#clock }),
		);
		return JSON.stringify(answer);
	}
}

function fieldsOf(payload: Uint8Array): Fields {
	return objectOf(parseDocument(payload));
}

/** An RFC 3339 time as UTC milliseconds. */
function optionalTime(fields: Fields, name: string): number | undefined {
	const text = optionalString(fields, name);
	if (text === undefined) return undefined;
	const at = RFC_3339.test(text) ? Date.parse(text) : Number.NaN;
	if (Number.isNaN(at)) {
		throw new EngineError("BAD_REQUEST", `expected ${name} to be an RFC 3339 time like 2026-01-31T12:00:00Z`);
	}
	return at;
}

function optionalCount(fields: Fields, name: string): number | undefined {
	const value = optionalNumber(fields, name);
	if (value !== undefined && (!Number.isInteger(value) || value < 0)) {
		throw new EngineError("BAD_REQUEST", `expected ${name} to be a whole number from 0`);
	}
	return value;
}
