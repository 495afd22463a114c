/**
 * Warm round trips: durable, result recorded, by socket and by HTTP (keep-alive) with 1, 10, 100 and 1,000 callers.
 * Floor and engine take short turns, each beginning every other time, and a ratio is the median of the turns' ratios: the
 * machines that this is run on change their speed two- to fivefold within seconds, and a pair of turns meets the same one.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { median, type Context, type Scenario } from "../context.ts";
import { runDriver, type Driven } from "../drive.ts";
import type { Figure } from "../figures.ts";
import { startDaemon, startFloor } from "../processes.ts";
import { warmUp } from "../warm-up.ts";

/** Callers on a socket send in one pipeline, as the client library does; four sockets are four API servers. */
export const LOADS = [
	{ callers: 1, sockets: 1 },
	{ callers: 10, sockets: 1 },
	{ callers: 100, sockets: 4 },
	{ callers: 1000, sockets: 8 },
] as const;
/** As the floor has: all callers in one worker. With the default limits 100 callers are spread over four. */
const ONE_WORKER = { maxWorkers: 1, workerConcurrency: 1000, concurrency: 1000 };
export const BODY_BYTES = 64;
/** A turn takes this part of a round's time. */
const TURNS = 4;
/**
 * One caller has more turns: on which processor its three processes meet is chance, and lasts about a second. Medians of 20
 * ratios were 1.20 and 1.41 within a minute, of 60 ones 1.22 and 1.21.
 */
const TURNS_OF_ONE = 12;

type Callers = (typeof LOADS)[number]["callers"];

interface Runs {
	readonly floor: Driven[];
	readonly socket: Driven[];
	readonly http: Driven[];
}

export const roundTrips: Scenario = {
	name: "round-trips",
	async run(context) {
		const folder = join(context.folder, "round-trips");
		mkdirSync(folder);
		await using floor = await startFloor(folder, context.bunPath);
		await using daemon = await startDaemon(join(folder, "data"), { main: context.main });
		await daemon.deploy("echo", "echo", ONE_WORKER);
		await daemon.deploy("echo", "echo-spread");
		const parts = context.quick ? 1 : TURNS;
		const warmupMs = context.warmupMs / parts;
		const measureMs = context.measureMs / parts;
		const of = (functionId: string) => ({ warmupMs, measureMs, calls: [{ functionId, bodyBytes: BODY_BYTES }] });
		const runs = new Map<Callers, Runs>(LOADS.map(({ callers }) => [callers, { floor: [], socket: [], http: [] }]));
		const spread: Driven[] = [];
		const floorSocket = { kind: "socket", path: floor.socketPath } as const;
		const socket = { kind: "socket", path: daemon.socketPath } as const;
		await warmUp(context, "echo", [floorSocket, socket, { kind: "http", ...daemon.http }]);
		await warmUp(context, "echo-spread", [socket]);
		for (let round = 1; round <= context.rounds; round += 1) {
			for (const load of LOADS) {
				const { callers } = load;
				const into = runsOf(runs, callers);
				const turns = callers === 1 && !context.quick ? TURNS_OF_ONE : parts;
				const takes = [
					async () => into.floor.push(await runDriver({ ...of("echo"), ...load, ...floorSocket })),
					async () => into.socket.push(await runDriver({ ...of("echo"), ...load, ...socket })),
					async () =>
						into.http.push(await runDriver({ ...of("echo"), ...daemon.http, kind: "http", callers, sockets: callers })),
				];
				for (let turn = 0; turn < turns; turn += 1) {
					for (const take of turn % 2 === 0 ? takes : takes.toReversed()) await take();
				}
				note(context, round, `${callers} callers`, into, turns);
			}
			spread.push(await runDriver({ ...of("echo-spread"), ...socket, callers: 100, sockets: 4 }));
		}
		return [...judged(runs, spread), ...shown(runs)];
	},
};

