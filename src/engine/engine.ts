/**
 * The engine: where store, queue, pool and sources are put together, started and stopped.
 *
 *   E1  a waiter is registered before its row can be claimed
 *   E2  waiters and sources learn only committed facts
 *   E3  recovery ends before the first claim
 *   E4  a stop refuses new work first, then ends claims, then drains workers, then answers waiters, then closes the store
 */
import { statSync } from "node:fs";
import { join } from "node:path";
import type * as Contract from "../core/contracts.ts";
import type { Environment, Logger } from "../core/environment.ts";
import { EngineError, messageOf } from "../core/errors.ts";
import { parseFunctionLimits, type FunctionLimits } from "../core/function-config.ts";
import { newId, parseInvocationId } from "../core/ids.ts";
import { isTerminal } from "../core/invocation.ts";
import { LIMITS } from "../core/limits.ts";
import { checkEnvName, checkFunctionName } from "../core/names.ts";
import { resolveOptions, type EngineOptions, type ResolvedOptions } from "../core/options.ts";
import type { InvokeRequest } from "../core/request.ts";
import { createPool, findBun, sweepOrphans, type Pool } from "../pool/index.ts";
import { Queue, type EndedInvocation } from "../queue/index.ts";
import { BundleStore, FunctionStore, LogStore, openDataFolder, type DataFolder } from "../store/index.ts";
import { Deployer } from "./deploy.ts";
import { Dispatcher } from "./dispatcher.ts";
import { Maintenance } from "./maintenance.ts";
import { Registry, type FunctionEntry } from "./registry.ts";
import { resolveRequest } from "./submit.ts";
import { endOfTurn, systemEnvironment, systemLogger } from "./system.ts";
import { Telemetry } from "./telemetry.ts";
import { Triggers } from "./triggers.ts";
import { VERSION } from "./version.ts";
import { Waiters } from "./waiters.ts";

export interface CreateEngineOptions extends EngineOptions {
	/** Started in this order after recovery, stopped last. */
	readonly sources?: readonly Contract.Source[];
	readonly logger?: Logger;
	/** Clock, chance and probe; for tests. */
	readonly environment?: Environment;
	/** Told to a second daemon, and to `doctor`. */
	readonly socketPath?: string;
}

export interface EngineHandle extends Contract.Engine, AsyncDisposable {
	/** Opens the data, recovers, starts the sources. Twice is once. */
	start(): Promise<void>;
	/** Drains and closes. Twice is once. */
	stop(): Promise<void>;
	/** Resolves if the store fails so that the engine cannot go on (fail-stop); it has stopped serving then. */
	readonly failed: Promise<EngineError>;
}

export function createEngine(options: CreateEngineOptions = {}): EngineHandle {
	const { sources = [], logger, environment, socketPath, ...rest } = options;
	const resolved = resolveOptions(rest);
	return new RunningEngine(resolved, {
		sources,
		environment: environment ?? systemEnvironment(logger ?? systemLogger("warn")),
		socketPath,
	});
}

/** What exists between start and stop. */
interface Parts {
	readonly folder: DataFolder;
	readonly functions: FunctionStore;
	readonly logs: LogStore;
	readonly registry: Registry;
	readonly pool: Pool;
	readonly queue: Queue;
	readonly deployer: Deployer;
	readonly triggers: Triggers;
	readonly maintenance: Maintenance;
}

interface EngineContext {
	readonly sources: readonly Contract.Source[];
	readonly environment: Environment;
	readonly socketPath: string | undefined;
}

class RunningEngine implements EngineHandle {
	readonly #options: ResolvedOptions;
	readonly #context: EngineContext;
	readonly #environment: Environment;
	readonly #waiters = new Waiters();
	readonly #telemetry = new Telemetry();
	readonly #startedAt: number;
	readonly failed: Promise<EngineError>;
	#fail: (error: EngineError) => void = () => undefined;
	#parts: Parts | undefined;
	#starting: Promise<void> | undefined;
	#stopping: Promise<void> | undefined;

	constructor(options: ResolvedOptions, context: EngineContext) {
		this.#options = options;
		this.#context = context;
		this.#environment = context.environment;
		this.#startedAt = this.#environment.clock.now();
		this.failed = new Promise((resolve) => {
			this.#fail = resolve;
		});
	}

	// --- life ---------------------------------------------------------------------------------------------------

