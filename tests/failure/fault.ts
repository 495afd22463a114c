/**
 * One test of a fault case. `npm test` runs each in its short, seeded form; `npm run test:faults` in its long one, and
 * collects what each recorded for FAULTS.md. A case whose tools are missing skips and says which.
 */
import { appendFileSync } from "node:fs";
import { test, type TestContext } from "node:test";
import { seed } from "../support/seed.ts";
import { CASES } from "./catalogue.ts";

/** Set by `npm run test:faults`: the file that takes a JSON line for each test. */
const RESULTS = process.env["FAULTS_RESULTS"];

export const long = process.env["FAULTS"] === "long";

export interface FaultResult {
	readonly id: string;
	readonly title: string;
	readonly result: "passed" | "failed" | "skipped";
	/** Why it was skipped, or the first line of what failed. */
	readonly reason?: string;
	/** How often it broke something. */
	readonly runs: number;
	readonly seed: number;
	/** What it measured: "kills 212", "acknowledged 51,034, lost 0". */
	readonly figures: readonly string[];
	readonly ms: number;
}

export interface Fault {
	readonly context: TestContext;
	/** Every choice comes from it; SEED=… replays it. */
	readonly seed: number;
	readonly long: boolean;
	/** How often to break it: `short` in npm test, `long` in npm run test:faults, RUNS=… in both. Counted in FAULTS.md. */
	runs(short: number, long: number): number;
	/** Adds to the runs shown where a loop is not counted by `runs` alone (frames sent, images cut). */
	ran(count: number): void;
	/** A figure for FAULTS.md. */
	record(figure: string): void;
}

export interface FaultOptions {
	/** What the machine must have: see needs.ts. The first that is missing is the reason of the skip. */
	readonly needs?: readonly Need[];
	/** Too long for npm test even in small: runs in npm run test:faults only. */
	readonly longOnly?: boolean;
	/** Milliseconds. */
	readonly timeout?: number;
}

/** Says what is missing, or undefined when it is there. */
export type Need = () => string | undefined;

/** Declares one test of the case `id`; several may share a case. */
export function fault(id: string, title: string, run: (f: Fault) => Promise<void> | void): void;
export function fault(id: string, title: string, options: FaultOptions, run: (f: Fault) => Promise<void> | void): void;
export function fault(
	id: string,
	title: string,
	given: FaultOptions | ((f: Fault) => Promise<void> | void),
	last?: (f: Fault) => Promise<void> | void,
): void {
	const options = typeof given === "function" ? {} : given;
	const run = typeof given === "function" ? given : last;
	if (!CASES.some((found) => found.id === id)) throw new Error(`the catalogue has no case ${id}`);
	if (run === undefined) throw new Error(`${id} ${title} has no body`);
	test(`${id} ${title}`, { timeout: options.timeout ?? (long ? 600_000 : 120_000) }, async (context) => {
		const startedAt = performance.now();
		let count = 0;
		const figures: string[] = [];
		const tell = (result: FaultResult["result"], reason?: string): void => {
			if (RESULTS === undefined) return;
			const ms = Math.round(performance.now() - startedAt);
			const line: FaultResult = { id, title, result, runs: count, seed, figures, ms, ...(reason && { reason }) };
			appendFileSync(RESULTS, `${JSON.stringify(line)}\n`);
		};
		const missing =
			options.longOnly === true && !long
				? "only in npm run test:faults"
				: options.needs?.map((need) => need()).find((reason) => reason !== undefined);
		if (missing !== undefined) {
			tell("skipped", missing);
			context.skip(missing);
			return;
		}
		const asked = process.env["RUNS"];
		try {
			await run({
				context,
				seed,
				long,
				runs(few, many) {
					const chosen = asked === undefined ? (long ? many : few) : Number(asked);
					count += chosen;
					return chosen;
				},
				ran(more) {
					count += more;
				},
				record(figure) {
					figures.push(figure);
					context.diagnostic(`${id}: ${figure}`);
				},
			});
			if (count === 0) count = 1;
			tell("passed");
		} catch (error) {
			tell("failed", String(error).split("\n")[0]);
			context.diagnostic(`replay: SEED=${seed}${long ? " FAULTS=long" : ""}`);
			throw error;
		}
	});
}
