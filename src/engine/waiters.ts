/**
 * Who waits for an invocation to end. In memory only: a waiter is lost on restart, the row is not.
 *
 *   E1  a waiter is registered before its row can be claimed      E2  waiters learn only committed facts
 */
import type { Ended } from "../core/contracts.ts";
import { EngineError } from "../core/errors.ts";
import { seqOf } from "../core/ids.ts";
import { NumberMap } from "../core/number-map.ts";

export type Waiter = (end: Ended | EngineError) => void;

/** Whom one invocation has waiting: mostly one. */
interface Waiting {
	readonly invocationId: string;
	waiters: Waiter | Set<Waiter>;
}

export class Waiters {
	readonly #bySeq = new NumberMap<Waiting>();
	#abandoned = false;

	/** Returns how to stop waiting. After `abandon` the waiter is told at once, though never inside this call. */
	add(invocationId: string, waiter: Waiter): () => void {
		if (this.#abandoned) {
			queueMicrotask(() => waiter(stopping(invocationId)));
			return () => undefined;
		}
		const seq = seqOf(invocationId);
		let waiting = this.#bySeq.get(seq);
		if (waiting === undefined) {
			waiting = { invocationId, waiters: waiter };
			this.#bySeq.set(seq, waiting);
		} else if (waiting.waiters instanceof Set) waiting.waiters.add(waiter);
		else waiting.waiters = new Set([waiting.waiters, waiter]);
		const stopped = waiting;
		return () => {
			if (stopped.waiters instanceof Set) stopped.waiters.delete(waiter);
			else if (stopped.waiters === waiter) stopped.waiters = new Set();
			if (countOf(stopped) === 0 && this.#bySeq.get(seq) === stopped) this.#bySeq.delete(seq);
		};
	}

	has(seq: number): boolean {
		return this.#bySeq.get(seq) !== undefined;
	}

	ended(seq: number, end: Ended): void {
		const waiting = this.#bySeq.get(seq);
		if (waiting === undefined) return;
		this.#bySeq.delete(seq);
		tell(waiting, end);
	}

	/** The daemon stops: every waiter is told that the work outlives the wait. */
	abandon(): void {
		this.#abandoned = true;
		const all = this.#bySeq.values();
		this.#bySeq.clear();
		for (const waiting of all) tell(waiting, stopping(waiting.invocationId));
	}

	/** Invocations that are waited for. */
	get size(): number {
		return this.#bySeq.size;
	}

	/** Who waits for them; counted when it is asked for. */
	get count(): number {
		return this.#bySeq.values().reduce((sum, waiting) => sum + countOf(waiting), 0);
	}
}

function countOf({ waiters }: Waiting): number {
	return waiters instanceof Set ? waiters.size : 1;
}

function tell({ waiters }: Waiting, end: Ended | EngineError): void {
	if (waiters instanceof Set) for (const waiter of waiters) waiter(end);
	else waiters(end);
}

function stopping(invocationId: string): EngineError {
	return new EngineError(
		"SHUTTING_DOWN",
		`the daemon is stopping; ${invocationId} is kept and goes on after the next start; await it by its id`,
		{ invocationId, retryAfterSeconds: 5 },
	);
}
