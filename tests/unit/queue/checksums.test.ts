/** What is stored of a request is never run, and what is stored of a result never answered, where a byte has changed. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32 } from "node:zlib";
import { EngineError } from "../../../src/core/errors.ts";
import type { Outcome } from "../../../src/core/invocation.ts";
import { queueOnFile, type QueueOnFile } from "../../support/queue-on-file.ts";

const SMALL = new Uint8Array(100).fill(7);
/** Over 4 KiB it lives in the table of bodies. */
const LARGE = new Uint8Array(10_000).fill(7);
const REQUEST = { path: "/a", headers: [["x-a", "b"]], query: [["q", "1"]] } as const;

const DAMAGE: readonly (readonly [what: string, body: Uint8Array, sql: string])[] = [
	["a byte of a small body", SMALL, "UPDATE invocation SET body = CAST(x'08' || substr(body, 2) AS BLOB)"],
	["a byte of a large body", LARGE, "UPDATE body SET bytes = CAST(x'08' || substr(bytes, 2) AS BLOB)"],
	["the length of a large body", LARGE, "UPDATE body SET bytes = substr(bytes, 2)"],
	["a large body that is gone", LARGE, "DELETE FROM body"],
	["the checksum", SMALL, "UPDATE invocation SET body_crc = body_crc + 1"],
	["a header", SMALL, `UPDATE invocation SET headers = '[["x-a","c"]]'`],
	["a header that is no JSON any more", SMALL, `UPDATE invocation SET headers = '[["x-a","b"'`],
	["the query of a request without a body", new Uint8Array(), `UPDATE invocation SET query = '[["q","2"]]'`],
	["the path", SMALL, "UPDATE invocation SET path = '/b'"],
	["the method", SMALL, "UPDATE invocation SET method = 'PUT'"],
	// What a lost sector reads as.
	["zeros for its end", SMALL, "UPDATE invocation SET body_bytes = 0, body_crc = 0"],
];

const corrupt = (error: unknown): boolean => error instanceof EngineError && error.code === "DATA_CORRUPT";

function queued(q: QueueOnFile, body: Uint8Array): string {
	q.slots = 0;
	const { path, headers, query } = REQUEST;
	const id = q.id(
		q.submission(0, { path, body, headers: headers.map((pair) => [...pair]), query: query.map((pair) => [...pair]) }),
	);
	assert.equal(q.state(id), "queued");
	return id;
}

for (const [what, body, sql] of DAMAGE) {
	test(`${what}: the request never runs, ends failed with DATA_CORRUPT at once, and its seq is logged`, () => {
		using q = queueOnFile({ lanes: [{}] });
		const id = queued(q, body);
		q.db.exec(sql);
		assert.throws(() => q.queue.read.request(id), corrupt, "nor is it run again by hand");
		q.logged.length = 0;
		q.slots = 1;
		q.queue.consider(q.lane(0));
		q.turn();
		assert.equal(q.sent.length, 0);
		const row = q.db.prepare<[], { state: number; error: string }>("SELECT state, error FROM invocation").get();
		assert.equal(row?.state, 3);
		assert.match(row.error, /"code":"DATA_CORRUPT"/);
		assert.equal(q.taken, 0, "its slot was given back");
		assert.deepEqual(q.logged, ["the stored request does not match its checksum"]);
		q.checkCounts();
	});
}

test("the twin: what nobody touched runs", () => {
	for (const body of [SMALL, LARGE, new Uint8Array()]) {
		using q = queueOnFile({ lanes: [{}] });
		const id = queued(q, body);
		q.slots = 1;
		q.queue.consider(q.lane(0));
		q.turn();
		assert.deepEqual(Buffer.from(q.sent[0]?.body ?? []), Buffer.from(body));
		assert.equal(q.state(id), "running");
	}
});

test("a request and a result of 0.1.0, whose checksums are of the bodies alone, are run and answered", () => {
	for (const body of [SMALL, new Uint8Array()]) {
		using q = queueOnFile({ lanes: [{}] });
		const id = queued(q, body);
		const crc = body.byteLength === 0 ? 0 : crc32(body);
		q.db.prepare("UPDATE invocation SET body_crc = ?").run(BigInt(crc));
		// As the migration finds it: every row is from before.
		q.db.exec("UPDATE mark SET value = 1 + (SELECT MAX(seq) FROM invocation) WHERE name = 'whole_checksums_from'");
		q.reopen();
		q.slots = 1;
		q.queue.consider(q.lane(0));
		q.turn();
		q.settle(q.sent[0] ?? assert.fail(), { kind: "succeeded", status: 200, headers: [["x-r", "1"]], body });
		q.turn();
		q.db.prepare("UPDATE invocation SET result_crc = ?").run(BigInt(crc));
		assert.deepEqual(Buffer.from(q.queue.read.record(id).result?.body ?? []), Buffer.from(body));
		q.queue.read.request(id);
	}
});

const RESULT_DAMAGE: readonly (readonly [what: string, body: Uint8Array, sql: string])[] = [
	[
		"a byte of a small result",
		SMALL,
		"UPDATE invocation SET result_body = CAST(x'08' || substr(result_body, 2) AS BLOB)",
	],
	["a byte of a large result", LARGE, "UPDATE body SET bytes = CAST(x'08' || substr(bytes, 2) AS BLOB)"],
	["a large result that is gone", LARGE, "DELETE FROM body"],
	["the status of a result without a body", new Uint8Array(), "UPDATE invocation SET status = 201"],
	["zeros for the end of the result", SMALL, "UPDATE invocation SET result_bytes = 0, result_crc = 0"],
	["a header of the result", SMALL, `UPDATE invocation SET result_headers = '[["x-r","2"]]'`],
];

for (const [what, body, sql] of RESULT_DAMAGE) {
	test(`${what}: asking for it answers DATA_CORRUPT with the id, and its seq is logged`, () => {
		using q = queueOnFile({ lanes: [{}] });
		const id = q.id(q.submission(0));
		const outcome: Outcome = { kind: "succeeded", status: 200, headers: [["x-r", "1"]], body };
		const claim = q.sent[0] ?? assert.fail();
		q.settle(claim, outcome);
		q.turn();
		assert.deepEqual(Buffer.from(q.queue.read.record(id).result?.body ?? []), Buffer.from(body));
		q.db.exec(sql);
		assert.throws(
			() => q.queue.read.record(id),
			(error) => corrupt(error) && (error as EngineError).invocationId === id,
		);
		assert.deepEqual(q.logged, [`the stored result of ${id} does not match its checksum`]);
	});
}
