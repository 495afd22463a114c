/**
 * D8: the rules of a time zone change between two runs, as with a new tzdata. Simulated, because one Node has one
 * tzdata: the stored zone is replaced under the daemon's feet by one with other rules, and the cursor stays.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { nextDue } from "../../../src/core/cron.ts";
import { silentLogger, silentProbe, type Environment } from "../../../src/core/environment.ts";
import { cronSource } from "../../../src/sources/cron.ts";
import { createFakeClock } from "../../support/fake-clock.ts";
import { fakeCronEngine } from "../../support/fake-cron-engine.ts";
import { seededRandom } from "../../support/seed.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { movedEngine, slotsOf, told, wallClock } from "./rig.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** Rules before and after: Morocco gave up its winter hour in 2026; Egypt took summer time up again in 2023; and the like. */
const CHANGES = [
	["Africa/Casablanca", "Africa/Lagos"],
	["Africa/Tripoli", "Africa/Cairo"],
	["Europe/Paris", "Europe/Moscow"],
	["America/Sao_Paulo", "America/New_York"],
	["Pacific/Apia", "Pacific/Honolulu"],
] as const;
const EXPRESSIONS = ["0 3 * * *", "30 * * * *", "*/20 1-4 * * *", "0 0 1 * *"];

fault(
	"D8",
	"other rules for a zone between two runs, at any time of the year: no slot twice, and the new rules hold at once",
	async (f) => {
		const random = seededRandom(f.seed);
		const pick = <T>(list: readonly T[]): T => list[Math.floor(random.next() * list.length)] as T;
		const count = f.runs(40, 1_500);
		let fired = 0;
		for (let run = 0; run < count; run += 1) {
			const [before, after] = random.next() < 0.5 ? pick(CHANGES) : pick(CHANGES).toReversed();
			const cron = pick(EXPRESSIONS);
			const clock = createFakeClock(Date.UTC(2026, 0, 1) + Math.floor(random.next() * 365) * DAY);
			const environment: Environment = { clock, random: { next: () => 0 }, probe: silentProbe, logger: silentLogger };
			const fake = fakeCronEngine(() => clock.now());
			const live = async (timezone: string | undefined, ms: number): Promise<void> => {
				if (timezone !== undefined) fake.put({ scheduleId: "a", cron, timezone, decidedUntil: clock.now() - HOUR });
				const source = cronSource(environment);
				await source.start(fake.engine);
				// In leaps: a schedule that is looked at each second for days costs minutes.
				for (let left = ms; left > 0; left -= 10 * 60_000) {
					clock.jumpWall(10 * 60_000 - 1_000);
					await clock.advance(1_000);
				}
				await source.stop();
			};
			await live(before, Math.floor(random.next() * 30) * HOUR + 20 * 60_000);
			const changedAt = clock.now();
			const decided = Math.max(changedAt, ...fake.slots("a"));
			await live(after, 3 * DAY);
			const scene = `${cron}: ${before} to ${after} at ${new Date(changedAt).toISOString()}; SEED=${f.seed}`;
			const slots = fake.slots("a");
			assert.equal(new Set(slots).size, slots.length, scene);
			assert.equal(told(slots), told(slots.toSorted((a, b) => a - b)), `in order, ${scene}`);
			const since = slots.filter((slot) => slot > decided);
			for (const slot of since) assert.equal(nextDue({ expression: cron, timezone: after }, slot - 1), slot, scene);
			fired += slots.length;
		}
		f.record(`${count} changes of rules, ${fired} slots, none twice`);
	},
);

fault(
	"D8",
	"on a real data folder: a stored schedule whose zone has other rules at the next start goes on by them",
	async (f) => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		const path = join(folder.path, "f.js");
		writeFileSync(path, "export default () => new Response('ran');");
		const wall = wallClock();
		// Casablanca is at UTC until 22 March 2026 and an hour ahead after; Lagos is always an hour ahead.
		wall.setTo(Date.UTC(2026, 2, 10, 2, 59, 59));
		let id = "";
		{
			await using life = movedEngine(dataDir, wall).engine;
			await life.start();
			await life.deploy({ function: "f", path, register: true });
			const schedule = { function: "f", name: "daily", cron: "0 3 * * *", timezone: "Africa/Casablanca" };
			id = life.putSchedule({ ...schedule, overlap: "allow" }).scheduleId;
			await waitFor("the slot by the old rules", () => slotsOf(life, id).length === 1);
		}
		const db = new Database(join(dataDir, "metadata.db"));
		assert.equal(db.prepare("UPDATE schedule SET timezone = 'Africa/Lagos'").run().changes, 1);
		db.close();
		await using life = movedEngine(dataDir, wall).engine;
		await life.start();
		// 02:00 UTC is 03:00 by the new rules: of today it has passed before the newest slot, and is not caught up.
		wall.setTo(Date.UTC(2026, 2, 11, 1, 59, 59));
		await waitFor("the slot by the new rules", () => slotsOf(life, id).length === 2);
		wall.setTo(Date.UTC(2026, 2, 11, 3, 0, 1));
		await waitFor(
			"a look after the time of the old rules",
			() => life.listSchedules()[0]?.nextDueAt === Date.UTC(2026, 2, 12, 2),
		);
		assert.equal(told(slotsOf(life, id)), told([Date.UTC(2026, 2, 10, 3), Date.UTC(2026, 2, 11, 2)]));
		f.ran(1);
	},
);
