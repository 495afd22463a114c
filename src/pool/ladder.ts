/**
 * What stops an attempt that does not stop by itself, step by step:
 *
 *   1. at its deadline, or at a cancel: the abort signal, and `graceMs` to end
 *   2. still aboard then, alone or in a loop that does not answer: SIGKILL
 *   3. still aboard beside others, in a loop that answers: the worker takes no new work, and its neighbours get
 *      `neighbourGraceMsMax` to finish; SIGKILL when only overstayers are left, or when that time is over
 *
 * An overstayer that ends after all gives its neighbours their own time back. Neighbours are never risked before it
 * is known whether the loop answers.
 */
import { LIMITS } from "../core/limits.ts";
import type { AbortReason } from "../protocol/index.ts";
import type { Aboard, AboardTable } from "./aboard.ts";
import type { Alarm } from "./alarm.ts";
import type { Lifetime } from "./lifetime.ts";
import type { Pulse } from "./pulse.ts";

/** A loop must be asked for a sign of life this long before its silence may cost its neighbours their run. */
const ASKED_MS = 2 * LIMITS.loopSilentMs;

export interface LadderDependencies {
	readonly aboard: AboardTable;
	readonly alarm: Alarm;
	readonly lifetime: Lifetime;
	readonly pulse: Pulse;
	readonly graceMs: () => number;
	/** Sends the abort signal of a call, and asks the loop for a sign of life. */
	readonly signal: (call: number, reason: AbortReason) => void;
}

export class Ladder {
	readonly #deps: LadderDependencies;

	constructor(deps: LadderDependencies) {
		this.#deps = deps;
	}

	/** The first step. */
	abort(aboard: Aboard, reason: AbortReason, now: number): void {
		const { alarm, graceMs, signal } = this.#deps;
		aboard.phase = reason === "timeout" ? "timed_out" : "cancelled";
		aboard.abortedAt = now;
		aboard.dueAt = now + graceMs();
		signal(aboard.call, reason);
		alarm.by(aboard.dueAt);
	}

	/** The next step of everybody for whom it is time. */
	climb(now: number): void {
		const { aboard: table, lifetime } = this.#deps;
		for (const aboard of table.all()) {
			if (lifetime.over) return;
			if (now < aboard.dueAt) continue;
			if (aboard.phase === "running") this.abort(aboard, "timeout", now);
			else this.#overstay(aboard, now);
		}
	}

	/** Sets the alarm to the next step. */
	arm(): void {
		const { aboard: table, alarm } = this.#deps;
		for (const aboard of table.all()) alarm.by(aboard.dueAt);
	}

	/** Somebody has left a worker that drains: ends the neighbours' time where no neighbour is left, or no overstayer. */
	settle(): void {
		const { aboard, lifetime } = this.#deps;
		const { overstayers, load } = aboard;
		if (overstayers > 0 && overstayers === load) lifetime.kill({ kind: "overdue" });
		else if (overstayers === 0 && load > 0) lifetime.life.bePatient(Infinity);
	}

	/** An attempt is still aboard when its grace is over. */
	#overstay(aboard: Aboard, now: number): void {
		const { aboard: table, lifetime, pulse } = this.#deps;
		const { life } = lifetime;
		const askedLongEnough = now >= aboard.abortedAt + ASKED_MS;
		if (table.size === 1 || (pulse.silent && askedLongEnough)) {
			lifetime.kill({ kind: pulse.silent ? "silent" : "overdue" });
		} else if (!askedLongEnough) {
			aboard.dueAt = aboard.abortedAt + ASKED_MS;
		} else {
			aboard.dueAt = Infinity;
			lifetime.retire("an attempt ignored its abort signal");
			// The first overstayer's time counts for all.
			if (life.now.state === "DRAINING" && life.now.killAt === Infinity) {
				life.bePatient(now + LIMITS.neighbourGraceMsMax);
			}
			this.settle();
		}
	}
}
