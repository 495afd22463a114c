/**
 * One run: a daemon, clients, faults, and the judgement of what came of it. What a fault case needs in most cases:
 *
 *     const { verdict } = await faultRun(f, { title: "…", plans: standardPlans(), steps: schedule(f.seed, {…}) });
 *
 * It throws where anything was found, with the seed and the lines that are about it, and keeps the whole history in a
 * file that `node tests/failure/harness/judge.ts FILE` judges again.
 */
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readLedger } from "../../support/ledger.ts";
import type { Fault } from "../fault.ts";
import { check, describeClasses, report, type Bounds, type Verdict } from "./checker.ts";
import { drive, type Driver } from "./driver.ts";
import { History, saveHistory } from "./history.ts";
import { unleash, type Step } from "./nemesis.ts";
import type { FunctionPlan } from "./plans.ts";
import { fetchRows } from "./rows.ts";
import { Subject, type SubjectOptions } from "./subject.ts";

export interface RunOptions extends SubjectOptions {
	readonly title: string;
	readonly plans: readonly FunctionPlan[];
	readonly clients?: number;
	/** What the nemesis does, while the clients drive; or a function that does it. */
	readonly steps: readonly Step[] | ((scene: Scene) => Promise<void>);
	readonly bounds?: Partial<Bounds>;
}

export interface Scene {
	readonly subject: Subject;
	readonly history: History;
	readonly driver: Driver;
}

export interface RunResult {
	readonly verdict: Verdict;
	readonly bootsMs: readonly number[];
	readonly history: History;
}

export async function faultRun(f: Pick<Fault, "seed" | "record" | "context">, options: RunOptions): Promise<RunResult> {
	await using subject = new Subject(options);
	const { plans, title, steps } = options;
	const functions = Object.fromEntries(plans.map(({ name, facts }) => [name, facts]));
	const history = new History({ title, seed: f.seed, functions });
	await subject.start();
	await subject.deploy(plans);
	const driver = drive({
		seed: f.seed,
		history,
		plans,
		socketPath: subject.socketPath,
		httpUrl: () => subject.httpUrl,
		...(options.clients && { clients: options.clients }),
	});
	try {
		await (typeof steps === "function"
			? steps({ subject, history, driver })
			: unleash(steps, subject, history, f.context.signal));
	} catch (error) {
		driver.abandon();
		throw error;
	}
	await driver.stop();
	return await settleAndJudge(f, subject, history, options.bounds);
}

/** After the faults: drains, proves that new work runs, reads everything, stops cleanly, judges. */
export async function settleAndJudge(
	f: Pick<Fault, "record">,
	subject: Subject,
	history: History,
	bounds: Partial<Bounds> = {},
): Promise<RunResult> {
	const drainedMs = await subject.drained(bounds.drainedMs ?? 60_000);
	const rows = await fetchRows(subject.daemon.client);
	const ledger = readLedger(subject.ledger);
	const freshMs = await fresh(subject, history);
	const code = await subject.daemon.stop();
	const leftovers = subject.leftovers();
	if (code !== 0) leftovers.push(`exit code ${code} of the last, clean stop`);
	const { bootsMs } = subject;
	history.end(ledger, rows, { drainedMs, freshMs, leftovers, bootsMs });
	const verdict = judge(history, bounds);
	f.record(describeClasses(verdict));
	if (bootsMs.length > 1) f.record(describeBoots(bootsMs));
	return { verdict, bootsMs, history };
}

/** Throws where something was found, and keeps the history. */
export function judge(history: History, bounds: Partial<Bounds> = {}): Verdict {
	const verdict = check(history.lines, bounds);
	if (verdict.findings.length === 0) return verdict;
	const path = join(tmpdir(), `bunbase-history-${process.pid}-${Date.now()}.jsonl`);
	saveHistory(path, history.lines);
	throw new Error(`${report(history.lines, verdict)}\nkept in ${path}: node tests/failure/harness/judge.ts ${path}`);
}

export function describeBoots(bootsMs: readonly number[]): string {
	const sorted = bootsMs.toSorted((a, b) => a - b).map(Math.round);
	return `${bootsMs.length} boots, p50 ${sorted[sorted.length >> 1]} ms, max ${sorted.at(-1)} ms`;
}

/** A call of the first function, from sending to its answer. Not an element of the history: its rows were read before. */
async function fresh(subject: Subject, history: History): Promise<number | undefined> {
	const header = history.lines[0];
	if (header?.kind !== "header") throw new Error("a history begins with its header");
	const name = Object.keys(header.functions)[0] ?? "";
	const from = performance.now();
	const answer = await subject.daemon.client
		.invoke(name, { body: JSON.stringify({ echo: "fresh", ms: 0 }) })
		.catch(() => undefined);
	return answer?.success === true ? performance.now() - from : undefined;
}
