/**
 * The pool's parts put together, and the path of an attempt through them: a slot of the least loaded READY worker,
 * then the run.
 *
 *   P1  a worker has at most `workerConcurrency` attempts; a slot is always of a READY worker
 *   P6  only `prove` may start one process more than `maxWorkers` and `maxWorkersTotal` allow (supply.ts keeps them)
 *
 * `reserve` looks at the workers of one version and does nothing else. What it could not serve is noted (demand.ts)
 * and turned into starts at the end of the turn (supply.ts, starts.ts).
 */
import type { WorkerRecord } from "../core/contracts.ts";
import type { Environment } from "../core/environment.ts";
import type { Outcome } from "../core/invocation.ts";
import type { AttemptSpec, Pool, PoolEvents, ReadyReport, Slot, SlotNeed, WorkerSpec } from "./contract.ts";
import { Demand } from "./demand.ts";
import { createMemoryReader, type ReadMemory } from "./memory.ts";
import { createSpawner, type HostVariables, type SpawnWorker } from "./process.ts";
import { Proving } from "./proving.ts";
import { WorkerSlot } from "./slot.ts";
import { Spares } from "./spares.ts";
import { Starts } from "./starts.ts";
import { Stopping } from "./stopping.ts";
import { HELD_EMPTY_MS, Supply } from "./supply.ts";
import { Versions } from "./versions.ts";
import { Watch } from "./watch.ts";
import type { Worker, WorkerEvents } from "./worker.ts";

export interface PoolDependencies {
	readonly environment: Environment;
	readonly bunPath: string;
	/** Working folders of workers are made in here. Absolute; must exist. */
	readonly tmpDir: string;
	/** Marks the processes, so that the next daemon finds what this one leaves. */
	readonly instanceId: string;
	readonly maxWorkersTotal: number;
	/** Processes kept ready for whichever function needs a worker next; default 0. */
	readonly spareWorkers?: number;
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

class WorkerPool implements Pool {
	readonly #deps: PoolDependencies;
	/** Every process of a function that is not proven gone. */
	readonly #live = new Set<Worker>();
	readonly #versions = new Versions();
	readonly #demand: Demand;
	readonly #spares: Spares;
	readonly #starts: Starts;
	readonly #supply: Supply;
	readonly #proving: Proving;
	readonly #watch: Watch;
	#stopping: Stopping | undefined;