function judged(runs: ReadonlyMap<Callers, Runs>, spread: readonly Driven[]): readonly Figure[] {
	const perSecond = (driven: Driven): number => driven.perSecond;
	const hundred = runsOf(runs, 100);
	return [
		{
			name: "round trip, 1 caller, p50",
			unit: "ms",
			...againstFloor(runsOf(runs, 1), (driven) => driven.p50),
			limit: { of: "ratio", atMost: 1.4 },
		},
		{
			name: "round trip, 1 caller, p99",
			unit: "ms",
			...againstFloor(runsOf(runs, 1), (driven) => driven.p99),
			limit: { of: "value", atMost: 3 },
		},
		{
			name: "throughput, 10 callers",
			unit: "/s",
			...againstFloor(runsOf(runs, 10), perSecond),
			limit: { of: "ratio", atLeast: 0.7 },
		},
		{
			name: "throughput, 100 callers",
			unit: "/s",
			...againstFloor(hundred, perSecond),
			limit: { of: "ratio", atLeast: 0.6 },
		},
		{
			name: "throughput, HTTP, 100 keep-alive callers",
			unit: "/s",
			...againstSocket(hundred, perSecond),
			limit: { of: "ratio", atLeast: 0.5 },
		},
		{
			name: "throughput, 100 callers, four workers",
			unit: "/s",
			measured: median(spread.map(perSecond)),
			base: { name: "floor", value: median(hundred.floor.map(perSecond)) },
		},
	];
}

/** What has no target: where it leads with more callers, and what HTTP adds to each. */
function shown(runs: ReadonlyMap<Callers, Runs>): readonly Figure[] {
	const thousand = runsOf(runs, 1000);
	return [
		{
			name: "throughput, 1,000 callers",
			unit: "/s",
			...againstFloor(thousand, (driven) => driven.perSecond),
		},
		...([100, 1000] as const).map((callers): Figure => ({
			name: `round trip, ${callers.toLocaleString("en-US")} callers, p99`,
			unit: "ms",
			...againstFloor(runsOf(runs, callers), (driven) => driven.p99),
		})),
		...([1, 10, 1000] as const).map((callers): Figure => ({
			name: `throughput, HTTP, ${callers.toLocaleString("en-US")} keep-alive ${callers === 1 ? "caller" : "callers"}`,
			unit: "/s",
			...againstSocket(runsOf(runs, callers), (driven) => driven.perSecond),
		})),
		...([1, 100] as const).map((callers): Figure => ({
			name: `round trip, HTTP, ${callers} ${callers === 1 ? "caller" : "callers"}, p99`,
			unit: "ms",
			...againstSocket(runsOf(runs, callers), (driven) => driven.p99),
		})),
	];
}

function runsOf(runs: ReadonlyMap<Callers, Runs>, callers: Callers): Runs {
	const found = runs.get(callers);
	if (found === undefined) throw new Error(`${callers} callers are not measured`);
	return found;
}

function againstFloor({ socket, floor }: Runs, of: (driven: Driven) => number): Compared {
	return compared(socket.map(of), "floor", floor.map(of));
}

function againstSocket({ http, socket }: Runs, of: (driven: Driven) => number): Compared {
	return compared(http.map(of), "socket", socket.map(of));
}

type Compared = Pick<Figure, "measured" | "base" | "ratio">;

/** Turn by turn. */
function compared(measured: readonly number[], name: string, base: readonly number[]): Compared {
	const ratios = measured.map((value, turn) => value / (base[turn] ?? Number.NaN));
	return { measured: median(measured), base: { name, value: median(base) }, ratio: median(ratios) };
}

function note(context: Context, round: number, what: string, { floor, socket, http }: Runs, turns: number): void {
	const text = (all: readonly Driven[]): string => {
		const last = (of: (driven: Driven) => number): number => median(all.slice(-turns).map(of));
		return `${Math.round(last((driven) => driven.perSecond))}/s p50 ${last((driven) => driven.p50).toFixed(2)} p99 ${last((driven) => driven.p99).toFixed(2)} ms`;
	};
	context.note(`round ${round}, ${what}: floor ${text(floor)}; engine ${text(socket)}; HTTP ${text(http)}`);
}
