/** A hundred callers on 1, 10 and 100 functions at once, each function with a worker of its own. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { median, type Scenario } from "../context.ts";
import { runDriver, type Driven } from "../drive.ts";
import type { Figure } from "../figures.ts";
import { startDaemon } from "../processes.ts";
import { warmUp } from "../warm-up.ts";

const COUNTS = [1, 10, 100] as const;

export const manyFunctions: Scenario = {
	name: "many-functions",
	async run(context) {
		const folder = join(context.folder, "many-functions");
		mkdirSync(folder);
		const most = context.quick ? 10 : Math.max(...COUNTS);
		await using daemon = await startDaemon(join(folder, "data"), {
			main: context.main,
			env: { BUNBASE_MAX_WORKERS_TOTAL: String(most) },
		});
		const names = Array.from({ length: most }, (_, index) => `echo-${index}`);
		for (const name of names) await daemon.deploy("echo", name, { maxWorkers: 1, workerConcurrency: 128 });
		const runs = COUNTS.filter((count) => count <= most).map((count) => ({ count, driven: [] as Driven[] }));
		await warmUp(context, "echo-0", [{ kind: "socket", path: daemon.socketPath }]);
		for (let round = 1; round <= context.rounds; round += 1) {
			for (const { count, driven } of runs) {
				driven.push(
					await runDriver({
						kind: "socket",
						path: daemon.socketPath,
						callers: 100,
						sockets: 4,
						calls: names.slice(0, count).map((functionId) => ({ functionId, bodyBytes: 64 })),
						warmupMs: context.warmupMs,
						measureMs: context.measureMs,
					}),
				);
			}
		}
		const alone = median((runs[0]?.driven ?? []).map((driven) => driven.perSecond));
		return runs.slice(1).map(({ count, driven }): Figure => ({
			name: `throughput, 100 callers on ${count} functions`,
			unit: "/s",
			measured: median(driven.map((run) => run.perSecond)),
			base: { name: "1 function", value: alone },
		}));
	},
};
