/**
 * Whether one more process may be started, and who makes room for it: at most `maxWorkers` of a function over all
 * its versions, at most `maxWorkersTotal` over all. Processes that are on their way out still count.
 *
 * An idle worker is ended for another version or function that has demand, least recently used first. Where none is
 * idle, one that has served for a turn is retired for a version that has no worker at all, so that a saturated
 * neighbour cannot lock it out.
 */
import type { WorkerSpec } from "./contract.ts";
import type { Worker } from "./worker.ts";

/** A worker that is busy all the time keeps its place at least this long. */
export const TURN_MS = 1_000;

export type Room =
	| { readonly kind: "free" }
	/** Somebody is leaving, or was asked to; ask again when a process is gone. */
	| { readonly kind: "coming"; readonly retire: Worker | undefined }
	/** Somebody busy may be asked to leave after this time. */
	| { readonly kind: "later"; readonly inMs: number }
	| { readonly kind: "none" };

export interface RoomQuestion {
	readonly spec: WorkerSpec;
	readonly live: ReadonlySet<Worker>;
	readonly maxWorkersTotal: number;
	/** Versions with demand of their own; their idle workers are wanted. */
	readonly wanted: (key: string) => boolean;
	/** Monotonic. */
	readonly now: number;
}

export function findRoom(question: RoomQuestion): Room {
	const { spec, live, maxWorkersTotal } = question;
	const ofFunction = [...live].filter((worker) => worker.spec.functionId === spec.functionId);
	if (ofFunction.length >= spec.config.maxWorkers) {
		return makeRoom(question, ofFunction, (worker) => worker.spec.key);
	}
	if (live.size >= maxWorkersTotal) return makeRoom(question, [...live], (worker) => worker.spec.functionId);
	return { kind: "free" };
}

/** `shareOf` names who shares the room with whom: versions of a function, or functions. */
function makeRoom(question: RoomQuestion, crowd: readonly Worker[], shareOf: (worker: Worker) => string): Room {
	const { spec, wanted, now } = question;
	if (crowd.some((worker) => worker.state === "DRAINING" && worker.load === 0)) {
		return { kind: "coming", retire: undefined };
	}
	const idle = crowd.filter(
		(worker) => worker.serving && worker.load === 0 && worker.spec.key !== spec.key && !wanted(worker.spec.key),
	);
	if (idle.length > 0) {
		return { kind: "coming", retire: idle.reduce((lru, worker) => (worker.restedAt < lru.restedAt ? worker : lru)) };
	}
	if (crowd.some((worker) => worker.spec.key === spec.key && worker.state !== "DRAINING")) return { kind: "none" };
	if (crowd.some((worker) => worker.state === "DRAINING")) return { kind: "coming", retire: undefined };
	return displace(
		crowd.filter((worker) => worker.serving && worker.spec.key !== spec.key),
		shareOf,
		now,
	);
}

/** From whoever has most of the room, the one with the least to finish. */
function displace(busy: readonly Worker[], shareOf: (worker: Worker) => string, now: number): Room {
	const shares = new Map<string, number>();
	for (const worker of busy) shares.set(shareOf(worker), (shares.get(shareOf(worker)) ?? 0) + 1);
	const served = busy.filter((worker) => now >= worker.readyAt + TURN_MS);
	if (served.length === 0) return busy.length === 0 ? { kind: "none" } : { kind: "later", inMs: TURN_MS };
	const share = (worker: Worker): number => shares.get(shareOf(worker)) ?? 0;
	const retire = served.reduce((best, worker) => {
		if (share(worker) !== share(best)) return share(worker) > share(best) ? worker : best;
		return worker.load < best.load ? worker : best;
	});
	return { kind: "coming", retire };
}
