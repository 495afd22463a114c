/**
 * An `Engine` in memory for tests of sources: real ids, real request checks, real error codes, no storage, no workers.
 *
 * A function is a handler in this process (`define`). What a test needs to steer is public: `refusal` makes the next
 * submissions fail, `ready` is writable, `requests` holds every accepted request, `waiters` counts who waits now.
 * Time is the real clock's, because sources under test use real sockets.
 */
import { parseInvocationId, invocationId } from "../../src/core/ids.ts";
import type * as C from "../../src/core/contracts.ts";
import type { Environment } from "../../src/core/environment.ts";
import { silentLogger, silentProbe } from "../../src/core/environment.ts";
import { EngineError, messageOf } from "../../src/core/errors.ts";
import { parseFunctionLimits, resolveConfig } from "../../src/core/function-config.ts";
import { isTerminal, type State } from "../../src/core/invocation.ts";
import { LIMITS } from "../../src/core/limits.ts";
import { checkFunctionName } from "../../src/core/names.ts";
import { checkInvokeRequest, type InvokeRequest, type Pairs } from "../../src/core/request.ts";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export type FakeHandler = (
	request: InvokeRequest,
	context: { readonly invocationId: string; readonly signal: AbortSignal },
) => C.InvocationResult | Promise<C.InvocationResult>;

/** A result from text or bytes. */
export function response(status: number, body: string | Uint8Array = "", headers: Pairs = []): C.InvocationResult {
	return { status, headers, body: typeof body === "string" ? new TextEncoder().encode(body) : body };
}

/** Answers the request's own body, method, path, headers and query. */
export const echo: FakeHandler = (request) => ({
	status: 200,
	headers: [["content-type", "application/octet-stream"], ...request.headers],
	body: request.body,
});

/** Real time and chance; silent otherwise. */
export function realEnvironment(overrides: Partial<Environment> = {}): Environment {
	return {
		clock: {
			now: () => Date.now(),
			monotonic: () => performance.now(),
			setTimer(delayMs, fire) {
				const timer = setTimeout(fire, delayMs);
				return { cancel: () => clearTimeout(timer) };
			},
		},
		random: { next: () => Math.random() },
		probe: silentProbe,
		logger: silentLogger,
		...overrides,
	};
}

interface FakeInvocation {
	record: Mutable<C.InvocationRecord>;
	request: InvokeRequest;
	abort: AbortController;
	ended: Promise<void>;
}

interface FakeFunction {
	record: Mutable<C.FunctionRecord>;
	handler: FakeHandler | undefined;
	versions: Mutable<C.VersionRecord>[];
	deployments: C.DeploymentRecord[];
	environment: Map<string, number>;
	paused: boolean;
}

export class FakeEngine implements C.Engine {
	ready = true;
	/** Thrown by every submission while set. */
	refusal: EngineError | undefined;
	/** Every accepted request, in order. */
	readonly requests: InvokeRequest[] = [];
	/** Every deploy request, in order. */
	readonly deploys: C.DeployRequest[] = [];
	/** Callers of awaitInvocation and waitForLogs that wait now. */
	waiters = 0;
	/** What `renderMetrics` answers. */
	metricsText = "# TYPE bunbase_up gauge\nbunbase_up 1\n";
	readonly #functions = new Map<string, FakeFunction>();
	readonly #invocations = new Map<string, FakeInvocation>();
	readonly #keys = new Map<string, FakeInvocation>();
	readonly #schedules = new Map<string, Mutable<C.ScheduleRecord>>();
	readonly #events: C.EventRecord[] = [];
	readonly #logs: C.LogRecord[] = [];
	readonly #logWaiters = new Set<() => void>();
	#seq = 0;

	/** Registers `name` and deploys `handler` as v1. */
	define(name: string, handler: FakeHandler): C.FunctionRecord {
		const fn = this.#find(this.registerFunction({ name }).functionId);
		fn.handler = handler;
		this.#activate(fn, "v1", "deploy");
		return fn.record;
	}

