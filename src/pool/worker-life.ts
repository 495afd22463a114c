/** The states of a Worker and every legal move between them. worker.ts moves, by one setter that asks this table. */
import type { WorkerState } from "../core/contracts.ts";

/** Times are monotonic. Each member carries what only that state owns. */
export type WorkerLife =
	| { readonly state: "STARTING" }
	/** Ready; never used, or kept by `warmWorkers`. */
	| { readonly state: "WARM"; readonly since: number }
	| { readonly state: "BUSY" }
	/** Used and empty; its idle time runs. */
	| { readonly state: "IDLE"; readonly since: number }
	/** Takes no new work. `killAt` is when patience ends; Infinity while attempts may finish. */
	| { readonly state: "DRAINING"; readonly why: string; readonly killAt: number }
	| { readonly state: "TERMINATED" };

export const WORKER_MOVES: Readonly<Record<WorkerState, readonly WorkerState[]>> = {
	STARTING: ["WARM", "DRAINING", "TERMINATED"],
	WARM: ["BUSY", "IDLE", "DRAINING", "TERMINATED"],
	BUSY: ["WARM", "IDLE", "DRAINING", "TERMINATED"],
	IDLE: ["WARM", "BUSY", "DRAINING", "TERMINATED"],
	// To itself: its patience changes.
	DRAINING: ["DRAINING", "TERMINATED"],
	TERMINATED: [],
};
