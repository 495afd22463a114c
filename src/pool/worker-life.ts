/**
 * The states of a Worker, every legal move between them, and the one setter, which asks that table. While it drains,
 * the alarm is set to the end of its patience.
 */
import type { WorkerState } from "../core/contracts.ts";
import type { Alarm } from "./alarm.ts";

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

const MOVES: Readonly<Record<WorkerState, readonly WorkerState[]>> = {
	STARTING: ["WARM", "DRAINING", "TERMINATED"],
	WARM: ["BUSY", "IDLE", "DRAINING", "TERMINATED"],
	BUSY: ["WARM", "IDLE", "DRAINING", "TERMINATED"],
	IDLE: ["WARM", "BUSY", "DRAINING", "TERMINATED"],
	// To itself: its patience changes.
	DRAINING: ["DRAINING", "TERMINATED"],
	TERMINATED: [],
};

/** Shared, because each attempt that comes aboard an empty worker moves here. */
const BUSY: WorkerLife = { state: "BUSY" };

export class Life {
	readonly #worker: string;
	readonly #alarm: Alarm;
	#now: WorkerLife = { state: "STARTING" };

	constructor(worker: string, alarm: Alarm) {
		this.#worker = worker;
		this.#alarm = alarm;
	}

	get now(): WorkerLife {
		return this.#now;
	}

	get state(): WorkerState {
		return this.#now.state;
	}

	/** Ready and not on its way out. */
	get serving(): boolean {
		const { state } = this.#now;
		return state === "WARM" || state === "BUSY" || state === "IDLE";
	}

	become(next: WorkerLife): void {
		const from = this.#now.state;
		if (!MOVES[from].includes(next.state)) {
			throw new Error(`worker ${this.#worker}: no move from ${from} to ${next.state}`);
		}
		this.#now = next;
		if (next.state === "DRAINING") this.#alarm.by(next.killAt);
	}

	/** Somebody came aboard. */
	occupy(): void {
		if (this.#now.state !== "BUSY") this.become(BUSY);
	}

	/** While it drains: its patience ends then. */
	bePatient(killAt: number): void {
		if (this.#now.state === "DRAINING") this.become({ ...this.#now, killAt });
	}
}
