import assert from "node:assert/strict";
import { test } from "node:test";
import { checkCron, nextDue } from "../../../src/core/cron.ts";
import { EngineError } from "../../../src/core/errors.ts";
import { fc, seeded } from "../../support/seed.ts";

const utc = (expression: string) => ({ expression, timezone: "UTC" });
const at = (text: string): number => Date.parse(text);
const next = (expression: string, timezone: string, after: string): string | undefined => {
	const due = nextDue({ expression, timezone }, at(after));
	return due === undefined ? undefined : new Date(due).toISOString();
};

test("the next slot is strictly after the given instant", () => {
	assert.equal(next("0 * * * *", "UTC", "2026-01-01T00:00:00Z"), "2026-01-01T01:00:00.000Z");
	assert.equal(next("*/5 * * * * *", "UTC", "2026-01-01T00:00:04.999Z"), "2026-01-01T00:00:05.000Z");
	assert.equal(next("*/5 * * * * *", "UTC", "2026-01-01T00:00:05.000Z"), "2026-01-01T00:00:10.000Z");
	assert.equal(next("@daily", "UTC", "2026-01-01T00:00:00Z"), "2026-01-02T00:00:00.000Z");
});

const REFUSED: readonly [expression: string, timezone: string][] = [
	["", "UTC"],
	["   ", "UTC"],
	["* * *", "UTC"],
	["* * * * * * *", "UTC"],
	["0 0 30 2 *", "UTC"],
	["61 * * * *", "UTC"],
	["H * * * *", "UTC"],
	["0 0 15W * *", "UTC"],
	["@sometimes", "UTC"],
	["0 0 * * *\u0000", "UTC"],
	["* * * * *", "Mars/Olympus"],
	["* * * * *", ""],
	["* ".repeat(5000), "UTC"],
];

for (const [expression, timezone] of REFUSED) {
	test(`refused with BAD_SCHEDULE: ${JSON.stringify(expression.slice(0, 20))} in ${JSON.stringify(timezone)}`, () => {
		assert.throws(
			() => checkCron({ expression, timezone }, at("2026-01-01T00:00:00Z")),
			(error) => error instanceof EngineError && error.code === "BAD_SCHEDULE",
		);
	});
}

test("29 February is possible, and comes in a leap year", () => {
	assert.equal(next("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z"), "2028-02-29T00:00:00.000Z");
});

test("a wall time that does not exist fires once, at the next valid instant", () => {
	// New York skips 02:00 to 03:00 on 2026-03-08.
	assert.equal(next("30 2 * * *", "America/New_York", "2026-03-08T00:00:00-05:00"), "2026-03-08T07:30:00.000Z");
	assert.equal(next("30 2 * * *", "America/New_York", "2026-03-08T07:30:00Z"), "2026-03-09T06:30:00.000Z");
});

test("a wall time that exists twice fires once for a fixed hour", () => {
	// New York repeats 01:00 to 02:00 on 2026-11-01.
	const first = next("30 1 * * *", "America/New_York", "2026-11-01T00:00:00-04:00");
	assert.equal(first, "2026-11-01T05:30:00.000Z");
	assert.equal(next("30 1 * * *", "America/New_York", "2026-11-01T05:30:00Z"), "2026-11-02T06:30:00.000Z");
});

test("a 30-minute change of the clock, where cron-parser gives up, neither throws nor skips the day", () => {
	// Lord Howe goes back half an hour on 2026-04-05 at 02:00.
	let due = at("2026-04-03T00:00:00Z");
	const days = new Set<string>();
	for (let count = 0; count < 5; count += 1) {
		const slot = nextDue({ expression: "0 2 * * *", timezone: "Australia/Lord_Howe" }, due);
		assert.ok(slot !== undefined && slot > due);
		due = slot;
		days.add(new Date(slot).toISOString().slice(0, 10));
	}
	assert.equal(days.size, 5);
	assert.ok(
		(nextDue({ expression: "0 * * * *", timezone: "Australia/Lord_Howe" }, at("2026-04-04T15:10:00Z")) ?? 0) > 0,
	);
});

test("in UTC the next slot is what a scan of the minutes finds", () => {
	const field = (min: number, max: number): fc.Arbitrary<string> =>
		fc.oneof(
			fc.constant("*"),
			fc.integer({ min, max }).map(String),
			fc.integer({ min: 2, max: 20 }).map((step) => `*/${step}`),
		);
	const expressions = fc.tuple(field(0, 59), field(0, 23));
	fc.assert(
		fc.property(expressions, fc.integer({ min: 0, max: 366 * 24 * 60 }), ([minute, hour], offset) => {
			const after = at("2026-01-01T00:00:00Z") + offset * 60_000;
			const matches = (text: string, value: number): boolean =>
				text === "*" || (text.startsWith("*/") ? value % Number(text.slice(2)) === 0 : value === Number(text));
			let expected = after + 60_000;
			while (!matches(minute, new Date(expected).getUTCMinutes()) || !matches(hour, new Date(expected).getUTCHours()))
				expected += 60_000;
			assert.equal(nextDue(utc(`${minute} ${hour} * * *`), after), expected);
		}),
		seeded(200),
	);
});
