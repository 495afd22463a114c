/** D6: the daemon was down over slots of an every-minute schedule; the policy says how many of them still run. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import type { EngineHandle } from "../../../src/index.ts";
import { LIMITS } from "../../../src/core/limits.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { movedEngine, slotsOf, told, wallClock } from "./rig.ts";

const MINUTE = 60_000;
const DAY = 24 * 60 * MINUTE;
const POLICIES = ["once", "skip", "all"] as const;
const START = Date.UTC(2026, 5, 1, 12, 0, 10);

function put(engine: EngineHandle): Map<(typeof POLICIES)[number], string> {
	return new Map(
		POLICIES.map((misfire) => {
			const schedule = { function: "f", name: misfire, cron: "* * * * *", misfire, overlap: "allow" } as const;
			return [misfire, engine.putSchedule(schedule).scheduleId];
		}),
	);
}

fault(
	"D6",
	"after 3 minutes and after 3 days away: once runs the newest slot, skip none, all each up to 100",
	async (f) => {
		for (let round = 0; round < f.runs(1, 10); round += 1) {
			using folder = tempFolder();
			const dataDir = join(folder.path, "data");
			const path = join(folder.path, "f.js");
			writeFileSync(path, "export default () => new Response('ran');");
			const wall = wallClock();
			wall.setTo(START);
			let ids = new Map<(typeof POLICIES)[number], string>();
			{
				await using life = movedEngine(dataDir, wall).engine;
				await life.start();
				await life.deploy({ function: "f", path, register: true });
				ids = put(life);
			}
			let awayFrom = START;
			// 20 s after the minute, so that no slot comes of itself while the test looks.
			for (const awayMs of [3 * MINUTE, 3 * DAY]) {
				wall.setTo(awayFrom + awayMs + 10_000);
				await using life = movedEngine(dataDir, wall).engine;
				await life.start();
				const newest = Math.floor(wall.now() / MINUTE) * MINUTE;
				const all = Array.from({ length: LIMITS.misfireRunsMax }, (_, back) => newest - back * MINUTE)
					.filter((slot) => slot > awayFrom)
					.toReversed();
				const expected = { once: [newest], skip: [], all };
				for (const [misfire, id] of ids) {
					const fired = (): number[] => slotsOf(life, id).filter((slot) => slot > awayFrom);
					await waitFor(`the slots of ${misfire}`, () => fired().length >= expected[misfire].length);
					await waitFor("the decision on the newest slot", () =>
						life.listSchedules().every((s) => s.lastSlotAt === newest),
					);
					assert.equal(told(fired()), told(expected[misfire]), `misfire ${misfire} after ${awayMs / MINUTE} minutes`);
				}
				// And a slot that comes while it runs fires as always, whatever the policy.
				wall.setTo(newest + 2 * MINUTE - 300);
				for (const [misfire, id] of ids) {
					await waitFor(`the next slot of ${misfire}`, () => slotsOf(life, id).at(-1) === newest + 2 * MINUTE);
				}
				awayFrom = Math.floor(wall.now() / MINUTE) * MINUTE + 10_000;
			}
			const db = new Database(join(dataDir, "queue.db"), { readonly: true });
			const outcomes = db
				.prepare("SELECT outcome, COUNT(*) AS count FROM cron_slot GROUP BY outcome ORDER BY outcome")
				.raw();
			f.record(`slots by outcome: ${(outcomes.all() as [string, number][]).map((pair) => pair.join(" ")).join(", ")}`);
			db.close();
		}
	},
);
