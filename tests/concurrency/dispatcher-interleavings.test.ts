/**
 * The dispatcher between a real Queue and a fake pool, with every turn, answer, cancel, death and capacity event in an
 * order that fast-check chooses:
 *
 *   no claim is lost: every accepted invocation ends, and nothing asks for more when all have
 *   a lane runs at most its limit; an invocation runs at most once at a time; attempts count 1, 2, 3, …
 *   a caller that waits is told exactly once, of the end that is on record
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Ended } from "../../src/core/contracts.ts";
import { silentLogger, silentProbe, type Environment } from "../../src/core/environment.ts";
import { EngineError } from "../../src/core/errors.ts";
import { isTerminal, type Outcome } from "../../src/core/invocation.ts";
import { Dispatcher } from "../../src/engine/dispatcher.ts";
import { Invocations } from "../../src/engine/invocations.ts";
import { Registry } from "../../src/engine/registry.ts";
import { Waiters } from "../../src/engine/waiters.ts";
import type { AttemptSpec, Slot, SlotNeed } from "../../src/pool/index.ts";
import type { Queue } from "../../src/queue/index.ts";
import { createFakeClock } from "../support/fake-clock.ts";
import { queueOnFile } from "../support/queue-on-file.ts";
import { fc, seed, seeded } from "../support/seed.ts";

const WORKERS = 2;
const SLOTS_PER_WORKER = 2;
/** Uncharged outcomes could go on for ever. */
const RELEASES_MAX = 12;

interface Plan {
	readonly fn: 0 | 1;
	readonly waits: boolean;
	readonly cancel: boolean;
	readonly priority: number;
	readonly laneKey: string;
	readonly outcomes: readonly ("ok" | "failed" | "crashed" | "timed_out" | "released" | "death")[];
}

interface Running {
	readonly attempt: AttemptSpec;
	readonly worker: FakeWorker;
	readonly answer: (outcome: Outcome) => void;
}

interface FakeWorker {
	readonly id: string;
	load: number;
	exclusive: boolean;
}

/** Slots as the real pool gives them; who answers what, and when, is the schedule's. */
class FakePool {
	readonly workers: FakeWorker[] = Array.from({ length: WORKERS }, (_, index) => ({
		id: `w${index}`,
		load: 0,
		exclusive: false,
	}));
	readonly running = new Map<string, Running>();
	readonly attempts = new Map<string, number>();
	readonly #capacity: () => void;
	readonly #started: (running: Running) => void;
	#demand = false;

	constructor(capacity: () => void, started: (running: Running) => void) {
		this.#capacity = capacity;
		this.#started = started;
	}

	blocked(): undefined {
		return undefined;
	}

