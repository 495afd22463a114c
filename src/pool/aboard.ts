/**
 * The attempts in one worker: who is aboard, what places are reserved, how many body bytes they hold, and whether
 * there is a place for one more. Every call has a number of its own, by which its answer is told from a stranger's.
 *
 *   P1  at most `workerConcurrency` attempts; one that must be alone is alone; bodies stay under memoryMb/4
 */
import type { ResolvedConfig } from "../core/function-config.ts";
import { NumberMap } from "../core/number-map.ts";
import type { Outcome } from "../core/invocation.ts";
import type { AttemptSpec, SlotNeed } from "./contract.ts";
import type { Phase } from "./verdict.ts";

/** Ended calls whose late log lines still find their invocation. */
const RECENT_CALLS = 1_000;
/** Calls are u32 on the channel. */
const CALLS = 2 ** 32;
const MiB = 1_048_576;

export interface Aboard {
	readonly call: number;
	readonly spec: AttemptSpec;
	readonly need: SlotNeed;
	readonly ended: (outcome: Outcome) => void;
	phase: Phase;
	/** Deadline while running, end of grace after the abort; Infinity when it has overstayed that too. Monotonic. */
	dueAt: number;
	abortedAt: number;
}

export type PlaceLimits = Pick<ResolvedConfig, "maxInvocations" | "memoryMb" | "workerConcurrency">;

export type Fence = Pick<AttemptSpec, "invocationId" | "attempt">;

interface EndedCall extends Fence {
	readonly call: number;
}

export class AboardTable {
	readonly #attempts = new NumberMap<Aboard>();
	/** The last to end, in a ring: a Map that loses its oldest at each end is 0.6 KB of garbage a call. */
	readonly #recent: EndedCall[] = [];
	#ended = 0;
	#reserved = 0;
	#bytes = 0;
	#solo = false;
	#lastCall = 0;
	#ran = 0;

	/** Attempts that were sent and have not ended. */
	get size(): number {
		return this.#attempts.size;
	}

	/** Attempts and reserved places. */
	get load(): number {
		return this.#attempts.size + this.#reserved;
	}

	get ran(): number {
		return this.#ran;
	}

	/** Attempts that ran and those that will. */
	get promised(): number {
		return this.#ran + this.#reserved;
	}

	get bytes(): number {
		return this.#bytes;
	}

	/** Somebody is aboard, or coming, who must be alone. */
	get solo(): boolean {
		return this.#solo;
	}

	/** The one aboard, where it is only one. */
	get only(): Aboard | undefined {
		return this.#attempts.size === 1 ? this.#attempts.values()[0] : undefined;
	}

	get overstayers(): number {
		let count = 0;
		for (const aboard of this.#attempts.values()) if (aboard.dueAt === Infinity) count += 1;
		return count;
	}

	/** Whether there is a place for this, by the limits of the version (P1). */
	fits(need: SlotNeed, { maxInvocations, memoryMb, workerConcurrency }: PlaceLimits): boolean {
		if (this.#solo || (maxInvocations > 0 && this.promised >= maxInvocations)) return false;
		const { load } = this;
		if (load === 0) return true;
		if (need.solo || load >= workerConcurrency) return false;
		return this.#bytes + need.bytes <= (memoryMb * MiB) / 4;
	}

	reserve(need: SlotNeed): void {
		this.#reserved += 1;
		this.#bytes += need.bytes;
		if (need.solo) this.#solo = true;
	}

	/** A reserved place ends without an attempt. */
	unreserve(need: SlotNeed): void {
		this.#reserved -= 1;
		this.#left(need);
	}

	/** A reserved place becomes an attempt. */
	board(need: SlotNeed, spec: AttemptSpec, dueAt: number, ended: (outcome: Outcome) => void): Aboard {
		this.#reserved -= 1;
		this.#ran += 1;
		this.#lastCall = (this.#lastCall + 1) % CALLS;
		const aboard: Aboard = { call: this.#lastCall, spec, need, ended, phase: "running", dueAt, abortedAt: 0 };
		this.#attempts.set(aboard.call, aboard);
		return aboard;
	}

	finish(aboard: Aboard, outcome: Outcome): void {
		this.#attempts.delete(aboard.call);
		const { call, spec } = aboard;
		this.#recent[this.#ended % RECENT_CALLS] = { call, invocationId: spec.invocationId, attempt: spec.attempt };
		this.#ended += 1;
		this.#left(aboard.need);
		aboard.ended(outcome);
	}

	get(call: number): Aboard | undefined {
		return this.#attempts.get(call);
	}

	/** By their calls' numbers, which is the order in which they came aboard; a copy. */
	all(): readonly Aboard[] {
		return this.#attempts.values();
	}

	find(invocationId: string, attempt: number): Aboard | undefined {
		for (const aboard of this.#attempts.values()) {
			if (aboard.spec.invocationId === invocationId && aboard.spec.attempt === attempt) return aboard;
		}
		return undefined;
	}

	/** Whose call that is or was. */
	fenceOf(call: number): Fence | undefined {
		return this.#attempts.get(call)?.spec ?? this.#recent.find((ended) => ended.call === call);
	}

	#left(need: SlotNeed): void {
		this.#bytes -= need.bytes;
		if (need.solo) this.#solo = false;
	}
}
