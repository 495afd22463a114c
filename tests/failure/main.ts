/**
 * `npm run test:faults`: every fault in its long form, and the table of what held.
 *   --group NAME   one group only (processes, storage, workers, time, protocol, http, operations)
 *   --case ID      one case only (A1)
 *   --seed N       replays a run
 *   --write        writes the results into FAULTS.md: the sections of the groups, or the rows of the cases
 * Exit 1 when a case failed.
 */
import { spawnSync } from "node:child_process";
import { globSync, mkdtempSync, readFileSync, rmSync, existsSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { CASES, GROUPS } from "./catalogue.ts";
import type { FaultResult } from "./fault.ts";
import { faultsPage, faultsPageOfCases, resultLine } from "./page.ts";

const ROOT = join(import.meta.dirname, "../..");
const PAGE = join(ROOT, "FAULTS.md");

const { values } = parseArgs({
	options: {
		group: { type: "string", multiple: true },
		case: { type: "string", multiple: true },
		seed: { type: "string" },
		write: { type: "boolean", default: false },
	},
});
for (const group of values.group ?? []) {
	if (GROUPS[group] === undefined) fail(`there is no group ${group}; groups are ${Object.keys(GROUPS).join(", ")}`);
}
for (const id of values.case ?? []) {
	if (!CASES.some((found) => found.id === id)) fail(`there is no case ${id}; cases are A1 to G9`);
}

const folder = mkdtempSync(join(tmpdir(), "bunbase-faults-"));
const results = join(folder, "results.jsonl");
const seed = values.seed ?? String(Math.floor(Math.random() * 2 ** 31));
const groups = values.group ?? Object.keys(GROUPS);
const files = groups
	.flatMap((group) => globSync(join(import.meta.dirname, group, "*.test.ts")).toSorted())
	.filter((file) => values.case === undefined || declaresOne(file, values.case));
const patterns = (values.case ?? []).map((id) => `--test-name-pattern=^${id} `);
console.log(`seed ${seed}: ${files.length} files; replay with --seed ${seed}`);
const startedAt = performance.now();
const run = spawnSync(
	process.execPath,
	["--test", "--test-concurrency=2", "--test-reporter=spec", "--test-timeout=1800000", ...patterns, ...files],
	{
		cwd: ROOT,
		stdio: "inherit",
		env: { ...process.env, FAULTS: "long", FAULTS_RESULTS: results, SEED: seed },
	},
);
const found = existsSync(results)
	? readFileSync(results, "utf8")
			.trim()
			.split("\n")
			.map((line) => JSON.parse(line) as FaultResult)
	: [];
rmSync(folder, { recursive: true });
console.log(`\n${found.map(resultLine).join("\n")}`);
const minutes = (performance.now() - startedAt) / 60_000;
const count = (result: string): number => found.filter((line) => line.result === result).length;
console.log(
	`\nseed ${seed}: ${count("passed")} passed, ${count("failed")} failed, ${count("skipped")} skipped in ${minutes.toFixed(1)} minutes`,
);
if (values.write) {
	const page = existsSync(PAGE) ? readFileSync(PAGE, "utf8") : "";
	const { case: cases } = values;
	const written =
		cases === undefined ? faultsPage(page, groups, found, { seed }) : faultsPageOfCases(page, cases, found, { seed });
	writeFileSync(PAGE, written);
	console.log(`wrote ${(cases ?? groups).join(", ")} into FAULTS.md`);
}
process.exit(run.status === 0 && count("failed") === 0 ? 0 : 1);

/** Other files have nothing to run, and their scenes would be set up for it. */
function declaresOne(file: string, ids: readonly string[]): boolean {
	const text = readFileSync(file, "utf8");
	return ids.some((id) => text.includes(`"${id}"`));
}

function fail(message: string): never {
	console.error(message);
	process.exit(2);
}