	start(): Promise<void> {
		this.#starting ??= this.#start();
		return this.#starting;
	}

	async #start(): Promise<void> {
		const bunPath = findBun(this.#options.bunPath);
		const folder = openDataFolder({
			dataDir: this.#options.dataDir,
			durability: this.#options.durability,
			environment: this.#environment,
		});
		try {
			// E3: every worker of an earlier daemon is gone before anything may run again.
			const orphans = await sweepOrphans(folder.instanceId);
			const parts = this.#assemble(folder, bunPath);
			this.#parts = parts;
			await this.#sweepBundles(parts);
			const recovered = parts.queue.recover();
			if (folder.unclean || orphans > 0 || recovered.requeued + recovered.ended > 0) {
				this.#environment.logger.warn(
					{ orphans, ...recovered },
					"the last run did not stop cleanly; its work was recovered",
				);
			}
			for (const entry of parts.registry.all()) if (entry.active !== undefined) parts.pool.activate(entry.active.spec);
			folder.writeHolder({
				pid: process.pid,
				socketPath: this.#context.socketPath ?? "",
				startedAt: this.#startedAt,
				version: VERSION,
			});
			for (const source of this.#context.sources) await source.start(this);
			parts.maintenance.start();
		} catch (error) {
			await this.#close(0);
			if (this.#parts === undefined) folder.close();
			throw error;
		}
	}

	#assemble(folder: DataFolder, bunPath: string): Parts {
		const environment = this.#environment;
		const functions = new FunctionStore(folder.metadata);
		const bundles = new BundleStore(folder.paths);
		const logs = new LogStore({ database: folder.logs, folder: folder.paths.logs, environment });
		const registry = new Registry({
			defaults: this.#options.defaults,
			bundlePath: (functionId, version) => bundles.path(functionId, version),
		});
		registry.load(functions.load());
		const pool = createPool({
			environment,
			bunPath,
			tmpDir: folder.paths.tmp,
			instanceId: folder.instanceId,
			maxWorkersTotal: this.#options.maxWorkersTotal,
			events: {
				capacity: (functionId) => {
					const entry = registry.find(functionId);
					if (entry !== undefined) queue.consider(entry.lane);
				},
				log: (line) => {
					const entry = registry.find(line.functionId);
					if (entry === undefined) return;
					const seq = line.invocationId === undefined ? undefined : parseInvocationId(line.invocationId)?.seq;
					logs.append({ ...line, lane: entry.id, seq });
				},
			},
		});
		const dispatcher = new Dispatcher({ environment, registry, pool, queue: () => queue });
		const queue: Queue = new Queue({
			database: folder.queue,
			environment,
			slots: dispatcher,
			names: {
				functionOf: (lane) => registry.byId(lane),
				versionOf: (version) => registry.versionById(version).version,
			},
			resultRetentionMs: this.#options.resultRetentionMs,
			defer: endOfTurn,
			claimed: (claims) => dispatcher.send(claims),
			ended: (end) => this.#ended(registry, end),
			retryOf: (_lane, version) => registry.versionById(version).spec.config.retry,
			freeBallast: () => folder.ballast.free(),
			broken: (error) => this.#break(error),
		});
		for (const entry of registry.all()) queue.lanes.add(entry.lane);
		const triggers = new Triggers({ environment, registry, store: functions, queue });
		const deployer = new Deployer({
			environment,
			registry,
			store: functions,
			bundles,
			pool,
			bunPath,
			tmp: folder.paths.tmp,
			register: (name, handler) => this.#register(name, handler),
			activated: (entry) => {
				queue.consider(entry.lane);
				triggers.schedulesChanged();
			},
		});
		const maintenance = new Maintenance(environment, [
			{ name: "prune results", step: () => queue.prune() },
			{
				name: "prune logs",
				step: () => logs.prune(environment.clock.now() - this.#options.logRetentionMs, LIMITS.pruneStepRows) > 0,
			},
			{
				name: "restore ballast",
				step: () => {
					folder.ballast.restore();
					return false;
				},
			},
		]);
		return { folder, functions, logs, registry, pool, queue, deployer, triggers, maintenance };
	}

	async #sweepBundles(parts: Parts): Promise<void> {
		const bundles = new BundleStore(parts.folder.paths);
		await bundles.sweep((functionId, version) => parts.registry.find(functionId)?.versions.has(version) === true);
	}

