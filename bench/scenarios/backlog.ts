/**
 * A daemon with a large backlog: its memory before and after, and how long it takes to be back after kill -9 with 64
 * attempts running. The backlog is in a paused lane, so that it stays what it is.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { enqueueBatches } from "../batches.ts";
import { until, type Scenario } from "../context.ts";
import type { Figure } from "../figures.ts";
import { residentMb, startDaemon, type Daemon } from "../processes.ts";

const RUNNING = 64;
/** Longer than the scenario: they run until the daemon is killed. */
const RUN_MS = 600_000;

export const backlog: Scenario = {
	name: "backlog",
	async run(context) {
		const folder = join(context.folder, "backlog");
		mkdirSync(folder);
		const dataDir = join(folder, "data");
		const queued = context.backlog.toLocaleString("en-US");
		const figures: Figure[] = [];
		const settle = (): Promise<unknown> => delay(context.quick ? 500 : 3_000);
		{
			await using daemon = await startDaemon(dataDir, { main: context.main });
			await daemon.deploy("echo", "echo", { maxQueued: 100_000_000 });
			await daemon.control.invoke("echo");
			await settle();
			const pid = await workerPid(daemon);
			figures.push(
				{ name: "memory of an idle worker", unit: "MB", measured: residentMb(pid), limit: { of: "value", atMost: 40 } },
				{
					name: "memory of an idle daemon",
					unit: "MB",
					measured: residentMb(daemon.pid),
					limit: { of: "value", atMost: 110 },
				},
			);
			await daemon.control.call("lanes.pause", { function: "echo", paused: true });
			const { tookMs } = await enqueueBatches(daemon.socketPath, ["echo"], (sent) => sent >= context.backlog);
			context.note(`${queued} queued in ${Math.round(tookMs)} ms`);
			await settle();
			figures.push({
				name: `memory of the daemon, ${queued} queued`,
				unit: "MB",
				measured: residentMb(daemon.pid),
				limit: { of: "value", atMost: 300 },
			});
			await daemon.deploy("wait", "wait", { concurrency: RUNNING, timeoutMs: RUN_MS });
			for (let index = 0; index < RUNNING; index += 1) await daemon.control.enqueue("wait", { ms: String(RUN_MS) });
			await until("64 attempts to run", async () => ((await stats(daemon)).running >= RUNNING ? true : undefined));
			await daemon.kill();
		}
		await using again = await startDaemon(dataDir, { main: context.main });
		const after = await stats(again);
		if (after.queued + after.running !== context.backlog + RUNNING) {
			throw new Error(`${context.backlog + RUNNING} were accepted, ${after.queued + after.running} are back`);
		}
		figures.push(
			{
				name: `boot after kill -9, ${queued} queued, ${RUNNING} running`,
				unit: "ms",
				measured: again.bootMs,
				limit: { of: "value", atMost: 3_000 },
			},
			{
				name: `memory of the daemon after that boot`,
				unit: "MB",
				measured: residentMb(again.pid),
			},
		);
		await again.kill();
		return figures;
	},
};

async function stats(daemon: Daemon): Promise<{ readonly queued: number; readonly running: number }> {
	return (await daemon.control.call("stats.get", {})) as unknown as { queued: number; running: number };
}

async function workerPid(daemon: Daemon): Promise<number> {
	const { workers } = (await daemon.control.call("workers.list", {})) as { workers: { pid: number | null }[] };
	return workers.at(-1)?.pid ?? 0;
}