	/** Appends a log line and wakes followers. */
	log(functionName: string, message: string, fields: Partial<C.LogRecord> = {}): C.LogRecord {
		const line: C.LogRecord = {
			id: this.#logs.length + 1,
			functionId: this.getFunction(functionName).functionId,
			invocationId: undefined,
			attempt: undefined,
			level: "info",
			message,
			metadata: undefined,
			at: Date.now(),
			...fields,
		};
		this.#logs.push(line);
		for (const wake of this.#logWaiters) wake();
		return line;
	}

	async invoke(request: InvokeRequest): Promise<C.Ended> {
		const { made } = this.#submit(request);
		await made.ended;
		const { record } = made;
		return {
			invocationId: record.invocationId,
			state: record.state,
			result: record.result,
			error: record.error,
			executionMs: record.runMs ?? 0,
		};
	}

	async enqueue(request: InvokeRequest): Promise<C.Accepted> {
		const { made, replayed } = this.#submit(request);
		return { invocationId: made.record.invocationId, state: made.record.state, replayed };
	}

	async enqueueBatch(requests: readonly InvokeRequest[]): Promise<readonly (C.Accepted | EngineError)[]> {
		return Promise.all(
			requests.map((request) =>
				this.enqueue(request).catch((error: unknown) => {
					if (error instanceof EngineError) return error;
					throw error;
				}),
			),
		);
	}

	getInvocation(id: string): C.InvocationRecord {
		return { ...this.#invocation(id).record };
	}

	async awaitInvocation(
		id: string,
		options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
	): Promise<{ readonly record: C.InvocationRecord; readonly timedOutWaiting: boolean }> {
		const found = this.#invocation(id);
		if (!isTerminal(found.record.state)) {
			await this.#wait(options.timeoutMs, options.signal, (done) => {
				void (async () => {
					await found.ended;
					done();
				})();
			});
		}
		return { record: { ...found.record }, timedOutWaiting: !isTerminal(found.record.state) };
	}

	async cancel(id: string): Promise<{ readonly invocationId: string; readonly state: State }> {
		const found = this.#invocation(id);
		if (isTerminal(found.record.state)) throw new EngineError("ALREADY_FINISHED", `${id} has ended`);
		this.#end(found, "cancelled", undefined, { code: "CANCELLED", message: "cancelled" });
		found.abort.abort();
		return { invocationId: id, state: found.record.state };
	}

	async retry(id: string): Promise<C.Accepted> {
		const found = this.#invocation(id);
		if (!isTerminal(found.record.state)) throw new EngineError("BAD_REQUEST", `${id} has not ended`);
		const { idempotencyKey: _key, ...request } = found.request;
		return this.enqueue({ ...request, waits: false });
	}

	listInvocations(filter: C.InvocationFilter): readonly C.InvocationSummary[] {
		const fn = filter.function === undefined ? undefined : this.getFunction(filter.function).functionId;
		return [...this.#invocations.values()]
			.map((made) => made.record)
			.filter((record) => fn === undefined || record.functionId === fn)
			.filter((record) => filter.state === undefined || record.state === filter.state)
			.filter((record) => filter.before === undefined || record.invocationId < filter.before)
			.toReversed()
			.slice(0, filter.limit ?? LIMITS.listPageDefault);
	}

	registerFunction(request: { name: string; runtime?: string; handler?: string }): C.FunctionRecord {
		if ((request.runtime ?? "bun") !== "bun") {
			throw new EngineError("UNSUPPORTED_RUNTIME", `runtime ${JSON.stringify(request.runtime)}; only "bun" exists`);
		}
		checkFunctionName(request.name);
		for (const fn of this.#functions.values()) if (fn.record.name === request.name) return fn.record;
		const record: C.FunctionRecord = {
			functionId: this.#id("fn"),
			name: request.name,
			runtime: "bun",
			handler: request.handler ?? "default",
			status: "REGISTERED",
			activeVersion: undefined,
			createdAt: Date.now(),
			overrides: {},
			config: resolveConfig([]),
		};
		this.#functions.set(record.functionId, {
			record,
			handler: undefined,
			versions: [],
			deployments: [],
			environment: new Map(),
			paused: false,
		});
		return record;
	}

