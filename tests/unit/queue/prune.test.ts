/** Retention: what leaves with an ended invocation, what stays, and what its id answers afterwards. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { EngineError } from "../../../src/core/errors.ts";
import { LIMITS } from "../../../src/core/limits.ts";
import { failStatement, OK, queueOnFile, THROWN, type QueueOnFile } from "../../support/queue-on-file.ts";

const RETENTION_MS = 7 * 86_400_000;

async function step(q: QueueOnFile): Promise<boolean> {
	const more = q.queue.prune();
	q.turn();
	return more;
}

/** A whole pass; returns its steps. */
async function prune(q: QueueOnFile): Promise<number> {
	let steps = 1;
	while (await step(q)) steps += 1;
	return steps;
}

function count(q: QueueOnFile, table: string): number {
	return Number(q.db.prepare(`SELECT COUNT(*) FROM ${table}`).pluck().get());
}

/** Accepts, runs and ends this many, and returns their ids. */
function end(q: QueueOnFile, much: number): string[] {
	const from = q.sent.length;
	const ids = q.accept(...Array.from({ length: much }, () => q.submission(0))).map((answer) => {
		assert.ok(!(answer instanceof EngineError));
		return answer.invocationId;
	});
	while (q.sent.length - from < much) q.turn();
	for (const claim of q.sent.slice(from)) q.settle(claim);
	q.turn();
	return ids;
}

const codeOf = (look: () => unknown): string => {
	try {
		look();
		return "none";
	} catch (error) {
		assert.ok(error instanceof EngineError, String(error));
		return error.code;
	}
};

test("ended rows leave after retention, in steps; younger, queued and running rows stay", async () => {
	using q = queueOnFile({ lanes: [{ limit: 2_000 }] });
	const old = end(q, 1_200);
	const running = q.id(q.submission(0));
	const queued = q.id(q.submission(0, { delayMs: 30 * 86_400_000 }));
	q.clock.jumpWall(RETENTION_MS);
	const young = end(q, 3);
	await prune(q);
	assert.equal(count(q, "invocation"), 1_205, "exactly at retention they are still there");
	q.clock.jumpWall(1);
	await step(q);
	assert.equal(count(q, "invocation"), 1_205 - LIMITS.pruneStepRows, "one step looks at so many rows and no more");
	await prune(q);
	assert.equal(count(q, "invocation"), 5);
	assert.equal(
		codeOf(() => q.queue.read.row(old[0] ?? "")),
		"RESULT_PRUNED",
	);
	assert.deepEqual(
		[running, queued, ...young].map((id) => q.state(id)),
		["running", "queued", "succeeded", "succeeded", "succeeded"],
	);
	q.checkCounts();
});

test("ids are never given out again, also after the newest row was pruned and the file opened anew", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const [id] = end(q, 1);
	q.clock.jumpWall(RETENTION_MS + 1);
	await prune(q);
	assert.equal(count(q, "invocation"), 0);
	q.reopen();
	const next = q.id(q.submission(0));
	assert.notEqual(next.slice(-11), (id ?? "").slice(-11));
	assert.equal(q.sent.at(-1)?.seq, 2);
	assert.equal(
		codeOf(() => q.queue.read.row(id ?? "")),
		"RESULT_PRUNED",
	);
});

test("an id that never was answers INVOCATION_NOT_FOUND, also an old one; a pruned one answers RESULT_PRUNED", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const [id = ""] = end(q, 1);
	const base32 = (value: number, chars: number): string => value.toString(32).padStart(chars, "0");
	const never = `inv_${id.slice(4, 14)}${base32(999, 11)}`;
	const otherTime = `inv_${base32(1, 10)}${id.slice(14)}`;
	for (const unknown of [never, otherTime, "inv_x", "", "fn_0"]) {
		assert.equal(
			codeOf(() => q.queue.read.row(unknown)),
			"INVOCATION_NOT_FOUND",
			unknown,
		);
	}
	q.clock.jumpWall(RETENTION_MS + 1);
	await prune(q);
	assert.equal(
		codeOf(() => q.queue.read.row(id)),
		"RESULT_PRUNED",
	);
	assert.equal(
		codeOf(() => q.queue.read.row(never)),
		"INVOCATION_NOT_FOUND",
	);
	await assert.rejects(
		async () => q.queue.cancel(id),
		(error) => error instanceof EngineError && error.code === "RESULT_PRUNED",
	);
});

test("bodies, attempts, keys, events, slots and metrics go with it", async () => {
	const retry = { maxAttempts: 3, baseMs: 0, capMs: 0, jitter: false, retryOn: [] };
	using q = queueOnFile({ lanes: [{ limit: 100, config: { retry } }] });
	const large = new Uint8Array(10_000).fill(1);
	// Request and response in the table of bodies, with an idempotency key, tried twice.
	q.id(q.submission(0, { body: large, idempotencyKey: "k" }));
	q.settle(q.sent.at(-1) as never, THROWN);
	q.turn();
	await q.clock.advance(1);
	q.turn();
	q.settle(q.sent.at(-1) as never, { ...OK, body: large } as never);
	q.turn();
	// Tried once, then cancelled while it waited for the next try.
	const cancelled = q.id(q.submission(0, { body: large }));
	q.lane(0).paused = true;
	q.settle(q.sent.at(-1) as never, THROWN);
	q.turn();
	void q.queue.cancel(cancelled);
	q.turn();
	assert.equal(q.state(cancelled), "cancelled");
	q.lane(0).paused = false;
	void q.queue.emit({ eventId: "e1", type: "t", source: "s", data: "{}", submissions: [q.submission(0)] });
	q.turn();
	q.settle(q.sent.at(-1) as never);
	for (const slot of [1_000, 2_000, 3_000]) {
		void q.queue.fireSlot({ schedule: 1, slot, overlap: "allow", submission: q.submission(0) });
		q.turn();
		q.settle(q.sent.at(-1) as never);
		q.turn();
	}
	assert.deepEqual(
		["invocation", "body", "attempt", "idempotency", "event", "cron_slot"].map((table) => count(q, table)),
		[6, 3, 2, 1, 1, 3],
	);
	assert.equal(q.queue.read.metrics(1, "day").invocations, 6);
	q.clock.jumpWall(RETENTION_MS + 60_000);
	await prune(q);
	assert.deepEqual(
		["invocation", "body", "attempt", "idempotency", "event", "metric"].map((table) => count(q, table)),
		[0, 0, 0, 0, 0, 0],
	);
	assert.equal(count(q, "cron_slot"), 1, "a schedule's newest slot stays: it is its cursor");
	void q.queue.fireSlot({ schedule: 1, slot: 3_000, overlap: "allow", submission: q.submission(0) });
	q.turn();
	assert.equal(count(q, "cron_slot"), 1, "and is not fired again");
});

