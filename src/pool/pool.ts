/**
 * Which worker takes an attempt, and when workers are started and ended.
 *
 *   P1  a worker has at most `workerConcurrency` attempts; a slot is always of a READY worker
 *   P6  at most `maxWorkers` processes per function and `maxWorkersTotal` over all; only `prove` may add one
 *
 * `reserve` looks at the workers of one version and does nothing else. What it could not serve is noted as demand,
 * in the order in which versions asked; `#pump` turns demand into starts, at the end of the turn.
 */
import PQueue from "p-queue";
import type { WorkerRecord } from "../core/contracts.ts";
import type { Environment, Timer } from "../core/environment.ts";
import { EngineError } from "../core/errors.ts";
import type { Outcome } from "../core/invocation.ts";
import { LIMITS } from "../core/limits.ts";
import type { AttemptSpec, Pool, PoolEvents, ReadyReport, Slot, SlotNeed, WorkerSpec } from "./contract.ts";
import { createMemoryReader, type ReadMemory } from "./memory.ts";
import { createSpawner, type HostVariables, type SpawnWorker } from "./process.ts";
import { findRoom } from "./room.ts";
import { VersionWorkers } from "./version-workers.ts";
import { Watch } from "./watch.ts";
import { Worker, type WorkerDependencies } from "./worker.ts";

/** A start that takes longer stops holding up the starts of others. */
const PACE_MS = 500;
/** Workers of a replaced version serve what is pinned to it and leave soon after. */
const SUPERSEDED_IDLE_MS = 1_000;
/** How long an emptied worker is kept for the solo attempt it was emptied for. */
const HELD_EMPTY_MS = 100;

export interface PoolDependencies {
	readonly environment: Environment;
	readonly bunPath: string;
	/** Working folders of workers are made in here. Absolute; must exist. */
	readonly tmpDir: string;
	/** Marks the processes, so that the next daemon finds what this one leaves. */
	readonly instanceId: string;
	readonly maxWorkersTotal: number;
	readonly events: PoolEvents;
	/** Where PATH, HOME, TZ and LANG come from; default: the environment of this process. */
	readonly hostVariables?: HostVariables;
	/** For tests: a process that is none. */
	readonly spawn?: SpawnWorker;
	readonly readMemory?: ReadMemory;
}

export function createPool(deps: PoolDependencies): Pool {
	return new WorkerPool(deps);
}

class WorkerSlot implements Slot {
	readonly worker: string;
	readonly cold: boolean;
	readonly place: Worker;
	readonly need: SlotNeed;
	#open = true;

	constructor(place: Worker, need: SlotNeed) {
		this.worker = place.id;
		this.cold = place.cold;
		this.place = place;
		this.need = need;
		place.reserve(need);
	}

	/** A slot ends once. */
	close(): void {
		if (!this.#open) throw new Error(`a slot of worker ${this.worker} was used twice`);
		this.#open = false;
	}

	release(): void {
		this.close();
		this.place.release(this.need);
	}
}

interface Proof {
	readonly resolve: (report: ReadyReport) => void;
	readonly reject: (error: EngineError) => void;
}

interface Stopping {
	readonly done: Promise<void>;
	readonly resolve: () => void;
	timer: Timer | undefined;
	killAt: number;
}

class WorkerPool implements Pool {
	readonly #deps: PoolDependencies;
	readonly #workerDeps: WorkerDependencies;
	readonly #versions = new Map<string, VersionWorkers>();
	/** Every process that is not proven gone. */
	readonly #live = new Set<Worker>();
	/** The active version of each function. */
	readonly #active = new Map<string, WorkerSpec>();
	/** Keys of versions that could not be served, oldest first; true where somebody needs a worker alone. */
	readonly #demand = new Map<string, boolean>();
	/** Functions to be told at the end of the turn. */
	readonly #told = new Set<string>();
	readonly #proofs = new Map<Worker, Proof>();
	/** Ends the turn of a start in `#pacing`. */
	readonly #paced = new Map<Worker, () => void>();
	readonly #pacing = new PQueue({ concurrency: LIMITS.spawnsAtOnceMax });
	readonly #watch: Watch;
	#lastWorker = 0;
	#scheduled = false;
	#later: Timer | undefined;
	#laterAt = Infinity;
	#stopping: Stopping | undefined;

