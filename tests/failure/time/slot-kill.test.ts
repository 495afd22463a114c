/** D7: the daemon dies at the commit of a slot, and starts again in the same second. Each slot fires once, none is lost. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import Database from "better-sqlite3";
import { startDaemon } from "../../support/daemon.ts";
import { seededRandom } from "../../support/seed.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { faketime } from "../needs.ts";
import { deploySleeper, fakeTime, firedSlots, putSchedule, told } from "./rig.ts";

const DYING = join(import.meta.dirname, "../../support/dying-daemon.ts");
const SECOND = 1_000;
const POINTS = ["commit.begin", "commit.done", "commit.acknowledged"] as const;

fault(
	"D7",
	"kill -9 before, in and after the commit of a slot, over and over: each slot fires once, none is left out",
	async (f) => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		const random = seededRandom(f.seed);
		let daemon = await startDaemon(dataDir);
		await deploySleeper(daemon.client, folder.path);
		// Every missed slot is caught up, so that one that was left out shows.
		const scheduleId = await putSchedule(daemon.client, { name: "tick", cron: "* * * * * *", misfire: "all" });
		await waitFor("the first slot", async () => (await firedSlots(daemon.client, scheduleId)).length > 0);
		await daemon.kill();
		const kills = f.runs(4, 60);
		for (let kill = 0; kill < kills; kill += 1) {
			const point = POINTS[Math.floor(random.next() * POINTS.length)] ?? "commit.begin";
			const count = 1 + Math.floor(random.next() * 6);
			// It may die before it is ready.
			const dying = await startDaemon(dataDir, { program: DYING, env: { DIE_AT: `${point}:${count}` } }).catch(
				() => undefined,
			);
			if (dying !== undefined) {
				if (dying.process.exitCode === null && dying.process.signalCode === null) await once(dying.process, "exit");
				dying.client.close();
				assert.equal(dying.process.signalCode, "SIGKILL", dying.lines.join("\n"));
			}
		}
		daemon = await startDaemon(dataDir);
		try {
			const bootedAt = Date.now();
			const slots = await waitFor("slots of this boot", async () => {
				const all = await firedSlots(daemon.client, scheduleId);
				return (all.at(-1) ?? 0) > bootedAt + SECOND && all;
			});
			const sorted = slots.toSorted((a, b) => a - b);
			const gaps = sorted.filter((slot, index) => index > 0 && slot !== (sorted[index - 1] ?? 0) + SECOND);
			assert.deepEqual(gaps, [], `slots were left out before ${told(gaps)}`);
			f.record(`${kills} kills: ${slots.length} slots in a row, each once`);
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
		const db = new Database(join(dataDir, "queue.db"), { readonly: true });
		const strays = db
			.prepare("SELECT COUNT(*) FROM cron_slot WHERE outcome = 'fired' AND seq NOT IN (SELECT seq FROM invocation)")
			.pluck()
			.get();
		db.close();
		assert.equal(strays, 0, "a slot and its invocation are one commit");
	},
);

fault(
	"D7",
	"boots in the same second, each after kill -9 of the one before: its slot fires in one of them",
	{ needs: [faketime] },
	async (f) => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		const clock = fakeTime(folder.path, "2026-05-05 11:59:58");
		const slot = Date.UTC(2026, 4, 5, 12);
		const first = await startDaemon(dataDir, { env: clock.env });
		await deploySleeper(first.client, folder.path);
		const ids = [];
		for (const misfire of ["once", "skip", "all"] as const) {
			ids.push(await putSchedule(first.client, { name: misfire, cron: "0 12 * * *", misfire }));
		}
		assert.equal(await first.stop(), 0);
		// It stands still, so that every boot is in the second of the slot.
		clock.set("2026-05-05 12:00:00");
		const boots = f.runs(2, 12);
		for (let boot = 0; boot < boots; boot += 1) {
			const daemon = await startDaemon(dataDir, { env: clock.env });
			try {
				for (const id of ids) {
					await waitFor("the slot", async () => (await firedSlots(daemon.client, id)).length > 0);
					assert.equal(told(await firedSlots(daemon.client, id)), told([slot]));
				}
				if (boot > 0) assert.ok(daemon.lines.some((line) => line.includes("did not stop cleanly")));
			} finally {
				await daemon.kill();
			}
		}
	},
);
