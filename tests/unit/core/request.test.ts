import assert from "node:assert/strict";
import { test } from "node:test";
import { EngineError } from "../../../src/core/errors.ts";
import { LIMITS } from "../../../src/core/limits.ts";
import { checkInvokeRequest, invokeRequestSchema, type InvokeRequest } from "../../../src/core/request.ts";
import { fc, seeded } from "../../support/seed.ts";

const good: InvokeRequest = {
	function: "f",
	source: "socket",
	method: "POST",
	path: "/",
	headers: [],
	query: [],
	body: new Uint8Array(),
	waits: false,
};

function accepts(request: InvokeRequest): boolean {
	try {
		checkInvokeRequest(request);
		return true;
	} catch (error) {
		assert.ok(error instanceof EngineError && ["BAD_REQUEST", "BODY_TOO_LARGE"].includes(error.code));
		return false;
	}
}

test("the hand check of the hot path and the zod schema agree", () => {
	const text = fc.oneof(fc.string({ maxLength: 12 }), fc.constantFrom("x-a", "X-A", "a b", "a\r\nb", "ü", "€", ""));
	const pairs = fc.array(fc.tuple(text, text), { maxLength: 3 });
	const number = fc.oneof(fc.integer(), fc.double(), fc.constantFrom(0, 1, -1, 1000, 1001, NaN, Infinity, 2 ** 53));
	const requests = fc.record(
		{
			function: fc.constant("f"),
			source: fc.constantFrom("socket" as const, "http" as const),
			method: fc.constantFrom("GET", "HEAD", "POST", "PUT", "get", "TRACE", ""),
			path: fc.oneof(
				fc.constantFrom("/", "/a/b", "a", "", "/a?b", "/#", `/${"x".repeat(LIMITS.pathBytesMax)}`),
				fc.string({ maxLength: 8 }).map((tail) => `/${tail}`),
			),
			headers: pairs,
			query: pairs,
			body: fc.constantFrom(new Uint8Array(), new Uint8Array(3)),
			waits: fc.boolean(),
			idempotencyKey: fc.oneof(text, fc.constant("k".repeat(256))),
			delayMs: number,
			runAt: number,
			priority: number,
			laneKey: fc.oneof(text, fc.constant("k".repeat(129))),
			deadlineMs: number,
			maxAttempts: number,
			tags: fc.array(text, { maxLength: 18 }),
			traceparent: fc.constantFrom("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "nonsense"),
		},
		{ requiredKeys: ["function", "source", "method", "path", "headers", "query", "body", "waits"] },
	) as fc.Arbitrary<InvokeRequest>;
	fc.assert(
		fc.property(requests, (request) => {
			assert.equal(accepts(request), invokeRequestSchema.safeParse(request).success);
		}),
		seeded(3000),
	);
});

test("a body over 11 MiB is BODY_TOO_LARGE", () => {
	assert.throws(
		() => checkInvokeRequest({ ...good, body: new Uint8Array(LIMITS.bodyBytesMax + 1) }),
		(error) => error instanceof EngineError && error.code === "BODY_TOO_LARGE",
	);
});

test("a refusal names the field, what was expected and what came", () => {
	assert.throws(() => checkInvokeRequest({ ...good, priority: 5000 }), /priority.*-1000 to 1000.*5000/);
	assert.throws(() => checkInvokeRequest({ ...good, runAt: 1, delayMs: 1 }), /run_at.*delay_ms/);
	assert.throws(() => checkInvokeRequest({ ...good, runAt: 2 ** 53 - 1 }), /run_at.*the end of the year 9999/);
});
