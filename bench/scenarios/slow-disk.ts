/**
 * A disk whose syncs take 5 ms longer (strace delays them): throughput must follow from how many share a sync, not from
 * how long one takes. An invocation needs two commits one after the other, so `callers / (2 × commit time)` is what a
 * loop that waits for each commit of everybody could reach; how long two take is what one caller waits, in the same run.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { median, type Scenario } from "../context.ts";
import { runDriver, type Driven } from "../drive.ts";
import type { Figure } from "../figures.ts";
import { startDaemon } from "../processes.ts";
import { warmUp } from "../warm-up.ts";

const DELAY_MS = 5;
/** -D: the command is the daemon itself, and strace its grandchild. Only syncs are stopped at; all else runs free. */
const STRACE =
	`strace -D -f -qq --seccomp-bpf -o /dev/null -e trace=fdatasync,fsync -e inject=fdatasync,fsync:delay_exit=${DELAY_MS * 1000}`.split(
		" ",
	);

export const slowDisk: Scenario = {
	name: "slow-disk",
	async run(context) {
		if (spawnSync("strace", ["-o", "/dev/null", "true"]).status !== 0) {
			context.note("slow-disk is left out: it needs strace that may trace");
			return [];
		}
		const folder = join(context.folder, "slow-disk");
		mkdirSync(folder);
		await using daemon = await startDaemon(join(folder, "data"), { main: context.main, under: STRACE });
		await daemon.deploy("echo", "echo", { maxWorkers: 1, workerConcurrency: 1000, concurrency: 1000 });
		const runs = ([1, 100, 1000] as const).map((callers) => ({ callers, driven: [] as Driven[] }));
		await warmUp(context, "echo", [{ kind: "socket", path: daemon.socketPath }]);
		for (let round = 1; round <= context.rounds; round += 1) {
			for (const { callers, driven } of runs) {
				driven.push(
					await runDriver({
						kind: "socket",
						path: daemon.socketPath,
						callers,
						sockets: Math.min(callers, 8),
						calls: [{ functionId: "echo", bodyBytes: 64 }],
						warmupMs: context.warmupMs,
						measureMs: context.measureMs,
					}),
				);
			}
		}
		const measured = runs.map(({ callers, driven }) => ({
			callers,
			perSecond: median(driven.map((run) => run.perSecond)),
		}));
		const one = measured.find(({ callers }) => callers === 1)?.perSecond ?? 0;
		return measured.map(({ callers, perSecond }): Figure => ({
			name: `throughput, ${callers.toLocaleString("en-US")} caller${callers === 1 ? "" : "s"}, syncs ${DELAY_MS} ms slower`,
			unit: "/s",
			measured: perSecond,
			...(callers === 100
				? { base: { name: "100 × one caller", value: 100 * one }, limit: { of: "ratio", atLeast: 0.7 } as const }
				: {}),
			...(callers === 1000 ? { limit: { of: "value", atLeast: 10_000 } as const } : {}),
		}));
	},
};