	reserve(_spec: unknown, need: SlotNeed): Slot | undefined {
		const worker = this.workers.find(({ load, exclusive }) =>
			need.solo ? load === 0 : !exclusive && load < SLOTS_PER_WORKER,
		);
		if (worker === undefined) {
			this.#demand = true;
			return undefined;
		}
		worker.load += 1;
		worker.exclusive = need.solo;
		return Object.assign({ worker: worker.id, cold: false, release: () => this.#free(worker) }, { place: worker });
	}

	run(slot: Slot, attempt: AttemptSpec, ended: (outcome: Outcome) => void): void {
		const { place: worker } = slot as Slot & { place: FakeWorker };
		assert.ok(!this.running.has(attempt.invocationId), "an invocation runs at most once at a time");
		assert.equal(attempt.attempt, (this.attempts.get(attempt.invocationId) ?? 0) + 1, "attempts count 1, 2, 3, …");
		this.attempts.set(attempt.invocationId, attempt.attempt);
		const running: Running = {
			attempt,
			worker,
			answer: (outcome) => {
				if (this.running.get(attempt.invocationId) !== running) return;
				this.running.delete(attempt.invocationId);
				this.#free(worker);
				ended(outcome);
			},
		};
		this.running.set(attempt.invocationId, running);
		this.#started(running);
	}

	cancel(invocationId: string, attempt: number): void {
		const running = this.running.get(invocationId);
		if (running?.attempt.attempt === attempt) running.answer({ kind: "cancelled" });
	}

	/** The whole worker: everybody aboard is a suspect. */
	die(worker: FakeWorker): void {
		const aboard = [...this.running.values()].filter((each) => each.worker === worker);
		const outcome: Outcome =
			aboard.length > 1
				? { kind: "released", why: "neighbour_died", started: true, solo: true }
				: { kind: "crashed", error: { code: "WORKER_CRASHED", message: "died" } };
		for (const each of aboard) each.answer(outcome);
	}

	#free(worker: FakeWorker): void {
		worker.load -= 1;
		if (worker.load === 0) worker.exclusive = false;
		if (!this.#demand) return;
		this.#demand = false;
		this.#capacity();
	}
}

const plans = fc.array(
	fc.record({
		fn: fc.constantFrom(0 as const, 1 as const),
		waits: fc.boolean(),
		cancel: fc.boolean(),
		priority: fc.integer({ min: 0, max: 2 }),
		laneKey: fc.constantFrom("", "a", "b"),
		outcomes: fc.array(fc.constantFrom("ok", "failed", "crashed", "timed_out", "released", "death"), {
			minLength: 1,
			maxLength: 4,
		}),
	}),
	{ minLength: 1, maxLength: 14 },
) as fc.Arbitrary<Plan[]>;

const LIMITS_OF_LANES = [2, 1] as const;

async function play(scheduler: fc.Scheduler, wanted: readonly Plan[]): Promise<void> {
	const waiters = new Waiters();
	const ended = new Map<string, Ended>();
	const byId = new Map<string, Plan>();
	const failures: unknown[] = [];
	/** Runs something at a moment that the schedule chooses. */
	const someTime = (label: string, act: () => void): void => {
		void scheduler
			.schedule(Promise.resolve(), label)
			.then(act)
			.catch((error: unknown) => failures.push(error));
	};
	const registry = new Registry({ defaults: {}, bundlePath: () => "/dev/null" });
	LIMITS_OF_LANES.forEach((concurrency, index) => {
		const retry = { maxAttempts: 3, baseMs: 0, capMs: 0, jitter: false };
		registry.addFunction({
			id: index + 1,
			functionId: `fn_${index}`,
			name: `f${index}`,
			handler: "default",
			overrides: { concurrency, retry },
			paused: false,
			activeVersion: index + 1,
			createdAt: 0,
		});
		const version = registry.addVersion({
			id: index + 1,
			function: index + 1,
			version: "v1",
			sha256: "00",
			bytes: 1,
			config: {},
			createdAt: 0,
		});
		registry.activate(version, []);
	});

	let releases = 0;
	const pool = new FakePool(
		() => someTime("capacity", () => [...registry.all()].forEach((entry) => queue.consider(entry.lane))),
		(running) => {
			const { invocationId, attempt } = running.attempt;
			for (const { lane } of registry.all()) {
				const runs = [...pool.running.keys()].filter((id) => `f${byId.get(id)?.fn}` === `f${lane.id - 1}`);
				assert.ok(runs.length <= lane.limit, `lane ${lane.id} runs ${runs.length} of ${lane.limit}`);
			}
			// Its acceptance may be told after this: the plan is looked up when it answers.
			someTime(`answer ${invocationId}#${attempt}`, () => {
				const outcomes = byId.get(invocationId)?.outcomes ?? ["ok"];
				const kind = outcomes[(attempt - 1) % outcomes.length] ?? "ok";
				if (kind === "death" && releases < RELEASES_MAX) {
					releases += 1;
					pool.die(running.worker);
				} else running.answer(outcomeOf(kind, (releases += 1)));
			});
		},
	);
	const environment: Environment = {
		clock: createFakeClock(),
		random: { next: () => 0.5 },
		probe: silentProbe,
		logger: silentLogger,
	};
	const dispatcher = new Dispatcher({ environment, registry, pool, queue: (): Queue => q.queue });
	using q = queueOnFile({
		lanes: [],
		deps: {
			slots: {
				reserve: (lane, version, need) => dispatcher.reserve(lane, version, need),
				isStuck: () => false,
			},
			claimed: (claims) => dispatcher.send(claims),
			ended(end) {
				assert.ok(!ended.has(end.invocationId), "an end is told once");
				ended.set(end.invocationId, end);
				waiters.ended(end.seq, end);
			},
			defer: (flush) => someTime("turn", flush),
			retryOf: (_lane, version) => registry.versionById(version).spec.config.retry,
		},
	});
	const { queue } = q;
	const invocations = new Invocations({ environment, registry, queue, pool, waiters });
	for (const { lane } of registry.all()) queue.lanes.add(lane);

	const told: Ended[] = [];
	const accepted: string[] = [];
	wanted.forEach((plan, index) => {
		const request = {
			function: `f${plan.fn}`,
			source: "socket",
			method: "POST",
			path: "/",
			headers: [],
			query: [],
			body: new Uint8Array(),
			priority: plan.priority,
			laneKey: plan.laneKey,
			maxAttempts: 3,
			waits: plan.waits,
		} as const;
		const cancelLater = (id: string): void => {
			if (!plan.cancel) return;
			someTime(`cancel ${index}`, () => {
				invocations.cancel(id).catch((error: unknown) => failures.push(error));
			});
		};
		someTime(`request ${index}`, () => {
			if (plan.waits) {
				invocations.invoke({ ...request, tags: [String(index)] }).then(
					(end) => told.push(end),
					(error: unknown) => failures.push(error),
				);
				// Who waits does not know the id before the end; the list does.
				someTime(`look ${index}`, () => {
					for (const { invocationId } of queue.read.list({ limit: 100 })) {
						if (queue.read.record(invocationId).tags[0] !== String(index)) continue;
						byId.set(invocationId, plan);
						cancelLater(invocationId);
					}
				});
				return;
			}
			invocations.enqueue(request).then(
				({ invocationId }) => {
					accepted.push(invocationId);
					byId.set(invocationId, plan);
					cancelLater(invocationId);
				},
				(error: unknown) => failures.push(error),
			);
		});
	});
	await scheduler.waitIdle();
	assert.deepEqual(failures, []);

	const records = queue.read.list({ limit: 100 });
	assert.equal(records.length, wanted.length, "everything was accepted");
	for (const { invocationId, state } of records) {
		assert.ok(isTerminal(state), `${invocationId} is ${state} and nothing will move it`);
		assert.equal(ended.get(invocationId)?.state, state, "the end that was told is the one on record");
	}
	assert.equal(told.length, wanted.filter((plan) => plan.waits).length, "who waits is told, once");
	for (const end of told) assert.equal(queue.read.record(end.invocationId).state, end.state);
	assert.equal(new Set(told.map((end) => end.invocationId)).size, told.length);
	assert.ok(accepted.every((id) => ended.has(id)));
	assert.equal(waiters.size, 0);
	assert.deepEqual(
		pool.workers.map(({ load }) => load),
		pool.workers.map(() => 0),
		"no slot is lost",
	);
	assert.equal(queue.idle, true);
	q.checkCounts();
}

function outcomeOf(kind: Plan["outcomes"][number], releases: number): Outcome {
	switch (kind) {
		case "failed":
			return { kind: "failed", error: { code: "HANDLER_ERROR", message: "thrown" } };
		case "crashed":
			return { kind: "crashed", error: { code: "WORKER_CRASHED", message: "died" } };
		case "timed_out":
			return { kind: "timed_out", error: { code: "TIMED_OUT", message: "late" } };
		case "released":
			if (releases < RELEASES_MAX)
				return { kind: "released", why: "worker_gone", started: true, solo: releases % 2 === 0 };
			break;
		case "death":
		case "ok":
			break;
	}
	return { kind: "succeeded", status: 200, headers: [], body: new Uint8Array() };
}

test(`no order of turns, answers, cancels and deaths loses a claim or a waiter (seed ${seed})`, async () => {
	await fc.assert(fc.asyncProperty(fc.scheduler(), plans, play), seeded(60));
});

test("a refused request rejects its waiter at once, and registers none", async () => {
	const waiters = new Waiters();
	const registry = new Registry({ defaults: {}, bundlePath: () => "/dev/null" });
	using q = queueOnFile({ lanes: [] });
	const environment: Environment = {
		clock: q.clock,
		random: { next: () => 0 },
		probe: silentProbe,
		logger: silentLogger,
	};
	const invocations = new Invocations({
		environment,
		registry,
		queue: q.queue,
		pool: { cancel: () => undefined },
		waiters,
	});
	await assert.rejects(
		invocations.invoke({
			function: "nobody",
			source: "cli",
			method: "POST",
			path: "/",
			headers: [],
			query: [],
			body: new Uint8Array(),
			waits: true,
		}),
		(error) => error instanceof EngineError && error.code === "FUNCTION_NOT_FOUND",
	);
	assert.equal(waiters.size, 0);
});
