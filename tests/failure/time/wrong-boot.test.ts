/** D3: a daemon that starts in 1970 or in 2100, and what is left of that when the clock is right again. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LIMITS } from "../../../src/core/limits.ts";
import { startDaemon, type Daemon } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { faketime } from "../needs.ts";
import { deploySleeper, fakeTime, firedSlots, putSchedule, told } from "./rig.ts";

const MISFIRES = ["once", "skip", "all"] as const;
type Ids = Record<(typeof MISFIRES)[number], string>;

async function putAll({ client }: Daemon, folder: string): Promise<Ids> {
	await deploySleeper(client, folder);
	const put = (misfire: keyof Ids): Promise<string> =>
		putSchedule(client, { name: misfire, cron: "* * * * * *", misfire });
	return { once: await put("once"), skip: await put("skip"), all: await put("all") };
}

async function counted({ client }: Daemon, ids: Ids): Promise<Record<keyof Ids, number>> {
	const count = async (id: string): Promise<number> => (await firedSlots(client, id)).length;
	return { once: await count(ids.once), skip: await count(ids.skip), all: await count(ids.all) };
}

async function goesOn(daemon: Daemon, ids: Ids, now: () => number): Promise<void> {
	const each = Object.values(ids).map(async (id) => {
		const before = (await firedSlots(daemon.client, id)).length;
		let slots: number[] = [];
		const isThere = (): boolean => slots.length > before && Math.abs((slots.at(-1) ?? 0) - now()) < 5_000;
		await waitFor("a new slot", async () => {
			slots = await firedSlots(daemon.client, id);
			return isThere();
		}).catch((error: unknown) => {
			throw new Error(`the newest slots are ${told(slots.slice(-3))}, now is ${told([now()])}`, { cause: error });
		});
	});
	await Promise.all(each);
}

const warned = (daemon: Daemon, what: RegExp): boolean => daemon.lines.some((line) => what.test(line));

fault(
	"D3",
	"a start in 1970 serves calls and fires no schedule; set right, schedules go on without a storm",
	{ needs: [faketime] },
	async (f) => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		const clock = fakeTime(folder.path);
		let daemon = await startDaemon(dataDir, { env: clock.env });
		try {
			const ids = await putAll(daemon, folder.path);
			await goesOn(daemon, ids, Date.now);
			for (let round = 0; round < f.runs(1, 4); round += 1) {
				assert.equal(await daemon.stop(), 0);
				clock.set("@1970-01-01 00:00:10");
				daemon = await startDaemon(dataDir, { env: clock.env });
				assert.ok(warned(daemon, /the wall clock is not set/), daemon.lines.join("\n"));
				const before = await counted(daemon, ids);
				assert.equal((await daemon.client.invoke("sleeper", { body: JSON.stringify({ ms: 0 }) })).success, true);
				await sleep(f.long ? 12_000 : 1_500);
				assert.deepEqual(await counted(daemon, ids), before, "no slot of 1970 fires");
				clock.set("+0");
				await goesOn(daemon, ids, Date.now);
				const { once, all } = await counted(daemon, ids);
				assert.ok(all - before.all <= LIMITS.misfireRunsMax, `${all - before.all} runs with misfire all`);
				assert.ok(once - before.once <= 10, `${once - before.once} runs with misfire once`);
			}
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
	},
);

fault(
	"D3",
	"a start in 2100 catches up by its policy and warns; back in the present, schedules go on and no slot fires twice",
	{ needs: [faketime] },
	async (f) => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		const clock = fakeTime(folder.path);
		let daemon = await startDaemon(dataDir, { env: clock.env });
		try {
			const ids = await putAll(daemon, folder.path);
			await goesOn(daemon, ids, Date.now);
			for (let round = 0; round < f.runs(1, 4); round += 1) {
				assert.equal(await daemon.stop(), 0);
				const from = Date.UTC(2100 + round, 0, 1, 0, 0, 10);
				const begun = Date.now();
				clock.set(`@${2100 + round}-01-01 00:00:10`);
				daemon = await startDaemon(dataDir, { env: clock.env });
				assert.ok(warned(daemon, /more than a year ahead of the newest invocation/), daemon.lines.join("\n"));
				await goesOn(daemon, ids, () => from + Date.now() - begun);
				// In the long form until retention has looked at everything by this clock.
				if (f.long) await sleep(12_000);
				for (const id of Object.values(ids)) {
					const slots = await firedSlots(daemon.client, id);
					const missed = slots.filter((slot) => slot >= begun && slot < from - 1_000).length;
					const most = id === ids.all ? LIMITS.misfireRunsMax : id === ids.once ? 1 : 0;
					assert.ok(missed <= most, `${missed} of the missed slots fired: ${told(slots.slice(-5))}`);
				}
				// Made by the wrong clock.
				const made = await putSchedule(daemon.client, { name: `made${round}`, cron: "* * * * * *" });
				assert.equal(await daemon.stop(), 0);
				clock.set("+0");
				daemon = await startDaemon(dataDir, { env: clock.env });
				assert.ok(warned(daemon, /ahead of the wall clock were decided/), daemon.lines.join("\n"));
				await goesOn(daemon, ids, Date.now);
				await goesOn(daemon, { once: made, skip: made, all: made }, Date.now);
				await daemon.client.call("schedules.delete", { schedule_id: made });
			}
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
	},
);
