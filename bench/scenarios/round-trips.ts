/**
 * Warm round trips: durable, result recorded, by socket with 1, 10 and 100 callers and by HTTP with 100 keep-alive
 * connections. Floor and engine take turns within each round, so that both meet the same machine.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { median, type Context, type Scenario } from "../context.ts";
import { runDriver, type Driven } from "../drive.ts";
import type { Figure } from "../figures.ts";
import { startDaemon, startFloor } from "../processes.ts";

/** Callers on a socket send in one pipeline, as the client library does; four sockets are four API servers. */
export const LOADS = [
	{ callers: 1, sockets: 1 },
	{ callers: 10, sockets: 1 },
	{ callers: 100, sockets: 4 },
] as const;
const HTTP_CALLERS = 100;
/** As the floor has: all callers in one worker. With the default limits 100 callers are spread over four. */
const ONE_WORKER = { maxWorkers: 1, workerConcurrency: 128 };
export const BODY_BYTES = 64;

export const roundTrips: Scenario = {
	name: "round-trips",
	async run(context) {
		const folder = join(context.folder, "round-trips");
		mkdirSync(folder);
		await using floor = await startFloor(folder, context.bunPath);
		await using daemon = await startDaemon(join(folder, "data"), { main: context.main });
		await daemon.deploy("echo", "echo", ONE_WORKER);
		await daemon.deploy("echo", "echo-spread");
		const common = {
			functionId: "echo",
			warmupMs: context.warmupMs,
			measureMs: context.measureMs,
			bodyBytes: BODY_BYTES,
		};
		const runs = LOADS.map((load) => ({ ...load, floor: [] as Driven[], engine: [] as Driven[] }));
		const http: Driven[] = [];
		const spread: Driven[] = [];
		for (let round = 1; round <= context.rounds; round += 1) {
			for (const run of runs) {
				const load = { ...common, kind: "socket", callers: run.callers, sockets: run.sockets } as const;
				run.floor.push(await runDriver({ ...load, path: floor.socketPath }));
				run.engine.push(await runDriver({ ...load, path: daemon.socketPath }));
				note(context, round, `${run.callers} callers`, run.floor.at(-1), run.engine.at(-1));
			}
			const load = { ...common, kind: "socket", callers: 100, sockets: 4, functionId: "echo-spread" } as const;
			spread.push(await runDriver({ ...load, path: daemon.socketPath }));
			note(context, round, "100 callers, four workers", undefined, spread.at(-1));
			const { host, port } = daemon.http;
			http.push(await runDriver({ ...common, kind: "http", host, port, callers: HTTP_CALLERS, sockets: HTTP_CALLERS }));
			note(context, round, "HTTP", undefined, http.at(-1));
		}
		const [one, ten, hundred] = runs;
		if (one === undefined || ten === undefined || hundred === undefined) throw new Error("three loads are measured");
		const figures: Figure[] = [
			{
				name: "round trip, 1 caller, p50",
				unit: "ms",
				...against(one, (driven) => driven.p50),
				limit: { of: "ratio", atMost: 1.4 },
			},
			{
				name: "round trip, 1 caller, p99",
				unit: "ms",
				...against(one, (driven) => driven.p99),
				limit: { of: "value", atMost: 3 },
			},
			{
				name: "throughput, 10 callers",
				unit: "/s",
				...against(ten, (driven) => driven.perSecond),
				limit: { of: "ratio", atLeast: 0.7 },
			},
			{
				name: "throughput, 100 callers",
				unit: "/s",
				...against(hundred, (driven) => driven.perSecond),
				limit: { of: "ratio", atLeast: 0.6 },
			},
			{
				name: "throughput, 100 callers, four workers",
				unit: "/s",
				measured: median(spread.map((driven) => driven.perSecond)),
				base: { name: "floor", value: median(hundred.floor.map((driven) => driven.perSecond)) },
			},
			{ name: "round trip, 100 callers, p99", unit: "ms", ...against(hundred, (driven) => driven.p99) },
			{
				name: "throughput, HTTP, 100 keep-alive callers",
				unit: "/s",
				measured: median(http.map((driven) => driven.perSecond)),
				base: { name: "socket", value: median(hundred.engine.map((driven) => driven.perSecond)) },
				limit: { of: "ratio", atLeast: 0.5 },
			},
			{ name: "round trip, HTTP, 100 callers, p99", unit: "ms", measured: median(http.map((driven) => driven.p99)) },
		];
		return figures;
	},
};

function against(
	run: { readonly floor: readonly Driven[]; readonly engine: readonly Driven[] },
	of: (driven: Driven) => number,
): Pick<Figure, "measured" | "base"> {
	return { measured: median(run.engine.map(of)), base: { name: "floor", value: median(run.floor.map(of)) } };
}

function note(
	context: Context,
	round: number,
	what: string,
	floor: Driven | undefined,
	engine: Driven | undefined,
): void {
	const text = (driven: Driven): string =>
		`${Math.round(driven.perSecond)}/s p50 ${driven.p50.toFixed(2)} p99 ${driven.p99.toFixed(2)} ms`;
	context.note(
		`round ${round}, ${what}:${floor === undefined ? "" : ` floor ${text(floor)};`}${engine === undefined ? "" : ` engine ${text(engine)}`}`,
	);
}
