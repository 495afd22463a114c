/**
 * The engine's life, and its face to sources.
 *
 *   E1  a waiter is registered before its row can be claimed
 *   E2  waiters and sources learn only committed facts
 *   E3  recovery ends before the first claim
 *   E4  a stop refuses new work first, then ends claims, then drains workers, then answers waiters, then closes the store
 */
import type * as Contract from "../core/contracts.ts";
import type { Environment } from "../core/environment.ts";
import { EngineError, messageOf } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";
import { resolveOptions, type ResolvedOptions } from "../core/options.ts";
import type { InvokeRequest } from "../core/request.ts";
import type { DataFolder } from "../store/index.ts";
import type { Parts } from "./assemble.ts";
import { checkClock } from "./clock-check.ts";
import type { CreateEngineOptions, EngineHandle } from "./handle.ts";
import type { Machine } from "./machine.ts";
import { systemEnvironment, systemLogger } from "./system.ts";
import { VERSION } from "./version.ts";

/** An engine on this machine; `createEngine` is that on the real one. */
export function engineOn(machine: Machine, options: CreateEngineOptions = {}): EngineHandle {
	const { sources = [], logger, environment, socketPath = "", ...rest } = options;
	return new RunningEngine(resolveOptions(rest), {
		sources,
		environment: environment ?? systemEnvironment(logger ?? systemLogger("warn")),
		machine,
		socketPath,
	});
}

interface EngineContext {
	readonly sources: readonly Contract.Source[];
	readonly environment: Environment;
	readonly machine: Machine;
	readonly socketPath: string;
}

class RunningEngine implements EngineHandle {
	readonly #options: ResolvedOptions;
	readonly #context: EngineContext;
	readonly #environment: Environment;
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

	start(): Promise<void> {
		this.#starting ??= this.#stopping === undefined ? this.#start() : Promise.reject(stopping());
		return this.#starting;
	}

	async #start(): Promise<void> {
		const { machine } = this.#context;
		const bunPath = machine.findBun(this.#options.bunPath);
		const { dataDir, durability, acceptRollback, freeBytesMin } = this.#options;
		const environment = this.#environment;
		const folder = machine.openFolder({ dataDir, durability, acceptRollback, freeBytesMin, environment });
		let parts: Parts | undefined;
		try {
			// E3: every worker of an earlier daemon is gone before anything may run again.
			const orphans = await machine.sweepOrphans(folder.instanceId, folder.paths.tmp);
			await machine.removeLeftovers(folder.paths.tmp, this.#environment);
			parts = this.#assemble(folder, bunPath);
			await this.#recover(parts, orphans);
			this.#parts = parts;
			for (const source of this.#context.sources) {
				this.#refuseIfStopping();
				await source.start(this);
			}
			this.#refuseIfStopping();
			parts.maintenance.start();
			folder.keeper.start({ levels: parts.levels, broken: (error) => this.#break(error) });
			folder.checkLater((error) => this.#break(error));
		} catch (error) {
			// Nothing of it may stay: no worker, no timer, no lock.
			if (parts === undefined) folder.close();
			else await this.#close(parts, 0);
			this.#parts = undefined;
			throw error;
		}
	}

	/** A stop that was asked for during the start ends it at the next of its steps. */
	#refuseIfStopping(): void {
		if (this.#stopping !== undefined) throw stopping();
	}

	#assemble(folder: DataFolder, bunPath: string): Parts {
		return this.#context.machine.assemble({
			options: this.#options,
			environment: this.#environment,
			folder,
			bunPath,
			startedAt: this.#startedAt,
			draining: () => this.#stopping !== undefined,
			broken: (error) => this.#break(error),
		});
	}

	async #recover(parts: Parts, orphans: number): Promise<void> {
		const environment = this.#environment;
		const { registry, folder } = parts;
		await parts.bundles.sweep((functionId, version) => registry.find(functionId)?.versions.has(version) === true);
		checkClock(environment, parts.queue.newestAt());
		const recovered = parts.queue.recover();
		if (folder.unclean)
			environment.logger.warn({ orphans, ...recovered }, "the last run did not stop cleanly; its work was recovered");
		for (const { active } of registry.all()) if (active !== undefined) parts.pool.activate(active.spec);
		folder.writeHolder({
			pid: process.pid,
			socketPath: this.#context.socketPath,
			startedAt: this.#startedAt,
			version: VERSION,
		});
	}

	stop(): Promise<void> {
		this.#stopping ??= this.#stop();
		return this.#stopping;
	}

	async #stop(): Promise<void> {
		// A start under way sees that it is unwanted, closes what it opened, and says so itself.
		await this.#starting?.catch(() => undefined);
		if (this.#parts !== undefined) await this.#close(this.#parts, this.#options.drainMs);
	}

