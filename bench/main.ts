/**
 * `npm run bench`: every figure of the project in one table, each beside its target and, where there is one, as a ratio
 * to the floor measured in the same run.
 *
 * Exit code 0 when everything ran, whatever the verdicts (a busy machine is not a broken program); 1 when a scenario
 * failed; with --strict also 1 when a target was missed.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import type { Context, Scenario } from "./context.ts";
import { findBun } from "../src/pool/index.ts";
import { HEAD, isMet, ratioOf, renderFigures, rowsOf, type Figure } from "./figures.ts";
import { CURVE_HEAD, curveRows, renderCurves } from "./curves.ts";
import { describeMachine, isMemoryDisk, machineLine, type Machine } from "./machine.ts";
import { measureParts, renderParts, type Part } from "./parts.ts";
import { MAIN } from "./processes.ts";
import { DOCS, markdown, writeTables } from "./published.ts";
import { backlog } from "./scenarios/backlog.ts";
import { backup } from "./scenarios/backup.ts";
import { bodies } from "./scenarios/bodies.ts";
import { claims } from "./scenarios/claims.ts";
import { concurrency } from "./scenarios/concurrency.ts";
import { drain } from "./scenarios/drain.ts";
import { enqueue } from "./scenarios/enqueue.ts";
import { floorAlone } from "./scenarios/floor-alone.ts";
import { growth } from "./scenarios/growth.ts";
import { loopDelay } from "./scenarios/loop-delay.ts";
import { manyFunctions } from "./scenarios/many-functions.ts";
import { openLoad } from "./scenarios/open-load.ts";
import { roundTrips } from "./scenarios/round-trips.ts";
import { slowDisk } from "./scenarios/slow-disk.ts";
import { starts } from "./scenarios/starts.ts";

const SCENARIOS: readonly Scenario[] = [
	roundTrips,
	openLoad,
	bodies,
	manyFunctions,
	starts,
	concurrency,
	enqueue,
	drain,
	backlog,
	claims,
	growth,
	loopDelay,
	slowDisk,
	backup,
];
const PARTS = "parts";
const GROWTH_PICTURE = "performance-growth.svg";

const USAGE = `npm run bench -- [options]
  --quick         everything once and shortly (under a minute): shows that it runs, says little about speed
  --full          1,000,000 queued invocations instead of 100,000
  --only NAME,…   only these: ${[...SCENARIOS, floorAlone].map((scenario) => scenario.name).join(", ")}, ${PARTS}
  --rounds N      how often floor and engine take turns (default 3)
  --dir FOLDER    where data is written; must be on a disk, not in memory (default: the system's temp folder)
  --daemon FILE   the daemon's main file (default: src/main.ts; dist/main.js is what a user installs)
  --json FILE     also write the figures there
  --write         also write the figures to docs/performance.md
  --strict        exit 1 when a target is missed
`;

process.exitCode = await main();

async function main(): Promise<number> {
	const { values } = parseArgs({
		options: {
			quick: { type: "boolean", default: false },
			full: { type: "boolean", default: false },
			strict: { type: "boolean", default: false },
			write: { type: "boolean", default: false },
			help: { type: "boolean", default: false },
			only: { type: "string" },
			rounds: { type: "string", default: "3" },
			dir: { type: "string", default: tmpdir() },
			daemon: { type: "string", default: MAIN },
			json: { type: "string" },
		},
	});
	if (values.help) {
		process.stdout.write(USAGE);
		return 0;
	}
	const { quick } = values;
	const only = values.only?.split(",");
	const known = [...SCENARIOS, floorAlone];
	const unknown = only?.filter((name) => name !== PARTS && !known.some((scenario) => scenario.name === name)) ?? [];
	const rounds = quick ? 1 : Number(values.rounds);
	if (unknown.length > 0 || !Number.isInteger(rounds) || rounds < 1) {
		process.stderr.write(
			`${unknown.length > 0 ? `unknown: ${unknown.join(", ")}` : "expected --rounds to be 1 or more"}\n${USAGE}`,
		);
		return 2;
	}
	if (values.write && (quick || only !== undefined)) {
		process.stderr.write("--write publishes figures: expected it without --quick and --only\n");
		return 2;
	}
	const chosen = only === undefined ? SCENARIOS : known.filter((scenario) => only.includes(scenario.name));
	const folder = mkdtempSync(join(resolve(values.dir), "bunbase-bench-"));
	const remove = (): void => rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
	// After a signal; what runs is killed first (processes.ts).
	process.once("exit", remove);
	for (const signal of ["SIGINT", "SIGTERM"] as const) {
		process.once(signal, () => process.exit(130));
	}
	try {
		const bunPath = findBun(undefined);
		const machine = describeMachine(folder, bunPath);
		process.stdout.write(`${machineLine(machine)}\n`);
		if (isMemoryDisk(folder))
			process.stdout.write("WARNING: this folder is in memory, so fsync is free; name one on a disk with --dir\n");
		const context: Context = {
			folder,
			bunPath,
			main: resolve(values.daemon),
			quick,
			rounds,
			compileMs: quick ? 300 : 4_000,
			warmupMs: quick ? 300 : 1_000,
			measureMs: quick ? 500 : 3_000,
			backlog: values.full ? 1_000_000 : quick ? 10_000 : 100_000,
			starts: quick ? 2 : 10,
			note: (line) => void process.stderr.write(`  ${line}\n`),
		};
		const { figures, failures } = await runAll(chosen, context);
		const parts = only === undefined || only.includes(PARTS) ? await measureParts({ quick, folder }) : [];
		report(figures, parts, failures);
		if (values.json !== undefined) {
			const document = figures.map((figure) => ({ ...figure, ratio: ratioOf(figure), met: isMet(figure) }));
			writeFileSync(
				values.json,
				`${JSON.stringify({ machine, quick, figures: document, parts, failures }, undefined, "\t")}\n`,
			);
		}
		if (values.write && failures.length === 0) publish(figures, machine);
		const missed = figures.some((figure) => isMet(figure) === false);
		return failures.length > 0 || (values.strict && missed) ? 1 : 0;
	} finally {
		remove();
	}
}

function publish(figures: readonly Figure[], machine: Machine): void {
	writeTables("bench", `${machineLine(machine)}.\n\n${markdown(HEAD, rowsOf(figures))}`);
	writeTables(
		"growth",
		`${markdown(CURVE_HEAD, curveRows(figures))}\n\n![The same figures as curves](${GROWTH_PICTURE})`,
	);
	writeFileSync(join(DOCS, GROWTH_PICTURE), renderCurves(figures));
}

/** One scenario that fails does not take the others with it. */
async function runAll(
	scenarios: readonly Scenario[],
	context: Context,
): Promise<{ readonly figures: readonly Figure[]; readonly failures: readonly string[] }> {
	const figures: Figure[] = [];
	const failures: string[] = [];
	for (const scenario of scenarios) {
		const from = performance.now();
		try {
			figures.push(...(await scenario.run(context)));
		} catch (error) {
			failures.push(`${scenario.name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
		}
		context.note(`${scenario.name}: ${((performance.now() - from) / 1000).toFixed(1)} s`);
	}
	return { figures, failures };
}

function report(figures: readonly Figure[], parts: readonly Part[], failures: readonly string[]): void {
	if (figures.length > 0) process.stdout.write(`\n${renderFigures(figures)}\n`);
	if (parts.length > 0) process.stdout.write(`\n${renderParts(parts)}\n`);
	for (const failure of failures) process.stdout.write(`\nFAILED ${failure}\n`);
}
