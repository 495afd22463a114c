/** Rows leave room for their results, so that writing those makes no pages; and nothing of it is ever taken for a result. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Outcome } from "../../../src/core/invocation.ts";
import { queueOnFile, THROWN, type QueueOnFile } from "../../support/queue-on-file.ts";

function answer(bytes: number): Outcome {
	return {
		kind: "succeeded",
		status: 200,
		headers: [["content-type", "text/plain"]],
		body: new Uint8Array(bytes).fill(97),
	};
}

/** Accepts and claims `count` in one transaction. */
function start(q: QueueOnFile, count: number): QueueOnFile["sent"] {
	q.sent.length = 0;
	q.accept(...Array.from({ length: count }, () => q.submission(0, { body: new Uint8Array(64) })));
	assert.equal(q.sent.length, count);
	return [...q.sent];
}

function settle(q: QueueOnFile, claims: QueueOnFile["sent"], outcome: Outcome): void {
	for (const claim of claims) q.settle(claim, outcome);
	q.turn();
}

const pages = (q: QueueOnFile): number => q.db.pragma("page_count", { simple: true }) as number;

/** Of the newest row. */
const room = (q: QueueOnFile): number =>
	q.db
		.prepare<[], number>("SELECT coalesce(length(result_body), 0) FROM invocation ORDER BY seq DESC LIMIT 1")
		.pluck()
		.get() ?? -1;

test("results that are as long as the last ones were make no pages", () => {
	using q = queueOnFile({ lanes: [{ limit: 1_000 }] });
	settle(q, start(q, 1), answer(64));
	const claims = start(q, 400);
	const before = pages(q);
	settle(q, claims, answer(64));
	assert.equal(pages(q), before);
	// What the test would say without the room: none is known yet.
	using other = queueOnFile({ lanes: [{ limit: 1_000 }] });
	const first = start(other, 400);
	const empty = pages(other);
	settle(other, first, answer(64));
	assert.ok(pages(other) > empty, "without room rows grow out of their pages");
});

test("the room follows larger results at once, smaller ones slowly, and results over 1 KiB have none", () => {
	using q = queueOnFile({ lanes: [{ limit: 10 }] });
	const next = (bytes: number): number => {
		settle(q, start(q, 1), answer(bytes));
		const claims = start(q, 1);
		const found = room(q);
		settle(q, claims, answer(bytes));
		return found;
	};
	const small = next(10);
	const large = next(900);
	assert.ok(large >= 900 && large <= 1_024, `${large}`);
	let last = next(10);
	assert.ok(last < large && last > large / 2, `${last}`);
	for (let i = 0; i < 100; i += 1) last = next(10);
	assert.ok(last >= small && last <= small + 16, `${last}, at first ${small}`);
	assert.equal(next(1_500), 0);
	assert.equal(next(100_000), small - 10, "a body that is kept apart: its headers alone");
});

test("only a running row has room: what waits, fails or is put back has none, and no reader sees zeros", async () => {
	using q = queueOnFile({
		lanes: [
			{ limit: 2, config: { retry: { maxAttempts: 2, baseMs: 1_000, capMs: 1_000, jitter: false, retryOn: [] } } },
		],
	});
	settle(q, start(q, 1), answer(300));
	const held = (): number[] =>
		q.db.prepare<[], number>("SELECT state FROM invocation WHERE result_body IS NOT NULL ORDER BY seq").pluck().all();
	assert.deepEqual(held(), [2]);

	const failing = q.id(q.submission(0));
	assert.deepEqual(held(), [2, 1]);
	assert.equal(q.queue.read.record(failing).result, undefined);
	settle(q, q.sent.slice(-1), THROWN);
	assert.deepEqual(held(), [2], "put back for its second attempt");
	await q.clock.advance(2_000);
	q.turn();
	settle(q, q.sent.slice(-1), THROWN);
	assert.equal(q.state(failing), "failed");
	assert.deepEqual(held(), [2]);

	start(q, 2);
	q.accept(q.submission(0));
	assert.deepEqual(held(), [2, 1, 1], "the third waits: its row is as short as it can be");
	settle(q, q.sent.slice(0, 2), answer(0));
	assert.deepEqual(held(), [2], "an empty result is no body");
});
