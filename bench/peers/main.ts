/**
 * `npm run bench:peers`: other job queues beside the engine, on one machine, in one run. Engine and peer take turns in
 * every round, so each row's ratios compare two figures that are a few seconds apart. A peer that cannot be measured
 * is left out with the reason; that is exit code 0, because it says nothing about the engine.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { findBun } from "../../src/pool/index.ts";
import { median } from "../context.ts";
import { describeMachine, isMemoryDisk, machineLine } from "../machine.ts";
import { MAIN } from "../processes.ts";
import { Child } from "./child.ts";
import type { Drained, Load, Loaded, Plan } from "./driver.ts";
import { renderText, writePage } from "./page.ts";
import { ENGINE, PEERS, type Peer } from "./peers.ts";
import type { Measured, PeersRun, Row } from "./run.ts";
import { postgresFolder } from "./servers.ts";

const USAGE = `npm run bench:peers -- [options]
  --quick         everything once and shortly: shows that it runs, says little about speed
  --only NAME,…   only these: ${PEERS.map((peer) => peer.name).join(", ")}
  --rounds N      how often engine and peer take turns (default 3)
  --dir FOLDER    where data is written; must be on a disk, not in memory (default: the system's temp folder)
  --daemon FILE   the daemon's main file (default: src/main.ts; dist/main.js is what a user installs)
  --json FILE     also write the figures there
  --write         also write the figures to docs/performance.md and docs/performance-peers.svg
`;

const DRIVER = join(import.meta.dirname, "driver.ts");
const MODULES = join(import.meta.dirname, "node_modules");
const CALLERS = 100;

interface Settings {
	readonly folder: string;
	readonly bunPath: string;
	readonly main: string;
	readonly rounds: number;
	/** How long each serves the many callers before the first round (../warm-up.ts). */
	readonly compileMs: number;
	readonly warmupMs: number;
	readonly measureMs: number;
	readonly backlog: number;
}

process.exitCode = await main();

