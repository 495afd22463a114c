/**
 * Histories of enqueue, claim, settle, cancel, clock and crash against a real Queue on a real file, with the invariants
 * looked up in the rows after each step:
 *
 *   Q1  accepted = queued + running + ended           Q2  running per lane ≤ limit, and the counts are the rows'
 *   Q3  the attempt number rises by one per claim; charged ≤ max       Q4  an ended row never changes
 *   Q5  a stale fence changes nothing                 Q6  a result exists exactly for succeeded
 *   Q7  in a lane and key, what starts was first by priority, then by acceptance
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Accepted } from "../../src/core/contracts.ts";
import { EngineError } from "../../src/core/errors.ts";
import type { Outcome } from "../../src/core/invocation.ts";
import type { InvokeRequest } from "../../src/core/request.ts";
import type { Claim } from "../../src/queue/index.ts";
import { queueOnFile, type QueueOnFile } from "../support/queue-on-file.ts";
import { fc, seed, seeded } from "../support/seed.ts";

interface Row {
	seq: number;
	lane: number;
	lane_key: string;
	priority: number;
	state: number;
	ready: number;
	attempt: number;
	charged: number;
	max_attempts: number;
	status: number | null;
	finished_at: number | null;
}

/** What the model knows: only what was acknowledged. */
interface Model {
	readonly accepted: Set<number>;
	readonly keys: Map<string, string>;
	readonly ended: Map<number, string>;
	readonly attempts: Map<number, number>;
	/** Claims that were sent and not settled yet. */
	readonly open: Map<string, Claim>;
	/** Claims whose daemon died or that were settled: their fences are stale. */
	readonly stale: Claim[];
	sent: number;
}

type Command = fc.AsyncCommand<Model, QueueOnFile>;

const LANES = [
	{ limit: 2, config: { retry: { maxAttempts: 3, baseMs: 100, capMs: 1000, jitter: true, retryOn: [503] } } },
	{
		limit: 1,
		config: {
			delivery: "at-most-once" as const,
			retry: { maxAttempts: 1, baseMs: 0, capMs: 0, jitter: false, retryOn: [] },
		},
	},
	{ limit: 5, maxQueued: 6 },
];

function rows(harness: QueueOnFile): Row[] {
	return harness.folder.queue.prepare("SELECT * FROM invocation ORDER BY seq").all() as Row[];
}

function check(model: Model, harness: QueueOnFile, readyBefore: readonly Row[]): void {
	const all = rows(harness);
	assert.deepEqual(
		all.map((row) => row.seq),
		[...model.accepted].sort((a, b) => a - b),
		"Q1: the rows are exactly what was accepted",
	);
	LANES.forEach(({ limit }, index) => {
		const lane = harness.lane(index);
		const mine = all.filter((row) => row.lane === lane.id);
		const count = (test: (row: Row) => boolean): number => mine.filter(test).length;
		assert.ok(lane.running <= limit, `Q2: lane ${index} runs ${lane.running} of ${limit}`);
		assert.equal(
			lane.running,
			count((row) => row.state === 1),
			"Q2: running is the rows' count",
		);
		assert.equal(
			lane.ready,
			count((row) => row.state === 0 && row.ready === 1),
			"Q2: ready is the rows' count",
		);
		assert.equal(
			lane.delayed,
			count((row) => row.state === 0 && row.ready === 0),
			"Q2: delayed is the rows' count",
		);
		assert.equal(
			lane.keyed,
			count((row) => row.state === 0 && row.lane_key !== ""),
			"Q2: keyed is the rows' count",
		);
	});
	for (const row of all) {
		assert.ok(row.charged <= row.max_attempts, "Q3: charged is at most max");
		assert.equal(row.state >= 2, row.finished_at !== null);
		assert.equal(row.state === 2, row.status !== null, "Q6: a result exists exactly for succeeded");
		const text = JSON.stringify(row);
		const ended = model.ended.get(row.seq);
		if (ended !== undefined) assert.equal(text, ended, "Q4: an ended row never changes");
		else if (row.state >= 2) model.ended.set(row.seq, text);
	}
	for (const claim of harness.sent.slice(model.sent)) {
		assert.equal(
			claim.attempt,
			(model.attempts.get(claim.seq) ?? 0) + 1,
			"Q3: the attempt number rises by one per claim",
		);
		model.attempts.set(claim.seq, claim.attempt);
		model.open.set(claim.invocationId, claim);
		const me = all.find((row) => row.seq === claim.seq);
		assert.ok(me !== undefined);
		for (const other of readyBefore) {
			const stillWaits = all.some((row) => row.seq === other.seq && row.state === 0 && row.ready === 1);
			if (!stillWaits || other.lane !== me.lane || other.lane_key !== me.lane_key) continue;
			const better = other.priority > me.priority || (other.priority === me.priority && other.seq < me.seq);
			assert.ok(!better, `Q7: ${other.seq} was ready, better placed than ${me.seq}, and did not start`);
		}
	}
	model.sent = harness.sent.length;
}

