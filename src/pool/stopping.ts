/**
 * The pool's end: workers are asked to leave, then killed when the drain time is over. It may be asked for again
 * with less patience, never with more; all askers get the same promise, which resolves when the last process is
 * proven gone.
 */
import type { Clock, Timer } from "../core/environment.ts";
import type { Worker } from "./worker.ts";

export class Stopping {
	readonly done: Promise<void>;
	readonly #clock: Clock;
	readonly #live: ReadonlySet<Worker>;
	readonly #resolve: () => void;
	#timer: Timer | undefined;
	#killAt = Infinity;

	constructor(clock: Clock, live: ReadonlySet<Worker>) {
		const { promise, resolve } = Promise.withResolvers<void>();
		this.done = promise;
		this.#resolve = resolve;
		this.#clock = clock;
		this.#live = live;
	}

	/** Takes no more work, and kills what is left after this time. */
	within(drainMs: number): void {
		const killAt = this.#clock.monotonic() + drainMs;
		for (const worker of this.#live) worker.retire("the daemon stops");
		if (killAt >= this.#killAt) return;
		this.#timer?.cancel();
		this.#killAt = killAt;
		if (drainMs <= 0) this.#killAll();
		else this.#timer = this.#clock.setTimer(drainMs, () => this.#killAll());
	}

	/** Resolves the promise where no process is left; says whether. */
	endIfEmpty(): boolean {
		if (this.#live.size > 0) return false;
		this.#timer?.cancel();
		this.#resolve();
		return true;
	}

	#killAll(): void {
		for (const worker of this.#live) worker.kill({ kind: "drain" });
	}
}
