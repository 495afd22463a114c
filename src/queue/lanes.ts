/**
 * Lanes in memory: one per function, with its limits and the counts of its rows.
 *
 * The counts can be rebuilt from rows (recover.ts does, at boot). During a group commit they are changed in step
 * with the statements; `rollback` puts them back, so outside a commit they always say what is committed.
 *
 *   Q2  running ≤ limit, unless the limit was lowered while more ran
 */
import { ResultRoom } from "./result-room.ts";

export class Lane {
	/** Integer id of the function in metadata.db. */
	readonly id: number;
	readonly functionId: string;
	limit: number;
	maxQueued: number;
	paused: boolean;
	running = 0;
	/** Queued and due. */
	ready = 0;
	/** Queued and not due yet. */
	delayed = 0;
	/** Queued rows with a lane key, ready or not; 0 spares the claim its turn-taking. */
	keyed = 0;
	/** The lane key that was served last. */
	lastKey = "";
	readonly room = new ResultRoom();
	#before: Counts | undefined;

	constructor(id: number, functionId: string, settings: { limit: number; maxQueued: number; paused: boolean }) {
		this.id = id;
		this.functionId = functionId;
		this.limit = settings.limit;
		this.maxQueued = settings.maxQueued;
		this.paused = settings.paused;
	}

	get queued(): number {
		return this.ready + this.delayed;
	}

	get hasRoom(): boolean {
		return !this.paused && this.running < this.limit;
	}

	/** Remembers the counts for `rollback`. Returns false where this batch has done so already. */
	touch(): boolean {
		if (this.#before !== undefined) return false;
		this.#before = {
			running: this.running,
			ready: this.ready,
			delayed: this.delayed,
			keyed: this.keyed,
			lastKey: this.lastKey,
		};
		return true;
	}

	keep(): void {
		this.#before = undefined;
	}

	rollback(): void {
		if (this.#before === undefined) return;
		Object.assign(this, this.#before);
		this.#before = undefined;
	}
}

interface Counts {
	readonly running: number;
	readonly ready: number;
	readonly delayed: number;
	readonly keyed: number;
	readonly lastKey: string;
}

export class Lanes {
	readonly #byId = new Map<number, Lane>();

	add(lane: Lane): void {
		this.#byId.set(lane.id, lane);
	}

	get(id: number): Lane {
		const lane = this.#byId.get(id);
		if (lane === undefined) throw new Error(`no lane ${id}: a row refers to a function that metadata.db does not have`);
		return lane;
	}

	has(id: number): boolean {
		return this.#byId.has(id);
	}

	all(): IterableIterator<Lane> {
		return this.#byId.values();
	}
}