async function main(): Promise<number> {
	const { values } = parseArgs({
		options: {
			quick: { type: "boolean", default: false },
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
	const unknown = only?.filter((name) => !PEERS.some((peer) => peer.name === name)) ?? [];
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
	const folder = mkdtempSync(join(resolve(values.dir), "bunbase-peers-"));
	const remove = (): void => rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
	// Registered after child.ts's own, which kills what runs first.
	process.once("exit", remove);
	for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(130));
	try {
		const bunPath = findBun(undefined);
		const machine = describeMachine(folder, bunPath);
		process.stdout.write(`${machineLine(machine)}\n`);
		if (isMemoryDisk(folder))
			process.stdout.write("WARNING: this folder is in memory, so fsync is free; name one on a disk with --dir\n");
		const settings: Settings = {
			folder,
			bunPath,
			main: resolve(values.daemon),
			rounds,
			compileMs: quick ? 200 : 4_000,
			warmupMs: quick ? 200 : 1_000,
			measureMs: quick ? 500 : 3_000,
			backlog: quick ? 200 : 20_000,
		};
		const rows: Row[] = [];
		for (const peer of PEERS.filter(({ name }) => only === undefined || only.includes(name))) {
			rows.push(await measurePeer(peer, settings));
		}
		const run: PeersRun = { machine, quick, rounds, backlog: settings.backlog, callers: CALLERS, rows };
		process.stdout.write(`\n${renderText(run)}\n`);
		if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(run, undefined, "\t")}\n`);
		if (values.write) writePage(run);
		// That the engine failed is nobody else's reason.
		return rows.some(({ left }) => left?.startsWith(`${ENGINE.name}:`)) ? 1 : 0;
	} finally {
		remove();
	}
}

async function measurePeer(peer: Peer, settings: Settings): Promise<Row> {
	const words = { peer, version: versionOf(peer) };
	const drivers: Child[] = [];
	try {
		const engineDriver = await startDriver(ENGINE, `${peer.name}-${ENGINE.name}`, settings, drivers);
		const peerDriver = await startDriver(peer, peer.name, settings, drivers);
		const pair = [
			[ENGINE, engineDriver],
			[peer, peerDriver],
		] as const;
		for (const [of, driver] of pair) {
			await asked(of, driver.ask("load", { callers: CALLERS, warmupMs: 0, measureMs: settings.compileMs }));
		}
		const [ofEngine, ofPeer]: [Measured[], Measured[]] = [[], []];
		for (let round = 1; round <= settings.rounds; round += 1) {
			const [engineRound, peerRound] = await measureRound(pair, settings);
			ofEngine.push(engineRound);
			ofPeer.push(peerRound);
			note(round, ENGINE.name, engineRound);
			note(round, peer.name, peerRound);
		}
		return { ...words, engine: medians(ofEngine), measured: medians(ofPeer) };
	} catch (error) {
		const left = error instanceof Error ? error.message : String(error);
		process.stderr.write(`  ${peer.name} is left out: ${left}\n`);
		return { ...words, left };
	} finally {
		for (const driver of drivers) await driver.end();
	}
}

async function startDriver(peer: Peer, name: string, settings: Settings, drivers: Child[]): Promise<Child> {
	if (peer.package !== undefined && installed(peer.package) === undefined) {
		throw new Error(`${peer.package} is not installed: run npm ci in bench/peers`);
	}
	const { bunPath, main } = settings;
	const folder = join(settings.folder, name);
	mkdirSync(folder);
	const plan: Plan = { adapter: peer.adapter, context: { folder, bunPath, main, setting: peer.setting } };
	const driver = new Child(peer.runtime === "bun" ? bunPath : process.execPath, [DRIVER, JSON.stringify(plan)]);
	drivers.push(driver);
	await asked(peer, driver.ask("start"));
	return driver;
}

type Pair<T> = readonly [engine: T, peer: T];

/** Each load on both before the next load, so that the two figures of a ratio are neighbours. */
async function measureRound(pair: Pair<readonly [Peer, Child]>, settings: Settings): Promise<Pair<Measured>> {
	const { warmupMs, measureMs, backlog } = settings;
	const both = async <T>(op: string, params: Load | { readonly count: number }): Promise<Pair<T>> => {
		const [[engine, engineDriver], [peer, peerDriver]] = pair;
		return [await asked(engine, engineDriver.ask<T>(op, params)), await asked(peer, peerDriver.ask<T>(op, params))];
	};
	const one = await both<Loaded>("load", { callers: 1, warmupMs, measureMs });
	const many = await both<Loaded>("load", { callers: CALLERS, warmupMs, measureMs });
	const drained = await both<Drained>("drain", { count: backlog });
	const of = (index: 0 | 1): Measured => ({
		p50: one[index].p50,
		p99: one[index].p99,
		perSecond: many[index].perSecond,
		drainPerSecond: drained[index].perSecond,
	});
	return [of(0), of(1)];
}

/** Whose failure it is. */
async function asked<T>(peer: Peer, answer: Promise<T>): Promise<T> {
	try {
		return await answer;
	} catch (error) {
		throw new Error(`${peer.name}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
	}
}

function medians(rounds: readonly Measured[]): Measured {
	return {
		p50: median(rounds.map(({ p50 }) => p50)),
		p99: median(rounds.map(({ p99 }) => p99)),
		perSecond: median(rounds.map(({ perSecond }) => perSecond)),
		drainPerSecond: median(rounds.map(({ drainPerSecond }) => drainPerSecond)),
	};
}

function note(round: number, name: string, { p50, p99, perSecond, drainPerSecond }: Measured): void {
	process.stderr.write(
		`  round ${round}, ${name}: 1 caller p50 ${p50.toFixed(2)} p99 ${p99.toFixed(2)} ms, ${CALLERS} callers ${Math.round(perSecond)}/s, backlog ${Math.round(drainPerSecond)}/s\n`,
	);
}

function versionOf(peer: Peer): string {
	const library = peer.package === undefined ? "" : (installed(peer.package)?.version ?? "not installed");
	if (peer.server === undefined) return library;
	try {
		const program = peer.server === "postgres" ? join(postgresFolder(), "postgres") : peer.server;
		const [server] = /\d+(\.\d+)+/.exec(execFileSync(program, ["--version"], { encoding: "utf8" })) ?? [];
		return `${library}, ${peer.server === "postgres" ? "PostgreSQL" : "Redis"} ${server ?? "?"}`;
	} catch {
		return library;
	}
}

function installed(name: string): { readonly version: string } | undefined {
	const path = join(MODULES, name, "package.json");
	return existsSync(path) ? (JSON.parse(readFileSync(path, "utf8")) as { version: string }) : undefined;
}