/** Runs a step, then looks at the rows. */
function step(model: Model, harness: QueueOnFile, act: () => void): void {
	const readyBefore = rows(harness).filter((row) => row.state === 0 && row.ready === 1);
	act();
	check(model, harness, readyBefore);
}

function snapshot(harness: QueueOnFile): string {
	return JSON.stringify([rows(harness), harness.folder.queue.prepare("SELECT * FROM attempt").all()]);
}

interface Asked {
	readonly lane: number;
	readonly request: Partial<InvokeRequest>;
}

/** Checks each answer and remembers what was acknowledged. */
function remember(model: Model, requests: readonly Asked[], answers: readonly (Accepted | EngineError)[]): void {
	assert.equal(answers.length, requests.length, "every request is answered");
	requests.forEach((asked, index) => {
		const answer = answers[index];
		assert.ok(answer !== undefined);
		if (answer instanceof EngineError) {
			assert.ok(["LANE_FULL", "BAD_REQUEST", "IDEMPOTENCY_CONFLICT"].includes(answer.code), answer.code);
			return;
		}
		const key =
			asked.request.idempotencyKey === undefined ? undefined : `${asked.lane}/${asked.request.idempotencyKey}`;
		const first = key === undefined ? undefined : model.keys.get(key);
		assert.equal(answer.replayed, first !== undefined, "a known key is replayed, a new one is not");
		if (first !== undefined) assert.equal(answer.invocationId, first, "the same key is the same invocation");
		else if (key !== undefined) model.keys.set(key, answer.invocationId);
		if (!answer.replayed) model.accepted.add(seqOf(answer.invocationId));
	});
}

const shown = (requests: readonly Asked[]): string =>
	requests.map(({ lane, request }) => `${lane}:${JSON.stringify(request)}`).join(", ");

class Enqueue implements Command {
	readonly requests: readonly Asked[];
	constructor(requests: readonly Asked[]) {
		this.requests = requests;
	}
	check(): boolean {
		return true;
	}
	async run(model: Model, harness: QueueOnFile): Promise<void> {
		step(model, harness, () => {
			const submissions = this.requests.map(({ lane, request }) => harness.submission(lane, request));
			remember(model, this.requests, harness.accept(...submissions));
		});
	}
	toString(): string {
		return `enqueue(${shown(this.requests)})`;
	}
}

/** An answer of a worker, and in the same turn new work: it must not overtake what waited for the place. */
class Settle implements Command {
	readonly pick: number;
	readonly outcome: Outcome;
	readonly requests: readonly Asked[];
	constructor(pick: number, outcome: Outcome, requests: readonly Asked[]) {
		this.pick = pick;
		this.outcome = outcome;
		this.requests = requests;
	}
	check(): boolean {
		return true;
	}
	async run(model: Model, harness: QueueOnFile): Promise<void> {
		const open = [...model.open.values()];
		const claim = open[this.pick % Math.max(1, open.length)];
		if (claim === undefined) return;
		model.open.delete(claim.invocationId);
		model.stale.push(claim);
		step(model, harness, () => {
			claim.ticket.release();
			harness.queue.settle(claim, this.outcome, (settled) => assert.notEqual(settled, "stale"));
			const submissions = this.requests.map(({ lane, request }) => harness.submission(lane, request));
			remember(model, this.requests, harness.accept(...submissions));
			harness.turn();
		});
	}
	toString(): string {
		return `settle(${this.pick}, ${JSON.stringify(this.outcome)}, ${shown(this.requests)})`;
	}
}

class SettleStale implements Command {
	readonly pick: number;
	constructor(pick: number) {
		this.pick = pick;
	}
	check(model: Readonly<Model>): boolean {
		return model.stale.length > 0;
	}
	async run(model: Model, harness: QueueOnFile): Promise<void> {
		const old = model.stale[this.pick % model.stale.length];
		assert.ok(old !== undefined);
		const claim = { ...old, lane: harness.lane(old.lane.id - 1) };
		step(model, harness, () => {
			const before = snapshot(harness);
			harness.queue.settle(claim, { kind: "succeeded", status: 200, headers: [], body: new Uint8Array() }, (settled) =>
				assert.equal(settled, "stale"),
			);
			harness.turn();
			assert.equal(snapshot(harness), before, "Q5: a stale fence changes nothing");
		});
	}
	toString(): string {
		return `settleStale(${this.pick})`;
	}
}

class Cancel implements Command {
	readonly pick: number;
	constructor(pick: number) {
		this.pick = pick;
	}
	check(model: Readonly<Model>): boolean {
		return model.accepted.size > 0;
	}
	async run(model: Model, harness: QueueOnFile): Promise<void> {
		const all = rows(harness);
		const row = all[this.pick % all.length] as Row & { created_at: number };
		const id = `inv_${row.created_at.toString(32).padStart(10, "0")}${row.seq.toString(32).padStart(11, "0")}`;
		const readyBefore = all.filter((other) => other.state === 0 && other.ready === 1);
		const answer = harness.queue.cancel(id);
		harness.turn();
		const { state } = await answer;
		if (row.state === 0) assert.equal(state, "cancelled");
		check(model, harness, readyBefore);
	}
	toString(): string {
		return `cancel(${this.pick})`;
	}
}

