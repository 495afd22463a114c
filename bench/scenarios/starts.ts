/**
 * Starts: an invocation that finds no worker, and a worker from spawn to READY. The floor is a bare Bun process from
 * spawn to its first byte on the channel, in turn with the engine's starts.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { median, until, type Scenario } from "../context.ts";
import { startDaemon } from "../processes.ts";

const FLOOR_WORKER = join(import.meta.dirname, "../floor/worker.ts");

interface WireWorker {
	readonly ready_ms: number | null;
}

export const starts: Scenario = {
	name: "starts",
	async run(context) {
		const folder = join(context.folder, "starts");
		mkdirSync(folder);
		await using daemon = await startDaemon(join(folder, "data"), { main: context.main });
		// Ended as soon as it is idle, so that every invocation is a cold one.
		await daemon.deploy("echo", "cold", { idleTimeoutMs: 0 });
		const workers = async (): Promise<readonly WireWorker[]> =>
			(await daemon.control.call("workers.list", {}))["workers"] as readonly WireWorker[];
		const cold: number[] = [];
		const bare: number[] = [];
		const ready: number[] = [];
		for (let index = 0; index < context.starts; index += 1) {
			await until("the worker to end", async () => ((await workers()).length === 0 ? true : undefined));
			bare.push(await bareStart(context.bunPath));
			const from = performance.now();
			await daemon.control.invoke("cold");
			cold.push(performance.now() - from);
		}
		await daemon.control.call("functions.configure", { function: "cold", overrides: { idleTimeoutMs: 60_000 } });
		for (let index = 0; index < context.starts; index += 1) {
			// A changed variable replaces the worker.
			await daemon.control.call("env.set", { function: "cold", values: { ROUND: String(index) } });
			await until("the worker to end", async () => ((await workers()).length === 0 ? true : undefined));
			await daemon.control.invoke("cold");
			const readyMs = (await workers()).at(-1)?.ready_ms;
			if (typeof readyMs === "number") ready.push(readyMs);
		}
		const base = { name: "floor", value: median(bare) } as const;
		return [
			{
				name: `cold start to result, p50 of ${cold.length}`,
				unit: "ms",
				measured: median(cold),
				base,
				limit: { of: "value", atMost: 60 },
			},
			{
				name: `worker start to READY, p50 of ${ready.length}`,
				unit: "ms",
				measured: median(ready),
				base,
				limit: { of: "value", atMost: 40 },
			},
		];
	},
};

async function bareStart(bunPath: string): Promise<number> {
	const from = performance.now();
	const child = spawn(bunPath, ["--no-orphans", FLOOR_WORKER], { stdio: ["ignore", "ignore", "inherit", "pipe"] });
	const channel = child.stdio[3] as Duplex;
	await once(channel, "data");
	const tookMs = performance.now() - from;
	const gone = once(child, "exit");
	child.kill("SIGKILL");
	await gone;
	return tookMs;
}
