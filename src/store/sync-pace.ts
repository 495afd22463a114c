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
/**
 * The part of a sync's time that is well spent on waiting for more that it can take along. With syncs of 7 ms and 100 callers,
 * two runs each: 3,475 and 3,800/s without, 4,816 and 4,103 with 2/5, 4,681 and 4,333 with 1/2; 1/4 comes too soon (3,473).
 */
const GATHER_SHARE = 2 / 5;

export class SyncPace {
	readonly #clock: Pick<Clock, "monotonic">;
	#meanMs = 0;
	/** Of those by a thread, which are most of a slow disk's; with what the loop did before it looked. */
	#threadMeanMs = 0;
	#tryAt = 0;

	constructor(clock: Pick<Clock, "monotonic">) {
		this.#clock = clock;
	}

	get quick(): boolean {
		return this.#meanMs < QUICK_MS || this.#clock.monotonic() >= this.#tryAt;
	}

	/** How long a sync may be put off, under 7 ms; 0 where the disk is too quick for a timer of whole milliseconds. */
	get gatherMs(): number {
		return Math.floor(this.#threadMeanMs * GATHER_SHARE);
	}

	/** Runs and times a sync in place. */
	time(sync: () => void): void {
		const from = this.#clock.monotonic();
		sync();
		const until = this.#clock.monotonic();
		const tookMs = until - from;
		this.#meanMs = moved(this.#meanMs, tookMs);
		this.#tryAt = until + Math.max(TRY_AGAIN_MS, tookMs / TRIES_SHARE);
	}

	/** Runs and times a sync by a thread. */
	timeThread(sync: (done: (error: Error | null) => void) => void, done: (error: Error | null) => void): void {
		const from = this.#clock.monotonic();
		sync((error) => {
			this.#threadMeanMs = moved(this.#threadMeanMs, this.#clock.monotonic() - from);
			done(error);
		});
	}
}

function moved(meanMs: number, tookMs: number): number {
	return meanMs + (Math.min(tookMs, COUNTED_MS_MAX) - meanMs) * WEIGHT;
}
