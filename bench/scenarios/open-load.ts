/**
 * Open load: so many requests a second, whatever becomes of them, and how late their answers are, counted from when
 * each was due. Floor and engine at the same rates, in turn.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { median, type Scenario } from "../context.ts";
import { runDriver, type Driven } from "../drive.ts";
import type { Figure } from "../figures.ts";
import { startDaemon, startFloor } from "../processes.ts";
import { warmUp } from "../warm-up.ts";

/** A busy backend, and about a fifth and a half of what this kind of machine can do. */
const RATES = [1_000, 5_000, 10_000] as const;

export const openLoad: Scenario = {
	name: "open-load",
	async run(context) {
		const folder = join(context.folder, "open-load");
		mkdirSync(folder);
		await using floor = await startFloor(folder, context.bunPath);
		await using daemon = await startDaemon(join(folder, "data"), { main: context.main });
		await daemon.deploy("echo", "echo", { maxWorkers: 1, workerConcurrency: 1000, concurrency: 1000 });
		const runs = (context.quick ? RATES.slice(0, 1) : RATES).map((ratePerSecond) => ({
			ratePerSecond,
			floor: [] as Driven[],
			engine: [] as Driven[],
		}));
		await warmUp(
			context,
			"echo",
			[floor, daemon].map(({ socketPath }) => ({ kind: "socket", path: socketPath })),
		);
		for (let round = 1; round <= context.rounds; round += 1) {
			for (const { ratePerSecond, floor: bare, engine } of runs) {
				const load = {
					kind: "open",
					ratePerSecond,
					sockets: 4,
					calls: [{ functionId: "echo", bodyBytes: 64 }],
					warmupMs: context.warmupMs,
					measureMs: context.measureMs,
				} as const;
				bare.push(await runDriver({ ...load, path: floor.socketPath }));
				engine.push(await runDriver({ ...load, path: daemon.socketPath }));
			}
		}
		return runs.flatMap(({ ratePerSecond, floor: bare, engine }) =>
			(["p50", "p99", "p999"] as const).map((part): Figure => ({
				name: `open load of ${ratePerSecond.toLocaleString("en-US")}/s, ${part === "p999" ? "p99.9" : part}`,
				unit: "ms",
				measured: median(engine.map((driven) => driven[part])),
				base: { name: "floor", value: median(bare.map((driven) => driven[part])) },
			})),
		);
	},
};