	constructor(deps: PoolDependencies) {
		this.#deps = deps;
		const { environment, events, maxWorkersTotal } = deps;
		const { clock } = environment;
		const readMemory = deps.readMemory ?? createMemoryReader();
		this.#watch = new Watch({ clock, readMemory, workers: this.#live });
		this.#demand = new Demand({
			clock,
			supply: () => {
				if (this.#stopping !== undefined) return;
				this.#proving.look();
				this.#supply.look();
			},
			capacity: (functionId) => events.capacity(functionId),
		});
		this.#spares = new Spares({
			clock,
			spawn: deps.spawn ?? spawnerOf(deps),
			count: deps.spareWorkers ?? 0,
			// A process that has ended has none until its parent has looked.
			alive: (pid) => readMemory(pid) !== 0,
			gone: () => this.#endIfStopped(),
		});
		this.#starts = new Starts({
			environment,
			worker: { environment, spawn: this.#spares.launch, events: this.#workerEvents() },
			live: this.#live,
			launched: () => this.#watch.started(),
			halfOpen: (version) => this.#demand.tell(version.spec, false),
		});
		this.#supply = new Supply({
			clock,
			maxWorkersTotal,
			live: this.#live,
			versions: this.#versions,
			demand: this.#demand,
			starts: this.#starts,
		});
		this.#proving = new Proving({
			maxWorkersTotal,
			live: this.#live,
			makeRoom: (spec) => this.#supply.makeRoom(spec),
		});
	}

	reserve(spec: WorkerSpec, need: SlotNeed): Slot | undefined {
		if (this.#stopping !== undefined) return undefined;
		const best = this.#versions.of(spec).best(need);
		if (best === undefined) {
			this.#demand.note(spec.key, need);
			return undefined;
		}
		this.#watch.busy();
		return new WorkerSlot(best, need);
	}

	run(slot: Slot, attempt: AttemptSpec, ended: (outcome: Outcome) => void): void {
		if (!(slot instanceof WorkerSlot)) throw new Error("run takes a slot that reserve gave");
		slot.close();
		slot.place.send(slot.need, attempt, ended);
	}

	cancel(invocationId: string, attempt: number): void {
		for (const worker of this.#live) if (worker.cancel(invocationId, attempt)) return;
	}

	prove(spec: WorkerSpec): Promise<ReadyReport> {
		return this.#proving.prove(spec, () => {
			const version = this.#versions.of(spec);
			const proven = version.workers.find((worker) => worker.serving && !worker.silent);
			if (proven !== undefined) return Promise.resolve({ config: version.config, readyMs: proven.readyMs });
			return this.#starts.prove(version);
		});
	}

	activate(spec: WorkerSpec): void {
		this.#versions.activate(spec);
		for (const worker of this.#live) {
			if (worker.spec.functionId !== spec.functionId) continue;
			const { key } = worker.spec;
			// What is pinned to an old version still has to run: while it asks, its workers stay.
			if (key !== spec.key && worker.load === 0 && !this.#demand.has(key)) {
				worker.retire(`version ${spec.version} was activated`);
			} else if (key === spec.key) worker.adopt(spec);
			else worker.reconsider();
		}
		this.#spares.soon();
		this.#demand.soon();
	}

	recycle(functionId: string): void {
		for (const worker of this.#live) {
			if (worker.spec.functionId === functionId) worker.retire("its environment or limits changed");
		}
		// What could not start before may start now: whoever mended it does not wait for the breaker.
		for (const version of this.#versions.all()) {
			if (version.spec.functionId !== functionId || version.breaker.closed) continue;
			version.breaker.succeeded();
			version.breakerTimer?.cancel();
			version.breakerTimer = undefined;
		}
		this.#demand.soon();
	}

	blocked(key: string): string | undefined {
		return this.#versions.get(key)?.breaker.explain(this.#deps.environment.clock.monotonic());
	}

	workers(): readonly WorkerRecord[] {
		return [...this.#live].map((worker) => worker.record());
	}

	stop(drainMs: number): Promise<void> {
		if (this.#stopping === undefined) {
			this.#demand.stop();
			this.#proving.stop();
			this.#spares.stop();
			this.#starts.stop(this.#versions.all());
			this.#stopping = new Stopping(this.#deps.environment.clock, this.#live);
		}
		this.#stopping.within(drainMs);
		this.#endIfStopped();
		return this.#stopping.done;
	}

	#workerEvents(): WorkerEvents {
		return {
			ready: (worker, config) => {
				this.#starts.ready(worker, this.#versions.of(worker.spec), config);
				this.#demand.tell(worker.spec);
			},
			freed: (worker) => this.#freed(worker),
			idleMs: (worker) => this.#versions.idleMs(worker),
			gone: (worker, startError) => this.#gone(worker, startError),
			log: (line) => this.#deps.events.log(line),
		};
	}

	#freed(worker: Worker): void {
		if (this.#demand.size === 0) {
			if (this.#proving.waits && worker.load === 0) this.#demand.soon();
			return;
		}
		if (this.#demand.has(worker.spec.key)) this.#demand.tell(worker.spec);
		if (worker.load > 0) return;
		if (worker.held) this.#demand.later(HELD_EMPTY_MS);
		this.#demand.soon();
	}

	#gone(worker: Worker, startError: string | undefined): void {
		const { key } = worker.spec;
		const version = this.#versions.get(key);
		this.#live.delete(worker);
		version?.remove(worker);
		this.#starts.gone(worker, version, startError);
		this.#versions.forget(key, this.#demand.has(key));
		this.#endIfStopped();
		this.#demand.soon();
	}

	#endIfStopped(): void {
		if (this.#spares.size === 0 && this.#stopping?.endIfEmpty() === true) this.#watch.stop();
	}
}

function spawnerOf({
	bunPath,
	instanceId,
	tmpDir,
	environment,
	hostVariables = process.env,
}: PoolDependencies): SpawnWorker {
	return createSpawner({ bunPath, instanceId, tempDir: tmpDir, hostVariables, clock: environment.clock });
}
