/**
 * Administration in ONE table: what socket command CALL (0x21), the client's `call()` and the HTTP API under /v1 can
 * do beside invoking. An operation is a name, a strict schema of its parameters (snake_case, unknown keys refused) and
 * a function from engine and parameters to wire JSON (wire.ts). Faces differ in transport only, never in meaning.
 */
import { isAbsolute } from "node:path";
import { z } from "zod";
import type { Engine, LogFilter } from "../core/contracts.ts";
import { LOG_LEVELS } from "../core/contracts.ts";
import type { Clock } from "../core/environment.ts";
import { EngineError, messageOf } from "../core/errors.ts";
import { describeProblems, MISFIRE, OVERLAP } from "../core/function-config.ts";
import { STATES } from "../core/invocation.ts";
import { LIMITS } from "../core/limits.ts";
import type { InvokeRequest, SourceKind } from "../core/request.ts";
import { parseInvokePayload } from "./wire-request.ts";
import {
	wireAccepted,
	wireBackup,
	wireDeployment,
	wireDeployResult,
	wireEmitted,
	wireEvent,
	wireFunction,
	wireInvocation,
	wireInvocationSummary,
	wireLane,
	wireLog,
	wireMetrics,
	wireRefusal,
	wireSchedule,
	wireStats,
	wireVersion,
	wireWorker,
} from "./wire.ts";

/** What a face brings along with the parameters. */
export interface OperationContext {
	/** Recorded with invocations that the operation makes. */
	readonly source: SourceKind;
	/** Aborts when the caller is gone or the face stops; ends waits early, never the work itself. */
	readonly signal: AbortSignal;
	readonly clock: Clock;
}

export type WireJson = Record<string, unknown>;

export interface Operation<P extends z.ZodType = z.ZodType> {
	/** One line for documents. */
	readonly summary: string;
	/** True where it changes nothing: safe to send again, and allowed as an HTTP GET. */
	readonly readOnly: boolean;
	readonly params: P;
	run(engine: Engine, params: z.output<P>, context: OperationContext): WireJson | Promise<WireJson>;
}

/** Infers the parameter type of `run` from the schema beside it. */
function operation<P extends z.ZodType>(definition: Operation<P>): Operation<P> {
	return definition;
}

/** Function id or name. */
const functionRef = z.string().min(1);
const invocationId = z.string().min(1);
const label = z.string().min(1);
const waitMs = z.int().min(0).max(LIMITS.awaitMsMax);
const listLimit = z.int().min(1).max(LIMITS.listPageMax);
const noParams = z.strictObject({});

/** Values by name. zod leaves the key `__proto__` out without a word; here it is refused like any other that is wrong. */
function valuesBy<V extends z.ZodType>(value: V) {
	return z.preprocess(
		(given, context) => {
			if (typeof given === "object" && given !== null && Object.hasOwn(given, "__proto__")) {
				context.addIssue({ code: "custom", message: "expected no key __proto__", input: given });
			}
			return given;
		},
		z.record(z.string(), value),
	);
}

