/**
 * One timer for everything that is due in one worker. It only ever moves nearer; when it rings, its owner looks at
 * all due times and sets it anew. So an attempt that ends in time costs no timer at all.
 */
import type { Clock, Timer } from "../core/environment.ts";

/** A timer that is this late was held up by our own loop: what the worker sent meanwhile is read first. */
const LATE_MS = 20;

export class Alarm {
	readonly #clock: Clock;
	readonly #ring: (now: number) => void;
	#timer: Timer | undefined;
	#at = Infinity;
	#postponed = false;

	constructor(clock: Clock, ring: (now: number) => void) {
		this.#clock = clock;
		this.#ring = ring;
	}

	/** Rings at `at` (monotonic) or earlier; Infinity is never. */
	by(at: number): void {
		if (at >= this.#at) return;
		this.#timer?.cancel();
		this.#at = at;
		this.#timer = this.#clock.setTimer(Math.max(0, at - this.#clock.monotonic()), () => this.#fire());
	}

	cancel(): void {
		this.#timer?.cancel();
		this.#at = Infinity;
	}

	#fire(): void {
		const now = this.#clock.monotonic();
		const late = now - this.#at > LATE_MS;
		this.#at = Infinity;
		this.#timer = undefined;
		if (late && !this.#postponed) {
			this.#postponed = true;
			this.by(now + 1);
			return;
		}
		this.#postponed = false;
		this.#ring(now);
	}
}
