/**
 * Whether a sync of this disk is waited for in place, or by a thread while the event loop goes on.
 *
 * A thread's hop costs 10 to 40 µs of processor for each sync, and a loop that waits meanwhile gathers larger commits: with syncs of
 * 0.3 to 1 ms, in place was 6 % faster at 100 callers and about 15 % at 10 (28 instead of 22 invocations a commit). A disk that takes longer
 * would hold up everybody else.
 */
import type { Clock } from "../core/environment.ts";

/** Of the mean; half of what 100 callers otherwise keep a loop busy between two syncs. */
const QUICK_MS = 2;
/** The mean is over about so many. */
const WEIGHT = 1 / 8;
/** One that takes so long decides at once; longer ones count as this much, so that the mean comes down again. */
const COUNTED_MS_MAX = QUICK_MS / WEIGHT;
/** A slow disk is tried in place again, because only there a sync's own time can be seen: at most so often, … */
const TRY_AGAIN_MS = 1_000;
/** … and for at most this part of the loop's time. */
const TRIES_SHARE = 1 / 100;

export class SyncPace {
	readonly #clock: Pick<Clock, "monotonic">;
	#meanMs = 0;
	#tryAt = 0;

	constructor(clock: Pick<Clock, "monotonic">) {
		this.#clock = clock;
	}

	get quick(): boolean {
		return this.#meanMs < QUICK_MS || this.#clock.monotonic() >= this.#tryAt;
	}

	/** Runs and times a sync in place. */
	time(sync: () => void): void {
		const from = this.#clock.monotonic();
		sync();
		const until = this.#clock.monotonic();
		const tookMs = until - from;
		this.#meanMs += (Math.min(tookMs, COUNTED_MS_MAX) - this.#meanMs) * WEIGHT;
		this.#tryAt = until + Math.max(TRY_AGAIN_MS, tookMs / TRIES_SHARE);
	}
}
