/**
 * When a worker's own time is over, whatever its attempts do: a start that takes too long, a channel that closed, an
 * idle or too old worker, a drain without end. Looks and answers; worker.ts acts.
 */
import type { WorkerLife } from "./worker-life.ts";

/** A worker whose channel closed exits at once; one that does not has closed it on purpose. */
const CLOSED_CHANNEL_MS = 250;

/** Times are monotonic. */
export interface WorkerTimes {
	/** When its channel closed; Infinity while it is open. */
	readonly closedAt: number;
	/** When its start is late. */
	readonly lateAt: number;
	readonly readyAt: number;
	/** How long it may stay empty now; Infinity where `warmWorkers` keeps it. */
	readonly idleMs: number;
	/** 0 is for ever. */
	readonly maxAgeMs: number;
}

export type Due =
	/** Nothing before this time; Infinity is never. */
	| { readonly kind: "nothing"; readonly nextAt: number }
	| { readonly kind: "channel_closed" }
	| { readonly kind: "start_late" }
	| { readonly kind: "retire"; readonly why: string }
	/** It was to be empty or gone by now. */
	| { readonly kind: "patience_over"; readonly why: string };

/** When a closed channel is taken for a broken one. */
export function brokenAt(closedAt: number): number {
	return closedAt + CLOSED_CHANNEL_MS;
}

export function dueOf(life: WorkerLife, times: WorkerTimes, now: number): Due {
	const closed = brokenAt(times.closedAt);
	if (now >= closed) return { kind: "channel_closed" };
	const nothingUntil = (at: number): Due => ({ kind: "nothing", nextAt: Math.min(at, closed) });
	const oldAt = times.maxAgeMs === 0 ? Infinity : times.readyAt + times.maxAgeMs;
	const tooOld: Due = { kind: "retire", why: `it is older than its maxAgeMs of ${times.maxAgeMs} ms` };
	switch (life.state) {
		case "STARTING":
			return now >= times.lateAt ? { kind: "start_late" } : nothingUntil(times.lateAt);
		case "WARM":
		case "IDLE": {
			const idleAt = life.since + times.idleMs;
			if (now >= idleAt) return { kind: "retire", why: "it was idle" };
			return now >= oldAt ? tooOld : nothingUntil(Math.min(idleAt, oldAt));
		}
		case "BUSY":
			return now >= oldAt ? tooOld : nothingUntil(oldAt);
		case "DRAINING":
			return now >= life.killAt ? { kind: "patience_over", why: life.why } : nothingUntil(life.killAt);
		case "TERMINATED":
			return { kind: "nothing", nextAt: Infinity };
	}
}
