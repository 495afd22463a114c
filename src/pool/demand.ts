/**
 * Who could not be served, and when somebody looks again.
 *
 * Demand is noted per version, in the order in which versions asked. It is answered at the end of a turn, once per
 * turn however often it was asked for: first `supply` turns demand into starts, then the functions for which it is
 * worth asking again are told. So nobody is ever told inside `reserve`.
 */
import type { Clock, Timer } from "../core/environment.ts";
import type { SlotNeed, WorkerSpec } from "./contract.ts";

export interface DemandDependencies {
	readonly clock: Clock;
	/** Looks at all demand. */
	readonly supply: () => void;
	/** A reservation of this function that failed may succeed now. */
	readonly capacity: (functionId: string) => void;
}

export class Demand {
	readonly #deps: DemandDependencies;
	/** Keys of versions, oldest first, with what was asked for last; `solo` where anybody asked for that. */
	readonly #wanted = new Map<string, SlotNeed>();
	/** Functions to be told at the end of the turn. */
	readonly #told = new Set<string>();
	#scheduled = false;
	#later: Timer | undefined;
	#laterAt = Infinity;

	constructor(deps: DemandDependencies) {
		this.#deps = deps;
	}

	get size(): number {
		return this.#wanted.size;
	}

	has(key: string): boolean {
		return this.#wanted.has(key);
	}

	all(): IterableIterator<[key: string, need: SlotNeed]> {
		return this.#wanted.entries();
	}

	note(key: string, { bytes, solo }: SlotNeed): void {
		this.#wanted.set(key, { bytes, solo: solo || this.#wanted.get(key)?.solo === true });
		this.soon();
	}

	/** Asks the function to try again, at the end of the turn; its demand is noted anew if it fails. */
	tell(spec: WorkerSpec, served = true): void {
		if (served) this.#wanted.delete(spec.key);
		this.#told.add(spec.functionId);
		this.soon();
	}

	/** Looks again at the end of the turn. */
	soon(): void {
		if (this.#scheduled) return;
		this.#scheduled = true;
		queueMicrotask(() => {
			this.#scheduled = false;
			this.#deps.supply();
			const told = [...this.#told];
			this.#told.clear();
			for (const functionId of told) this.#deps.capacity(functionId);
		});
	}

	/** Looks again after this time, or sooner where that was asked before. */
	later(delayMs: number): void {
		const { clock } = this.#deps;
		const at = clock.monotonic() + delayMs;
		if (at >= this.#laterAt) return;
		this.#later?.cancel();
		this.#laterAt = at;
		this.#later = clock.setTimer(delayMs, () => {
			this.#laterAt = Infinity;
			this.soon();
		});
	}

	/** Nobody is served any more. */
	stop(): void {
		this.#wanted.clear();
		this.#later?.cancel();
	}
}