	getFunction(idOrName: string): C.FunctionRecord {
		return this.#find(idOrName).record;
	}

	listFunctions(): readonly C.FunctionRecord[] {
		return [...this.#functions.values()].map((fn) => fn.record);
	}

	configureFunction(idOrName: string, overrides: Record<string, unknown>): C.FunctionRecord {
		const { record } = this.#find(idOrName);
		const merged = { ...record.overrides, ...overrides };
		const kept = Object.fromEntries(Object.entries(merged).filter(([, value]) => value !== null));
		record.overrides = parseFunctionLimits("overrides", kept);
		record.config = resolveConfig([record.overrides]);
		return record;
	}

	async deploy(request: C.DeployRequest): Promise<C.DeployResult> {
		if (request.register === true) this.registerFunction({ name: request.function });
		const fn = this.#find(request.function);
		this.deploys.push(request);
		fn.handler ??= echo;
		const version = request.version ?? `v${fn.versions.length + 1}`;
		const created = !fn.versions.some((known) => known.version === version);
		return this.#deployed(fn, this.#activate(fn, version, "deploy"), created);
	}

	async rollback(idOrName: string, version?: string): Promise<C.DeployResult> {
		const fn = this.#find(idOrName);
		const target = version ?? fn.deployments.at(-2)?.version;
		if (target === undefined || !fn.versions.some((known) => known.version === target)) {
			throw new EngineError("VERSION_NOT_FOUND", `${fn.record.name} has no version to roll back to`);
		}
		return this.#deployed(fn, this.#activate(fn, target, "rollback"), false);
	}

	listVersions(idOrName: string): readonly C.VersionRecord[] {
		return this.#find(idOrName).versions;
	}

	listDeployments(idOrName: string): readonly C.DeploymentRecord[] {
		return this.#find(idOrName).deployments;
	}

	listEnvironment(idOrName: string): readonly { readonly name: string; readonly updatedAt: number }[] {
		return [...this.#find(idOrName).environment].map(([name, updatedAt]) => ({ name, updatedAt }));
	}

	setEnvironment(idOrName: string, values: Readonly<Record<string, string>>): void {
		for (const name of Object.keys(values)) this.#find(idOrName).environment.set(name, Date.now());
	}

	unsetEnvironment(idOrName: string, names: readonly string[]): void {
		for (const name of names) this.#find(idOrName).environment.delete(name);
	}

	listSchedules(idOrName?: string): readonly C.ScheduleRecord[] {
		const fn = idOrName === undefined ? undefined : this.getFunction(idOrName).functionId;
		return [...this.#schedules.values()].filter((schedule) => fn === undefined || schedule.functionId === fn);
	}

	putSchedule(request: C.ScheduleRequest): C.ScheduleRecord {
		const fn = this.getFunction(request.function);
		const timezone = request.timezone ?? "UTC";
		const name = request.name ?? `${request.cron} ${timezone}`;
		const before = this.listSchedules(fn.functionId).find((schedule) => schedule.name === name);
		const record: C.ScheduleRecord = {
			scheduleId: before?.scheduleId ?? this.#id("sch"),
			functionId: fn.functionId,
			functionName: fn.name,
			name,
			cron: request.cron,
			timezone,
			misfire: request.misfire ?? "once",
			overlap: request.overlap ?? "skip",
			origin: "api",
			paused: false,
			nextDueAt: Date.now() + 60_000,
			lastSlotAt: undefined,
			decidedUntil: Date.now(),
			data: request.data,
		};
		this.#schedules.set(record.scheduleId, record);
		return record;
	}

	deleteSchedule(scheduleId: string): void {
		this.#schedule(scheduleId);
		this.#schedules.delete(scheduleId);
	}

	pauseSchedule(scheduleId: string, paused: boolean): C.ScheduleRecord {
		const schedule = this.#schedule(scheduleId);
		schedule.paused = paused;
		return schedule;
	}

	onSchedulesChanged(): () => void {
		return () => undefined;
	}

	async fireSchedule(): Promise<C.SlotDecision | undefined> {
		return undefined;
	}

	translateEvents(): void {
		// Nothing subscribes here.
	}

	async emit(request: C.EmitRequest): Promise<C.EmitResult> {
		const event = { eventId: this.#id("evt"), type: request.type, createdAt: Date.now(), data: request.data };
		this.#events.push({ ...event, invocationIds: [] });
		return { eventId: event.eventId, type: event.type, invocations: [] };
	}

	listEvents(limit: number = LIMITS.listPageDefault): readonly C.EventRecord[] {
		return this.#events.toReversed().slice(0, limit);
	}

	listLanes(): readonly C.LaneRecord[] {
		return [...this.#functions.values()].map((fn) => this.#lane(fn));
	}

	pauseLane(idOrName: string, paused: boolean): C.LaneRecord {
		const fn = this.#find(idOrName);
		fn.paused = paused;
		return this.#lane(fn);
	}

	listWorkers(): readonly C.WorkerRecord[] {
		return [...this.#functions.values()]
			.filter((fn) => fn.record.activeVersion !== undefined)
			.map((fn, index) => ({
				worker: `w${index + 1}`,
				pid: process.pid,
				functionId: fn.record.functionId,
				functionName: fn.record.name,
				version: fn.record.activeVersion ?? "",
				state: "WARM",
				startedAt: Date.now(),
				readyMs: 20,
				running: [],
				ran: 0,
				memoryBytes: undefined,
			}));
	}

	readLogs(filter: C.LogFilter): C.LogPage {
		const fn = filter.function === undefined ? undefined : this.getFunction(filter.function).functionId;
		const matching = this.#logs.filter(
			(line) =>
				(fn === undefined || line.functionId === fn) &&
				(filter.invocationId === undefined || line.invocationId === filter.invocationId) &&
				(filter.level === undefined || line.level === filter.level) &&
				line.at >= (filter.since ?? 0) &&
				line.at <= (filter.until ?? Infinity) &&
				line.id > (filter.after ?? 0),
		);
		const limit = filter.limit ?? 100;
		const from = filter.tail === true ? Math.max(0, matching.length - limit) : (filter.offset ?? 0);
		return { logs: matching.slice(from, from + limit), total: matching.length };
	}

	async waitForLogs(after: number, timeoutMs: number, signal?: AbortSignal): Promise<void> {
		if ((this.#logs.at(-1)?.id ?? 0) > after) return;
		let wake = (): void => undefined;
		await this.#wait(timeoutMs, signal, (done) => {
			wake = done;
			this.#logWaiters.add(done);
		});
		this.#logWaiters.delete(wake);
	}

	getMetrics(idOrName: string, period: C.MetricsPeriod): C.MetricsRecord {
		const ran = this.listInvocations({ function: idOrName, limit: LIMITS.listPageMax });
		return {
			invocations: ran.length,
			errors: ran.filter((record) => isTerminal(record.state) && record.state !== "succeeded").length,
			averageDurationMs: 1.5,
			coldStarts: 0,
			lastInvokedAt: ran.at(0)?.createdAt,
			period,
		};
	}

	renderMetrics(): string {
		return this.metricsText;
	}

	/** What `backup` was asked for. */
	readonly backups: C.BackupRequest[] = [];
	backupProgress: C.BackupProgress | undefined;

	backup(request: C.BackupRequest): Promise<C.BackupRecord> {
		this.backups.push(request);
		return Promise.resolve({
			path: request.path,
			instanceId: "ins_fake",
			createdAt: 1,
			seq: this.#seq,
			files: 3,
			bytes: 4096,
			damage: [],
			ms: 5,
		});
	}

	stats(): C.Stats {
		return {
			version: "0.0.0-fake",
			startedAt: 0,
			pid: process.pid,
			dataDir: "/nowhere",
			draining: false,
			functions: this.#functions.size,
			queued: this.#count("queued"),
			running: this.#count("running"),
			workers: { STARTING: 0, WARM: 0, BUSY: 0, IDLE: 0, DRAINING: 0, TERMINATED: 0 },
			ended: { succeeded: this.#count("succeeded") },
			accepted: this.requests.length,
			commits: 0,
			waiters: this.waiters,
			logLinesDropped: 0,
			rssBytes: 0,
			walBytes: 0,
			storageLow: false,
		};
	}

	maxBodyBytes(idOrName: string): number {
		return this.getFunction(idOrName).config.maxBodyBytes;
	}

	#submit(request: InvokeRequest): { made: FakeInvocation; replayed: boolean } {
		if (this.refusal !== undefined) throw this.refusal;
		checkInvokeRequest(request);
		const fn = this.#find(request.function);
		if (fn.record.activeVersion === undefined) {
			throw new EngineError("NOT_DEPLOYED", `${fn.record.name} has no active version; deploy one`);
		}
		if (request.body.byteLength > fn.record.config.maxBodyBytes) {
			throw new EngineError("BODY_TOO_LARGE", `at most ${fn.record.config.maxBodyBytes} bytes`);
		}
		const key = request.idempotencyKey === undefined ? undefined : `${fn.record.functionId} ${request.idempotencyKey}`;
		const seen = key === undefined ? undefined : this.#keys.get(key);
		if (seen !== undefined) {
			if (Buffer.compare(seen.request.body, request.body) !== 0 || seen.request.path !== request.path) {
				throw new EngineError("IDEMPOTENCY_CONFLICT", "the key was used with another request");
			}
			return { made: seen, replayed: true };
		}
		this.requests.push(request);
		const made = this.#accept(fn, request);
		if (key !== undefined) this.#keys.set(key, made);
		return { made, replayed: false };
	}

	#accept(fn: FakeFunction, request: InvokeRequest): FakeInvocation {
		const now = Date.now();
		const record: C.InvocationRecord = {
			invocationId: invocationId(now, ++this.#seq),
			functionId: fn.record.functionId,
			functionName: fn.record.name,
			version: fn.record.activeVersion ?? "",
			state: fn.paused ? "queued" : "running",
			source: request.source,
			origin: undefined,
			attempt: 1,
			charged: 0,
			maxAttempts: request.maxAttempts ?? (request.waits ? 1 : fn.record.config.retry.maxAttempts),
			priority: request.priority ?? 0,
			laneKey: request.laneKey ?? "",
			createdAt: now,
			runAt: request.runAt ?? (request.delayMs === undefined ? 0 : now + request.delayMs),
			startedAt: now,
			finishedAt: undefined,
			queueWaitMs: 0,
			runMs: undefined,
			cold: false,
			error: undefined,
			deadlineAt: request.deadlineMs === undefined ? undefined : now + request.deadlineMs,
			idempotencyKey: request.idempotencyKey,
			tags: request.tags ?? [],
			traceparent: request.traceparent,
			request: {
				method: request.method,
				path: request.path,
				headers: request.headers,
				query: request.query,
				bodyBytes: request.body.byteLength,
			},
			attempts: [],
			result: undefined,
		};
		const abort = new AbortController();
		const made: FakeInvocation = { record, request, abort, ended: Promise.resolve() };
		this.#invocations.set(record.invocationId, made);
		made.ended = fn.paused ? aborted(abort.signal) : this.#run(fn, made);
		return made;
	}

	async #run(fn: FakeFunction, made: FakeInvocation): Promise<void> {
		const handler = fn.handler ?? echo;
		try {
			// A microtask later, as no real handler answers inside the accept.
			await Promise.resolve();
			const { signal } = made.abort;
			const context = { invocationId: made.record.invocationId, signal };
			const ran = await Promise.race([handler(made.request, context), aborted(signal)]);
			if (ran !== undefined) this.#end(made, "succeeded", ran, undefined);
		} catch (error) {
			this.#end(made, "failed", undefined, {
				code: "HANDLER_ERROR",
				message: messageOf(error),
				name: error instanceof Error ? error.name : "string",
				stack: error instanceof Error ? (error.stack ?? "") : "",
			});
		}
	}

	#end(
		made: FakeInvocation,
		state: State,
		result: C.InvocationResult | undefined,
		error: C.InvocationRecord["error"],
	): void {
		if (isTerminal(made.record.state)) return;
		const now = Date.now();
		Object.assign(made.record, { state, result, error, finishedAt: now, runMs: now - made.record.createdAt });
	}

	/** Resolves when `subscribe`'s callback is called, after `timeoutMs`, or when `signal` aborts. Leaves nothing. */
	async #wait(
		timeoutMs: number,
		signal: AbortSignal | undefined,
		subscribe: (done: () => void) => void,
	): Promise<void> {
		if (signal?.aborted === true) return;
		this.waiters++;
		const { promise, resolve } = Promise.withResolvers<void>();
		const timer = setTimeout(resolve, Math.min(timeoutMs, 2 ** 31 - 1));
		signal?.addEventListener("abort", () => resolve());
		subscribe(resolve);
		await promise;
		clearTimeout(timer);
		this.waiters--;
	}

