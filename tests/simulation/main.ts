/**
 * Simulated days from the command line:
 *
 *   npm run test:sim -- --days 1000 --seed 7        worlds of ten days, each from a seed of its own
 *   npm run test:sim -- --world 123456 --days 10    one world again, as it failed
 *   npm run test:sim -- --plant fence-removed       the engine with a bug, until it is caught
 *   npm run test:sim -- --days 1000 --seed 7 --write   also catches every plant, and writes all of it into FAULTS.md
 *
 * Ends with 1 where an invariant was broken, a plant was not caught, or a long run never saw one of its faults.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { faultsPageOfSimulator, whenAndWhere } from "../failure/page.ts";
import { Coverage } from "./coverage.ts";
import { Chance } from "./random.ts";
import { loadWorld, PLANTS, type PlantName } from "./plants.ts";
import type { Figures, Result } from "./world.ts";

const FAULTS_PAGE = join(import.meta.dirname, "../../FAULTS.md");
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
		write: { type: "boolean", default: false },
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
	if (!isPlant(name)) throw new Error(`no plant ${name}; there are ${Object.keys(PLANTS).join(", ")}`);
	console.log(`${name}: ${PLANTS[name].story}`);
	const caught = await catchPlant(name);
	console.log(
		caught === undefined
			? `not caught in ${PLANT_WORLDS} worlds of ${PLANT_DAYS} days`
			: `caught in world ${caught.world} after ${caught.hours.toFixed(2)} simulated hours by ${caught.invariant}: ${caught.what}`,
	);
	return caught?.asPlanned === true ? 0 : 1;
}

function isPlant(name: string): name is PlantName {
	return Object.hasOwn(PLANTS, name);
}

interface Caught {
	readonly world: number;
	readonly hours: number;
	readonly invariant: string;
	readonly what: string;
	/** By an invariant that this bug breaks. */
	readonly asPlanned: boolean;
}

/** Worlds with this bug, until one of them shows it. */
async function catchPlant(name: PlantName): Promise<Caught | undefined> {
	const { runWorld } = await loadWorld(name);
	for (let index = 0; index < PLANT_WORLDS; index += 1) {
		const { violation, seed: world, hours } = await runWorld({ seed: worldSeed(index), days: PLANT_DAYS });
		if (violation === undefined) continue;
		const asPlanned = (PLANTS[name].caughtBy as readonly string[]).includes(violation.invariant);
		return { world, hours, invariant: violation.invariant, what: violation.what, asPlanned };
	}
	return undefined;
}

/** The section of FAULTS.md about a run without a violation. */
async function publish(ran: string): Promise<number> {
	const rows: string[] = [];
	let missed = 0;
	for (const name of Object.keys(PLANTS).filter(isPlant)) {
		const caught = await catchPlant(name);
		if (caught?.asPlanned !== true) missed += 1;
		const by =
			caught === undefined
				? "**not caught**"
				: `${caught.invariant}, world ${caught.world}, after ${caught.hours.toFixed(2)} simulated hours`;
		rows.push(`| \`${name}\` | ${PLANTS[name].story} | ${by} |`);
	}
	const text = `[tests/simulation](tests/simulation): \`npm run test:sim -- --days ${days} --seed ${seed}\`, run ${whenAndWhere({ seed: String(seed) })}. No invariant was broken: ${ran}.

Bugs that were planted into the source as it was loaded, each looked for in worlds of the same seed until it showed:

| Plant | What is wrong | Caught by |
| --- | --- | --- |
${rows.join("\n")}`;
	writeFileSync(FAULTS_PAGE, faultsPageOfSimulator(readFileSync(FAULTS_PAGE, "utf8"), text));
	console.log(`wrote the simulated days into FAULTS.md; ${missed} plants were missed`);
	return missed === 0 ? 0 : 1;
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

async function report(coverage: Coverage, total: ReadonlyMap<keyof Figures, number>, ms: number): Promise<number> {
	const lines = (counts: ReadonlyMap<string, number>): string =>
		[...counts]
			.sort(([a], [b]) => a.localeCompare(b))
			.map(([name, count]) => `  ${name}: ${count}`)
			.join("\n");
	console.log(`\nfaults\n${lines(coverage.faults)}\nmoves\n${lines(coverage.moves)}`);
	const missing = coverage.missing();
	for (const name of missing) console.log(`NEVER SEEN: ${name}`);
	console.log(`\nno invariant was broken: ${progress(total, ms)}; seed ${seed}`);
	if (missing.length > 0 && days >= LONG_DAYS) return 1;
	return flags.write ? publish(progress(total, ms)) : 0;
}

function numberOf(name: string, text: string): number {
	const value = Number(text);
	if (!Number.isInteger(value) || value < 0) throw new Error(`expected --${name} to be a whole number, got ${text}`);
	return value;
}
