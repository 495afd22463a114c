/**
 * What grows with what a machine has to keep: functions, schedules, open connections, and a deep lane beside cold ones.
 * Each at several sizes; the ratio in the table is of the largest to the smallest.
 */
import { once } from "node:events";
import { mkdirSync, readFileSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { enqueueBatches } from "../batches.ts";
import { median, percentile, until, type Context, type Scenario } from "../context.ts";
import { runDriver } from "../drive.ts";
import type { Figure } from "../figures.ts";
import { residentMb, startDaemon, type Daemon } from "../processes.ts";

/** Requests to the control connection that are under way at once. */
const TOGETHER = 100;
const CONNECT_AGAIN_MS = 10;
const COLD = 50;
/** Of a clock tick in /proc/PID/stat. */
const TICK_MS = 10;
const IDLE_MS = 3_000;

export const growth: Scenario = {
	name: "growth",
	async run(context) {
		const folder = join(context.folder, "growth");
		mkdirSync(folder);
		const counts = context.quick ? [5, 50] : [10, 100, 1_000, 10_000];
		const depths = context.quick ? [1_000, 2_000] : [1_000, 10_000, 100_000];
		return [
			...(await grown("functions", counts, (count) => functions(context, folder, count))),
			...(await grown("schedules", counts, (count) => schedules(context, folder, count))),
			...(await grown("open connections", counts, (count) => connections(context, folder, count))),
			...(await grown("queued in one lane, 50 cold functions beside it", depths, (depth) =>
				coldBeside(context, folder, depth),
			)),
		];
	},
};

interface Measured {
	readonly name: string;
	readonly unit: Figure["unit"];
	readonly value: number;
	readonly limit?: Figure["limit"];
}

async function grown(
	of: string,
	sizes: readonly number[],
	measure: (size: number) => Promise<readonly Measured[]>,
): Promise<readonly Figure[]> {
	const measured: { readonly size: number; readonly all: readonly Measured[] }[] = [];
	for (const size of sizes) measured.push({ size, all: await measure(size) });
	const [smallest, largest] = [measured[0], measured.at(-1)];
	if (smallest === undefined || largest === undefined) return [];
	return largest.all.map(({ name, unit, value, limit }, index): Figure => ({
		name: `${name}, ${largest.size.toLocaleString("en-US")} ${of}`,
		unit,
		measured: value,
		base: { name: `${smallest.size.toLocaleString("en-US")}:`, value: smallest.all[index]?.value ?? Number.NaN },
		curve: { of, name, points: measured.map(({ size, all }) => [size, all[index]?.value ?? Number.NaN]) },
		...(limit === undefined ? {} : { limit }),
	}));
}

/** A new start with all of it there, what that takes, and what one caller sees. */
async function restarted(context: Context, dataDir: string): Promise<readonly Measured[]> {
	await using daemon = await startDaemon(dataDir, { main: context.main });
	const { p50 } = await oneCaller(context, daemon);
	const idle = await idleShare(context, daemon.pid);
	return [
		{ name: "boot", unit: "ms", value: daemon.bootMs },
		{ name: "memory", unit: "MB", value: residentMb(daemon.pid) },
		{ name: "round trip of 1 caller, p50", unit: "ms", value: p50 },
		{ name: "processor while idle", unit: "%", value: idle },
	];
}

function oneCaller(context: Context, daemon: Daemon) {
	return runDriver({
		kind: "socket",
		path: daemon.socketPath,
		callers: 1,
		sockets: 1,
		calls: [{ functionId: "echo", bodyBytes: 64 }],
		warmupMs: context.warmupMs,
		measureMs: context.measureMs,
	});
}

/** Per cent of one core. */
async function idleShare(context: Context, pid: number): Promise<number> {
	const ticks = (): number => {
		const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
		return Number(fields[11]) + Number(fields[12]);
	};
	const forMs = context.quick ? 500 : IDLE_MS;
	const before = ticks();
	await delay(forMs);
	return ((ticks() - before) * TICK_MS * 100) / forMs;
}

/** Many at once, because each is a commit of its own that waits for the disk. */
async function inBunches(count: number, act: (index: number) => Promise<unknown>): Promise<void> {
	for (let from = 0; from < count; from += TOGETHER) {
		await Promise.all(Array.from({ length: Math.min(TOGETHER, count - from) }, (_, index) => act(from + index)));
	}
}

async function functions(context: Context, folder: string, count: number): Promise<readonly Measured[]> {
	const dataDir = join(folder, `functions-${count}`);
	{
		await using daemon = await startDaemon(dataDir, { main: context.main });
		await daemon.deploy("echo", "echo");
		await inBunches(count, (index) => daemon.control.call("functions.register", { name: `f-${index}` }));
	}
	return restarted(context, dataDir);
}

async function schedules(context: Context, folder: string, count: number): Promise<readonly Measured[]> {
	const dataDir = join(folder, `schedules-${count}`);
	{
		await using daemon = await startDaemon(dataDir, { main: context.main });
		await daemon.deploy("echo", "echo");
		// At every minute of some night, but not of this run: what is measured is that they wait.
		const month = ((new Date().getUTCMonth() + 6) % 12) + 1;
		await inBunches(count, (index) =>
			daemon.control.call("schedules.put", {
				function: "echo",
				name: `s-${index}`,
				cron: `${index % 60} ${Math.floor(index / 60) % 24} * ${month} *`,
			}),
		);
	}
	return restarted(context, dataDir);
}

async function connections(context: Context, folder: string, count: number): Promise<readonly Measured[]> {
	await using daemon = await startDaemon(join(folder, `connections-${count}`), { main: context.main });
	await daemon.deploy("echo", "echo");
	const open: Socket[] = [];
	try {
		await inBunches(count, async () => {
			open.push(await connected(daemon.socketPath));
		});
		const { p50 } = await oneCaller(context, daemon);
		return [
			{ name: "memory", unit: "MB", value: residentMb(daemon.pid) },
			{ name: "round trip of 1 caller, p50", unit: "ms", value: p50 },
		];
	} finally {
		for (const socket of open) socket.destroy();
	}
}

/** Tries again while more knock than the daemon has let in, which is what EAGAIN says. */
async function connected(path: string): Promise<Socket> {
	for (;;) {
		const socket = createConnection(path);
		try {
			await once(socket, "connect");
			return socket;
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
			await delay(CONNECT_AGAIN_MS);
		}
	}
}

/** Functions without a worker are invoked while one lane works off its backlog. */
async function coldBeside(context: Context, folder: string, queued: number): Promise<readonly Measured[]> {
	await using daemon = await startDaemon(join(folder, `cold-beside-${queued}`), {
		main: context.main,
		env: { BUNBASE_MAX_WORKERS_TOTAL: String(COLD + 4) },
	});
	await daemon.deploy("wait", "deep", { maxQueued: 1_000_000, maxWorkers: 2, workerConcurrency: 100 });
	const names = Array.from({ length: context.quick ? 5 : COLD }, (_, index) => `cold-${index}`);
	for (const name of names) await daemon.deploy("echo", name, { maxWorkers: 1, idleTimeoutMs: 0 });
	await until("their workers to end", async () => {
		const { workers } = (await daemon.control.call("workers.list")) as { workers: { function_name: string }[] };
		return workers.every((worker) => worker.function_name === "deep") ? true : undefined;
	});
	await enqueueBatches(daemon.socketPath, ["deep"], (sent) => sent >= queued);
	const tookMs: number[] = [];
	for (const name of names) {
		const from = performance.now();
		await daemon.control.invoke(name);
		tookMs.push(performance.now() - from);
	}
	return [
		{ name: "cold start, p50", unit: "ms", value: median(tookMs) },
		{ name: "cold start, slowest", unit: "ms", value: percentile(tookMs, 1), limit: { of: "value", atMost: 1_000 } },
	];
}
