/**
 * Starts: an invocation that finds no worker, with a spare one and without, and a worker from spawn to READY. The floor is a
 * bare Bun process from spawn to its first byte on the channel, in turn with the engine's starts.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { median, until, type Scenario } from "../context.ts";
import { startDaemon, type Daemon } from "../processes.ts";

const FLOOR_WORKER = join(import.meta.dirname, "../floor/worker.ts");
/** A spare is started 100 ms after the last start of a worker, and has loaded 50 ms later. */
const SPARE_BACK_MS = 300;

interface WireWorker {
	readonly ready_ms: number | null;
}

export const starts: Scenario = {
	name: "starts",
	async run(context) {
		const folder = join(context.folder, "starts");
		mkdirSync(folder);
		await using usual = await startDaemon(join(folder, "data"), { main: context.main });
		await using plain = await startDaemon(join(folder, "plain"), {
			main: context.main,
			env: { BUNBASE_SPARE_WORKERS: "0" },
		});
		// Ended as soon as it is idle, so that every invocation is a cold one.
		for (const daemon of [usual, plain]) await daemon.deploy("echo", "cold", { idleTimeoutMs: 0 });
		const bare: number[] = [];
		const spare: number[] = [];
		const cold: number[] = [];
		for (let index = 0; index < context.starts; index += 1) {
			spare.push(await coldStart(usual));
			bare.push(await bareStart(context.bunPath));
			cold.push(await coldStart(plain));
		}
		await usual.control.call("functions.configure", { function: "cold", overrides: { idleTimeoutMs: 60_000 } });
		const ready: number[] = [];
		for (let index = 0; index < context.starts; index += 1) {
			// A changed variable replaces the worker; one with variables of its own is never a spare.
			await usual.control.call("env.set", { function: "cold", values: { ROUND: String(index) } });
			await workersGone(usual);
			await usual.control.invoke("cold");
			const readyMs = (await workersOf(usual)).at(-1)?.ready_ms;
			if (typeof readyMs === "number") ready.push(readyMs);
		}
		const base = { name: "floor", value: median(bare) } as const;
		return [
			{
				name: `cold start to result with a spare worker, p50 of ${spare.length}`,
				unit: "ms",
				measured: median(spare),
				base,
				limit: { of: "value", atMost: 60 },
			},
			{
				name: `cold start to result without one, p50 of ${cold.length}`,
				unit: "ms",
				measured: median(cold),
				base,
				limit: { of: "value", atMost: 60 },
			},
			{
				name: `worker start, spawn to READY, p50 of ${ready.length}`,
				unit: "ms",
				measured: median(ready),
				base,
				limit: { of: "value", atMost: 40 },
			},
		];
	},
};

async function workersOf(daemon: Daemon): Promise<readonly WireWorker[]> {
	return (await daemon.control.call("workers.list", {}))["workers"] as readonly WireWorker[];
}

async function workersGone(daemon: Daemon): Promise<void> {
	await until("the worker to end", async () => ((await workersOf(daemon)).length === 0 ? true : undefined));
}

/** Of the only function, whose worker has ended. */
async function coldStart(daemon: Daemon): Promise<number> {
	await workersGone(daemon);
	await delay(SPARE_BACK_MS);
	const from = performance.now();
	await daemon.control.invoke("cold");
	return performance.now() - from;
}

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
