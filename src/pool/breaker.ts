/**
 * Stops a version that cannot start from being started over and over: three failures in a row open the breaker for
 * 1 s, doubled up to 60 s; then one start is let through, and its end decides.
 */
import { LIMITS } from "../core/limits.ts";

export class Breaker {
	#failures = 0;
	/** Monotonic; 0 while it is closed. */
	#openUntil = 0;
	#lastError = "";

	get closed(): boolean {
		return this.#failures < LIMITS.startFailuresMax;
	}

	get openUntil(): number {
		return this.#openUntil;
	}

	/** Whether a start may begin; `starting` counts those under way. */
	mayStart(now: number, starting: number): boolean {
		return this.closed || (now >= this.#openUntil && starting === 0);
	}

	/** A start failed. Returns how long no start may begin; 0 is not at all. */
	failed(now: number, error: string): number {
		this.#failures += 1;
		this.#lastError = error;
		if (this.closed) return 0;
		const openMs = Math.min(
			LIMITS.breakerCapMs,
			LIMITS.breakerBaseMs * 2 ** Math.min(this.#failures - LIMITS.startFailuresMax, 30),
		);
		this.#openUntil = now + openMs;
		return openMs;
	}

	succeeded(): void {
		this.#failures = 0;
		this.#openUntil = 0;
		this.#lastError = "";
	}

	/** Why no worker may be started, or undefined. */
	explain(now: number): string | undefined {
		if (this.closed) return undefined;
		const left = Math.ceil((this.#openUntil - now) / 1000);
		const tail = `${this.#failures} failed starts, the last: ${this.#lastError}`;
		return left > 0 ? `breaker open for ${left} s after ${tail}` : `breaker half open after ${tail}`;
	}
}
