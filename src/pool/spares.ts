/**
 * Worker processes that are started before anybody needs one. Of the 46 ms that a worker takes to start, 37 are a bare Bun and most
 * of the rest is loading the runtime; a spare has both behind it, and what makes it some function's worker comes with INIT.
 *
 *   - a process's variables are fixed at its start, so only a function without variables of its own takes a spare
 *   - a successor is started when nothing was started for a while: whoever waits for a worker has the processors for himself
 *   - a spare that ends by itself (the machine is out of memory, Bun is missing) has none until a worker is started
 *
 * A spare belongs to no function and counts for nothing but the stop, which waits until the last one is gone.
 */
import type { Clock, Timer } from "../core/environment.ts";
import type { SpawnWorker, WorkerProcess, WorkerProcessEvents } from "./process.ts";

/** After the last start of a worker. */
const REST_MS = 100;

export interface SparesDependencies {
	readonly clock: Clock;
	readonly spawn: SpawnWorker;
	readonly count: number;
	/** One that nobody took is gone. */
	readonly gone: () => void;
}

interface Spare {
	process: WorkerProcess | undefined;
	/** Whose process it has become. */
	taker: WorkerProcessEvents | undefined;
}

export class Spares {
	readonly #deps: SparesDependencies;
	/** That nobody took and that are not proven gone. */
	readonly #live = new Set<Spare>();
	/** Those of them that may be taken, the oldest first. */
	readonly #ready: Spare[] = [];
	#timer: Timer | undefined;
	#stopped = false;

	constructor(deps: SparesDependencies) {
		this.#deps = deps;
		this.#startLater();
	}

	get size(): number {
		return this.#live.size;
	}

	/** Gives a spare where there is one and it will do; else starts a process. */
	readonly launch: SpawnWorker = (launch, events) => {
		this.#startLater();
		const spare = Object.keys(launch.env).length === 0 ? this.#ready.shift() : undefined;
		if (spare?.process === undefined) return this.#deps.spawn(launch, events);
		this.#live.delete(spare);
		spare.taker = events;
		return spare.process;
	};

	/** Ends them; no more are started. */
	stop(): void {
		this.#stopped = true;
		this.#timer?.cancel();
		this.#ready.length = 0;
		for (const { process } of this.#live) process?.kill();
	}

	#startLater(): void {
		if (this.#stopped || this.#deps.count === 0) return;
		this.#timer?.cancel();
		this.#timer = this.#deps.clock.setTimer(REST_MS, () => this.#start());
	}

	/** One at a time. */
	#start(): void {
		if (this.#live.size >= this.#deps.count) return;
		const spare: Spare = { process: undefined, taker: undefined };
		this.#live.add(spare);
		try {
			spare.process = this.#deps.spawn({ env: {} }, this.#eventsOf(spare));
		} catch {
			this.#lost(spare);
			return;
		}
		// One that could not be started is gone already, or soon.
		if (!this.#live.has(spare) || spare.process.pid === undefined) return;
		this.#ready.push(spare);
		if (this.#live.size < this.#deps.count) this.#startLater();
	}

	#eventsOf(spare: Spare): WorkerProcessEvents {
		/** It can serve nobody any more. */
		const dismiss = (): void => {
			this.#forget(spare);
			spare.process?.kill();
		};
		return {
			data: (chunk) => (spare.taker === undefined ? dismiss() : spare.taker.data(chunk)),
			output: (stream, chunk) => spare.taker?.output(stream, chunk) ?? false,
			channelClosed: () => (spare.taker === undefined ? dismiss() : spare.taker.channelClosed()),
			gone: (exit) => (spare.taker === undefined ? this.#lost(spare) : spare.taker.gone(exit)),
		};
	}

	#lost(spare: Spare): void {
		this.#forget(spare);
		if (this.#live.delete(spare)) this.#deps.gone();
	}

	#forget(spare: Spare): void {
		const at = this.#ready.indexOf(spare);
		if (at >= 0) this.#ready.splice(at, 1);
	}
}
