/** D2: the daemon and its workers stop for a while, as a machine does that sleeps. All that was due comes late, once. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startDaemon, type Daemon } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { deploySleeper, firedSlots, putSchedule } from "./rig.ts";

const TIMEOUT_MS = 1_000;

async function workerPids({ client }: Daemon): Promise<number[]> {
	const { workers } = (await client.call("workers.list", {})) as { workers: { pid: number | null }[] };
	return workers.flatMap(({ pid }) => (pid === null ? [] : [pid]));
}

for (const [who, withWorkers] of [
	["the daemon and its workers stand still", true],
	["the daemon alone stands still", false],
] as const) {
	fault("D2", `${who}: nothing ends early, and what came due meanwhile happens once`, async (f) => {
		using folder = tempFolder();
		const daemon = await startDaemon(join(folder.path, "data"));
		try {
			const { client } = daemon;
			await deploySleeper(client, folder.path);
			const overrides = { timeoutMs: TIMEOUT_MS, graceMs: 200 };
			await client.call("functions.configure", { function: "sleeper", overrides });
			await client.invoke("sleeper", { body: JSON.stringify({ ms: 0 }) });
			const scheduleId = await putSchedule(client, { name: "tick", cron: "* * * * * *" });
			for (let round = 0; round < f.runs(1, 4); round += 1) {
				const standsMs = f.long ? (round === 0 ? 60_000 : 2_500) : 1_500;
				const slots = await firedSlots(client, scheduleId);
				const begun = performance.now();
				const took = async <T>(result: Promise<T>): Promise<[T, number]> => [await result, performance.now() - begun];
				const hung = took(client.invoke("sleeper", { body: "{}" }));
				const quick = took(client.invoke("sleeper", { body: JSON.stringify({ ms: 300 }) }));
				const delayed = await client.enqueue("sleeper", { body: JSON.stringify({ ms: 0 }), delayMs: 600 });
				const pids = [daemon.pid, ...(withWorkers ? await workerPids(daemon) : [])];
				for (const pid of pids) process.kill(pid, "SIGSTOP");
				const asked = took(client.invoke("sleeper", { body: JSON.stringify({ ms: 0 }) }));
				await sleep(standsMs);
				for (const pid of pids.toReversed()) process.kill(pid, "SIGCONT");
				const [[ended, endedMs], [first, firstMs], [late, lateMs]] = await Promise.all([hung, quick, asked]);
				assert.deepEqual([ended.success, ended.error?.code], [false, "TIMED_OUT"]);
				assert.ok(endedMs >= TIMEOUT_MS, `timed out after ${endedMs} ms`);
				// With its worker asleep too it may have run out of time; alone, the answer lay there in time.
				if (!withWorkers) assert.equal(first.success, true, `${first.error?.code} after ${firstMs} ms`);
				else if (!first.success) assert.equal(first.error?.code, "TIMED_OUT");
				assert.equal(late.success, true);
				assert.ok(Math.min(firstMs, lateMs) >= standsMs, "nobody was answered meanwhile");
				const record = await client.waitForResult(delayed.invocationId);
				assert.equal(record.state, "succeeded");
				const { attempt, run_at, started_at } = await client.call("invocations.get", {
					invocation_id: delayed.invocationId,
				});
				assert.equal(attempt, 1);
				assert.ok(Number(started_at) >= Number(run_at));
				const after = await waitFor("slots afterwards", async () => {
					const all = await firedSlots(client, scheduleId);
					return all.length >= slots.length + 2 && all;
				});
				// Of those missed, the newest; then one each second.
				const most = (performance.now() - begun - standsMs) / 1_000 + 3;
				assert.ok(after.length - slots.length <= most, `${after.length - slots.length} slots, at most ${most}`);
				f.record(`${standsMs / 1_000} s: a timeout of ${TIMEOUT_MS} ms came after ${Math.round(endedMs)} ms`);
			}
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
	});
}
