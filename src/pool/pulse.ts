/**
 * Whether a worker's loop answers. It is asked at a steady pace while somebody is aboard, one question at a time;
 * silent is a loop that has left a question open for `loopSilentMs`.
 */
import { LIMITS } from "../core/limits.ts";

export class Pulse {
	#askedAt: number | undefined;
	#silent = false;

	get silent(): boolean {
		return this.#silent;
	}

	/** True where the loop is to be asked now. `judge`: the open question is old enough only if our own loop was awake. */
	beat(now: number, judge: boolean): boolean {
		if (this.#askedAt === undefined) {
			this.#askedAt = now;
			return true;
		}
		if (judge && now - this.#askedAt >= LIMITS.loopSilentMs) this.#silent = true;
		return false;
	}

	/** The loop has answered. True where it was silent before. */
	answered(): boolean {
		const was = this.#silent;
		this.#askedAt = undefined;
		this.#silent = false;
		return was;
	}
}
