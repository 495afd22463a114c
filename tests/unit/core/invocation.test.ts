import assert from "node:assert/strict";
import { test } from "node:test";
import { BUILT_IN } from "../../../src/core/function-config.ts";
import {
	isTerminal,
	settle,
	STATE_CODE,
	STATES,
	stateOf,
	TRANSITIONS,
	type Finding,
	type Outcome,
	type RunningRow,
} from "../../../src/core/invocation.ts";
import { LIMITS } from "../../../src/core/limits.ts";
import { fc, seeded } from "../../support/seed.ts";

const NOW = 1_800_000_000_000;
const random = { next: () => 0.5 };
const retry = { ...BUILT_IN.retry, retryOn: [503] };
const error = { code: "HANDLER_ERROR", message: "x" } as const;
const row: RunningRow = {
	charged: 0,
	maxAttempts: 3,
	workerDeaths: 0,
	daemonDeaths: 0,
	solo: false,
	atMostOnce: false,
	cancelAsked: false,
	deadlineAt: null,
};
const decide = (change: Partial<RunningRow>, outcome: Outcome | Finding) =>
	settle({ ...row, ...change }, outcome, NOW, retry, random);

test("a terminal state has no exits", () => {
	for (const state of STATES) if (isTerminal(state)) assert.deepEqual(TRANSITIONS[state], {});
});

test("state codes are what the schema's CHECKs say", () => {
	assert.deepEqual(STATE_CODE, {
		queued: 0,
		running: 1,
		succeeded: 2,
		failed: 3,
		timed_out: 4,
		crashed: 5,
		cancelled: 6,
		expired: 7,
		lost: 8,
	});
	assert.throws(() => stateOf(9));
});

test("failed, timed_out and crashed are charged and come back after a delay while attempts remain", () => {
	for (const kind of ["failed", "timed_out", "crashed"] as const) {
		const first = decide({}, { kind, error });
		assert.deepEqual([first.to, first.charged], ["queued", 1]);
		assert.ok((first.runAt ?? 0) > NOW);
		const last = decide({ charged: 2 }, { kind, error });
		assert.deepEqual([last.to, last.charged], [kind, 3]);
	}
});

test("drain, a worker that was gone and a neighbour's death do not charge, also with one attempt", () => {
	for (const why of ["drain", "worker_gone", "neighbour_died"] as const) {
		const back = decide({ maxAttempts: 1 }, { kind: "released", why, started: true, solo: why === "neighbour_died" });
		assert.deepEqual([back.to, back.charged, back.runAt, back.solo], ["queued", 0, 0, why === "neighbour_died"]);
	}
});

test("at-most-once never runs again: what may have started ends lost", () => {
	const once = { atMostOnce: true, maxAttempts: 1 };
	assert.equal(decide(once, { kind: "released", why: "drain", started: true, solo: false }).to, "lost");
	assert.equal(decide(once, { kind: "crashed", error }).to, "lost");
	assert.equal(decide(once, { kind: "daemon_died" }).to, "lost");
	assert.equal(decide(once, { kind: "released", why: "worker_gone", started: false, solo: false }).to, "queued");
});

test("ten daemons in a row that died while it ran end it as crashed, and an answer in between starts the count anew", () => {
	assert.equal(decide({ daemonDeaths: LIMITS.daemonDeathsMax - 2 }, { kind: "daemon_died" }).to, "queued");
	const end = decide({ daemonDeaths: LIMITS.daemonDeathsMax - 1 }, { kind: "daemon_died" });
	assert.deepEqual([end.to, end.error?.code, end.charged], ["crashed", "DAEMON_DEATHS", 0]);
	assert.equal(decide({ daemonDeaths: 5 }, { kind: "failed", error }).daemonDeaths, 0);
});

test("a poison pill ends crashed after three deaths of its worker alone, whatever its maxAttempts", () => {
	const end = decide({ maxAttempts: 100, charged: 2, workerDeaths: 2 }, { kind: "crashed", error });
	assert.deepEqual([end.to, end.workerDeaths], ["crashed", 3]);
});

test("success beats a late cancel; every other end of a cancelled attempt is cancelled", () => {
	const asked = { cancelAsked: true };
	assert.equal(decide(asked, { kind: "succeeded", status: 200, headers: [], body: new Uint8Array() }).to, "succeeded");
	for (const outcome of [
		{ kind: "failed", error },
		{ kind: "crashed", error },
		{ kind: "cancelled" },
		{ kind: "daemon_died" },
		{ kind: "released", why: "drain", started: true, solo: false },
	] as const) {
		assert.equal(decide(asked, outcome).to, "cancelled");
	}
});

test("a status that retryOn names is tried again while attempts remain; then the answer stands", () => {
	const answer = { kind: "succeeded", status: 503, headers: [], body: new Uint8Array() } as const;
	assert.equal(decide({}, answer).to, "queued");
	assert.equal(decide({ maxAttempts: 1 }, answer).to, "succeeded");
	assert.equal(decide({}, { ...answer, status: 500 }).to, "succeeded");
});

test("no retry is planned at or after the deadline", () => {
	assert.equal(decide({ deadlineAt: NOW + 1 }, { kind: "failed", error }).to, "failed");
	assert.equal(decide({ deadlineAt: NOW + 3_600_000 }, { kind: "failed", error }).to, "queued");
});

test("every decision is a move of the table, charges at most maxAttempts, and queues exactly with a due time", () => {
	const outcome: fc.Arbitrary<Outcome | Finding> = fc.oneof(
		fc.constantFrom<Outcome | Finding>(
			{ kind: "succeeded", status: 503, headers: [], body: new Uint8Array() },
			{ kind: "failed", error },
			{ kind: "timed_out", error },
			{ kind: "crashed", error },
			{ kind: "cancelled" },
			{ kind: "daemon_died" },
		),
		fc.record({
			kind: fc.constant("released" as const),
			why: fc.constantFrom("drain" as const, "worker_gone" as const, "neighbour_died" as const),
			started: fc.boolean(),
			solo: fc.boolean(),
		}),
	);
	const rows = fc
		.record({
			charged: fc.nat(4),
			maxAttempts: fc.integer({ min: 1, max: 5 }),
			workerDeaths: fc.nat(3),
			daemonDeaths: fc.nat(10),
			solo: fc.boolean(),
			atMostOnce: fc.boolean(),
			cancelAsked: fc.boolean(),
			deadlineAt: fc.constantFrom(null, NOW - 1, NOW + 10, NOW + 10 ** 9),
		})
		.filter(({ charged, maxAttempts }) => charged < maxAttempts);
	fc.assert(
		fc.property(rows, outcome, (some, result) => {
			const decided = settle(some, result, NOW, retry, random);
			assert.ok(TRANSITIONS.running[result.kind]?.includes(decided.to));
			assert.ok(decided.charged <= some.maxAttempts && decided.charged >= some.charged);
			assert.equal(decided.to === "queued", decided.runAt !== undefined);
			assert.equal(decided.to === "succeeded" || decided.to === "queued" || decided.error !== undefined, true);
		}),
		seeded(2000),
	);
});
