/** The floor without the engine: what this machine gives. Only when asked for by name. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { enqueueBatches } from "../batches.ts";
import { median, type Scenario } from "../context.ts";
import { runDriver, type Driven } from "../drive.ts";
import type { Figure } from "../figures.ts";
import { startFloor } from "../processes.ts";
import { BODY_BYTES, LOADS } from "./round-trips.ts";

export const floorAlone: Scenario = {
	name: "floor",
	async run(context) {
		const folder = join(context.folder, "floor");
		mkdirSync(folder);
		await using floor = await startFloor(folder, context.bunPath);
		const runs = LOADS.map((load) => ({ ...load, driven: [] as Driven[] }));
		const batches: number[] = [];
		const { warmupMs, measureMs } = context;
		for (let round = 1; round <= context.rounds; round += 1) {
			for (const { callers, sockets, driven } of runs) {
				const path = floor.socketPath;
				const load = {
					callers,
					sockets,
					path,
					warmupMs,
					measureMs,
					calls: [{ functionId: "echo", bodyBytes: BODY_BYTES }],
				} as const;
				driven.push(await runDriver({ kind: "socket", ...load }));
			}
			const until = performance.now() + measureMs;
			const { accepted, tookMs } = await enqueueBatches(floor.socketPath, ["echo"], () => performance.now() > until);
			batches.push((accepted / tookMs) * 1000);
		}
		const figures = runs.flatMap(({ callers, driven }): Figure[] => [
			{ name: `floor, ${callers} callers`, unit: "/s", measured: median(driven.map((run) => run.perSecond)) },
			{ name: `floor, ${callers} callers, p50`, unit: "ms", measured: median(driven.map((run) => run.p50)) },
			{ name: `floor, ${callers} callers, p99`, unit: "ms", measured: median(driven.map((run) => run.p99)) },
		]);
		return [...figures, { name: "floor, enqueue by batches of 1,000", unit: "/s", measured: median(batches) }];
	},
};
