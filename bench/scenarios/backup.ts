/**
 * A backup while 100 callers are served: how long the event loop is held up meanwhile, against the same load without
 * it, and how fast the copy goes.
 */
import { once } from "node:events";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { enqueueBatches } from "../batches.ts";
import type { Scenario } from "../context.ts";
import { runDriver, type Driven } from "../drive.ts";
import { startDaemon, type Daemon } from "../processes.ts";

const PROGRAM = join(import.meta.dirname, "../engine-loop-delay.ts");

interface Delay {
	readonly p99: number;
	readonly max: number;
}

export const backup: Scenario = {
	name: "backup",
	async run(context) {
		const folder = join(context.folder, "backup");
		mkdirSync(folder);
		await using daemon = await startDaemon(join(folder, "data"), { program: PROGRAM, ipc: true });
		await daemon.deploy("wait", "wait", { maxQueued: 100_000_000 });
		await daemon.control.call("lanes.pause", { function: "wait", paused: true });
		// Ten times the backlog of the others: about 300 bytes a row.
		await enqueueBatches(daemon.socketPath, ["wait"], (sent) => sent >= 10 * context.backlog);
		await daemon.deploy("echo", "echo");
		const load = {
			kind: "socket",
			path: daemon.socketPath,
			calls: [{ functionId: "echo", bodyBytes: 64 }],
			callers: 100,
			sockets: 4,
			warmupMs: context.warmupMs,
			measureMs: context.measureMs,
		} as const;
		const usual = runDriver(load);
		await ask(daemon, "reset");
		const before = await usual;
		const without = await ask(daemon, "report");

		const over = new AbortController();
		const drivenMeanwhile = (async (): Promise<Driven[]> => {
			const all: Driven[] = [];
			while (!over.signal.aborted) all.push(await runDriver(load));
			return all;
		})();
		await ask(daemon, "reset");
		const from = performance.now();
		const made = await daemon.control.call("backup.create", { path: join(folder, "made") });
		const tookMs = performance.now() - from;
		const meanwhile = await ask(daemon, "report");
		over.abort();
		const driven = await drivenMeanwhile;
		const megabytes = Number(made["bytes"]) / 1e6;
		const perSecond = driven.reduce((sum, one) => sum + one.perSecond, 0) / driven.length;
		context.note(
			`${megabytes.toFixed(0)} MB in ${(tookMs / 1000).toFixed(1)} s; ${Math.round(before.perSecond)}/s without, ` +
				`${Math.round(perSecond)}/s with; loop p99 ${without.p99.toFixed(1)} → ${meanwhile.p99.toFixed(1)} ms, ` +
				`max ${without.max.toFixed(1)} → ${meanwhile.max.toFixed(1)} ms`,
		);
		return [
			{
				name: "event-loop delay during a backup, p99",
				unit: "ms",
				measured: meanwhile.p99,
				limit: { of: "value", atMost: 20 },
				remark: `max ${meanwhile.max.toFixed(0)} ms; without ${without.p99.toFixed(0)}, max ${without.max.toFixed(0)} ms`,
			},
			{
				name: "backup under load, per 100 MB",
				unit: "ms",
				measured: tookMs / (megabytes / 100),
				// 1 GiB in a minute.
				limit: { of: "value", atMost: 5_600 },
				remark: `${megabytes.toFixed(0)} MB, copied and checked`,
			},
		];
	},
};

async function ask(daemon: Daemon, message: "reset" | "report"): Promise<Delay> {
	const answer = once(daemon.process, "message") as Promise<[Delay]>;
	daemon.process.send(message);
	return (await answer)[0];
}
