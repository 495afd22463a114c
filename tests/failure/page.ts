/** FAULTS.md from the catalogue and the results of one long run. */
import { execFileSync } from "node:child_process";
import { cpus, release, totalmem } from "node:os";
import { GROUPS } from "./catalogue.ts";
import type { FaultCase } from "./fault-case.ts";
import type { FaultResult } from "./fault.ts";

export interface Run {
	readonly seed: string;
}

/** One line on the terminal. */
export function resultLine(result: FaultResult): string {
	const mark = { passed: "ok  ", failed: "FAIL", skipped: "skip" }[result.result];
	const said = [...result.figures, ...(result.reason === undefined ? [] : [result.reason])].join("; ");
	return `${mark} ${result.id.padEnd(3)} ${result.title}: ${result.runs} runs, ${(result.ms / 1000).toFixed(1)} s${said && `; ${said}`}`;
}

/** `page` with the sections of the groups that were run made anew; a group that was never run says so. */
export function faultsPage(page: string, groups: readonly string[], results: readonly FaultResult[], run: Run): string {
	const known = new Map(page.split(/^(?=## )/m).map((section) => [section.split("\n")[0]?.slice(3), section.trim()]));
	const sections = Object.entries(GROUPS).map(([folder, { title, cases }]) => {
		if (!groups.includes(folder)) return known.get(title) ?? section(folder, title, cases, [], "Never run in full.");
		const mine = ofCases(cases, results);
		return section(folder, title, cases, mine, ranLine("Run in full", mine, run));
	});
	const simulator = known.get(SIMULATOR);
	return `${[HEADER, ...sections, ...(simulator === undefined ? [] : [simulator])].join("\n\n")}\n`;
}

const SIMULATOR = "Simulated days";

/** `page` with its section about the simulator made anew; `text` is Markdown. */
export function faultsPageOfSimulator(page: string, text: string): string {
	const before = page.split(`## ${SIMULATOR}\n`)[0]?.trimEnd() ?? "";
	return `${before}\n\n## ${SIMULATOR}\n\n${text.trim()}\n`;
}

/** `page` with the rows of single cases made anew, and a sentence for each group that says so. */
export function faultsPageOfCases(
	page: string,
	ids: readonly string[],
	results: readonly FaultResult[],
	run: Run,
): string {
	return Object.values(GROUPS).reduce((text, { title, cases }) => {
		const again = cases.filter(({ id }) => ids.includes(id));
		const from = text.indexOf(`## ${title}\n`);
		if (again.length === 0 || from === -1) return text;
		const next = text.indexOf("\n## ", from);
		const lines = text.slice(from, next === -1 ? undefined : next).split("\n");
		const renewed = lines.map((line, index) => {
			if (index === 2)
				return `${line} ${ranLine(again.map(({ id }) => id).join(", ") + " again", ofCases(again, results), run)}`;
			const found = again.find(({ id }) => line.startsWith(`| ${id} |`));
			return found === undefined ? line : row(found, ofCases([found], results));
		});
		return text.slice(0, from) + renewed.join("\n") + (next === -1 ? "" : text.slice(next));
	}, page);
}

function ofCases(cases: readonly FaultCase[], results: readonly FaultResult[]): FaultResult[] {
	return results.filter(({ id }) => cases.some((found) => found.id === id));
}

function section(
	folder: string,
	title: string,
	cases: readonly FaultCase[],
	results: readonly FaultResult[],
	ran: string,
): string {
	return [
		`## ${title}`,
		"",
		`[tests/failure/${folder}](tests/failure/${folder}). ${ran}`,
		"",
		"| Case | What breaks, and how | What must hold | Runs | Result | Bugs found and fixed | Not covered |",
		"| --- | --- | --- | --- | --- | --- | --- |",
		...cases.map((found) => row(found, ofCases([found], results))),
	].join("\n");
}

function ranLine(what: string, results: readonly FaultResult[], run: Run): string {
	const count = (result: string): string =>
		results.filter((line) => line.result === result).length.toLocaleString("en");
	return `${what} ${whenAndWhere(run)}: ${count("passed")} tests passed, ${count("failed")} failed, ${count("skipped")} skipped.`;
}

/** "on 2026-11-28 at 1a2b3c4, seed 1, on 2 cores, …" */
export function whenAndWhere(run: Run): string {
	const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
	const machine = `${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}, Node ${process.versions.node}`;
	return `on ${new Date().toISOString().slice(0, 10)} at ${commit}, seed ${run.seed}, on ${machine}`;
}

const HEADER = `# Faults

What is broken on purpose, what has to hold then, and what came of it. The cases live in
[tests/failure](tests/failure/catalogue.ts); \`npm test\` runs a short, seeded form of most of them, \`npm run test:faults\` all of
them in full, and with \`-- --write\` it writes this page (\`--group NAME\` for one section of it). Beside it stands a simulator
of the engine without its processes: \`npm run test:sim -- --days 1000 --seed 1\`.

The invariants: **I1** nothing acknowledged is lost, and all of it ends · **I2** nothing appears that nobody sent · **I3** exactly one terminal
record, which never changes · **I4** at-most-once starts at most once · **I5** a lane never runs more than its limit · **I6** starts in order of
acceptance · **I7** a result belongs to its payload · **I8** the databases are whole, and counts equal rows · **I9** no process, socket, temporary
file or descriptor is left · **I10** memory, descriptors, WAL and logs stay within bounds · **I11** when the faults end, all work ends and new work
runs · **I12** clients see documented errors only · **I13** one invocation for one idempotency key · **I14** one invocation for one schedule and
slot · **I15** no secret in any output.`;

function row(found: FaultCase, results: readonly FaultResult[]): string {
	const runs = results.reduce((sum, result) => sum + result.runs, 0);
	const failed = results.filter(({ result }) => result === "failed");
	const skipped = results.filter(({ result }) => result === "skipped");
	const held = results.filter(({ result }) => result === "passed").length;
	const verdict = [
		...(failed.length > 0 ? [`**${failed.length} failed**: ${failed.map(({ reason }) => reason).join("; ")}`] : []),
		...(held > 0 ? [`held (${held} test${held === 1 ? "" : "s"})`] : []),
		...skipped.map(({ title, reason }) => `skipped: ${title} (${reason})`),
		...results.flatMap(({ figures }) => figures),
	];
	const cells = [
		found.id,
		`${found.what}<br>_${found.injection}_`,
		found.holds,
		runs.toLocaleString("en"),
		verdict.length === 0 ? "no test" : verdict.join("<br>"),
		(found.bugs ?? []).join("<br>") || "–",
		(found.notCovered ?? []).join("<br>") || "–",
	];
	return `| ${cells.map((cell) => cell.replaceAll("|", "\\|").replaceAll("\n", " ")).join(" | ")} |`;
}
