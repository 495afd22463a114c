/**
 * A real Queue on a real SQLite file, with a clock that stands still, slots that the test counts, and turns that the
 * test ends. `crash` forgets the Queue without closing it and opens another on the same file, as a kill does.
 */
import type { Accepted } from "../../src/core/contracts.ts";
import { silentLogger, silentProbe, type Environment } from "../../src/core/environment.ts";
import type { EngineError } from "../../src/core/errors.ts";
import { BUILT_IN, type ResolvedConfig } from "../../src/core/function-config.ts";
import type { InvokeRequest } from "../../src/core/request.ts";
import { Lane, Queue, type Claim, type EndedInvocation, type Submission } from "../../src/queue/index.ts";
import { openDataFolder, type DataFolder } from "../../src/store/index.ts";
import { createFakeClock, type FakeClock } from "./fake-clock.ts";
import { seededRandom } from "./seed.ts";

export interface LaneSettings {
	readonly limit: number;
	readonly maxQueued?: number;
	readonly config?: Partial<ResolvedConfig>;
}

export interface QueueHarness extends Disposable {
	readonly clock: FakeClock;
	readonly folder: DataFolder;
	queue: Queue;
	/** Claims that were sent and not settled yet. */
	readonly running: Map<string, Claim>;
	/** Claims in the order in which they were sent, of all daemons. */
	readonly sent: Claim[];
	readonly ended: EndedInvocation[];
	/** Slots per lane that a fake pool has. */
	slots: number;
	lane(index: number): Lane;
	submission(lane: number, request?: Partial<InvokeRequest>): Submission;
	/** Ends turns until nothing wants another. */
	turn(): void;
	/** Accepts in one turn; the answers in order. */
	accept(...submissions: Submission[]): (Accepted | EngineError)[];
	crash(): void;
}

const NOTHING = new Uint8Array();

export function createQueueHarness(dataDir: string, lanes: readonly LaneSettings[], seed = 1): QueueHarness {
	const clock = createFakeClock();
	const environment: Environment = { clock, random: seededRandom(seed), probe: silentProbe, logger: silentLogger };
	const folder = openDataFolder({ dataDir, durability: "process", environment });
	const configs = lanes.map(({ limit, config }): ResolvedConfig => ({ ...BUILT_IN, concurrency: limit, ...config }));
	let wanted: (() => void)[] = [];
	let taken = new Map<number, number>();
	let daemon = 0;

	const harness: QueueHarness = {
		clock,
		folder,
		queue: undefined as unknown as Queue,
		running: new Map(),
		sent: [],
		ended: [],
		slots: 1_000_000,
		lane: (index) => harness.queue.lanes.get(index + 1),
		submission(lane, request = {}) {
			return {
				lane: harness.lane(lane),
				version: lane + 1,
				config: configs[lane] ?? BUILT_IN,
				request: {
					function: `f${lane}`,
					source: "socket",
					method: "POST",
					path: "/",
					headers: [],
					query: [],
					body: NOTHING,
					waits: false,
					...request,
				},
				origin: null,
			};
		},
		turn() {
			for (let turns = 0; wanted.length > 0; turns += 1) {
				if (turns > 10_000) throw new Error("the queue asks for turns without end");
				for (const flush of wanted.splice(0)) flush();
			}
		},
		accept(...submissions) {
			const answers: (Accepted | EngineError)[] = [];
			submissions.forEach((submission, index) => {
				const answer = (value: Accepted | EngineError): void => {
					answers[index] = value;
				};
				harness.queue.enqueue(submission, answer, answer);
			});
			harness.turn();
			return answers;
		},
		crash() {
			// What was gathered for the next turn dies with the process; so do its workers.
			wanted = [];
			taken = new Map();
			harness.running.clear();
			harness.queue = open();
			harness.queue.recover();
			harness.turn();
		},
		[Symbol.dispose]() {
			harness.queue.close();
			folder.close();
		},
	};

	/** Timers of a daemon die with it. */
	function timersOf(born: number): Environment {
		const setTimer: FakeClock["setTimer"] = (delayMs, fire) => clock.setTimer(delayMs, () => born === daemon && fire());
		return { ...environment, clock: { now: () => clock.now(), monotonic: () => clock.monotonic(), setTimer } };
	}

	function open(): Queue {
		daemon += 1;
		const queue: Queue = new Queue({
			database: folder.queue,
			environment: timersOf(daemon),
			slots: {
				isStuck: () => false,
				reserve(lane) {
					const used = taken.get(lane.id) ?? 0;
					if (used >= harness.slots) return undefined;
					taken.set(lane.id, used + 1);
					let held = true;
					return {
						worker: `w${lane.id}`,
						cold: false,
						release() {
							if (held) taken.set(lane.id, (taken.get(lane.id) ?? 0) - 1);
							held = false;
						},
					};
				},
			},
			names: {
				functionOf: (lane) => ({ functionId: `fn_${lane}`, name: `f${lane}` }),
				versionOf: (version) => `v${version}`,
			},
			resultRetentionMs: 7 * 86_400_000,
			defer: (flush) => wanted.push(flush),
			claimed(claims) {
				for (const claim of claims) {
					harness.running.set(claim.invocationId, claim);
					harness.sent.push(claim);
				}
			},
			ended: (end) => harness.ended.push(end),
			retryOf: (lane) => (configs[lane - 1] ?? BUILT_IN).retry,
			freeBallast: () => false,
			broken: (error) => {
				throw error;
			},
		});
		lanes.forEach(({ limit, maxQueued }, index) => {
			queue.lanes.add(
				new Lane(index + 1, `fn_${index + 1}`, { limit, maxQueued: maxQueued ?? 1_000_000, paused: false }),
			);
		});
		return queue;
	}

	harness.queue = open();
	harness.queue.recover();
	harness.turn();
	return harness;
}
