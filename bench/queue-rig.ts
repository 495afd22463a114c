/**
 * The engine's queue alone, in this process: real SQLite in a folder, no workers, no sockets. The caller ends the turns
 * of the group commit and decides how many slots there are.
 *
 * Durability is `process` (no fsync at a commit), because here the queue's own work is measured; what an fsync costs is
 * in the round trips.
 */
import { silentLogger, silentProbe, type Environment } from "../src/core/environment.ts";
import { BUILT_IN } from "../src/core/function-config.ts";
import type { InvokeRequest } from "../src/core/request.ts";
import { Lane, Queue, type Claim, type Submission } from "../src/queue/index.ts";
import { openDataFolder } from "../src/store/index.ts";

export interface QueueRig extends Disposable {
	readonly queue: Queue;
	/** How many claims may be open; the rest waits. */
	slots: number;
	/** Committed claims since the last look. */
	claims: Claim[];
	lane(index: number): Lane;
	submission(lane: number): Submission;
	/** Ends turns until nothing wants another. */
	turn(): void;
	/** Settles as succeeded with the request's own body. */
	settle(claims: readonly Claim[]): void;
}

const BODY = Buffer.alloc(64, "x");
const HEADERS = [["content-type", "application/octet-stream"]] as const;

/** The engine's own would load the whole engine. Nothing here is due later, so a long delay may be cut. */
const environment: Environment = {
	clock: {
		now: () => Date.now(),
		monotonic: () => performance.now(),
		setTimer(delayMs, fire) {
			const timer = setTimeout(fire, Math.min(delayMs, 2 ** 31 - 1));
			return { cancel: () => clearTimeout(timer) };
		},
	},
	random: { next: () => Math.random() },
	probe: silentProbe,
	logger: silentLogger,
};

export function openQueueRig(dataDir: string, lanes: number): QueueRig {
	const folder = openDataFolder({ dataDir, durability: "process", environment });
	const wanted: (() => void)[] = [];
	const turn = (): void => {
		for (let flush = wanted.shift(); flush !== undefined; flush = wanted.shift()) flush();
	};
	let taken = 0;
	const queue: Queue = new Queue({
		database: folder.queue,
		disk: folder.queueDisk,
		environment,
		slots: {
			isStuck: () => false,
			reserve() {
				if (taken >= rig.slots) return undefined;
				taken += 1;
				let held = true;
				return {
					worker: "w1",
					cold: false,
					release() {
						if (held) taken -= 1;
						held = false;
					},
				};
			},
		},
		names: { functionOf: (lane) => ({ functionId: `fn_${lane}`, name: `f${lane}` }), versionOf: () => "v1" },
		resultRetentionMs: 7 * 86_400_000,
		defer: (flush) => wanted.push(flush),
		claimed: (claims) => rig.claims.push(...claims),
		ended: () => undefined,
		retryOf: () => BUILT_IN.retry,
		freeBallast: () => false,
		broken(error) {
			throw error;
		},
	});
	const request: InvokeRequest = {
		function: "f1",
		source: "socket",
		method: "POST",
		path: "/",
		headers: HEADERS,
		query: [],
		body: BODY,
		waits: false,
	};
	const rig: QueueRig = {
		queue,
		slots: 0,
		claims: [],
		lane: (index) => queue.lanes.get(index + 1),
		submission: (lane) => ({ lane: rig.lane(lane), version: 1, config: BUILT_IN, request, origin: null }),
		turn,
		settle(claims) {
			for (const claim of claims) {
				queue.settle(claim, { kind: "succeeded", status: 200, headers: HEADERS, body: claim.body }, (settled) => {
					if (settled === "stale") throw new Error(`${claim.invocationId} was settled twice`);
					claim.ticket.release();
				});
			}
			turn();
		},
		[Symbol.dispose]() {
			queue.close();
			folder.close();
		},
	};
	for (let id = 1; id <= lanes; id += 1) {
		queue.lanes.add(new Lane(id, `fn_${id}`, { limit: 1_000, maxQueued: 100_000_000, paused: false }));
	}
	queue.recover();
	turn();
	return rig;
}

/** Puts `count` ready rows evenly into the lanes. */
export async function fillQueue(rig: QueueRig, lanes: number, count: number): Promise<void> {
	for (let filled = 0; filled < count;) {
		const batch: Submission[] = [];
		for (; batch.length < 1000 && filled < count; filled += 1) batch.push(rig.submission(filled % lanes));
		const answers = rig.queue.enqueueBatch(batch);
		rig.turn();
		await answers;
	}
}
