/** Acceptance alone: batches into a paused lane, against the floor inserting the same requests. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { enqueueBatches } from "../batches.ts";
import { median, type Scenario } from "../context.ts";
import { startDaemon, startFloor } from "../processes.ts";

export const enqueue: Scenario = {
	name: "enqueue",
	async run(context) {
		const folder = join(context.folder, "enqueue");
		mkdirSync(folder);
		await using floor = await startFloor(folder, context.bunPath);
		await using daemon = await startDaemon(join(folder, "data"), { main: context.main });
		await daemon.deploy("echo", "echo", { maxQueued: 100_000_000 });
		await daemon.control.call("lanes.pause", { function: "echo", paused: true });
		const timed = async (socketPath: string): Promise<number> => {
			const until = performance.now() + context.measureMs;
			const { accepted, tookMs } = await enqueueBatches(socketPath, ["echo"], () => performance.now() > until);
			return (accepted / tookMs) * 1000;
		};
		const [bare, engine]: [number[], number[]] = [[], []];
		for (let round = 1; round <= context.rounds; round += 1) {
			bare.push(await timed(floor.socketPath));
			engine.push(await timed(daemon.socketPath));
			context.note(
				`round ${round}, enqueue: floor ${Math.round(bare.at(-1) ?? 0)}/s; engine ${Math.round(engine.at(-1) ?? 0)}/s`,
			);
		}
		return [
			{
				name: "enqueue only, batches of 1,000",
				unit: "/s",
				measured: median(engine),
				base: { name: "floor", value: median(bare) },
				limit: { of: "value", atLeast: 60_000 },
			},
		];
	},
};
