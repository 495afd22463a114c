/** A plain request is written by a shorter statement; its row must be the one that the long statement writes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { InvokeRequest } from "../../../src/core/request.ts";
import { OK, queueOnFile } from "../../support/queue-on-file.ts";

const rowOf = (q: ReturnType<typeof queueOnFile>): Record<string, unknown> =>
	q.db.prepare<[], Record<string, unknown>>("SELECT * FROM invocation ORDER BY seq DESC LIMIT 1").get() ?? {};

test("the row of a plain request differs from that of one with options in those alone", () => {
	using q = queueOnFile({ lanes: [{ limit: 10 }] });
	const request: Partial<InvokeRequest> = {
		method: "PUT",
		path: "/a",
		headers: [["x-a", "1"]],
		query: [["b", "2"]],
		body: new Uint8Array([1, 2, 3]),
		maxAttempts: 5,
		source: "http",
	};
	const run = (more: Partial<InvokeRequest>): Record<string, unknown> => {
		q.accept(q.submission(0, { ...request, ...more }));
		const row = rowOf(q);
		q.settle(q.sent[q.sent.length - 1] ?? assert.fail("it was not sent"), OK);
		q.turn();
		return row;
	};
	const plain = run({});
	assert.equal(plain["state"], 1);
	// Each option by itself leads to the long statement.
	for (const [more, columns] of [
		[{ tags: ["t"] }, { tags: '["t"]' }],
		[{ traceparent: "00-a-b-01" }, { traceparent: "00-a-b-01" }],
		[{ priority: 3 }, { priority: 3 }],
		[{ laneKey: "k" }, { lane_key: "k" }],
		[{ idempotencyKey: "i" }, { idempotency_key: "i" }],
		[{ deadlineMs: 7 }, { deadline_at: q.clock.now() + 7 }],
		[{ delayMs: 0 }, {}],
		[{ runAt: 1 }, { run_at: 1 }],
	] satisfies [Partial<InvokeRequest>, object][]) {
		const row = run(more);
		assert.deepEqual(row, {
			...plain,
			...columns,
			seq: row["seq"],
			body_crc: row["body_crc"],
			result_body: row["result_body"],
		});
		assert.deepEqual(row["body_crc"], plain["body_crc"]);
	}
	q.slots = 0;
	q.accept(q.submission(0, request));
	assert.deepEqual(
		(({ state, attempt, worker, cold, started_at }) => ({ state, attempt, worker, cold, started_at }))(rowOf(q)),
		{ state: 0, attempt: 0, worker: null, cold: null, started_at: null },
		"one that waits is not claimed",
	);
});
