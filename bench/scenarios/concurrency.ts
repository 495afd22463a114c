/** A thousand invocations of one function that all await something at the same time, on at most four workers. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { until, type Scenario } from "../context.ts";
import { startDaemon } from "../processes.ts";

const AT_ONCE = 1000;
const WORKERS = 4;
/** Longer than it takes to start them all. */
const WAIT_MS = 4_000;

export const concurrency: Scenario = {
	name: "concurrency",
	async run(context) {
		const folder = join(context.folder, "concurrency");
		mkdirSync(folder);
		await using daemon = await startDaemon(join(folder, "data"), { main: context.main });
		await daemon.deploy("wait", "wait", {
			concurrency: AT_ONCE,
			workerConcurrency: AT_ONCE / WORKERS,
			maxWorkers: WORKERS,
		});
		const from = performance.now();
		const results = Array.from({ length: AT_ONCE }, () => daemon.control.invoke("wait", { ms: String(WAIT_MS) }));
		let ended = false;
		const all = Promise.all(results).finally(() => (ended = true));
		let most = 0;
		let workersAtMost = 0;
		let allRunningMs = Number.NaN;
		await until("all of them to run", async () => {
			const { workers } = (await daemon.control.call("workers.list", {})) as { workers: { running: string[] }[] };
			const running = workers.reduce((sum, worker) => sum + worker.running.length, 0);
			most = Math.max(most, running);
			workersAtMost = Math.max(workersAtMost, workers.length);
			if (running >= AT_ONCE) allRunningMs = performance.now() - from;
			return running >= AT_ONCE || ended ? true : undefined;
		});
		await all;
		return [
			{
				name: `running at once in one function, ${workersAtMost} workers`,
				unit: "at once",
				measured: most,
				limit: { of: "value", atLeast: AT_ONCE },
				...(workersAtMost > WORKERS ? { remark: `more than ${WORKERS} workers` } : {}),
			},
			{ name: `all ${AT_ONCE} of them started after`, unit: "ms", measured: allRunningMs },
		];
	},
};
