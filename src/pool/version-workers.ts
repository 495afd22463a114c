/** The workers of one FunctionVersion, with its breaker. Pure bookkeeping; pool.ts decides. */
import type { Timer } from "../core/environment.ts";
import { Breaker } from "./breaker.ts";
import type { SlotNeed, WorkerSpec } from "./contract.ts";
import type { Worker } from "./worker.ts";

export class VersionWorkers {
	/** The newest that was given: environment and limits may change, the version does not. */
	spec: WorkerSpec;
	readonly workers: Worker[] = [];
	readonly breaker = new Breaker();
	/** Rings when the breaker is half open. */
	breakerTimer: Timer | undefined;
	/** Another version of the function was activated after it. */
	superseded = false;
	/** What its module exports as `config`; the same in every worker. */
	config: unknown;

	constructor(spec: WorkerSpec) {
		this.spec = spec;
	}

	/** The least loaded worker that can take this. One pass, because it runs for every claim. */
	best(need: SlotNeed): Worker | undefined {
		let best: Worker | undefined;
		for (const worker of this.workers) {
			if (worker.takes(need) && (best === undefined || worker.load < best.load)) best = worker;
		}
		return best;
	}

	/** Starting or serving; those on their way out do not count. */
	get staying(): number {
		return this.workers.filter((worker) => worker.serving || worker.state === "STARTING").length;
	}

	get starting(): number {
		return this.workers.filter((worker) => worker.state === "STARTING").length;
	}

	remove(worker: Worker): void {
		const at = this.workers.indexOf(worker);
		if (at >= 0) this.workers.splice(at, 1);
	}
}