	/** E4. */
	async #close(parts: Parts, drainMs: number): Promise<void> {
		parts.queue.stopClaims();
		await parts.backups.stop();
		await parts.maintenance.stop();
		await parts.deployer.idle();
		await parts.pool.stop(drainMs);
		await this.#endDaemonised(parts.folder);
		await this.#context.machine.removeLeftovers(parts.folder.paths.tmp, this.#environment);
		parts.queue.close();
		parts.waiters.abandon();
		for (const source of this.#context.sources.toReversed()) {
			await source.stop().catch((error: unknown) => {
				this.#environment.logger.error(
					{ source: source.kind, error: messageOf(error) },
					"a source did not stop cleanly",
				);
			});
		}
		await parts.logs.close();
		await parts.folder.keeper.stop();
		parts.folder.close();
	}

	/** The workers are gone, with their children; what a function made a daemon of itself is found as after a kill. */
	async #endDaemonised(folder: DataFolder): Promise<void> {
		try {
			await this.#context.machine.sweepOrphans(folder.instanceId, folder.paths.tmp);
		} catch (error) {
			this.#environment.logger.warn({ error: messageOf(error) }, "processes that functions started do not end");
		}
	}

	/** Fail-stop: the store cannot be trusted to take another write. */
	#break(error: EngineError): void {
		this.#environment.logger.error(
			{ code: error.code, error: error.message },
			"the store failed; the engine takes no more work",
		);
		this.#fail(error);
	}

	[Symbol.asyncDispose](): Promise<void> {
		return this.stop();
	}

	get #running(): Parts {
		if (this.#parts === undefined)
			throw new EngineError("BAD_ENVIRONMENT", "the engine is not started; call start() first");
		return this.#parts;
	}

	get ready(): boolean {
		return this.#parts !== undefined && this.#stopping === undefined;
	}

	// --- what sources ask; each method names who answers ---------------------------------------------------------
	invoke(request: InvokeRequest): Promise<Contract.Ended> {
		return this.#running.invocations.invoke(request);
	}

	registerFunction(request: { name: string; runtime?: string; handler?: string }): Contract.FunctionRecord {
		return this.#running.functions.registerFunction(request);
	}

	listLanes(): readonly Contract.LaneRecord[] {
		return this.#running.views.listLanes();
	}

	enqueue(request: InvokeRequest): Promise<Contract.Accepted> {
		return this.#running.invocations.enqueue(request);
	}

	enqueueBatch(requests: readonly InvokeRequest[]): Promise<readonly (Contract.Accepted | EngineError)[]> {
		return this.#running.invocations.enqueueBatch(requests);
	}

	getInvocation(invocationId: string): Contract.InvocationRecord {
		return this.#running.invocations.getInvocation(invocationId);
	}

	awaitInvocation(
		invocationId: string,
		options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
	): Promise<{ readonly record: Contract.InvocationRecord; readonly timedOutWaiting: boolean }> {
		return this.#running.invocations.awaitInvocation(invocationId, options);
	}

	cancel(
		invocationId: string,
	): Promise<{ readonly invocationId: string; readonly state: Contract.InvocationRecord["state"] }> {
		return this.#running.invocations.cancel(invocationId);
	}

	retry(invocationId: string): Promise<Contract.Accepted> {
		return this.#running.invocations.retry(invocationId);
	}

	listInvocations(filter: Contract.InvocationFilter): readonly Contract.InvocationSummary[] {
		return this.#running.invocations.listInvocations(filter);
	}

	getFunction(idOrName: string): Contract.FunctionRecord {
		return this.#running.functions.getFunction(idOrName);
	}

	listFunctions(): readonly Contract.FunctionRecord[] {
		return this.#running.functions.listFunctions();
	}

	configureFunction(idOrName: string, changes: Record<string, unknown>): Contract.FunctionRecord {
		return this.#running.functions.configureFunction(idOrName, changes);
	}

	listVersions(idOrName: string): readonly Contract.VersionRecord[] {
		return this.#running.functions.listVersions(idOrName);
	}

	listDeployments(idOrName: string): readonly Contract.DeploymentRecord[] {
		return this.#running.functions.listDeployments(idOrName);
	}

	listEnvironment(idOrName: string): readonly { readonly name: string; readonly updatedAt: number }[] {
		return this.#running.functions.listEnvironment(idOrName);
	}

	setEnvironment(idOrName: string, values: Readonly<Record<string, string>>): void {
		this.#running.functions.setEnvironment(idOrName, values);
	}

	unsetEnvironment(idOrName: string, names: readonly string[]): void {
		this.#running.functions.unsetEnvironment(idOrName, names);
	}

	deploy(request: Contract.DeployRequest): Promise<Contract.DeployResult> {
		if (!this.ready) return Promise.reject(stopping());
		return this.#running.deployer.deploy(request);
	}

	rollback(idOrName: string, version?: string): Promise<Contract.DeployResult> {
		if (!this.ready) return Promise.reject(stopping());
		return this.#running.deployer.rollback(idOrName, version);
	}

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

	onSchedulesChanged(listener: Contract.ScheduleListener): () => void {
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

	pauseLane(idOrName: string, paused: boolean): Contract.LaneRecord {
		this.#running.functions.pauseLane(idOrName, paused);
		return this.#running.views.getLane(idOrName);
	}

	listWorkers(): readonly Contract.WorkerRecord[] {
		return this.#running.views.listWorkers();
	}

	readLogs(filter: Contract.LogFilter): Contract.LogPage {
		return this.#running.views.readLogs(filter);
	}

	waitForLogs(after: number, timeoutMs: number, signal?: AbortSignal): Promise<void> {
		return this.#running.views.waitForLogs(after, timeoutMs, signal);
	}

	getMetrics(idOrName: string, period: Contract.MetricsPeriod): Contract.MetricsRecord {
		return this.#running.views.getMetrics(idOrName, period);
	}

	renderMetrics(): string {
		return this.#running.views.renderMetrics();
	}

	stats(): Contract.Stats {
		return this.#running.views.stats();
	}

	backup(request: Contract.BackupRequest, signal?: AbortSignal): Promise<Contract.BackupRecord> {
		if (!this.ready) return Promise.reject(stopping());
		return this.#running.backups.create(request, signal);
	}

	get backupProgress(): Contract.BackupProgress | undefined {
		return this.#running.backups.progress;
	}

	maxBodyBytes(idOrName: string): number {
		const { registry } = this.#running;
		return registry.configOf(registry.resolve(idOrName)).maxBodyBytes;
	}
}

function stopping(): EngineError {
	return new EngineError("SHUTTING_DOWN", "the daemon is stopping", { retryAfterSeconds: 5 });
}