class Advance implements Command {
	readonly ms: number;
	constructor(ms: number) {
		this.ms = ms;
	}
	check(): boolean {
		return true;
	}
	async run(model: Model, harness: QueueOnFile): Promise<void> {
		const readyBefore = rows(harness).filter((row) => row.state === 0 && row.ready === 1);
		await harness.clock.advance(this.ms);
		harness.turn();
		check(model, harness, readyBefore);
	}
	toString(): string {
		return `advance(${this.ms})`;
	}
}

class Crash implements Command {
	check(): boolean {
		return true;
	}
	async run(model: Model, harness: QueueOnFile): Promise<void> {
		model.stale.push(...model.open.values());
		model.open.clear();
		// Ready rows are not compared: what ran before comes back to its old place.
		harness.reopen();
		check(model, harness, []);
	}
	toString(): string {
		return "crash()";
	}
}

class Slots implements Command {
	readonly slots: number;
	constructor(slots: number) {
		this.slots = slots;
	}
	check(): boolean {
		return true;
	}
	async run(model: Model, harness: QueueOnFile): Promise<void> {
		step(model, harness, () => {
			harness.slots = this.slots;
			LANES.forEach((_, index) => harness.queue.consider(harness.lane(index)));
			harness.turn();
		});
	}
	toString(): string {
		return `slots(${this.slots})`;
	}
}

function seqOf(id: string): number {
	return Number.parseInt(id.slice(-11), 32);
}

const request = fc.record(
	{
		// Mostly alike, because only what is alike can overtake.
		priority: fc.constantFrom(0, 0, 0, 1, -1),
		laneKey: fc.constantFrom("", "", "", "a", "b"),
		delayMs: fc.constantFrom(0, 0, 0, 50, 500),
		deadlineMs: fc.constantFrom(30, 3000, 60_000, 60_000),
		maxAttempts: fc.integer({ min: 1, max: 4 }),
		idempotencyKey: fc.constantFrom("k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8"),
		waits: fc.boolean(),
		body: fc.constantFrom(new Uint8Array([1, 2, 3]), new Uint8Array(5000).fill(7)),
	},
	{ requiredKeys: [] },
) as fc.Arbitrary<Partial<InvokeRequest>>;

const error = { code: "HANDLER_ERROR", message: "thrown" } as const;
const outcome: fc.Arbitrary<Outcome> = fc.oneof(
	fc
		.constantFrom(200, 500, 503)
		.map((status): Outcome => ({ kind: "succeeded", status, headers: [["a", "b"]], body: new Uint8Array([1]) })),
	fc.constant<Outcome>({ kind: "succeeded", status: 200, headers: [], body: new Uint8Array(6000).fill(1) }),
	fc.constant<Outcome>({ kind: "failed", error }),
	fc.constant<Outcome>({ kind: "timed_out", error: { code: "TIMED_OUT", message: "late" } }),
	fc.constant<Outcome>({ kind: "crashed", error: { code: "WORKER_CRASHED", message: "died" } }),
	fc.constant<Outcome>({ kind: "cancelled" }),
	fc.boolean().map((started): Outcome => ({ kind: "released", why: "drain", started, solo: started })),
);

const asked: fc.Arbitrary<Asked> = fc.record({ lane: fc.integer({ min: 0, max: 2 }), request });
const someAsked = fc.array(asked, { maxLength: 2 });

const commands = fc.commands(
	[
		fc.array(asked, { minLength: 1, maxLength: 4 }).map((list) => new Enqueue(list)),
		fc.tuple(fc.nat(20), outcome, someAsked).map(([pick, result, list]) => new Settle(pick, result, list)),
		fc.tuple(fc.nat(20), outcome, someAsked).map(([pick, result, list]) => new Settle(pick, result, list)),
		fc.nat(20).map((pick) => new SettleStale(pick)),
		fc.nat(40).map((pick) => new Cancel(pick)),
		fc.constantFrom(1, 40, 200, 5000).map((ms) => new Advance(ms)),
		fc.constantFrom(0, 1, 3, 1_000_000).map((slots) => new Slots(slots)),
		fc.constant(new Crash()),
	],
	// Without a size fast-check keeps to ten commands or so, too few to fill a lane.
	{ maxCommands: 40, size: "max" },
);

test(`the queue keeps Q1 to Q7 through any history (seed ${seed})`, async () => {
	await fc.assert(
		fc.asyncProperty(commands, async (history) => {
			using harness = queueOnFile({ lanes: LANES });
			const model: Model = {
				accepted: new Set(),
				keys: new Map(),
				ended: new Map(),
				attempts: new Map(),
				open: new Map(),
				stale: [],
				sent: 0,
			};
			await fc.asyncModelRun(() => ({ model, real: harness }), history);
		}),
		seeded(60),
	);
});