export const OPERATIONS = {
	"functions.list": operation({
		summary: "All functions.",
		readOnly: true,
		params: noParams,
		run: (engine) => ({ functions: engine.listFunctions().map(wireFunction) }),
	}),
	"functions.get": operation({
		summary: "One function with the configuration in force.",
		readOnly: true,
		params: z.strictObject({ function: functionRef }),
		run: (engine, p) => wireFunction(engine.getFunction(p.function)),
	}),
	"functions.register": operation({
		summary: "Registers a name; an existing one is returned.",
		readOnly: false,
		params: z.strictObject({ name: z.string(), runtime: z.string().optional(), handler: z.string().optional() }),
		run: (engine, p) =>
			wireFunction(
				engine.registerFunction({
					name: p.name,
					...(p.runtime === undefined ? {} : { runtime: p.runtime }),
					...(p.handler === undefined ? {} : { handler: p.handler }),
				}),
			),
	}),
	"functions.configure": operation({
		summary: "Sets overrides on the function, keys as in a module's config; null removes one.",
		readOnly: false,
		params: z.strictObject({ function: functionRef, overrides: valuesBy(z.unknown()) }),
		run: (engine, p) => wireFunction(engine.configureFunction(p.function, p.overrides)),
	}),
	"functions.deploy": operation({
		summary: "Stores the bundle at a path of this machine as a version and activates it.",
		readOnly: false,
		params: z.strictObject({
			function: functionRef,
			path: z.string().refine(isAbsolute, "expected an absolute path on the daemon's machine"),
			/** True for TypeScript or a folder; default: decided by the extension. */
			build: z.boolean().optional(),
			version: label.optional(),
			/** Register the name first if it is unknown. */
			register: z.boolean().optional(),
			handler: z.string().min(1).optional(),
		}),
		run: async (engine, p) =>
			wireDeployResult(
				await engine.deploy({
					function: p.function,
					path: p.path,
					build: p.build ?? needsBuild(p.path),
					...(p.version === undefined ? {} : { version: p.version }),
					...(p.register === undefined ? {} : { register: p.register }),
					...(p.handler === undefined ? {} : { handler: p.handler }),
				}),
			),
	}),
	"functions.rollback": operation({
		summary: "Activates `version`, or the version that was active before.",
		readOnly: false,
		params: z.strictObject({ function: functionRef, version: label.optional() }),
		run: async (engine, p) => wireDeployResult(await engine.rollback(p.function, p.version)),
	}),
	"functions.versions": operation({
		summary: "The versions of a function.",
		readOnly: true,
		params: z.strictObject({ function: functionRef }),
		run: (engine, p) => ({ versions: engine.listVersions(p.function).map(wireVersion) }),
	}),
	"functions.deployments": operation({
		summary: "What became active when, and why.",
		readOnly: true,
		params: z.strictObject({ function: functionRef }),
		run: (engine, p) => ({ deployments: engine.listDeployments(p.function).map(wireDeployment) }),
	}),
	"env.list": operation({
		summary: "Names of a function's variables; values are never shown.",
		readOnly: true,
		params: z.strictObject({ function: functionRef }),
		run: (engine, p) => environmentOf(engine, p.function),
	}),
	"env.set": operation({
		summary: "Sets variables; the function's workers are replaced as they fall idle.",
		readOnly: false,
		params: z.strictObject({ function: functionRef, values: valuesBy(z.string()) }),
		run: (engine, p) => {
			engine.setEnvironment(p.function, p.values);
			return environmentOf(engine, p.function);
		},
	}),
	"env.unset": operation({
		summary: "Removes variables.",
		readOnly: false,
		params: z.strictObject({ function: functionRef, names: z.array(z.string()) }),
		run: (engine, p) => {
			engine.unsetEnvironment(p.function, p.names);
			return environmentOf(engine, p.function);
		},
	}),
	"schedules.list": operation({
		summary: "Schedules of one function or of all.",
		readOnly: true,
		params: z.strictObject({ function: functionRef.optional() }),
		run: (engine, p) => ({ schedules: engine.listSchedules(p.function).map(wireSchedule) }),
	}),
	"schedules.put": operation({
		summary: "Creates a schedule, or changes the function's schedule of that name.",
		readOnly: false,
		params: z.strictObject({
			function: functionRef,
			name: z.string().optional(),
			cron: z.string(),
			timezone: z.string().optional(),
			misfire: z.enum(MISFIRE).optional(),
			overlap: z.enum(OVERLAP).optional(),
			data: z.unknown().optional(),
		}),
		run: (engine, p) => wireSchedule(engine.putSchedule(p)),
	}),
	"schedules.delete": operation({
		summary: "Deletes a schedule; invocations that it made stay.",
		readOnly: false,
		params: z.strictObject({ schedule_id: z.string().min(1) }),
		run: (engine, p) => {
			engine.deleteSchedule(p.schedule_id);
			return { schedule_id: p.schedule_id, deleted: true };
		},
	}),
	"schedules.pause": operation({
		summary: "Pauses a schedule, or resumes it with `paused: false`.",
		readOnly: false,
		params: z.strictObject({ schedule_id: z.string().min(1), paused: z.boolean() }),
		run: (engine, p) => wireSchedule(engine.pauseSchedule(p.schedule_id, p.paused)),
	}),
	"events.emit": operation({
		summary: "Commits an event together with one invocation per subscribed function.",
		readOnly: false,
		params: z.strictObject({
			type: z.string(),
			data: z.unknown().optional(),
			source: z.string().optional(),
			/** The emitter's own id; with `source` it makes the event unique. */
			id: z.string().optional(),
		}),
		run: async (engine, p) =>
			wireEmitted(
				await engine.emit({
					type: p.type,
					data: p.data ?? null,
					...(p.source === undefined ? {} : { source: p.source }),
					...(p.id === undefined ? {} : { id: p.id }),
				}),
			),
	}),
	"events.list": operation({
		summary: "The newest events.",
		readOnly: true,
		params: z.strictObject({ limit: listLimit.optional() }),
		run: (engine, p) => ({ events: engine.listEvents(p.limit ?? LIMITS.listPageDefault).map(wireEvent) }),
	}),
	"invocations.list": operation({
		summary: "Invocations, newest first; `before` (an id) continues with older ones.",
		readOnly: true,
		params: z.strictObject({
			function: functionRef.optional(),
			state: z.enum(STATES).optional(),
			limit: listLimit.optional(),
			before: invocationId.optional(),
		}),
		run: (engine, p) => {
			const limit = p.limit ?? LIMITS.listPageDefault;
			const page = engine.listInvocations({ ...p, limit });
			const last = page.length < limit ? undefined : page.at(-1);
			return { invocations: page.map(wireInvocationSummary), next_before: last?.invocationId ?? null };
		},
	}),
	"invocations.get": operation({
		summary: "Everything known of one invocation; the response body only with `with_body`.",
		readOnly: true,
		params: z.strictObject({ invocation_id: invocationId, with_body: z.boolean().optional() }),
		run: (engine, p) => wireInvocation(engine.getInvocation(p.invocation_id), p.with_body ?? false),
	}),
	"invocations.await": operation({
		summary: "As invocations.get, when it ends or when `timeout_ms` is over (`timed_out_waiting`).",
		readOnly: true,
		params: z.strictObject({
			invocation_id: invocationId,
			timeout_ms: waitMs.optional(),
			with_body: z.boolean().optional(),
		}),
		run: async (engine, p, context) => {
			const waited = await engine.awaitInvocation(p.invocation_id, {
				timeoutMs: p.timeout_ms ?? LIMITS.waitMsDefault,
				signal: context.signal,
			});
			return {
				...wireInvocation(waited.record, p.with_body ?? false),
				timed_out_waiting: waited.timedOutWaiting,
			};
		},
	}),
	"invocations.cancel": operation({
		summary: "Queued work is cancelled at once; running work is told, and killed after its grace.",
		readOnly: false,
		params: z.strictObject({ invocation_id: invocationId }),
		run: async (engine, p) => {
			const cancelled = await engine.cancel(p.invocation_id);
			return { invocation_id: cancelled.invocationId, state: cancelled.state };
		},
	}),
	"invocations.retry": operation({
		summary: "A new invocation of the same request on the active version; only of one that has ended.",
		readOnly: false,
		params: z.strictObject({ invocation_id: invocationId }),
		run: async (engine, p) => wireAccepted(await engine.retry(p.invocation_id)),
	}),
	"invocations.enqueue_batch": operation({
		summary: "Up to 1,000 requests (ENQUEUE's fields) in one commit; each is accepted or refused on its own.",
		readOnly: false,
		params: z.strictObject({ requests: z.array(z.unknown()).max(LIMITS.batchMax) }),
		run: (engine, p, context) => enqueueBatch(engine, p.requests, context.source),
	}),
	"lanes.list": operation({
		summary: "Every function's lane: what runs, what waits, and why nothing starts.",
		readOnly: true,
		params: noParams,
		run: (engine) => ({ lanes: engine.listLanes().map(wireLane) }),
	}),
	"lanes.pause": operation({
		summary: "Stops starting work of a lane, or resumes with `paused: false`; work is still accepted.",
		readOnly: false,
		params: z.strictObject({ function: functionRef, paused: z.boolean() }),
		run: (engine, p) => wireLane(engine.pauseLane(p.function, p.paused)),
	}),
	"workers.list": operation({
		summary: "Worker processes.",
		readOnly: true,
		params: noParams,
		run: (engine) => ({ workers: engine.listWorkers().map(wireWorker) }),
	}),
	"logs.read": operation({
		summary: "Log lines, oldest first. `wait_ms` waits for the first line; `after` = `next_after` continues.",
		readOnly: true,
		params: z.strictObject({
			function: functionRef.optional(),
			invocation_id: invocationId.optional(),
			level: z.enum(LOG_LEVELS).optional(),
			since: z.int().min(0).optional(),
			until: z.int().min(0).optional(),
			after: z.int().min(0).optional(),
			offset: z.int().min(0).optional(),
			limit: z.int().min(1).max(LIMITS.logPageMax).optional(),
			/** The newest `limit` lines instead of the oldest. */
			tail: z.boolean().optional(),
			wait_ms: waitMs.optional(),
		}),
		run: (engine, p, context) => {
			const { invocation_id, wait_ms, ...filter } = p;
			return readLogs(engine, { ...filter, invocationId: invocation_id }, wait_ms ?? 0, context);
		},
	}),
	"metrics.get": operation({
		summary: "Counts of one function over the last minute, hour or day.",
		readOnly: true,
		params: z.strictObject({ function: functionRef, period: z.enum(["minute", "hour", "day"]).optional() }),
		run: (engine, p) => wireMetrics(engine.getMetrics(p.function, p.period ?? "hour")),
	}),
	"stats.get": operation({
		summary: "The daemon in numbers.",
		readOnly: true,
		params: noParams,
		run: (engine) => wireStats(engine.stats()),
	}),
	"backup.create": operation({
		summary:
			"Makes a checked backup in a folder of the daemon's machine while everything goes on; answers when it is whole.",
		readOnly: false,
		params: z.strictObject({
			path: z.string().refine(isAbsolute, "expected an absolute path on the daemon's machine"),
			/** Also where checks find damage. */
			damaged: z.boolean().optional(),
		}),
		run: async (engine, p, context) =>
			wireBackup(
				await engine.backup(
					{ path: p.path, ...(p.damaged === undefined ? {} : { damaged: p.damaged }) },
					context.signal,
				),
			),
	}),
	"backup.progress": operation({
		summary: "How far the backup is that is under way; `phase` is null where none is.",
		readOnly: true,
		params: noParams,
		run: (engine) => ({ ...(engine.backupProgress ?? { phase: null, done: 0, total: 0 }) }),
	}),
	"health.get": operation({
		summary: "Whether new work would be taken.",
		readOnly: true,
		params: noParams,
		run: (engine) => ({ alive: true, ready: engine.ready }),
	}),
} as const;

