/** Round trips of ten callers with bodies of 100 B, 10 kB and 1 MB, there and back, each alone and all of them mixed. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { median, type Scenario } from "../context.ts";
import { runDriver, type Call, type Driven } from "../drive.ts";
import type { Figure } from "../figures.ts";
import { startDaemon, startFloor } from "../processes.ts";
import { warmUp } from "../warm-up.ts";

const SIZES = [
	{ name: "100 B", bytes: [100] },
	{ name: "10 kB", bytes: [10_000] },
	{ name: "1 MB", bytes: [1_000_000] },
	{ name: "100 B, 10 kB and 1 MB", bytes: [100, 10_000, 1_000_000] },
] as const;

export const bodies: Scenario = {
	name: "bodies",
	async run(context) {
		const folder = join(context.folder, "bodies");
		mkdirSync(folder);
		await using floor = await startFloor(folder, context.bunPath);
		await using daemon = await startDaemon(join(folder, "data"), { main: context.main });
		await daemon.deploy("echo", "echo", { maxWorkers: 1, workerConcurrency: 128, maxBodyBytes: 2_000_000 });
		const runs = SIZES.map((size) => ({ ...size, floor: [] as Driven[], engine: [] as Driven[] }));
		await warmUp(
			context,
			"echo",
			[floor, daemon].map(({ socketPath }) => ({ kind: "socket", path: socketPath })),
		);
		for (let round = 1; round <= context.rounds; round += 1) {
			for (const { bytes, floor: bare, engine } of runs) {
				const load = {
					kind: "socket",
					callers: 10,
					sockets: 10,
					calls: bytes.map((bodyBytes): Call => ({ functionId: "echo", bodyBytes })),
					warmupMs: context.warmupMs,
					measureMs: context.measureMs,
				} as const;
				bare.push(await runDriver({ ...load, path: floor.socketPath }));
				engine.push(await runDriver({ ...load, path: daemon.socketPath }));
			}
		}
		return runs.map(({ name, floor: bare, engine }): Figure => ({
			name: `throughput, 10 callers, bodies of ${name}`,
			unit: "/s",
			measured: median(engine.map((driven) => driven.perSecond)),
			base: { name: "floor", value: median(bare.map((driven) => driven.perSecond)) },
		}));
	},
};