	constructor(deps: PoolDependencies) {
		this.#deps = deps;
		const { environment, bunPath, instanceId, tmpDir } = deps;
		const hostVariables = deps.hostVariables ?? process.env;
		this.#workerDeps = {
			environment,
			spawn:
				deps.spawn ?? createSpawner({ bunPath, instanceId, tempDir: tmpDir, hostVariables, clock: environment.clock }),
			events: {
				ready: (worker, config) => this.#ready(worker, config),
				freed: (worker) => this.#freed(worker),
				idleMs: (worker) => this.#idleMs(worker),
				gone: (worker, startError) => this.#gone(worker, startError),
				log: (line) => deps.events.log(line),
			},
		};
		const readMemory = deps.readMemory ?? createMemoryReader();
		this.#watch = new Watch({ clock: environment.clock, readMemory, workers: this.#live });
	}

	reserve(spec: WorkerSpec, need: SlotNeed): Slot | undefined {
		if (this.#stopping !== undefined) return undefined;
		const version = this.#versionOf(spec);
		const best = version.best(need);
		if (best !== undefined) {
			this.#watch.busy();
			return new WorkerSlot(best, need);
		}
		this.#demand.set(spec.key, need.solo || this.#demand.get(spec.key) === true);
		this.#soon();
		return undefined;
	}

	run(slot: Slot, attempt: AttemptSpec): Promise<Outcome> {
		if (!(slot instanceof WorkerSlot)) throw new Error("run takes a slot that reserve gave");
		slot.close();
		return slot.place.send(slot.need, attempt);
	}

	cancel(invocationId: string, attempt: number): void {
		for (const worker of this.#live) if (worker.cancel(invocationId, attempt)) return;
	}

	prove(spec: WorkerSpec): Promise<ReadyReport> {
		if (this.#stopping !== undefined) {
			return Promise.reject(new EngineError("SHUTTING_DOWN", "the daemon is stopping; deploy again when it is back"));
		}
		const version = this.#versionOf(spec);
		const proven = version.workers.find((worker) => worker.serving && !worker.silent);
		if (proven !== undefined) return Promise.resolve({ config: version.config, readyMs: proven.readyMs });
		// The active version must not have to end for the new one to be tried, so this start asks for no room.
		if (this.#live.size >= this.#deps.maxWorkersTotal) this.#makeRoom(spec);
		return new Promise((resolve, reject) => this.#proofs.set(this.#start(version, false), { resolve, reject }));
	}

	activate(spec: WorkerSpec): void {
		this.#versionOf(spec);
		this.#active.set(spec.functionId, spec);
		for (const version of this.#versions.values()) {
			if (version.spec.functionId === spec.functionId) version.superseded = version.spec.key !== spec.key;
		}
		for (const worker of this.#live) {
			if (worker.spec.functionId !== spec.functionId) continue;
			const { key } = worker.spec;
			// What is pinned to an old version still has to run: while it asks, its workers stay.
			if (key !== spec.key && worker.load === 0 && !this.#demand.has(key)) {
				worker.retire(`version ${spec.version} was activated`);
			} else if (key === spec.key) worker.adopt(spec);
			else worker.reconsider();
		}
		this.#soon();
	}

	recycle(functionId: string): void {
		for (const worker of this.#live) {
			if (worker.spec.functionId === functionId) worker.retire("its environment or limits changed");
		}
		this.#soon();
	}

	blocked(key: string): string | undefined {
		return this.#versions.get(key)?.breaker.explain(this.#now());
	}

	workers(): readonly WorkerRecord[] {
		return [...this.#live].map((worker) => worker.record());
	}

	/** May be called again with less patience; both get the same promise. */
	stop(drainMs: number): Promise<void> {
		const killAt = this.#now() + drainMs;
		if (this.#stopping === undefined) {
			const { promise, resolve } = Promise.withResolvers<void>();
			this.#stopping = { done: promise, resolve, timer: undefined, killAt: Infinity };
			this.#demand.clear();
			this.#later?.cancel();
			for (const version of this.#versions.values()) version.breakerTimer?.cancel();
			for (const worker of this.#live) worker.retire("the daemon stops");
		}
		const stopping = this.#stopping;
		if (killAt < stopping.killAt) {
			stopping.timer?.cancel();
			stopping.killAt = killAt;
			const killAll = (): void => {
				for (const worker of this.#live) worker.kill({ kind: "drain" });
			};
			if (drainMs <= 0) killAll();
			else stopping.timer = this.#deps.environment.clock.setTimer(drainMs, killAll);
		}
		this.#endIfStopped();
		return stopping.done;
	}

	#now(): number {
		return this.#deps.environment.clock.monotonic();
	}

	#versionOf(spec: WorkerSpec): VersionWorkers {
		let version = this.#versions.get(spec.key);
		if (version === undefined) {
			version = new VersionWorkers(spec);
			this.#versions.set(spec.key, version);
		} else if (version.spec !== spec) version.spec = spec;
		return version;
	}

	// What workers tell

	#ready(worker: Worker, config: unknown): void {
		const version = this.#versionOf(worker.spec);
		version.breaker.succeeded();
		version.config = config;
		this.#endPace(worker);
		const proof = this.#proofs.get(worker);
		this.#proofs.delete(worker);
		proof?.resolve({ config, readyMs: worker.readyMs });
		this.#tell(worker.spec);
		this.#soon();
	}

	#freed(worker: Worker): void {
		if (this.#demand.size === 0) return;
		if (this.#demand.has(worker.spec.key)) this.#tell(worker.spec);
		if (worker.load > 0) return;
		if (worker.held) this.#pumpIn(HELD_EMPTY_MS);
		this.#soon();
	}

	#idleMs(worker: Worker): number {
		const { key, functionId, config } = worker.spec;
		const version = this.#versions.get(key);
		if (version === undefined || version.superseded) return Math.min(config.idleTimeoutMs, SUPERSEDED_IDLE_MS);
		const active = this.#active.get(functionId);
		const kept = active?.key === key ? active.config.warmWorkers : 0;
		return version.staying <= kept ? Infinity : config.idleTimeoutMs;
	}

	#gone(worker: Worker, startError: string | undefined): void {
		this.#live.delete(worker);
		this.#endPace(worker);
		const version = this.#versions.get(worker.spec.key);
		version?.remove(worker);
		const proof = this.#proofs.get(worker);
		this.#proofs.delete(worker);
		if (proof !== undefined) {
			const { functionName, version: name } = worker.spec;
			const text = startError ?? "it was ended before it was ready";
			proof.reject(new EngineError("BAD_BUNDLE", `version ${name} of ${functionName} does not start: ${text}`));
		} else if (startError !== undefined && version !== undefined) {
			this.#startFailed(version, startError);
		}
		this.#forget(worker.spec.key);
		this.#endIfStopped();
		this.#soon();
	}

	#startFailed(version: VersionWorkers, error: string): void {
		const { environment } = this.#deps;
		const { functionName, version: name } = version.spec;
		environment.logger.warn({ function: functionName, version: name, error }, "a worker did not start");
		const openMs = version.breaker.failed(this.#now(), error);
		if (openMs === 0 || this.#stopping !== undefined) return;
		version.breakerTimer?.cancel();
		version.breakerTimer = environment.clock.setTimer(openMs, () => {
			version.breakerTimer = undefined;
			this.#tell(version.spec, false);
			this.#soon();
		});
	}

	/** A version that has nothing and wants nothing takes no memory. */
	#forget(key: string): void {
		const version = this.#versions.get(key);
		if (version === undefined || version.workers.length > 0 || this.#demand.has(key)) return;
		if (!version.breaker.closed || this.#active.get(version.spec.functionId)?.key === key) return;
		this.#versions.delete(key);
	}

	#endIfStopped(): void {
		if (this.#stopping === undefined || this.#live.size > 0) return;
		this.#stopping.timer?.cancel();
		this.#watch.stop();
		this.#stopping.resolve();
	}

	// Demand

	/** Asks the function to try again, at the end of the turn; its demand is noted anew if it fails. */
	#tell(spec: WorkerSpec, served = true): void {
		if (served) this.#demand.delete(spec.key);
		this.#told.add(spec.functionId);
		this.#soon();
	}

	#soon(): void {
		if (this.#scheduled) return;
		this.#scheduled = true;
		queueMicrotask(() => {
			this.#scheduled = false;
			this.#pump();
			const told = [...this.#told];
			this.#told.clear();
			for (const functionId of told) this.#deps.events.capacity(functionId);
		});
	}

	/** Looks again after this time, or sooner where that was asked before. */
	#pumpIn(delayMs: number): void {
		const at = this.#now() + delayMs;
		if (at >= this.#laterAt) return;
		this.#later?.cancel();
		this.#laterAt = at;
		this.#later = this.#deps.environment.clock.setTimer(delayMs, () => {
			this.#laterAt = Infinity;
			this.#soon();
		});
	}

	#pump(): void {
		if (this.#stopping !== undefined) return;
		const now = this.#now();
		for (const worker of this.#live) {
			if (!worker.held || worker.load > 0 || now < worker.restedAt + HELD_EMPTY_MS) continue;
			// Whoever it was emptied for has gone elsewhere.
			worker.held = false;
			this.#tell(worker.spec);
		}
		for (const [key, solo] of this.#demand) {
			const version = this.#versions.get(key);
			if (version !== undefined) this.#serve(version, solo);
		}
		for (const spec of this.#active.values()) {
			if (spec.config.warmWorkers > 0) this.#keepWarm(this.#versionOf(spec));
		}
	}

	#serve(version: VersionWorkers, solo: boolean): void {
		if (version.best({ bytes: 0, solo }) !== undefined) {
			this.#tell(version.spec);
			return;
		}
		const { starting } = version;
		if (starting > 0 || !version.breaker.mayStart(this.#now(), starting)) return;
		const room = this.#makeRoom(version.spec);
		if (room === "free") this.#start(version, true);
		else if (room === "none" && solo && !version.workers.some((worker) => worker.held)) {
			const serving = version.workers.filter((worker) => worker.serving);
			if (serving.length === 0) return;
			serving.reduce((least, worker) => (worker.load < least.load ? worker : least)).held = true;
		}
	}

	/** Retires whoever has to make room. */
	#makeRoom(spec: WorkerSpec): "free" | "coming" | "none" {
		const room = findRoom({
			spec,
			live: this.#live,
			maxWorkersTotal: this.#deps.maxWorkersTotal,
			wanted: (key) => this.#demand.has(key),
			now: this.#now(),
		});
		switch (room.kind) {
			case "coming":
				room.retire?.retire(`version ${spec.version} of ${spec.functionName} needs its place`);
				return "coming";
			case "later":
				this.#pumpIn(room.inMs);
				return "coming";
			case "free":
			case "none":
				return room.kind;
		}
	}

	#keepWarm(version: VersionWorkers): void {
		const { functionId, config } = version.spec;
		const ofFunction = (): number => [...this.#live].filter((each) => each.spec.functionId === functionId).length;
		// Nobody is ended for it: warmth is for spare room only.
		while (
			version.staying < config.warmWorkers &&
			ofFunction() < config.maxWorkers &&
			this.#live.size < this.#deps.maxWorkersTotal &&
			version.breaker.mayStart(this.#now(), version.starting)
		) {
			this.#start(version, false);
		}
	}

	/** `awaited`: an invocation waits for it. */
	#start(version: VersionWorkers, awaited: boolean): Worker {
		this.#lastWorker += 1;
		const worker = new Worker(`w${this.#lastWorker}`, version.spec, awaited, this.#workerDeps);
		version.workers.push(worker);
		this.#live.add(worker);
		void this.#pacing.add(() => {
			if (worker.state !== "STARTING") return;
			return new Promise<void>((resolve) => {
				const timer = this.#deps.environment.clock.setTimer(PACE_MS, resolve);
				this.#paced.set(worker, () => {
					timer.cancel();
					resolve();
				});
				worker.launch();
				this.#watch.started();
			});
		});
		return worker;
	}

	#endPace(worker: Worker): void {
		this.#paced.get(worker)?.();
		this.#paced.delete(worker);
	}
}
