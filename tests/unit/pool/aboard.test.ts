/** Whose call a late log line belongs to. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AboardTable, type Aboard } from "../../../src/pool/aboard.ts";
import type { AttemptSpec } from "../../../src/pool/index.ts";

const NEED = { bytes: 0, solo: false };
const OK = { kind: "succeeded", status: 200, headers: [], body: new Uint8Array() } as const;

function board(table: AboardTable, invocationId: string): Aboard {
	const spec: AttemptSpec = {
		invocationId,
		attempt: 3,
		method: "POST",
		path: "/",
		headersJson: "[]",
		queryJson: "[]",
		body: new Uint8Array(),
		timeoutMs: 1_000,
		timeoutCode: "TIMED_OUT",
	};
	table.reserve(NEED);
	return table.board(NEED, spec, 0, () => undefined);
}

test("a call finds its invocation while it runs and until a thousand others have ended after it", () => {
	const table = new AboardTable();
	const long = board(table, "inv_long");
	const first = board(table, "inv_first");
	table.finish(first, OK);
	for (let i = 0; i < 999; i += 1) {
		assert.equal(table.fenceOf(first.call)?.invocationId, "inv_first", `after ${i} more`);
		table.finish(board(table, `inv_${i}`), OK);
	}
	assert.equal(table.fenceOf(first.call)?.attempt, 3);
	table.finish(board(table, "inv_last"), OK);
	assert.equal(table.fenceOf(first.call), undefined);
	assert.equal(table.fenceOf(long.call)?.invocationId, "inv_long", "it runs");
	table.finish(long, OK);
	for (let i = 0; i < 999; i += 1) table.finish(board(table, `inv_${i}`), OK);
	assert.equal(table.fenceOf(long.call)?.invocationId, "inv_long", "a thousand from its end, however long it took");
	assert.equal(table.fenceOf(1_000_000), undefined);
});
