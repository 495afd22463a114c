/**
 * A real Queue on a real SQLite file, with everything around it in the test's hand: slots, ballast, turns, and the
 * callbacks that may throw. It settles nothing by itself.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import BetterSqlite3 from "better-sqlite3";
import type { Accepted } from "../../src/core/contracts.ts";
import { silentProbe, type Environment, type Logger } from "../../src/core/environment.ts";
import { EngineError } from "../../src/core/errors.ts";
import { BUILT_IN, type ResolvedConfig } from "../../src/core/function-config.ts";
import type { Outcome } from "../../src/core/invocation.ts";
import type { InvokeRequest } from "../../src/core/request.ts";
import {
	Lane,
	Queue,
	type Claim,
	type EndedInvocation,
	type QueueDeps,
	type Settled,
	type Submission,
} from "../../src/queue/index.ts";
import { openDataFolder, type DataFolder, type Database } from "../../src/store/index.ts";
import { createFakeClock, type FakeClock } from "./fake-clock.ts";
import { seededRandom } from "./seed.ts";
import { tempFolder, type TempFolder } from "./temp-folder.ts";

export interface LaneSettings {
	readonly limit?: number;
	readonly maxQueued?: number;
	readonly config?: Partial<ResolvedConfig>;
}

export interface QueueOnFileOptions {
	readonly lanes: readonly LaneSettings[];
	readonly deps?: Partial<QueueDeps>;
	/** Slots of the fake pool, over all lanes. */
	readonly slots?: number;
	/** A data folder that stays; without it there is a temporary one. */
	readonly dataDir?: string;
	readonly durability?: "power" | "process";
	/** Of the fake clock. */
	readonly now?: number;
}

export interface QueueOnFile extends Disposable {
	readonly clock: FakeClock;
	readonly folder: DataFolder;
	readonly db: Database;
	queue: Queue;
	/** Claims in the order in which they were sent. */
	readonly sent: Claim[];
	readonly ended: EndedInvocation[];
	readonly broken: EngineError[];
	readonly logged: string[];
	slots: number;
	/** Versions that were replaced and cannot start. */
	readonly stuck: Set<number>;
	/** Slots that are reserved or in use. */
	readonly taken: number;
	readonly wantsTurn: boolean;
	lane(index: number): Lane;
	submission(lane: number, request?: Partial<InvokeRequest>): Submission;
	/** Ends one turn of the event loop: one transaction. */
	oneTurn(): void;
	/** Ends turns until nothing wants another. */
	turn(): void;
	/** Accepts in one turn; the answers in order. */
	accept(...submissions: Submission[]): (Accepted | EngineError)[];
	id(...submissions: Submission[]): string;
	/** Gives the slot back and settles; the answer is `undefined` while it is not written. */
	settle(claim: Claim, outcome?: Outcome): { settled: Settled | undefined };
	state(id: string): string;
	/** The lanes' counts are those of the rows, each row is named in its block (Q9), and each end is counted once (Q10). */
	checkCounts(): void;
	/** The file as another daemon on it finds it: without closing, as after a kill. */
	reopen(): void;
}

export const OK: Outcome = { kind: "succeeded", status: 200, headers: [], body: new Uint8Array() };
export const THROWN: Outcome = { kind: "failed", error: { code: "HANDLER_ERROR", message: "thrown" } };
const NOTHING = new Uint8Array();

