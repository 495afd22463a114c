/** D1: the wall clock of a running daemon is moved, stepped and stopped. Timeouts never notice; cron and delays cope. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startDaemon, type Daemon } from "../../support/daemon.ts";
import { seededRandom } from "../../support/seed.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { faketime } from "../needs.ts";
import { deploySleeper, fakeTime, firedSlots, putSchedule, told, type FakeTime } from "./rig.ts";

const DAY = 86_400_000;
const SECOND = 1_000;
/** What a timeout may be late by: its grace, the start of a worker, and a busy machine. */
const LATE_MS = 4_000;
const NEVER = JSON.stringify({});

interface Scene {
	readonly daemon: Daemon;
	readonly clock: FakeTime;
}

async function withClock(run: (scene: Scene) => Promise<void>, spec = "+0"): Promise<void> {
	using folder = tempFolder();
	const clock = fakeTime(folder.path, spec);
	const daemon = await startDaemon(join(folder.path, "data"), { env: clock.env });
	try {
		await deploySleeper(daemon.client, folder.path);
		await run({ daemon, clock });
	} finally {
		clock.set("+0");
		assert.equal(await daemon.stop(), 0);
	}
}

const MOVES = ["+10d", "-10d", "2026-05-05 12:00:00"] as const;

fault(
	"D1",
	"a timeout and a wait are measured by the monotonic clock, wherever the wall clock goes",
	{ needs: [faketime] },
	async (f) => {
		await withClock(async ({ daemon, clock }) => {
			const { client } = daemon;
			const timeoutMs = 1_500;
			await client.call("functions.configure", { function: "sleeper", overrides: { timeoutMs, graceMs: 200 } });
			await client.invoke("sleeper", { body: JSON.stringify({ ms: 1 }) });
			const random = seededRandom(f.seed);
			for (let round = 0; round < f.runs(1, 8); round += 1) {
				// In small one of them, by the seed.
				const first = Math.floor(random.next() * MOVES.length);
				for (const move of f.long ? MOVES : MOVES.slice(first, first + 1)) {
					clock.set("+0");
					const begun = performance.now();
					const hung = client.invoke("sleeper", { body: NEVER });
					const slept = client.invoke("sleeper", { body: JSON.stringify({ ms: 1_000 }) });
					const queued = await client.enqueue("sleeper", { body: "{}", delayMs: 300 * DAY });
					const waited = client.waitForResult(queued.invocationId, { timeoutMs: 1_000 });
					const timesOut = assert.rejects(waited, /has not ended after 1000 ms/);
					await sleep(100 + random.next() * 700);
					clock.set(move);
					assert.equal((await slept).success, true, `${move}: a call that ends in time succeeds`);
					await timesOut;
					const waitedMs = performance.now() - begun;
					assert.ok(waitedMs >= 1_000 && waitedMs < 1_000 + LATE_MS, `${move}: the wait took ${waitedMs} ms`);
					const ended = await hung;
					const tookMs = performance.now() - begun;
					assert.deepEqual([ended.success, ended.error?.code], [false, "TIMED_OUT"]);
					assert.ok(tookMs >= timeoutMs && tookMs < timeoutMs + LATE_MS, `${move}: timed out after ${tookMs} ms`);
					f.record(`${move}: a timeout of ${timeoutMs} ms took ${Math.round(tookMs)} ms`);
				}
			}
		});
	},
);

fault(
	"D1",
	"no slot fires twice and schedules go on, while the clock goes days ahead, back, by steps, and stands",
	{ needs: [faketime] },
	async (f) => {
		await withClock(async ({ daemon, clock }) => {
			const { client } = daemon;
			const once = await putSchedule(client, { name: "once", cron: "* * * * * *" });
			const all = await putSchedule(client, { name: "all", cron: "*/2 * * * * *", misfire: "all" });
			const goesOn = async (where: string, at: () => number): Promise<void> => {
				const before = (await firedSlots(client, once)).length;
				await waitFor(
					`slots ${where}`,
					async () => (await firedSlots(client, once)).length > before + (f.long ? 1 : 0),
				);
				const newest = (await firedSlots(client, once)).at(-1) ?? 0;
				assert.ok(
					Math.abs(newest - at()) < 5 * SECOND,
					`${where}: the newest slot is ${told([newest])}, now is ${told([at()])}`,
				);
			};
			await goesOn("at first", Date.now);
			for (let round = 0; round < f.runs(1, 10); round += 1) {
				clock.set("+10d");
				await goesOn("ten days ahead", () => Date.now() + 10 * DAY);
				clock.set("+0");
				await goesOn("back from there", Date.now);
				if (f.long) {
					clock.set("-10d");
					await goesOn("ten days back", () => Date.now() - 10 * DAY);
					clock.set("+0");
					await goesOn("again right", Date.now);
				}
				for (const step of [1, 2, 3, 4, 5, 4, 3, 2, 1, 0]) {
					clock.set(`+${step}s`);
					await sleep(f.long ? 300 : 100);
				}
				await goesOn("after steps of a second", Date.now);
				clock.set(new Date(Date.now()).toISOString().slice(0, 19).replace("T", " "));
				await sleep(1_100);
				const stood = (await firedSlots(client, once)).length;
				await sleep(f.long ? 2_500 : 1_100);
				assert.equal((await firedSlots(client, once)).length, stood, "a clock that stands has no new slots");
				clock.set("+0");
				await goesOn("after it stood", Date.now);
			}
			const [slots, others] = [await firedSlots(client, once), await firedSlots(client, all)];
			assert.ok(others.length > 3);
			const warned = daemon.lines.filter((line) => line.includes("the wall clock went back")).length;
			assert.ok(warned >= 1, `${warned} warnings`);
			f.record(`${slots.length + others.length} slots fired, none twice; the clock went back ${warned} times`);
		});
	},
);

fault(
	"D1",
	"delayed work runs once: early where the clock goes ahead, late where it goes back, never lost",
	{ needs: [faketime] },
	async (f) => {
		await withClock(async ({ daemon, clock }) => {
			const { client } = daemon;
			for (let round = 0; round < f.runs(1, 5); round += 1) {
				const enqueue = async (delayMs: number): Promise<string> =>
					(await client.enqueue("sleeper", { body: JSON.stringify({ ms: 0 }), delayMs })).invocationId;
				const [soon, tomorrow, nextMonth] = [await enqueue(1_000), await enqueue(DAY), await enqueue(30 * DAY)];
				// Set back, the alarm for the soonest finds nothing due; a clock set ahead is noticed within 10 s from then.
				if (f.long) {
					clock.set("-10d");
					await sleep(1_200);
					assert.equal((await client.getResult(soon)).state, "queued", "its time has not come by this clock");
				}
				clock.set("+10d");
				for (const id of [soon, tomorrow]) assert.equal((await client.waitForResult(id)).state, "succeeded");
				assert.equal((await client.getResult(nextMonth)).state, "queued");
				clock.set("+0");
				const ids = [soon, tomorrow];
				if (f.long) {
					const late = await enqueue(500);
					ids.push(late);
					clock.set("2026-05-05 12:00:00");
					await sleep(1_000);
					assert.equal((await client.getResult(late)).state, "queued", "the clock stands before its time");
					clock.set("+0");
					assert.equal((await client.waitForResult(late)).state, "succeeded");
				}
				for (const id of ids) {
					const record = await client.call("invocations.get", { invocation_id: id });
					assert.deepEqual([record["attempt"], record["state"]], [1, "succeeded"], "once");
				}
				await client.cancel(nextMonth);
			}
		});
	},
);
