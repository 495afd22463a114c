/** How long the daemon's event loop is held up at full load: everything it does waits at most that long. */
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Scenario } from "../context.ts";
import { runDriver } from "../drive.ts";
import { startDaemon, type Daemon } from "../processes.ts";
import { warmUp } from "../warm-up.ts";

const PROGRAM = join(import.meta.dirname, "../engine-loop-delay.ts");

interface Delay {
	readonly p50: number;
	readonly p99: number;
	readonly max: number;
}

export const loopDelay: Scenario = {
	name: "loop-delay",
	async run(context) {
		const folder = join(context.folder, "loop-delay");
		mkdirSync(folder);
		await using daemon = await startDaemon(join(folder, "data"), { program: PROGRAM, ipc: true });
		await daemon.deploy("echo", "echo");
		const load = {
			kind: "socket",
			path: daemon.socketPath,
			calls: [{ functionId: "echo", bodyBytes: 64 }],
			callers: 100,
			sockets: 4,
			warmupMs: context.warmupMs,
		} as const;
		await warmUp(context, "echo", [{ kind: "socket", path: daemon.socketPath }]);
		const driven = runDriver({ ...load, measureMs: context.measureMs });
		await ask(daemon, "reset");
		const { perSecond } = await driven;
		const { p50, p99, max } = await ask(daemon, "report");
		context.note(`event loop at ${Math.round(perSecond)}/s: p50 ${p50.toFixed(1)}, max ${max.toFixed(1)} ms`);
		return [
			{
				name: "event-loop delay at full load, p99",
				unit: "ms",
				measured: p99,
				limit: { of: "value", atMost: 20 },
				remark: `max ${max.toFixed(0)} ms`,
			},
		];
	},
};

async function ask(daemon: Daemon, message: "reset" | "report"): Promise<Delay> {
	const answer = once(daemon.process, "message") as Promise<[Delay]>;
	daemon.process.send(message);
	return (await answer)[0];
}
