/**
 * Turns demand into workers: starts one where there is room, asks somebody to make room where there is none, and
 * keeps `warmWorkers` started in spare room.
 *
 *   P6  at most `maxWorkers` processes per function and `maxWorkersTotal` over all (room.ts decides who leaves)
 */
import type { Clock } from "../core/environment.ts";
import type { SlotNeed, WorkerSpec } from "./contract.ts";
import type { Demand } from "./demand.ts";
import { findRoom } from "./room.ts";
import type { Starts } from "./starts.ts";
import type { VersionWorkers } from "./version-workers.ts";
import type { Versions } from "./versions.ts";
import type { Worker } from "./worker.ts";

/** How long an emptied worker is kept for the solo attempt it was emptied for. */
export const HELD_EMPTY_MS = 100;

export interface SupplyDependencies {
	readonly clock: Clock;
	readonly maxWorkersTotal: number;
	readonly live: ReadonlySet<Worker>;
	readonly versions: Versions;
	readonly demand: Demand;
	readonly starts: Starts;
}

export class Supply {
	readonly #deps: SupplyDependencies;

	constructor(deps: SupplyDependencies) {
		this.#deps = deps;
	}

	/** One look at everybody who wants a worker. */
	look(): void {
		const { demand, versions } = this.#deps;
		this.#letGo();
		for (const [key, need] of demand.all()) {
			const version = versions.get(key);
			if (version !== undefined) this.#serve(version, need);
		}
		for (const spec of versions.active()) {
			if (spec.config.warmWorkers > 0) this.#keepWarm(versions.of(spec));
		}
	}

	/** Retires whoever has to make room. */
	makeRoom(spec: WorkerSpec): "free" | "coming" | "none" {
		const { clock, demand, live, maxWorkersTotal } = this.#deps;
		const room = findRoom({
			spec,
			live,
			maxWorkersTotal,
			wanted: (key) => demand.has(key),
			now: clock.monotonic(),
		});
		switch (room.kind) {
			case "coming":
				room.retire?.retire(`version ${spec.version} of ${spec.functionName} needs its place`);
				return "coming";
			case "later":
				demand.later(room.inMs);
				return "coming";
			case "free":
			case "none":
				return room.kind;
		}
	}

	/** Emptied workers serve everybody again where the attempt that they were emptied for has gone elsewhere. */
	#letGo(): void {
		const now = this.#deps.clock.monotonic();
		for (const worker of this.#deps.live) {
			if (!worker.held || worker.load > 0 || now < worker.restedAt + HELD_EMPTY_MS) continue;
			worker.held = false;
			this.#deps.demand.tell(worker.spec);
		}
	}

	#serve(version: VersionWorkers, need: SlotNeed): void {
		const { clock, demand, starts } = this.#deps;
		if (version.best(need) !== undefined) {
			demand.tell(version.spec);
			return;
		}
		const { starting } = version;
		if (starting > 0 || !version.breaker.mayStart(clock.monotonic(), starting)) return;
		const room = this.makeRoom(version.spec);
		if (room === "free") starts.start(version, true);
		else if (room === "none" && need.solo && !version.workers.some((worker) => worker.held)) {
			const serving = version.workers.filter((worker) => worker.serving);
			if (serving.length === 0) return;
			serving.reduce((least, worker) => (worker.load < least.load ? worker : least)).held = true;
		}
	}

	#keepWarm(version: VersionWorkers): void {
		const { clock, live, maxWorkersTotal, starts } = this.#deps;
		const { functionId, config } = version.spec;
		const ofFunction = (): number => [...live].filter((each) => each.spec.functionId === functionId).length;
		// Nobody is ended for it: warmth is for spare room only.
		while (
			version.staying < config.warmWorkers &&
			ofFunction() < config.maxWorkers &&
			live.size < maxWorkersTotal &&
			version.breaker.mayStart(clock.monotonic(), version.starting)
		) {
			starts.start(version, false);
		}
	}
}
