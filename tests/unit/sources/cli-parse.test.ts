import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { EngineError } from "../../../src/core/errors.ts";
import { checkFunctionName } from "../../../src/core/names.ts";
import {
	functionNameOf,
	parseChoice,
	parseDuration,
	parseHeader,
	parseInstant,
	parseInteger,
	parseJson,
	parseOverrides,
	parsePair,
} from "../../../src/sources/cli-parse.ts";

const isUsage = (error: unknown): boolean => error instanceof EngineError && error.exitCode === 2;

describe("text on the command line", () => {
	it("durations have units, and bare numbers are milliseconds", () => {
		const expected = { "500ms": 500, "30s": 30_000, "5m": 300_000, "2h": 7_200_000, "1d": 86_400_000, "1500": 1500 };
		for (const [text, ms] of Object.entries(expected)) assert.equal(parseDuration(text), ms);
		assert.equal(parseDuration("1.5s"), 1500);
		assert.equal(parseDuration("0"), 0);
	});

	it("what is no duration is a usage error that says what would be", () => {
		for (const text of ["", "s", "-1s", "1 s", "1w", "1e3", "NaN", "Infinity", `${"9".repeat(30)}d`, "1s2m"]) {
			assert.throws(() => parseDuration(text), isUsage, text);
		}
		assert.throws(() => parseDuration("soon"), /expected a duration like 500ms, 30s/);
	});

	it("every duration in milliseconds reads back as itself", () => {
		fc.assert(fc.property(fc.nat(), (ms) => parseDuration(`${ms}ms`) === ms && parseDuration(String(ms)) === ms));
	});

	it("an instant is a time, or how long ago", () => {
		const now = Date.UTC(2026, 10, 22, 12);
		assert.equal(parseInstant("10m", now), now - 600_000);
		assert.equal(parseInstant("2026-11-22T09:00:00Z", now), Date.UTC(2026, 10, 22, 9));
		assert.equal(parseInstant("2026-11-22T10:00:00+01:00", now), Date.UTC(2026, 10, 22, 9));
		assert.equal(parseInstant(String(now), now), now);
		assert.throws(() => parseInstant("yesterday", now), isUsage);
		assert.throws(() => parseInstant("2026-13-40", now), isUsage);
	});

	it("numbers, choices and pairs are taken whole or refused", () => {
		assert.equal(parseInteger("-5"), -5);
		assert.throws(() => parseInteger("1.5"), isUsage);
		assert.throws(() => parseInteger("1e3"), isUsage);
		assert.equal(parseChoice("--state", ["queued", "failed"], "failed"), "failed");
		assert.throws(() => parseChoice("--state", ["queued", "failed"], "fail"), /one of queued, failed/);
		assert.deepEqual(parsePair("a=b=c"), ["a", "b=c"]);
		assert.deepEqual(parsePair("a="), ["a", ""]);
		assert.throws(() => parsePair("=b"), isUsage);
		assert.throws(() => parsePair("ab"), isUsage);
	});

	it("headers are written as in curl, and their names are lower case", () => {
		assert.deepEqual(parseHeader("X-Name: a: b"), ["x-name", "a: b"]);
		assert.deepEqual(parseHeader("x-name=1"), ["x-name", "1"]);
		assert.throws(() => parseHeader("no header"), isUsage);
		assert.throws(() => parseHeader(": value"), isUsage);
	});

	it("a body that is no JSON says how to quote it", () => {
		assert.deepEqual(parseJson("the body", '{"a":1}'), { a: 1 });
		assert.throws(() => parseJson("the body", "{a:1}"), /quote it for the shell/);
	});

	it("overrides nest by dots, durations become milliseconds, null removes", () => {
		assert.deepEqual(
			parseOverrides([
				"timeoutMs=2m",
				"concurrency=4",
				"delivery=at-most-once",
				"memoryMb=null",
				"maxAgeMs=",
				"retry.maxAttempts=5",
				"retry.baseMs=1s",
				"retry.jitter=false",
				"retry.retryOn=500,503",
			]),
			{
				timeoutMs: 120_000,
				concurrency: 4,
				delivery: "at-most-once",
				memoryMb: null,
				maxAgeMs: null,
				retry: { maxAttempts: 5, baseMs: 1000, jitter: false, retryOn: [500, 503] },
			},
		);
		assert.deepEqual(parseOverrides(["retry.retryOn=503"]), { retry: { retryOn: [503] } });
	});

	it("an override named like a prototype touches no prototype", () => {
		const overrides = parseOverrides(["__proto__.polluted=1", "constructor.prototype.polluted=1"]);
		assert.equal(({} as Record<string, unknown>)["polluted"], undefined);
		assert.ok(Object.hasOwn(overrides, "__proto__"));
	});

	it("a function is named like its file or folder", () => {
		const expected = {
			"hello.ts": "hello",
			"/srv/functions/Resize Image.tsx": "resize-image",
			"invoice/index.ts": "invoice",
			"orderCreated.js": "order-created",
			"./9lives.ts": "lives",
			"a_b-c.mjs": "a_b-c",
		};
		for (const [path, name] of Object.entries(expected)) assert.equal(functionNameOf(path), name);
		assert.throws(() => functionNameOf("/tmp/123.ts"), /--name/);
	});

	it("whatever name is made of a path, the engine takes it", () => {
		fc.assert(
			fc.property(fc.string({ unit: "grapheme" }), (text) => {
				let name: string;
				try {
					name = functionNameOf(`/x/${text}.ts`);
				} catch (error) {
					return isUsage(error);
				}
				return checkFunctionName(name) === name;
			}),
		);
	});
});
