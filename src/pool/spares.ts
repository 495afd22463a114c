/**
 * Worker processes that are started before anybody needs one. Of the 46 ms that a worker takes to start, 37 are a bare Bun and most
 * of the rest is loading the runtime; a spare has both behind it, and what makes it some function's worker comes with INIT.
 *
 *   - a process's variables are fixed at its start, so only a function without variables of its own takes a spare
 *   - none is started before a function has a version that may be called: a boot is not held up, and one that fails leaves none
 *   - one is started when nothing was started for a while: whoever waits for a worker has the processors for himself
 *   - after one that ended by itself (the machine is out of memory, Bun is missing) none is started before a worker is, or a
 *     version is activated
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
	/** False where it is known to have ended. */
	readonly alive: (pid: number) => boolean;
	/** One that nobody took is gone. */
	readonly gone: () => void;
}

interface Spare {
	process: WorkerProcess | undefined;
	/** Whose process it has become. */
	taker: WorkerProcessEvents | undefined;
	/** Somebody wanted it and found it dead. */
	missed: boolean;
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
	}

	get size(): number {
		return this.#live.size;
	}

	/** Gives a spare where there is one and it will do; else starts a process. */
	readonly launch: SpawnWorker = (launch, events) => {
		this.soon();
		const spare = Object.keys(launch.env).length === 0 ? this.#take() : undefined;
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

	/** Starts what is missing when nothing was started for a while. */
	soon(): void {
		if (this.#stopped || this.#deps.count === 0) return;
		this.#timer?.cancel();
		this.#timer = this.#deps.clock.setTimer(REST_MS, () => this.#start());
	}

	/** The oldest. The end of one that was killed is seen a turn later than it comes: 20 µs spare its function a failed start. */
	#take(): Spare | undefined {
		for (;;) {
			const spare = this.#ready.shift();
			const pid = spare?.process?.pid;
			if (spare === undefined || pid === undefined || this.#deps.alive(pid)) return spare;
			spare.missed = true;
		}
	}

	/** One at a time. */
	#start(): void {
		if (this.#live.size >= this.#deps.count) return;
		const spare: Spare = { process: undefined, taker: undefined, missed: false };
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
		if (this.#live.size < this.#deps.count) this.soon();
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
		const wasLive = this.#live.delete(spare);
		// In place of one that was missed a worker is being started, so it has a successor.
		if (spare.missed) this.soon();
		else this.#timer?.cancel();
		if (wasLive) this.#deps.gone();
	}

	#forget(spare: Spare): void {
		const at = this.#ready.indexOf(spare);
		if (at >= 0) this.#ready.splice(at, 1);
	}
}