export type OperationName = keyof typeof OPERATIONS;

export function isOperationName(name: string): name is OperationName {
	return Object.hasOwn(OPERATIONS, name);
}

/** Checks the parameters and runs the operation. Refusals are EngineErrors; all problems are named together. */
export async function callOperation(
	engine: Engine,
	name: string,
	params: unknown,
	context: OperationContext,
): Promise<WireJson> {
	if (!isOperationName(name)) {
		throw new EngineError(
			"UNKNOWN_COMMAND",
			`unknown operation ${JSON.stringify(name.slice(0, 80))}; known are ${Object.keys(OPERATIONS).join(", ")}`,
		);
	}
	// The schema and the function beside it belong together by `operation()`; a lookup by name forgets that.
	const found: Operation = OPERATIONS[name] as unknown as Operation;
	const parsed = found.params.safeParse(params ?? {});
	if (!parsed.success) throw new EngineError("BAD_REQUEST", describeProblems(name, parsed.error));
	return found.run(engine, parsed.data, context);
}

const SOURCE_EXTENSION = /\.(?:ts|tsx|mts|jsx)$/i;

/** What Bun cannot be given as a bundle as it is. Folders are for the caller to name with `build`. */
export function needsBuild(path: string): boolean {
	return SOURCE_EXTENSION.test(path);
}