test("a pass forgets all that is past retention, however much it is", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const much = 3 * LIMITS.pruneStepRows + 1;
	const at = q.clock.now();
	const write = q.db.transaction(() => {
		const key = q.db.prepare("INSERT INTO idempotency VALUES (1, ?, 1, x'00', ?)");
		const event = q.db.prepare("INSERT INTO event VALUES (?, ?, 't', 's', '{}', ?, '[]')");
		const slot = q.db.prepare("INSERT INTO cron_slot VALUES (?, ?, 'fired', 1, ?)");
		for (let index = 1; index <= much; index += 1) {
			key.run(`k${index}`, at);
			event.run(index, `e${index}`, at);
			slot.run(1 + (index % 3), at + index, at);
		}
	});
	write();
	q.clock.jumpWall(RETENTION_MS + much + 1);
	await prune(q);
	assert.deepEqual(
		["idempotency", "event", "cron_slot"].map((table) => count(q, table)),
		[0, 0, 3],
	);
});

test("a pass over what is young costs the same, however much that is", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const at = q.clock.now();
	const fill = q.db.transaction((from: number, to: number) => {
		const event = q.db.prepare("INSERT INTO event VALUES (?, ?, 't', 's', ?, ?, '[]')");
		const slot = q.db.prepare("INSERT INTO cron_slot VALUES (?, ?, 'fired', 1, ?)");
		const metric = q.db.prepare("INSERT INTO metric VALUES (?, ?, 1, 0, 1, 0, ?)");
		const data = JSON.stringify("x".repeat(500));
		for (let index = from; index < to; index += 1) {
			event.run(index, `e${index}`, data, at);
			slot.run(1 + (index % 10), at + index, at);
			metric.run(1 + (index % 10), Math.floor(at / 60_000) + index, at);
		}
	});
	const cost = async (): Promise<number> => {
		const times: number[] = [];
		for (let run = 0; run < 5; run += 1) {
			const from = performance.now();
			await prune(q);
			times.push(performance.now() - from);
		}
		return Math.min(...times);
	};
	fill(1, 1_000);
	const few = await cost();
	fill(1_000, 100_000);
	const many = await cost();
	assert.ok(many < few * 5 + 5, `1,000 rows: ${few.toFixed(2)} ms, 100,000 rows: ${many.toFixed(2)} ms`);
});

test("the idempotency key of a pruned row answers RESULT_PRUNED until it expires, then it is free", async () => {
	using q = queueOnFile({ lanes: [{}], deps: { resultRetentionMs: 3_600_000 } });
	const submission = q.submission(0, { idempotencyKey: "k" });
	const id = q.id(submission);
	q.settle(q.sent.at(-1) as never);
	q.turn();
	const [replayed] = q.accept(submission);
	assert.deepEqual(replayed, { invocationId: id, state: "succeeded", replayed: true });
	q.clock.jumpWall(3_600_001);
	await prune(q);
	const [refused] = q.accept(submission);
	assert.ok(refused instanceof EngineError && refused.code === "RESULT_PRUNED");
	q.clock.jumpWall(LIMITS.idempotencyTtlMs);
	const [fresh] = q.accept(submission);
	assert.ok(fresh !== undefined && !(fresh instanceof EngineError) && !fresh.replayed);
});

test("a step that cannot be written is done again", async () => {
	using q = queueOnFile({ lanes: [{ limit: 1_000 }] });
	end(q, 700);
	q.clock.jumpWall(RETENTION_MS + 1);
	const fault = failStatement(q.db, /^COMMIT/, "SQLITE_FULL");
	const refused = q.queue.prune();
	q.turn();
	await assert.rejects(refused);
	fault.restore();
	await prune(q);
	assert.equal(count(q, "invocation"), 0, "in the very next pass");
});

test("rows that a clock ahead accepted do not keep what came behind them for ever", async () => {
	using q = queueOnFile({ lanes: [{}] });
	const first = end(q, 2);
	q.clock.jumpWall(50 * RETENTION_MS);
	const ahead = end(q, 2);
	q.clock.jumpWall(-50 * RETENTION_MS);
	const behind = end(q, 2);
	q.clock.jumpWall(RETENTION_MS + 60_000);
	await prune(q);
	for (const id of [...first, ...behind])
		assert.equal(
			codeOf(() => q.state(id)),
			"RESULT_PRUNED",
		);
	for (const id of ahead) assert.equal(q.state(id), "succeeded");
});
