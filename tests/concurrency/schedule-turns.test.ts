/**
 * Schedules with `overlap: "queue"`: what they fire runs one after another, whatever ends the one before.
 *
 *   Q8  behind one of its line that has not ended, an invocation is not due
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { SlotDecision } from "../../src/core/contracts.ts";
import type { Overlap } from "../../src/core/function-config.ts";
import type { Claim } from "../../src/queue/index.ts";
import { failStatement, queueOnFile, THROWN, type QueueOnFile } from "../support/queue-on-file.ts";
import { fc, seed, seeded } from "../support/seed.ts";

const RETRY = { maxAttempts: 2, baseMs: 1_000, capMs: 1_000, jitter: false, retryOn: [] };
const LANES = [{ limit: 10, config: { retry: RETRY } }];

function fire(
	q: QueueOnFile,
	slot: number,
	{ overlap = "queue", schedule = 1 }: { overlap?: Overlap; schedule?: number } = {},
): Promise<SlotDecision | undefined> {
	return q.queue.fireSlot({ schedule, slot, overlap, submission: q.submission(0) });
}

function claimOf(q: QueueOnFile, seq: number): Claim {
	const claim = q.sent.findLast((each) => each.seq === seq);
	assert.ok(claim !== undefined, `${seq} was sent`);
	return claim;
}

function end(q: QueueOnFile, seq: number, outcome?: Parameters<QueueOnFile["settle"]>[1]): void {
	q.settle(claimOf(q, seq), outcome);
	q.turn();
}

const sent = (q: QueueOnFile): number[] => q.sent.map(({ seq }) => seq);

async function fireThree(q: QueueOnFile): Promise<void> {
	const decisions = [1_000, 2_000, 3_000].map((slot) => fire(q, slot));
	q.turn();
	assert.deepEqual(await Promise.all(decisions), ["fired", "fired", "fired"]);
}

test("each starts when the one before it has ended, in order, though the lane has room; another schedule has its own line", async () => {
	using q = queueOnFile({ lanes: LANES });
	await fireThree(q);
	void fire(q, 1_000, { schedule: 2 });
	q.turn();
	assert.deepEqual(sent(q), [1, 4]);
	end(q, 1);
	assert.deepEqual(sent(q), [1, 4, 2]);
	q.checkCounts();
	end(q, 2);
	end(q, 3);
	void fire(q, 4_000);
	q.turn();
	assert.deepEqual(sent(q), [1, 4, 2, 3, 5], "an empty line holds nobody");
	q.checkCounts();
});

test("a list shows one that waits for its turn as queued, and as due at no time of its own", async () => {
	using q = queueOnFile({ lanes: LANES });
	await fireThree(q);
	const [third, second, first] = q.queue.read.list({});
	assert.deepEqual([first?.state, second?.state, third?.state], ["running", "queued", "queued"]);
	assert.equal(second?.runAt, 0);
	await q.clock.advance(60_000);
	assert.equal(q.wantsTurn, false, "no timer looks for it");
});

test("a failed attempt keeps its turn until its last retry", async () => {
	using q = queueOnFile({ lanes: LANES });
	await fireThree(q);
	end(q, 1, THROWN);
	assert.deepEqual(sent(q), [1]);
	await q.clock.advance(1_000);
	q.turn();
	assert.deepEqual(sent(q), [1, 1]);
	end(q, 1, THROWN);
	assert.deepEqual(sent(q), [1, 1, 2]);
	q.checkCounts();
});

test("one that is cancelled while it waits lets nobody go; the first that is cancelled lets the next one go", async () => {
	using q = queueOnFile({ lanes: LANES, slots: 0 });
	await fireThree(q);
	const [, second, first] = q.queue.read.list({});
	void q.queue.cancel(second?.invocationId ?? "");
	q.turn();
	q.slots = 10;
	q.checkCounts();
	void q.queue.cancel(first?.invocationId ?? "");
	q.queue.consider(q.lane(0));
	q.turn();
	assert.deepEqual(sent(q), [3]);
	q.checkCounts();
});

test("a restart keeps the line; where the first ended by it, the next one goes", async () => {
	using q = queueOnFile({ lanes: LANES });
	await fireThree(q);
	q.reopen();
	assert.deepEqual(sent(q), [1, 1], "the first runs again");
	q.checkCounts();
	end(q, 1);
	assert.deepEqual(sent(q), [1, 1, 2]);

	using lost = queueOnFile({
		lanes: [{ limit: 10, config: { delivery: "at-most-once", retry: { ...RETRY, maxAttempts: 1 } } }],
	});
	await fireThree(lost);
	lost.reopen();
	assert.deepEqual(sent(lost), [1, 2]);
	assert.deepEqual(
		lost.queue.read.list({}).map(({ state }) => state),
		["queued", "running", "lost"],
	);
	lost.checkCounts();
});

test("what another policy fired, and what has not ended since, stands before them", async () => {
	using q = queueOnFile({ lanes: LANES });
	void fire(q, 1_000, { overlap: "allow" });
	q.turn();
	void fire(q, 2_000);
	q.turn();
	assert.deepEqual(sent(q), [1]);
	q.reopen();
	end(q, 1);
	assert.deepEqual(sent(q), [1, 1, 2]);
	void fire(q, 3_000);
	q.turn();
	const skipped = fire(q, 4_000, { overlap: "skip" });
	q.turn();
	assert.equal(await skipped, "overlapped", "one that waits for its turn has not ended");
	end(q, 2);
	assert.deepEqual(sent(q), [1, 1, 2, 3]);
});

test("a policy that is changed back finds what was fired meanwhile; skip sees those that wait", async () => {
	using q = queueOnFile({ lanes: LANES });
	void fire(q, 1_000);
	q.turn();
	void fire(q, 2_000, { overlap: "allow" });
	q.turn();
	void fire(q, 3_000);
	q.turn();
	assert.deepEqual(sent(q), [1, 2]);
	end(q, 1);
	assert.deepEqual(sent(q), [1, 2], "2 has not ended");
	void q.queue.cancel(q.queue.read.list({})[0]?.invocationId ?? "");
	q.turn();
	const skipped = fire(q, 4_000, { overlap: "skip" });
	q.turn();
	assert.equal(await skipped, "overlapped", "2 has not ended, though 3 has");
	end(q, 2);
	assert.deepEqual(sent(q), [1, 2]);
	q.checkCounts();
});

test("a slot that is answered by an invocation of its key, which has ended, leaves no place taken", async () => {
	using q = queueOnFile({ lanes: LANES });
	for (const slot of [1_000, 2_000]) {
		const submission = q.submission(0, { idempotencyKey: "k" });
		void q.queue.fireSlot({ schedule: 1, slot, overlap: "queue", submission });
		q.turn();
		if (slot === 1_000) end(q, 1);
	}
	void fire(q, 3_000);
	q.turn();
	assert.deepEqual(sent(q), [1, 2]);
});

test("an end whose commit fails lets nobody go; its repetition does, once", async () => {
	using q = queueOnFile({ lanes: LANES });
	await fireThree(q);
	let fails = 2;
	const fault = failStatement(q.db, /^COMMIT/, "SQLITE_FULL", () => fails-- > 0);
	end(q, 1);
	assert.deepEqual(sent(q), [1]);
	await q.clock.advance(1_000);
	q.turn();
	fault.restore();
	assert.deepEqual(sent(q), [1, 2]);
	q.checkCounts();
	end(q, 2);
	assert.deepEqual(sent(q), [1, 2, 3]);
});

test("a slot whose line cannot be written is not fired, and holds nobody", async () => {
	using q = queueOnFile({ lanes: LANES });
	let fails = true;
	const fault = failStatement(q.db, /INSERT INTO turn/, "SQLITE_CONSTRAINT", () => fails);
	const first = fire(q, 1_000);
	q.turn();
	await assert.rejects(first);
	fails = false;
	const again = fire(q, 1_000);
	q.turn();
	assert.equal(await again, "fired");
	fault.restore();
	assert.deepEqual(sent(q), [1]);
	q.checkCounts();
});

test("the next start lets one go whose line lost its first in an accepted rollback", async () => {
	using q = queueOnFile({ lanes: LANES });
	await fireThree(q);
	q.db.exec("DELETE FROM invocation WHERE seq = 1; DELETE FROM turn WHERE seq = 1");
	q.reopen();
	assert.deepEqual(sent(q), [1, 2]);
	q.checkCounts();
});

interface Step {
	readonly what: "fire" | "end" | "fail" | "cancel" | "restart" | "later";
	readonly schedule: number;
	readonly overlap: Overlap;
	readonly pick: number;
}

interface Row {
	readonly seq: number;
	readonly schedule: number;
	readonly state: number;
	readonly ready: number;
	readonly runAt: number;
	readonly createdAt: number;
}

function lines(q: QueueOnFile): Map<number, Row[]> {
	const rows = q.db
		.prepare<[], Row>(
			`SELECT turn.seq, schedule, state, ready, run_at AS runAt, created_at AS createdAt
			FROM turn LEFT JOIN invocation USING (seq) ORDER BY turn.seq`,
		)
		.all();
	return Map.groupBy(rows, ({ schedule }) => schedule);
}

test(`Q8 in random histories (SEED=${seed})`, async () => {
	const step: fc.Arbitrary<Step> = fc.record({
		what: fc.constantFrom("fire", "fire", "fire", "end", "end", "fail", "cancel", "restart", "later"),
		schedule: fc.integer({ min: 1, max: 2 }),
		// `allow` would fire beside the line.
		overlap: fc.constantFrom("queue", "queue", "queue", "skip"),
		pick: fc.nat(1_000),
	});
	await fc.assert(
		fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
			using q = queueOnFile({ lanes: [{ limit: 3, config: { retry: RETRY } }] });
			let slot = 0;
			let open: Claim[] = [];
			const check = (): void => {
				open = q.sent.filter(({ seq, attempt }) => {
					const row = q.db.prepare("SELECT state, attempt FROM invocation WHERE seq = ?").get(seq);
					return (row as Row & { attempt: number }).state === 1 && (row as { attempt: number }).attempt === attempt;
				});
				for (const [schedule, line] of lines(q)) {
					line.forEach(({ seq, state, ready }, index) => {
						assert.ok(state < 2, `${seq} of line ${schedule} has ended`);
						if (index > 0) assert.deepEqual({ state, ready }, { state: 0, ready: 0 }, `${seq} waits for its turn`);
					});
				}
				q.checkCounts();
			};
			for (const { what, schedule, overlap, pick } of steps) {
				const claim = open[pick % open.length];
				if (what === "fire") {
					slot += 1_000;
					void fire(q, slot, { schedule, overlap });
				} else if (what === "end" || what === "fail") {
					if (claim !== undefined) q.settle(claim, what === "fail" ? THROWN : undefined);
				} else if (what === "cancel") {
					const all = q.queue.read.list({ limit: 100 });
					const one = all[pick % all.length];
					if (one !== undefined) void q.queue.cancel(one.invocationId);
				} else if (what === "restart") {
					q.reopen();
				} else {
					await q.clock.advance(1_000);
				}
				q.turn();
				check();
			}
			// Nobody waits for ever.
			const unfinished = (): unknown => q.db.prepare("SELECT 1 FROM invocation WHERE state < 2").get();
			for (let rounds = 0; unfinished() !== undefined; rounds += 1) {
				assert.ok(rounds < 200, "all come to their ends");
				for (const claim of open) q.settle(claim);
				await q.clock.advance(1_000);
				q.turn();
				check();
			}
			assert.equal(q.db.prepare("SELECT COUNT(*) FROM turn").pluck().get(), 0);
		}),
		seeded(40),
	);
});
