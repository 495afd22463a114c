/** A backlog is worked off: queued while its lane is paused, then timed until every result is recorded. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { enqueueBatches } from "../batches.ts";
import { until, type Scenario } from "../context.ts";
import type { Figure } from "../figures.ts";
import { startDaemon } from "../processes.ts";

export const drain: Scenario = {
	name: "drain",
	async run(context) {
		const folder = join(context.folder, "drain");
		mkdirSync(folder);
		await using daemon = await startDaemon(join(folder, "data"), { main: context.main });
		await daemon.deploy("echo", "echo", { maxQueued: 100_000_000, maxWorkers: 1, workerConcurrency: 256 });
		const figures: Figure[] = [];
		let drained = 0;
		for (const backlog of context.quick ? [2_000] : [20_000, context.backlog]) {
			await daemon.control.call("lanes.pause", { function: "echo", paused: true });
			const { accepted } = await enqueueBatches(daemon.socketPath, ["echo"], (sent) => sent >= backlog);
			drained += accepted;
			const from = performance.now();
			await daemon.control.call("lanes.pause", { function: "echo", paused: false });
			await until(
				"the backlog to be gone",
				async () => {
					const { queued, running } = (await daemon.control.call("stats.get")) as { queued: number; running: number };
					return queued + running === 0 ? true : undefined;
				},
				{ everyMs: 20, withinMs: 600_000 },
			);
			const tookMs = performance.now() - from;
			const counts = await daemon.control.call("metrics.get", { function: "echo", period: "day" });
			if (counts["invocations"] !== drained || counts["errors"] !== 0) {
				throw new Error(`expected ${drained} invocations without an error, got ${JSON.stringify(counts)}`);
			}
			figures.push({
				name: `a backlog of ${accepted.toLocaleString("en-US")} worked off`,
				unit: "/s",
				measured: (accepted / tookMs) * 1000,
			});
		}
		return figures;
	},
};
