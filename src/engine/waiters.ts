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
	#abandoned = false;

	/** Returns how to stop waiting. After `abandon` the waiter is told at once, though never inside this call. */
	add(invocationId: string, waiter: Waiter): () => void {
		if (this.#abandoned) {
			queueMicrotask(() => waiter(stopping(invocationId)));
			return () => undefined;
		}
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

	has(invocationId: string): boolean {
		return this.#byId.has(invocationId);
	}

	ended(end: Ended): void {
		const set = this.#byId.get(end.invocationId);
		if (set === undefined) return;
		this.#byId.delete(end.invocationId);
		for (const waiter of set) waiter(end);
	}

	/** The daemon stops: every waiter is told that the work outlives the wait. */
	abandon(): void {
		this.#abandoned = true;
		const all = [...this.#byId];
		this.#byId.clear();
		for (const [invocationId, set] of all) for (const waiter of set) waiter(stopping(invocationId));
	}

	/** Invocations that are waited for. */
	get size(): number {
		return this.#byId.size;
	}

	/** Who waits for them; counted when it is asked for. */
	get count(): number {
		let count = 0;
		for (const set of this.#byId.values()) count += set.size;
		return count;
	}
}

function stopping(invocationId: string): EngineError {
	return new EngineError(
		"SHUTTING_DOWN",
		`the daemon is stopping; ${invocationId} is kept and goes on after the next start; await it by its id`,
		{ invocationId, retryAfterSeconds: 5 },
	);
}
