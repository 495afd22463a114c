/**
 * Simulated days from the command line:
 *
 *   npm run test:sim -- --days 1000 --seed 7        worlds of ten days, each from a seed of its own
 *   npm run test:sim -- --world 123456 --days 10    one world again, as it failed
 *   npm run test:sim -- --plant fence-removed       the engine with a bug, until it is caught
 *
 * Ends with 1 where an invariant was broken, a plant was not caught, or a long run never saw one of its faults.
 */
import { parseArgs } from "node:util";
import { Coverage } from "./coverage.ts";
import { Chance } from "./random.ts";
import { loadWorld, PLANTS, type PlantName } from "./plants.ts";
import type { Figures, Result } from "./world.ts";

const WORLD_DAYS = 10;
/** From here on every fault and every move must have been seen. */
const LONG_DAYS = 300;
const PLANT_DAYS = 3;
const PLANT_WORLDS = 40;

const { values: flags } = parseArgs({
	options: {
		days: { type: "string", default: "20" },
		seed: { type: "string" },
		world: { type: "string" },
		plant: { type: "string" },
		tiny: { type: "boolean", default: false },
	},
});

const days = numberOf("days", flags.days);
const seed = flags.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : numberOf("seed", flags.seed);

if (flags.plant !== undefined) process.exitCode = await plant(flags.plant);
else if (flags.world !== undefined) process.exitCode = await one(numberOf("world", flags.world));
else process.exitCode = await many();

/** Some worlds, one after another. */
async function many(): Promise<number> {
	console.log(`${days} simulated days, seed ${seed}`);
	const began = performance.now();
	const coverage = new Coverage();
	const total = new Map<keyof Figures, number>();
	for (let done = 0, index = 0; done < days; index += 1, done += WORLD_DAYS) {
		const result = await run(worldSeed(index), Math.min(WORLD_DAYS, days - done), index % 4 === 3);
		coverage.add(result.coverage);
		for (const [name, value] of Object.entries(result.figures) as [keyof Figures, number][]) {
			total.set(name, (total.get(name) ?? 0) + value);
		}
		if (result.violation !== undefined) return failed(result, index % 4 === 3);
		if (index % 5 === 4 || done + WORLD_DAYS >= days) console.log(progress(total, performance.now() - began));
	}
	return report(coverage, total, performance.now() - began);
}

/** Every fourth world has tiny bounds. */
async function run(world: number, worldDays: number, tiny: boolean): Promise<Result> {
	const { runWorld } = await loadWorld(tiny ? "tiny" : "true");
	return runWorld({ seed: world, days: worldDays });
}

function worldSeed(index: number): number {
	return Math.floor(new Chance(seed).stream(`world ${index}`).next() * 2 ** 31);
}

async function one(world: number): Promise<number> {
	const result = await run(world, days, flags.tiny);
	if (result.violation !== undefined) return failed(result, flags.tiny);
	console.log(result.figures, result.digest);
	return 0;
}

function failed(result: Result, tiny: boolean): number {
	const { violation, figures } = result;
	console.log(result.last.join("\n"));
	console.log(`\n${violation?.invariant}: ${violation?.what}`);
	console.log(`world ${result.seed}, step ${figures.steps}, ${result.hours.toFixed(3)} simulated hours`);
	console.log(`again: npm run test:sim -- --world ${result.seed} --days ${result.days}${tiny ? " --tiny" : ""}`);
	return 1;
}

async function plant(name: string): Promise<number> {
	if (!Object.hasOwn(PLANTS, name)) throw new Error(`no plant ${name}; there are ${Object.keys(PLANTS).join(", ")}`);
	const planted = PLANTS[name as PlantName];
	console.log(`${name}: ${planted.story}`);
	const { runWorld } = await loadWorld(name as PlantName);
	for (let index = 0; index < PLANT_WORLDS; index += 1) {
		const result = await runWorld({ seed: worldSeed(index), days: PLANT_DAYS });
		if (result.violation === undefined) continue;
		const { invariant, what } = result.violation;
		console.log(
			`caught in world ${result.seed} after ${result.hours.toFixed(2)} simulated hours by ${invariant}: ${what}`,
		);
		return (planted.caughtBy as readonly string[]).includes(invariant) ? 0 : 1;
	}
	console.log(`not caught in ${PLANT_WORLDS} worlds of ${PLANT_DAYS} days`);
	return 1;
}

function progress(total: ReadonlyMap<keyof Figures, number>, ms: number): string {
	const figure = (name: keyof Figures): string => Math.round(total.get(name) ?? 0).toLocaleString("en");
	const cpu = process.cpuUsage();
	const perSecond = Math.round(((total.get("steps") ?? 0) / ms) * 1000).toLocaleString("en");
	return [
		`${figure("days")} days`,
		`${figure("invocations")} invocations`,
		`${figure("attempts")} attempts`,
		`${figure("commits")} commits`,
		`${figure("slots")} slots`,
		`${figure("crashes")} crashes`,
		`${figure("strikes")} kills`,
		`${figure("jumps")} jumps`,
		`${figure("fullDisks")} full disks`,
		`${figure("unknown")} unknown answers`,
		`${figure("steps")} steps (${perSecond}/s)`,
		`${Math.round(ms / 1000)} s, ${Math.round((cpu.user + cpu.system) / 1e6)} s of CPU`,
	].join(", ");
}

function report(coverage: Coverage, total: ReadonlyMap<keyof Figures, number>, ms: number): number {
	const lines = (counts: ReadonlyMap<string, number>): string =>
		[...counts]
			.sort(([a], [b]) => a.localeCompare(b))
			.map(([name, count]) => `  ${name}: ${count}`)
			.join("\n");
	console.log(`\nfaults\n${lines(coverage.faults)}\nmoves\n${lines(coverage.moves)}`);
	const missing = coverage.missing();
	for (const name of missing) console.log(`NEVER SEEN: ${name}`);
	console.log(`\nno invariant was broken: ${progress(total, ms)}; seed ${seed}`);
	return missing.length > 0 && days >= LONG_DAYS ? 1 : 0;
}

function numberOf(name: string, text: string): number {
	const value = Number(text);
	if (!Number.isInteger(value) || value < 0) throw new Error(`expected --${name} to be a whole number, got ${text}`);
	return value;
}
