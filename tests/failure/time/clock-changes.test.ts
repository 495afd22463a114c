/** D4: the days on which clocks are changed, against a scan of every minute of a year. */
import assert from "node:assert/strict";
import { nextDue } from "../../../src/core/cron.ts";
import { changesOf, fires, scanWalls } from "../../support/cron-oracle.ts";
import { fault } from "../fault.ts";

/** An hour, an hour at another time, at midnight, for Ramadan, half an hour, two hours. */
const ZONES = [
	"America/New_York",
	"Europe/London",
	"America/Santiago",
	"Africa/Casablanca",
	"Australia/Lord_Howe",
	"Antarctica/Troll",
];
const EXPRESSIONS = [
	"0 * * * *",
	"*/15 * * * *",
	"30 2 * * *",
	"0 0 * * *",
	"*/15 1-2 * * *",
	"7-59/13 0,1,2,23 * * *",
];

for (const timezone of ZONES) {
	fault("D4", `${timezone}: a year of slots is what a scan of every minute finds, in order, none twice`, (f) => {
		for (const year of f.long ? [2024, 2025, 2026] : [2026]) {
			const from = Date.UTC(year, 0, 1);
			const until = Date.UTC(year + 1, 0, 1);
			const walls = scanWalls(timezone, from, until, !f.long);
			assert.ok(changesOf(walls).length >= 2, "the clocks are changed in that year");
			for (const expression of EXPRESSIONS) {
				const expected = fires(expression, walls);
				const found: number[] = [];
				// From just before: the oracle knows nothing of the year before.
				for (let at = from - 1; ;) {
					const next = nextDue({ expression, timezone }, at);
					assert.ok(next !== undefined && next > at, `${expression} goes on after ${new Date(at).toISOString()}`);
					if (next >= until) break;
					found.push(next);
					at = next;
				}
				const wrong = found.findIndex((at, index) => at !== expected[index]);
				const scene = [expected, found].map((all) => all.slice(Math.max(0, wrong - 2), wrong + 3));
				assert.ok(
					wrong === -1 && found.length === expected.length,
					`${expression}: expected ${told(scene[0])}, got ${told(scene[1])} (${expected.length} and ${found.length} slots)`,
				);
				f.ran(found.length);
			}
		}
	});
}

function told(slots: readonly number[] | undefined): string {
	return (slots ?? []).map((at) => new Date(at).toISOString()).join(" ");
}