function environmentOf(engine: Engine, functionRef: string): WireJson {
	return {
		variables: engine.listEnvironment(functionRef).map((set) => ({ name: set.name, updated_at: set.updatedAt })),
	};
}

/** A request that does not parse is refused in its place; the others go on. */
async function enqueueBatch(engine: Engine, payloads: readonly unknown[], source: SourceKind): Promise<WireJson> {
	const requests: InvokeRequest[] = [];
	const parsed = payloads.map((payload) => {
		try {
			requests.push(parseInvokePayload(payload, { source, waits: false }));
			return undefined;
		} catch (error) {
			return error instanceof EngineError ? error : new EngineError("BAD_REQUEST", messageOf(error), { cause: error });
		}
	});
	const answers = requests.length === 0 ? [] : await engine.enqueueBatch(requests);
	let next = 0;
	const results = parsed.map((refused) => {
		const answer = refused ?? answers[next++];
		if (answer === undefined) throw new Error("the engine answered fewer requests than it was given");
		return answer instanceof EngineError ? wireRefusal(answer) : wireAccepted(answer);
	});
	return { results };
}

/**
 * A page of lines, or the first page that appears within `waitMs`. `next_after` moves past lines that the filter
 * left out, otherwise a follower of a quiet function beside a loud one would wake for every line of the loud one.
 */
async function readLogs(
	engine: Engine,
	filter: LogFilter,
	waitMs: number,
	context: OperationContext,
): Promise<WireJson> {
	const until = context.clock.monotonic() + waitMs;
	let after = filter.after;
	for (;;) {
		// The newest line after the cursor is looked up first: what is written later is found by the next page.
		const follows = waitMs > 0 || after !== undefined;
		const newest = follows ? (engine.readLogs({ after, tail: true, limit: 1 }).logs.at(-1)?.id ?? 0) : 0;
		const page = engine.readLogs({ ...filter, after });
		const last = page.logs.at(-1);
		const cursor = last?.id ?? Math.max(after ?? 0, newest);
		const left = until - context.clock.monotonic();
		if (last !== undefined || left <= 0 || context.signal.aborted) {
			return { logs: page.logs.map(wireLog), total: page.total, next_after: cursor };
		}
		await engine.waitForLogs(cursor, left, context.signal);
		after = cursor;
	}
}