	stop(): Promise<void> {
		this.#stopping ??= this.#close(this.#options.drainMs);
		return this.#stopping;
	}

	async #close(drainMs: number): Promise<void> {
		const parts = this.#parts;
		if (parts === undefined) return;
		this.#stopping ??= Promise.resolve();
		parts.queue.stopClaims();
		await parts.maintenance.stop();
		await parts.deployer.idle();
		await parts.pool.stop(drainMs);
		parts.queue.close();
		this.#waiters.abandon();
		for (const source of this.#context.sources.toReversed()) {
			await source.stop().catch((error: unknown) => {
				this.#environment.logger.error(
					{ source: source.kind, error: messageOf(error) },
					"a source did not stop cleanly",
				);
			});
		}
		parts.logs.close();
		parts.folder.close();
	}

	/** Fail-stop: the store cannot be trusted to take another write. */
	#break(error: EngineError): void {
		this.#environment.logger.error({ code: error.code, error: error.message }, "the store failed; the engine stops");
		this.#fail(error);
	}

	[Symbol.asyncDispose](): Promise<void> {
		return this.stop();
	}

	get #running(): Parts {
		if (this.#parts === undefined) throw new Error("the engine is not started; call start() first");
		return this.#parts;
	}

	get ready(): boolean {
		return this.#parts !== undefined && this.#stopping === undefined;
	}

	// --- invocations --------------------------------------------------------------------------------------------

	invoke(request: InvokeRequest): Promise<Contract.Ended> {
		return new Promise((resolve, reject) => {
			const { queue, registry } = this.#running;
			const answer = (end: Contract.Ended | EngineError): void => {
				if (end instanceof EngineError) reject(end);
				else resolve(end);
			};
			const submission = resolveRequest(registry, request);
			queue.enqueue(
				submission,
				(accepted) => {
					if (accepted.replayed && isTerminal(accepted.state)) resolve(this.#endedOf(accepted.invocationId));
					else this.#waiters.add(accepted.invocationId, answer); // E1
				},
				reject,
			);
		});
	}

	#endedOf(invocationId: string): Contract.Ended {
		const { state, result, error, runMs } = this.#running.queue.read.record(invocationId);
		return { invocationId, state, result, error, executionMs: runMs ?? 0 };
	}

	enqueue(request: InvokeRequest): Promise<Contract.Accepted> {
		return new Promise((resolve, reject) => {
			const { queue, registry } = this.#running;
			queue.enqueue(resolveRequest(registry, request), resolve, reject);
		});
	}

	async enqueueBatch(requests: readonly InvokeRequest[]): Promise<readonly (Contract.Accepted | EngineError)[]> {
		const { queue, registry } = this.#running;
		if (requests.length > LIMITS.batchMax) {
			throw new EngineError(
				"BAD_REQUEST",
				`expected at most ${LIMITS.batchMax} requests in a batch, got ${requests.length}`,
			);
		}
		return queue.enqueueBatch(
			requests.map((request) => {
				try {
					return resolveRequest(registry, request);
				} catch (error) {
					if (error instanceof EngineError) return error;
					throw error;
				}
			}),
		);
	}

	#ended(registry: Registry, end: EndedInvocation): void {
		this.#telemetry.endedInvocation(registry.byId(end.lane.id).name, end);
		this.#waiters.ended(end);
	}

	getInvocation(invocationId: string): Contract.InvocationRecord {
		return this.#running.queue.read.record(invocationId);
	}

	async awaitInvocation(
		invocationId: string,
		options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
	): Promise<{ readonly record: Contract.InvocationRecord; readonly timedOutWaiting: boolean }> {
		const record = this.getInvocation(invocationId);
		if (isTerminal(record.state)) return { record, timedOutWaiting: false };
		const end = await this.#waitForEnd(invocationId, options);
		if (end instanceof EngineError) throw end;
		return { record: this.getInvocation(invocationId), timedOutWaiting: end === undefined };
	}

	/** Undefined where the wait ended before the invocation did. */
	#waitForEnd(
		invocationId: string,
		options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
	): Promise<Contract.Ended | EngineError | undefined> {
		return new Promise((resolve) => {
			const done = (end: Contract.Ended | EngineError | undefined): void => {
				timer.cancel();
				options.signal?.removeEventListener("abort", aborted);
				stopWaiting();
				resolve(end);
			};
			const aborted = (): void => done(undefined);
			const stopWaiting = this.#waiters.add(invocationId, done);
			const timer = this.#environment.clock.setTimer(Math.min(options.timeoutMs, LIMITS.awaitMsMax), () =>
				done(undefined),
			);
			if (options.signal?.aborted === true) done(undefined);
			else options.signal?.addEventListener("abort", aborted, { once: true });
		});
	}

	async cancel(
		invocationId: string,
	): Promise<{ readonly invocationId: string; readonly state: Contract.InvocationRecord["state"] }> {
		const { queue, pool } = this.#running;
		const { state, attempt } = await queue.cancel(invocationId);
		if (state === "running") pool.cancel(invocationId, attempt);
		return { invocationId, state };
	}

	async retry(invocationId: string): Promise<Contract.Accepted> {
		const { queue, registry } = this.#running;
		const { row, request } = queue.read.request(invocationId);
		if (row.finishedAt === null) {
			throw new EngineError("BAD_REQUEST", `${invocationId} has not ended; only ended invocations can be retried`, {
				invocationId,
			});
		}
		const submission = resolveRequest(
			registry,
			{ ...request, function: registry.byId(row.lane).functionId },
			invocationId,
		);
		return new Promise((resolve, reject) => queue.enqueue(submission, resolve, reject));
	}

	listInvocations(filter: Contract.InvocationFilter): readonly Contract.InvocationSummary[] {
		const { queue, registry } = this.#running;
		const lane = filter.function === undefined ? undefined : registry.resolve(filter.function).id;
		return queue.read.list({ lane, state: filter.state, limit: filter.limit, before: filter.before });
	}

	// --- functions ----------------------------------------------------------------------------------------------

	registerFunction(request: { name: string; runtime?: string; handler?: string }): Contract.FunctionRecord {
		if ((request.runtime ?? "bun") !== "bun") {
			throw new EngineError(
				"UNSUPPORTED_RUNTIME",
				`expected the runtime "bun", got ${JSON.stringify(request.runtime)}`,
			);
		}
		const { registry } = this.#running;
		const known = registry.find(checkFunctionName(request.name));
		return registry.functionRecord(known ?? this.#register(request.name, request.handler));
	}

	#register(name: string, handler: string | undefined): FunctionEntry {
		const { functions, registry, queue } = this.#running;
		const { clock, random } = this.#environment;
		const row = functions.insertFunction({
			functionId: newId("fn", clock, random),
			name: checkFunctionName(name),
			handler: handler === undefined || handler === "" ? "default" : handler,
			createdAt: clock.now(),
		});
		const entry = registry.addFunction(row);
		queue.lanes.add(entry.lane);
		return entry;
	}

	getFunction(idOrName: string): Contract.FunctionRecord {
		const { registry } = this.#running;
		return registry.functionRecord(registry.resolve(idOrName));
	}

	listFunctions(): readonly Contract.FunctionRecord[] {
		const { registry } = this.#running;
		return [...registry.all()].map((entry) => registry.functionRecord(entry));
	}

	configureFunction(idOrName: string, changes: Record<string, unknown>): Contract.FunctionRecord {
		const { functions, registry, pool, queue } = this.#running;
		const entry = registry.resolve(idOrName);
		const overrides = parseFunctionLimits("overrides", mergeOverrides(entry.overrides, changes));
		// Refuses contradictions before anything is written.
		for (const version of entry.versions.values()) {
			registry.specOf({ ...entry, overrides } as FunctionEntry, version.version, version.moduleConfig);
		}
		functions.setOverrides(entry.id, overrides);
		registry.refresh(entry, { overrides });
		pool.recycle(entry.functionId);
		if (entry.active !== undefined) pool.activate(entry.active.spec);
		queue.consider(entry.lane);
		return registry.functionRecord(entry);
	}

	deploy(request: Contract.DeployRequest): Promise<Contract.DeployResult> {
		if (!this.ready) return Promise.reject(stopping());
		return this.#running.deployer.deploy(request);
	}

	rollback(idOrName: string, version?: string): Promise<Contract.DeployResult> {
		if (!this.ready) return Promise.reject(stopping());
		return this.#running.deployer.rollback(idOrName, version);
	}

	listVersions(idOrName: string): readonly Contract.VersionRecord[] {
		const { registry } = this.#running;
		return [...registry.resolve(idOrName).versions.values()]
			.map((version) => registry.versionRecord(version))
			.toReversed();
	}

	listDeployments(idOrName: string): readonly Contract.DeploymentRecord[] {
		const { functions, registry } = this.#running;
		const entry = registry.resolve(idOrName);
		return functions.listDeployments(entry.id).map(({ deploymentId, version, deployedAt, reason }) => ({
			deploymentId,
			functionId: entry.functionId,
			version: registry.versionById(version).version,
			deployedAt,
			reason,
		}));
	}

	listEnvironment(idOrName: string): readonly { readonly name: string; readonly updatedAt: number }[] {
		const { functions, registry } = this.#running;
		return functions.listEnvironment(registry.resolve(idOrName).id).map(({ name, updatedAt }) => ({ name, updatedAt }));
	}

	setEnvironment(idOrName: string, values: Readonly<Record<string, string>>): void {
		const { functions, registry } = this.#running;
		const entry = registry.resolve(idOrName);
		for (const name of Object.keys(values)) checkEnvName(name);
		functions.setEnvironment(entry.id, values, this.#environment.clock.now());
		this.#refreshEnvironment(entry);
	}

	unsetEnvironment(idOrName: string, names: readonly string[]): void {
		const { functions, registry } = this.#running;
		const entry = registry.resolve(idOrName);
		functions.unsetEnvironment(entry.id, names);
		this.#refreshEnvironment(entry);
	}

	#refreshEnvironment(entry: FunctionEntry): void {
		const { functions, registry, pool } = this.#running;
		const env = Object.fromEntries(functions.listEnvironment(entry.id).map(({ name, value }) => [name, value]));
		registry.refresh(entry, { env });
		pool.recycle(entry.functionId);
		if (entry.active !== undefined) pool.activate(entry.active.spec);
	}

	// --- triggers -----------------------------------------------------------------------------------------------

	listSchedules(idOrName?: string): readonly Contract.ScheduleRecord[] {
		const { registry, triggers } = this.#running;
		return triggers.list(idOrName === undefined ? undefined : registry.resolve(idOrName));
	}

	putSchedule(request: Contract.ScheduleRequest): Contract.ScheduleRecord {
		return this.#running.triggers.put(request);
	}

	deleteSchedule(scheduleId: string): void {
		this.#running.triggers.remove(scheduleId);
	}

	pauseSchedule(scheduleId: string, paused: boolean): Contract.ScheduleRecord {
		return this.#running.triggers.pause(scheduleId, paused);
	}

	onSchedulesChanged(listener: () => void): () => void {
		return this.#running.triggers.onSchedulesChanged(listener);
	}

	fireSchedule(
		scheduleId: string,
		slot: number,
		request: InvokeRequest | undefined,
	): Promise<Contract.SlotDecision | undefined> {
		return this.#running.triggers.fire(scheduleId, slot, request);
	}

	emit(request: Contract.EmitRequest): Promise<Contract.EmitResult> {
		return this.#running.triggers.emit(request);
	}

	translateEvents(translate: Contract.EventTranslator): void {
		this.#running.triggers.translateEvents(translate);
	}

	listEvents(limit: number = LIMITS.listPageDefault): readonly Contract.EventRecord[] {
		return this.#running.triggers.listEvents(limit);
	}

	// --- looking ------------------------------------------------------------------------------------------------

	listLanes(): readonly Contract.LaneRecord[] {
		return [...this.#running.registry.all()].map((entry) => this.#laneRecord(entry));
	}

	#laneRecord(entry: FunctionEntry): Contract.LaneRecord {
		const { lane } = entry;
		return {
			functionId: entry.functionId,
			functionName: entry.name,
			running: lane.running,
			limit: lane.limit,
			ready: lane.ready,
			delayed: lane.delayed,
			maxQueued: lane.maxQueued,
			paused: lane.paused,
			blocked: entry.active === undefined ? undefined : this.#running.pool.blocked(entry.active.spec.key),
		};
	}

	pauseLane(idOrName: string, paused: boolean): Contract.LaneRecord {
		const { functions, registry, queue } = this.#running;
		const entry = registry.resolve(idOrName);
		functions.setPaused(entry.id, paused);
		entry.lane.paused = paused;
		queue.consider(entry.lane);
		return this.#laneRecord(entry);
	}

	listWorkers(): readonly Contract.WorkerRecord[] {
		return this.#running.pool.workers();
	}

	readLogs(filter: Contract.LogFilter): Contract.LogPage {
		const { logs, registry, queue } = this.#running;
		const seq = filter.invocationId === undefined ? undefined : queue.read.row(filter.invocationId).seq;
		const lane = filter.function === undefined ? undefined : registry.resolve(filter.function).id;
		const page = logs.read({ ...filter, lane, seq });
		return {
			total: page.total,
			logs: page.rows.map((row) => ({
				id: row.id,
				functionId: registry.byId(row.lane).functionId,
				invocationId: row.seq === undefined ? undefined : queue.read.idOf(row.seq),
				attempt: row.attempt,
				level: row.level,
				message: row.message,
				metadata: row.metadata,
				at: row.at,
			})),
		};
	}

	waitForLogs(after: number, timeoutMs: number, signal?: AbortSignal): Promise<void> {
		const { logs } = this.#running;
		return new Promise((resolve) => {
			const done = (): void => {
				timer.cancel();
				signal?.removeEventListener("abort", done);
				unsubscribe();
				resolve();
			};
			const unsubscribe = logs.onAppend(done);
			const timer = this.#environment.clock.setTimer(timeoutMs, done);
			if (signal?.aborted === true || logs.lastId > after) done();
			else signal?.addEventListener("abort", done, { once: true });
		});
	}

	getMetrics(idOrName: string, period: Contract.MetricsPeriod): Contract.MetricsRecord {
		const { queue, registry } = this.#running;
		const row = queue.read.metrics(registry.resolve(idOrName).id, period);
		return {
			invocations: row.invocations,
			errors: row.errors,
			averageDurationMs: row.invocations === 0 ? 0 : row.runMs / row.invocations,
			coldStarts: row.coldStarts,
			lastInvokedAt: row.lastAt ?? undefined,
			period,
		};
	}

	renderMetrics(): string {
		const { folder } = this.#running;
		const size = (name: string): number =>
			statSync(join(folder.paths.root, name), { throwIfNoEntry: false })?.size ?? 0;
		return this.#telemetry.render({
			stats: this.stats(),
			lanes: this.listLanes(),
			databaseBytes: size("queue.db") + size("queue.db-wal"),
		});
	}

	stats(): Contract.Stats {
		const { folder, logs, pool, queue, registry } = this.#running;
		const workers = { STARTING: 0, WARM: 0, BUSY: 0, IDLE: 0, DRAINING: 0, TERMINATED: 0 };
		for (const { state } of pool.workers()) workers[state] += 1;
		let queued = 0;
		let running = 0;
		for (const { lane } of registry.all()) {
			queued += lane.queued;
			running += lane.running;
		}
		return {
			version: VERSION,
			startedAt: this.#startedAt,
			pid: process.pid,
			dataDir: folder.paths.root,
			draining: this.#stopping !== undefined,
			functions: registry.size,
			queued,
			running,
			workers,
			ended: { ...this.#telemetry.ended },
			accepted: queue.accepted,
			commits: queue.commits,
			logLinesDropped: logs.dropped,
			rssBytes: residentBytes(),
		};
	}

	maxBodyBytes(idOrName: string): number {
		const { registry } = this.#running;
		return registry.configOf(registry.resolve(idOrName)).maxBodyBytes;
	}
}

function stopping(): EngineError {
	return new EngineError("SHUTTING_DOWN", "the daemon is stopping", { retryAfterSeconds: 5 });
}

/** Keys replace keys, also inside `retry`; null removes one. */
function mergeOverrides(before: FunctionLimits, changes: Record<string, unknown>): Record<string, unknown> {
	const merged: Record<string, unknown> = { ...before };
	for (const [key, value] of Object.entries(changes)) {
		if (value === null) delete merged[key];
		else if (key === "retry" && typeof value === "object" && !Array.isArray(value)) {
			const retry = mergeOverrides((before.retry ?? {}) as FunctionLimits, value as Record<string, unknown>);
			if (Object.keys(retry).length === 0) delete merged[key];
			else merged[key] = retry;
		} else merged[key] = value;
	}
	return merged;
}

/** Reading /proc fails where file descriptors have run out (measured); a sample is not worth a crash. */
function residentBytes(): number {
	try {
		return process.memoryUsage.rss();
	} catch {
		return 0;
	}
}
