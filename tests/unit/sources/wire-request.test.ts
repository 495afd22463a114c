import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { EngineError } from "../../../src/core/errors.ts";
import { decodeBase64, invokePayloadSchema, parseInvokePayload, parseJson } from "../../../src/sources/wire-request.ts";

const origin = { source: "socket", waits: false } as const;

function accepts(payload: unknown): boolean {
	try {
		parseInvokePayload(payload, origin);
		return true;
	} catch (error) {
		assert.ok(error instanceof EngineError, String(error));
		assert.equal(error.code, "BAD_REQUEST");
		return false;
	}
}

/** Mostly what the field wants, sometimes anything JSON. */
const or = <T>(good: fc.Arbitrary<T>) =>
	fc.oneof({ weight: 40, arbitrary: good as fc.Arbitrary<unknown> }, fc.jsonValue({ maxDepth: 2 }), fc.constant(null));
const pairs = fc.oneof(
	fc.dictionary(fc.string(), fc.string()),
	fc.array(fc.tuple(fc.string(), fc.string())),
	fc.array(fc.array(fc.string(), { maxLength: 3 })),
);
const payloads = fc.record(
	{
		function_id: or(fc.string()),
		method: or(fc.constantFrom("POST", "GET")),
		path: or(fc.constant("/")),
		headers: or(pairs),
		query: or(pairs),
		body: or(fc.oneof(fc.base64String(), fc.string({ maxLength: 9 }))),
		idempotency_key: or(fc.string()),
		delay_ms: or(fc.integer()),
		run_at: or(fc.integer()),
		priority: or(fc.double()),
		lane_key: or(fc.string()),
		deadline_ms: or(fc.integer()),
		max_attempts: or(fc.integer()),
		tags: or(fc.array(fc.string())),
		traceparent: or(fc.string()),
		unknown: fc.jsonValue(),
	},
	{ requiredKeys: ["function_id", "method", "path"] },
);

test("the hand-written check and the schema accept the same payloads", () => {
	let accepted = 0;
	fc.assert(
		fc.property(fc.oneof({ weight: 20, arbitrary: payloads as fc.Arbitrary<unknown> }, fc.jsonValue()), (payload) => {
			// As it would come over the wire: no -0, no NaN.
			const json = JSON.parse(JSON.stringify(payload)) as unknown;
			const hand = accepts(json);
			if (hand) accepted++;
			assert.equal(hand, invokePayloadSchema.safeParse(json).success);
		}),
		{ numRuns: 5000 },
	);
	assert.ok(accepted > 500, `only ${accepted} of 5000 were accepted; the property would say little`);
});

test("base64 is accepted exactly where it is what an encoder writes, up to unused bits", () => {
	fc.assert(
		fc.property(fc.oneof(fc.base64String(), fc.string({ unit: "binary", maxLength: 12 })), (text) => {
			const strict = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text);
			try {
				assert.deepEqual(Buffer.from(decodeBase64(text)), Buffer.from(text, "base64"));
				assert.ok(strict, JSON.stringify(text));
			} catch (error) {
				if (!(error instanceof EngineError)) throw error;
				assert.ok(!strict, JSON.stringify(text));
			}
		}),
		{ numRuns: 5000 },
	);
	for (const bad of [
		"A",
		"AA",
		"AAA",
		"AAA*",
		"AA*=",
		"A*==",
		"====",
		"A=AA",
		"AAAA\n",
		"AA A",
		"__--",
		"AAAAA===",
		"\u0141AAA",
	]) {
		assert.throws(() => decodeBase64(bad), EngineError, bad);
	}
});

test("names of headers are lower-cased, those of the query are not; __proto__ is a name like any other", () => {
	const payload = parseJson(
		Buffer.from(
			'{"function_id":"f","method":"POST","path":"/","headers":{"X-A":"1","__proto__":"2"},"query":[["Q","1"]]}',
		),
	);
	const request = parseInvokePayload(payload, origin);
	assert.deepEqual(request.headers, [
		["x-a", "1"],
		["__proto__", "2"],
	]);
	assert.deepEqual(request.query, [["Q", "1"]]);
});

test("a number that JSON can write but no integer can hold is refused", () => {
	assert.equal(accepts(JSON.parse('{"function_id":"f","method":"POST","path":"/","delay_ms":1e999}')), false);
});