export function queueOnFile(options: QueueOnFileOptions): QueueOnFile {
	const temp: TempFolder | undefined = options.dataDir === undefined ? tempFolder() : undefined;
	const dataDir = options.dataDir ?? join(temp?.path ?? "", "data");
	const clock = options.now === undefined ? createFakeClock() : createFakeClock(options.now);
	const logged: string[] = [];
	const note = (_fields: object, message: string): void => void logged.push(message);
	const logger: Logger = { debug: () => undefined, info: () => undefined, warn: note, error: note };
	const environment: Environment = { clock, random: seededRandom(1), probe: silentProbe, logger };
	const folder = openDataFolder({ dataDir, durability: options.durability ?? "process", environment });
	const configs = options.lanes.map(({ limit, config }): ResolvedConfig => ({
		...BUILT_IN,
		concurrency: limit ?? BUILT_IN.concurrency,
		...config,
	}));
	let wanted: (() => void)[] = [];
	let taken = 0;
	let daemon = 0;

	function open(): Queue {
		daemon += 1;
		const mine = daemon;
		const queue: Queue = new Queue({
			database: folder.queue,
			disk: folder.queueDisk,
			// Timers of a daemon die with it.
			environment: {
				...environment,
				clock: {
					now: () => clock.now(),
					monotonic: () => clock.monotonic(),
					setTimer: (delayMs, fire) => clock.setTimer(delayMs, () => mine === daemon && fire()),
				},
			},
			slots: {
				isStuck: (version) => harness.stuck.has(version),
				reserve(lane, version) {
					if (harness.stuck.has(version)) return undefined;
					if (taken >= harness.slots) return undefined;
					taken += 1;
					let held = true;
					return {
						worker: `w${lane.id}`,
						cold: false,
						release() {
							assert.ok(held, "a slot is released once");
							held = false;
							taken -= 1;
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
			claimed: (claims) => harness.sent.push(...claims),
			ended: (end) => harness.ended.push(end),
			retryOf: (lane) => (configs[lane - 1] ?? BUILT_IN).retry,
			freeBallast: () => false,
			broken: (error) => harness.broken.push(error),
			...options.deps,
		});
		options.lanes.forEach(({ limit, maxQueued }, index) => {
			queue.lanes.add(
				new Lane(index + 1, `fn_${index + 1}`, {
					limit: limit ?? BUILT_IN.concurrency,
					maxQueued: maxQueued ?? 1_000_000,
					paused: false,
				}),
			);
		});
		return queue;
	}

	const harness: QueueOnFile = {
		clock,
		folder,
		db: folder.queue,
		queue: undefined as unknown as Queue,
		sent: [],
		stuck: new Set(),
		ended: [],
		broken: [],
		logged,
		slots: options.slots ?? 1_000_000,
		get taken() {
			return taken;
		},
		get wantsTurn() {
			return wanted.length > 0;
		},
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
		oneTurn() {
			for (const act of wanted.splice(0)) act();
		},
		turn() {
			for (let turns = 0; wanted.length > 0; turns += 1) {
				if (turns > 10_000) throw new Error("the queue asks for turns without end");
				harness.oneTurn();
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
		id(...submissions) {
			const answer = harness.accept(...submissions)[0];
			assert.ok(answer !== undefined && !(answer instanceof EngineError), `accepted, got ${JSON.stringify(answer)}`);
			return answer.invocationId;
		},
		settle(claim, outcome = OK) {
			const answer: { settled: Settled | undefined } = { settled: undefined };
			claim.ticket.release();
			harness.queue.settle(claim, outcome, (settled) => {
				answer.settled = settled;
			});
			return answer;
		},
		state: (id) => harness.queue.read.record(id).state,
		checkCounts() {
			const rows = folder.queue
				.prepare<[], { lane: number; running: number; ready: number; delayed: number; keyed: number }>(
					`SELECT lane, SUM(state = 1) AS running, SUM(state = 0 AND ready = 1) AS ready,
						SUM(state = 0 AND ready = 0) AS delayed, SUM(state = 0 AND lane_key <> '') AS keyed
					FROM invocation GROUP BY lane`,
				)
				.all();
			for (const { id, running, ready, delayed, keyed } of harness.queue.lanes.all()) {
				const row = rows.find((each) => each.lane === id) ?? { running: 0, ready: 0, delayed: 0, keyed: 0 };
				assert.deepEqual(
					{ running, ready, delayed, keyed },
					{ running: row.running, ready: row.ready, delayed: row.delayed, keyed: row.keyed },
					`the counts of lane ${id} are those of its rows`,
				);
			}
			const unnamed = folder.queue.prepare<[], number>(`
				SELECT seq FROM invocation
				WHERE (seq / 256 < (SELECT MAX(seq) / 256 FROM invocation) AND NOT EXISTS
						(SELECT 1 FROM lane_block b WHERE b.lane = invocation.lane AND b.block = seq / 256
							AND instr(b.offsets, unhex(printf('%02x', seq % 256))) > 0))
					OR (state = 1 AND NOT EXISTS (SELECT 1 FROM running_block b WHERE b.block = seq / 256))`);
			assert.deepEqual(unnamed.pluck().all(), [], "Q9: each of these is named in its block");
			const minute = Math.floor(clock.now() / 60_000) - 24 * 60 + 1;
			const counted = folder.queue.prepare<[number, number, number, number], number>(`
				SELECT (SELECT COALESCE(SUM(invocations), 0) FROM metric WHERE lane = ? AND minute >= ?) +
					(SELECT COUNT(*) FROM running_block JOIN invocation ON seq / 256 = block
						WHERE state >= 2 AND lane = ? AND finished_at / 60000 >= ?
							AND instr(counted, unhex(printf('%02x', seq % 256))) = 0)`);
			const named = "(SELECT * FROM running_block UNION ALL SELECT * FROM counted_block)";
			for (const bytes of folder.queue.prepare<[], Buffer>(`SELECT counted FROM ${named}`).pluck().all()) {
				assert.equal(new Set(bytes).size, bytes.length, "Q10: each is named once");
			}
			const twice = folder.queue.prepare<[], number>(`SELECT block FROM ${named} GROUP BY block HAVING COUNT(*) > 1`);
			assert.deepEqual(twice.pluck().all(), [], "a block is in one of both tables");
			const early = folder.queue.prepare<[], number>(`
				SELECT seq FROM invocation JOIN ${named} ON block = seq / 256
				WHERE state < 2 AND instr(counted, unhex(printf('%02x', seq % 256))) > 0`);
			assert.deepEqual(early.pluck().all(), [], "Q10: nothing is counted before it has ended");
			for (const { id } of harness.queue.lanes.all()) {
				const inFile = counted.pluck().get(id, minute, id, minute);
				assert.equal(harness.queue.read.metrics(id, "day").invocations, inFile, "Q10: memory and file count the same");
			}
		},
		reopen() {
			wanted = [];
			taken = 0;
			harness.queue = open();
			harness.queue.recover();
			harness.turn();
		},
		[Symbol.dispose]() {
			harness.queue.close();
			folder.close();
			temp?.[Symbol.dispose]();
		},
	};
	harness.queue = open();
	harness.queue.recover();
	harness.turn();
	return harness;
}

/**
 * No page may be added to the file from now on, so SQLite answers SQLITE_FULL as on a full disk. The free pages of
 * earlier deletes are used up first, because SQLite would take those.
 */
export function fillDisk(db: Database): { free: (pages?: number) => void } {
	const count = (name: string): number => Number(db.pragma(name, { simple: true }));
	db.pragma(`max_page_count = ${count("page_count")}`);
	return {
		free(pages = 10_000) {
			db.pragma(`max_page_count = ${count("page_count") + pages}`);
		},
	};
}

/** Another program's connection to the same file, e.g. a database shell. */
export function otherProgram(harness: QueueOnFile): BetterSqlite3.Database {
	return new BetterSqlite3(harness.db.name, { timeout: 0 });
}

/** Makes the statements that this pattern names fail from now on, with an error of SQLite's shape. */
export function failStatement(
	db: Database,
	pattern: RegExp,
	code: string,
	when: () => boolean = () => true,
): { restore(): void } {
	const prototype = Object.getPrototypeOf(db.prepare("SELECT 1")) as Record<
		"run" | "get",
		(...values: unknown[]) => unknown
	>;
	const { run, get } = prototype;
	const failing = (original: typeof run) =>
		function (this: { source: string; database: Database }, ...values: unknown[]): unknown {
			if (this.database === db && pattern.test(this.source) && when()) {
				throw Object.assign(new Error(`injected ${code}`), { code });
			}
			return original.apply(this, values);
		};
	prototype.run = failing(run);
	prototype.get = failing(get);
	return {
		restore() {
			prototype.run = run;
			prototype.get = get;
		},
	};
}
