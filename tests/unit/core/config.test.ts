import assert from "node:assert/strict";
import { test } from "node:test";
import { EngineError } from "../../../src/core/errors.ts";
import { BUILT_IN, parseFunctionConfig, resolveConfig } from "../../../src/core/function-config.ts";
import { invocationId, parseInvocationId } from "../../../src/core/ids.ts";
import { checkEventType, checkFunctionName, checkVersionName } from "../../../src/core/names.ts";
import { resolveOptions } from "../../../src/core/options.ts";
import { retryDelayMs } from "../../../src/core/retry.ts";
import { fc, seeded } from "../../support/seed.ts";

const refuses = (code: string, act: () => unknown): void =>
	assert.throws(act, (error) => error instanceof EngineError && error.code === code);

test("the first layer that names a key wins, nested keys one by one", () => {
	const resolved = resolveConfig([
		{ timeoutMs: 1, retry: { baseMs: 7 } },
		{ timeoutMs: 2, concurrency: 3, retry: { maxAttempts: 9 } },
		{ memoryMb: 99 },
	]);
	assert.equal(resolved.timeoutMs, 1);
	assert.equal(resolved.concurrency, 3);
	assert.equal(resolved.memoryMb, 99);
	assert.deepEqual(
		[resolved.retry.baseMs, resolved.retry.maxAttempts, resolved.retry.capMs],
		[7, 9, BUILT_IN.retry.capMs],
	);
	assert.ok(Object.isFrozen(resolved) && Object.isFrozen(resolved.retry));
});

test("at-most-once means one attempt and one at a time in a worker; more attempts beside it are refused", () => {
	const once = resolveConfig([{ delivery: "at-most-once", workerConcurrency: 8 }]);
	assert.deepEqual([once.retry.maxAttempts, once.workerConcurrency], [1, 1]);
	refuses("BAD_CONFIG", () => resolveConfig([{ delivery: "at-most-once" }, { retry: { maxAttempts: 2 } }]));
});

test("unknown and impossible keys of a config are named, all at once", () => {
	assert.throws(
		() => parseFunctionConfig("config", { timeoutMS: 5, memoryMb: 1, retry: { maxAttempts: 0 } }),
		(error) =>
			error instanceof EngineError &&
			error.code === "BAD_CONFIG" &&
			["timeoutMS", "config.memoryMb", "config.retry.maxAttempts"].every((key) => error.message.includes(key)),
	);
});

test("options are complete, frozen, and refuse what they do not know", () => {
	assert.ok(Object.isFrozen(resolveOptions({})));
	refuses("BAD_CONFIG", () => resolveOptions({ dataDri: "x" }));
});

test("names: one rule a kind, and nothing that looks like one of our ids", () => {
	for (const name of ["a", "resize-image", "a_1", "x".repeat(128)]) assert.equal(checkFunctionName(name), name);
	for (const name of ["", "A", "1a", "a b", "../x", "__proto__", "a".repeat(129), "inv_0123456789abcdef", "ä"]) {
		refuses("BAD_NAME", () => checkFunctionName(name));
	}
	for (const label of ["1.0.0", "v1", "order.created"]) assert.equal(checkVersionName(label), label);
	for (const label of ["", ".", "..", "a..b", "/x", "a/b", "a\0"]) refuses("BAD_NAME", () => checkEventType(label));
});

test("an invocation id gives back its time and place, and sorts by both", () => {
	const parts = fc.record({
		createdAt: fc.integer({ min: 0, max: 2 ** 45 }),
		seq: fc.integer({ min: 1, max: 2 ** 50 }),
	});
	fc.assert(
		fc.property(parts, parts, (a, b) => {
			const [first, second] = [invocationId(a.createdAt, a.seq), invocationId(b.createdAt, b.seq)];
			assert.deepEqual(parseInvocationId(first), { ...a });
			const older = a.createdAt < b.createdAt || (a.createdAt === b.createdAt && a.seq < b.seq);
			assert.equal(first < second, older);
		}),
		seeded(500),
	);
	for (const text of ["", "inv_", "inv_ZZZZZZZZZZZZZZZZZZZZZ", `${invocationId(1, 1)}x`])
		assert.equal(parseInvocationId(text), undefined);
});

test("retry delays grow, are capped, and with jitter lie in the upper half", () => {
	const retry = { ...BUILT_IN.retry, baseMs: 100, capMs: 1000 };
	const plain = { ...retry, jitter: false };
	const random = { next: () => 0 };
	assert.deepEqual(
		[1, 2, 3, 4, 5, 500].map((n) => retryDelayMs(plain, n, random)),
		[100, 200, 400, 800, 1000, 1000],
	);
	fc.assert(
		fc.property(fc.integer({ min: 1, max: 60 }), fc.double({ min: 0, max: 0.999, noNaN: true }), (charged, chance) => {
			const whole = retryDelayMs(plain, charged, random);
			const delay = retryDelayMs(retry, charged, { next: () => chance });
			assert.ok(delay >= Math.floor(whole / 2) && delay <= whole);
		}),
		seeded(300),
	);
});
