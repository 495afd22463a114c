/**
 * Who waits for an invocation to end. In memory only: a waiter is lost on restart, the row is not.
 *
 *   E1  a waiter is registered before its row can be claimed      E2  waiters learn only committed facts
 */
import type { Ended } from "../core/contracts.ts";
import { EngineError } from "../core/errors.ts";

export type Waiter = (end: Ended | EngineError) => void;

export class Waiters {
	readonly #byId = new Map<string, Set<Waiter>>();

	/** Returns how to stop waiting. */
	add(invocationId: string, waiter: Waiter): () => void {
		let set = this.#byId.get(invocationId);
		if (set === undefined) {
			set = new Set();
			this.#byId.set(invocationId, set);
		}
		set.add(waiter);
		return () => {
			set.delete(waiter);
			if (set.size === 0 && this.#byId.get(invocationId) === set) this.#byId.delete(invocationId);
		};
	}

	ended(end: Ended): void {
		const set = this.#byId.get(end.invocationId);
		if (set === undefined) return;
		this.#byId.delete(end.invocationId);
		for (const waiter of set) waiter(end);
	}

	/** The daemon stops: every waiter is told that the work outlives the wait. */
	abandon(): void {
		const all = [...this.#byId];
		this.#byId.clear();
		for (const [invocationId, set] of all) {
			const error = new EngineError(
				"SHUTTING_DOWN",
				`the daemon is stopping; ${invocationId} is kept and goes on after the next start; await it by its id`,
				{ invocationId, retryAfterSeconds: 5 },
			);
			for (const waiter of set) waiter(error);
		}
	}

	get size(): number {
		return this.#byId.size;
	}
}