	#activate(fn: FakeFunction, version: string, reason: string): C.DeploymentRecord {
		if (!fn.versions.some((known) => known.version === version)) {
			fn.versions.push({
				functionId: fn.record.functionId,
				version,
				sha256: "0".repeat(64),
				bytes: 100,
				createdAt: Date.now(),
				active: false,
				config: {},
			});
		}
		for (const known of fn.versions) known.active = known.version === version;
		fn.record.activeVersion = version;
		fn.record.status = "DEPLOYED";
		const deployment = {
			deploymentId: this.#id("dep"),
			functionId: fn.record.functionId,
			version,
			deployedAt: Date.now(),
			reason,
		};
		fn.deployments.push(deployment);
		return deployment;
	}

	#deployed(fn: FakeFunction, deployment: C.DeploymentRecord, created: boolean): C.DeployResult {
		return { ...deployment, name: fn.record.name, created, sha256: "0".repeat(64), buildMs: 0, readyMs: 20 };
	}

	#lane(fn: FakeFunction): C.LaneRecord {
		return {
			functionId: fn.record.functionId,
			functionName: fn.record.name,
			running: 0,
			limit: fn.record.config.concurrency,
			ready: 0,
			delayed: 0,
			maxQueued: fn.record.config.maxQueued,
			paused: fn.paused,
			blocked: fn.paused ? "paused" : undefined,
		};
	}

	#count(state: State): number {
		return [...this.#invocations.values()].filter((made) => made.record.state === state).length;
	}

	#find(idOrName: string): FakeFunction {
		const byId = this.#functions.get(idOrName);
		if (byId !== undefined) return byId;
		for (const fn of this.#functions.values()) if (fn.record.name === idOrName) return fn;
		throw new EngineError("FUNCTION_NOT_FOUND", `no function has the id or name ${JSON.stringify(idOrName)}`);
	}

	#invocation(id: string): FakeInvocation {
		const found = this.#invocations.get(id);
		if (found !== undefined) return found;
		const known = parseInvocationId(id);
		if (known !== undefined && known.createdAt < Date.now() - LIMITS.resultRetentionMs) {
			throw new EngineError("RESULT_PRUNED", `${id} has passed retention`);
		}
		throw new EngineError("INVOCATION_NOT_FOUND", `no invocation has the id ${JSON.stringify(id)}`);
	}

	#schedule(id: string): Mutable<C.ScheduleRecord> {
		const found = this.#schedules.get(id);
		if (found === undefined)
			throw new EngineError("SCHEDULE_NOT_FOUND", `no schedule has the id ${JSON.stringify(id)}`);
		return found;
	}

	#id(kind: string): string {
		return `${kind}_${Date.now().toString(32).padStart(10, "0")}${(++this.#seq).toString(32).padStart(8, "0")}`;
	}
}

/** Resolves with undefined when the signal aborts. */
function aborted(signal: AbortSignal): Promise<undefined> {
	const { promise, resolve } = Promise.withResolvers<undefined>();
	if (signal.aborted) resolve(undefined);
	else signal.addEventListener("abort", () => resolve(undefined), { once: true });
	return promise;
}
