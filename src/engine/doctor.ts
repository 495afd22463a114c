/**
 * The look that `bunbase doctor` takes: this machine, the data folder, and the daemon where one runs. It finds and
 * says; it changes nothing unless `fix` is asked for, and then nothing that is a row.
 */
import { spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { damage, note, ok, warning, type Diagnosis } from "../core/diagnosis.ts";
import { EngineError, messageOf } from "../core/errors.ts";
import { invocationId } from "../core/ids.ts";
import { LIMITS } from "../core/limits.ts";
import { findBun } from "../pool/index.ts";
import { inspectRows } from "../queue/index.ts";
import {
	describeHolder,
	inspectDataFolder,
	isHeld,
	openToLook,
	repair,
	takeDaemonLock,
	type Database,
	type LiveRows,
} from "../store/index.ts";
import { BUN_VERSION } from "./version.ts";

/** Asks the daemon that has the folder. */
export type Ask = (
	operation: "stats.get" | "lanes.list" | "workers.list",
) => Promise<Readonly<Record<string, unknown>>>;

export interface ExamineOptions {
	/** Absolute. */
	readonly dataDir: string;
	readonly full: boolean;
	/** Wall clock, UTC ms. */
	readonly now: number;
	/** As the daemon would be told it. */
	readonly bunPath: string | undefined;
	/** Called only where a daemon has the folder. */
	readonly ask: Ask;
}

const BUN_ANSWERS_MS = 10_000;

export async function examine(options: ExamineOptions): Promise<Diagnosis[]> {
	const { dataDir, full, now } = options;
	const running = isHeld(dataDir);
	const findings = [...machine(options)];
	findings.push(
		running
			? ok("daemon", `${describeHolder(dataDir)} has the folder`)
			: note("daemon", "none has the folder: it is looked at as it lies"),
	);
	const rows = (queue: Database, metadata: Database): Diagnosis[] =>
		inspectRows(queue, metadata, { now, running, full });
	findings.push(...(await inspectDataFolder(dataDir, { running, full, rows })));
	if (running) findings.push(...(await live(dataDir, options.ask)));
	return findings;
}

/** Puts right what can be without touching a row; says what was done. The folder's lock is held meanwhile. */
export async function fix(
	dataDir: string,
	findings: readonly Diagnosis[],
	removeSocket: (path: string) => Promise<string>,
): Promise<string[]> {
	const repairs = findings.flatMap((finding) => (finding.repair === undefined ? [] : [finding.repair]));
	const modes = repairs.filter(({ kind }) => kind === "mode");
	const others = repairs.filter(({ kind }) => kind !== "mode");
	const done = modes.map((what) => (what.kind === "socket" ? "" : repair(what)));
	if (others.length === 0 || isHeld(dataDir)) return done;
	const lock = takeDaemonLock(dataDir, Date.now());
	try {
		for (const what of others) done.push(what.kind === "socket" ? await removeSocket(what.path) : repair(what));
	} finally {
		lock.release();
	}
	return done;
}

function machine({ bunPath, now }: ExamineOptions): Diagnosis[] {
	const findings = [
		ok(
			"node",
			`Node ${process.versions.node} (modules ${process.versions.modules}), ${process.platform} ${process.arch}`,
		),
	];
	findings.push(bun(bunPath));
	if (now < LIMITS.clockFrom) {
		const message = `it is ${new Date(now).toISOString()} here: the clock is not set, and no schedule fires`;
		findings.push(warning("clock", message, "correct the clock of this machine (timedatectl)"));
	}
	return findings;
}

function bun(bunPath: string | undefined): Diagnosis {
	let path: string;
	try {
		path = findBun(bunPath);
	} catch (error) {
		return damage("bun", "BAD_ENVIRONMENT", messageOf(error), "npm install bun");
	}
	const { status, stdout, error } = spawnSync(path, ["--version"], { encoding: "utf8", timeout: BUN_ANSWERS_MS });
	const version = (stdout as string | null)?.trim() ?? "";
	if (status !== 0 || !/^\d+\.\d+/.test(version)) {
		const why = error === undefined ? `exit ${status}` : messageOf(error);
		return damage("bun", "BAD_ENVIRONMENT", `${path} does not run (${why})`, "npm install bun, or set BUNBASE_BUN");
	}
	const found = bunPath === undefined ? "found by itself" : "named by bunPath or BUNBASE_BUN";
	if (isOlder(version, BUN_VERSION)) {
		const message = `Bun ${version} at ${path} (${found}) is older than ${BUN_VERSION}, which this version was tested with`;
		return warning("bun", message, `npm install bun@${BUN_VERSION}`);
	}
	return ok("bun", `Bun ${version} at ${path}, ${found}`);
}

function isOlder(version: string, than: string): boolean {
	const [a = [], b = []] = [version, than].map((text) => text.split(".").map((part) => Number.parseInt(part, 10)));
	for (let at = 0; at < 3; at += 1) if ((a[at] ?? 0) !== (b[at] ?? 0)) return (a[at] ?? 0) < (b[at] ?? 0);
	return false;
}

const TRIES = 20;
const BETWEEN_MS = 25;
/**
 * A claim is committed before it is on the disk, and its worker hears of it after that; so a running row without a worker
 * is stuck only where it stays so for longer than a disk takes.
 */
const STUCK_MS = 5_000;

/**
 * What the daemon believes against what its rows say. Its counts move with its commits, so they are compared only
 * between two looks at the same number of commits; a daemon that never rests that long is left alone.
 */
async function live(dataDir: string, ask: Ask): Promise<Diagnosis[]> {
	const check = "lanes";
	try {
		const first = await ask("stats.get");
		if (first["data_dir"] !== dataDir) {
			const message = `the daemon that answers has ${String(first["data_dir"])}, not this folder; its lanes were not compared`;
			return [note(check, message, { advice: "name its socket with --socket" })];
		}
		using folder = openToLook(dataDir);
		const quiet = await quietLook(ask, folder);
		if (quiet === undefined) {
			return [note(check, "the daemon never rested long enough to compare its counts with its rows; look again later")];
		}
		let stuck = withoutWorker(quiet);
		const until = performance.now() + STUCK_MS;
		while (stuck.length > 0 && performance.now() < until) {
			await sleep(BETWEEN_MS);
			const again = await quietLook(ask, folder);
			if (again === undefined) stuck = [];
			else stuck = stuck.filter((id) => withoutWorker(again).includes(id));
		}
		return compare(quiet, stuck);
	} catch (error) {
		if (error instanceof EngineError || (error instanceof Error && "code" in error)) {
			const advice = "name its socket with --socket; see its log";
			return [warning("daemon", `it has the folder but does not answer: ${messageOf(error)}`, advice)];
		}
		throw error;
	}
}

interface QuietLook {
	readonly lanes: readonly LaneCounts[];
	/** Ids that workers have. */
	readonly aboard: ReadonlySet<string>;
	readonly rows: LiveRows;
}

interface LaneCounts {
	readonly function_id: string;
	readonly function_name: string;
	readonly running: number;
	readonly ready: number;
	readonly delayed: number;
}

/** All of it between the same two commits; undefined where the daemon never rested so long. */
async function quietLook(ask: Ask, folder: { countRows(): LiveRows }): Promise<QuietLook | undefined> {
	for (let tried = 0; tried < TRIES; tried += 1) {
		if (tried > 0) await sleep(BETWEEN_MS);
		const before = await ask("stats.get");
		const lanes = await ask("lanes.list");
		const workers = await ask("workers.list");
		const rows = folder.countRows();
		const after = await ask("stats.get");
		if (before["commits"] !== after["commits"]) continue;
		const aboard = new Set((workers["workers"] as { running: string[] }[]).flatMap(({ running }) => running));
		return { lanes: lanes["lanes"] as LaneCounts[], aboard, rows };
	}
	return undefined;
}

function withoutWorker({ rows, aboard }: QuietLook): string[] {
	return rows.running.map(({ createdAt, seq }) => invocationId(createdAt, seq)).filter((id) => !aboard.has(id));
}

function compare({ lanes, rows }: QuietLook, stuck: readonly string[]): Diagnosis[] {
	const findings: Diagnosis[] = [];
	const advice =
		"restart the daemon: its start counts anew and recovers what is stuck. Please report it with the daemon's log";
	for (const lane of lanes) {
		const { running, ready, delayed } = rows.lanes.get(lane.function_id) ?? { running: 0, ready: 0, delayed: 0 };
		if (running === lane.running && ready === lane.ready && delayed === lane.delayed) continue;
		const message = `the daemon counts ${lane.running} running, ${lane.ready} ready, ${lane.delayed} delayed of ${lane.function_name}; its rows say ${running}, ${ready}, ${delayed}`;
		findings.push(damage("lanes", "INTERNAL", message, advice));
	}
	if (stuck.length > 0) {
		const message = `${stuck.length} invocations are running without a worker, e.g. ${stuck[0]}`;
		findings.push(damage("lanes", "INTERNAL", message, advice));
	}
	if (findings.length === 0) {
		findings.push(
			ok("lanes", `the counts of ${lanes.length} lanes agree with their rows, and every running row has its worker`),
		);
	}
	return findings;
}
