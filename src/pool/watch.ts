/**
 * The pool's two steady looks at its workers: every 50 ms, while somebody is aboard somewhere, whether loops answer;
 * every 250 ms (while somebody is) or 2 s how much memory they hold. An empty pool has no timer.
 */
import type { Clock, Timer } from "../core/environment.ts";
import { LIMITS } from "../core/limits.ts";
import type { ReadMemory } from "./memory.ts";
import type { Worker } from "./worker.ts";

export interface WatchDependencies {
	readonly clock: Clock;
	readonly readMemory: ReadMemory;
	readonly workers: ReadonlySet<Worker>;
}

export class Watch {
	readonly #deps: WatchDependencies;
	#pulse: Timer | undefined;
	#pulseAt = 0;
	/** Kept over pauses, so that the first look after one may sample. */
	#sampledAt = 0;
	#idle: Timer | undefined;

	constructor(deps: WatchDependencies) {
		this.#deps = deps;
	}

	/** Somebody came aboard. */
	busy(): void {
		if (this.#pulse === undefined) this.#armPulse();
	}

	/** A process was started. */
	started(): void {
		this.#idle ??= this.#deps.clock.setTimer(LIMITS.memorySampleIdleMs, () => {
			this.#idle = undefined;
			for (const worker of this.#deps.workers) this.#sample(worker);
			if (this.#deps.workers.size > 0) this.started();
		});
	}

	stop(): void {
		this.#pulse?.cancel();
		this.#idle?.cancel();
	}

	#armPulse(): void {
		this.#pulseAt = this.#deps.clock.monotonic() + LIMITS.loopSilentMs;
		this.#pulse = this.#deps.clock.setTimer(LIMITS.loopSilentMs, () => this.#look());
	}

	#look(): void {
		const now = this.#deps.clock.monotonic();
		// Where our own loop was held up, the answers may be here, unread: judge at the next look.
		const judge = now - this.#pulseAt < LIMITS.loopSilentMs / 2;
		const sample = now - this.#sampledAt >= LIMITS.memorySampleBusyMs;
		if (sample) this.#sampledAt = now;
		let busy = 0;
		for (const worker of this.#deps.workers) {
			// Also who has just become empty: short calls with pauses leak as much as one long call.
			if (sample) this.#sample(worker);
			if (worker.load === 0) continue;
			busy += 1;
			worker.pulse(judge);
		}
		this.#pulse = undefined;
		if (busy > 0) this.#armPulse();
	}

	#sample(worker: Worker): void {
		const bytes = worker.pid === undefined ? undefined : this.#deps.readMemory(worker.pid);
		worker.memoryBytes = bytes;
		const { memoryMb } = worker.spec.config;
		if (bytes !== undefined && bytes > memoryMb * 1_048_576) worker.kill({ kind: "memory", bytes, memoryMb });
	}
}
