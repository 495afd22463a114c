/**
 * `dev`: keeps the functions under some paths deployed as they are on disk, and shows what all functions print.
 *
 * A save is seen by fs.watch, waits 100 ms for the editor to finish, and redeploys what has really changed. A build
 * that fails is shown and changes nothing: the old version stays active. One scan runs at a time; saves that come
 * meanwhile make one more.
 */
import { watch, type FSWatcher } from "node:fs";
import { dirname, isAbsolute, relative, resolve } from "node:path";
import type { Engine } from "../core/contracts.ts";
import type { Clock, Timer } from "../core/environment.ts";
import { EngineError, messageOf } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";
import { scanFunctions, type FoundFunction } from "./cli-dev-scan.ts";
import type { Output } from "./cli-host.ts";
import { logLine } from "./cli-logs.ts";
import { durationText, painter, plain } from "./cli-output.ts";

/** Editors write a file in several steps; less than this builds half of it. */
const DEBOUNCE_MS = 100;
const LOG_WAIT_MS = 30_000;

export interface DevOptions {
	readonly engine: Engine;
	readonly paths: readonly string[];
	readonly clock: Clock;
	readonly stdout: Output;
	readonly stderr: Output;
	/** `http://127.0.0.1:8080`; undefined where HTTP is off. */
	readonly httpUrl: string | undefined;
	/** Ends it. */
	readonly signal: AbortSignal;
}

export async function runDev(options: DevOptions): Promise<void> {
	const deployed = new Map<string, string>();
	const told = new Set<string>();
	const watchers = new Map<string, FSWatcher>();
	const roots = options.paths.map((path) => resolve(path));
	const ended = aborted(options.signal);
	const tail = tailLogs(options);

	let timer: Timer | undefined;
	let working: Promise<void> = Promise.resolve();
	const round = async (): Promise<void> => {
		if (options.signal.aborted) return;
		const scan = await scanFunctions(options.paths);
		for (const problem of scan.problems) {
			if (!told.has(problem)) await options.stderr.write(`${plain(problem)}\n`);
			told.add(problem);
		}
		watchMore(scan.functions);
		const changed = scan.functions.filter((found) => deployed.get(found.name) !== found.fingerprint);
		for (const found of changed) deployed.set(found.name, found.fingerprint);
		// The engine builds as many at once as it likes; the lines come as they are done.
		await Promise.all(changed.map((found) => deployOne(options, found)));
		await tellRemoved(options, deployed, scan.functions);
	};
	const again = (): void => {
		timer?.cancel();
		timer = options.clock.setTimer(DEBOUNCE_MS, () => {
			working = working.then(round).catch((error: unknown) => options.stderr.write(`${messageOf(error)}\n`));
		});
	};
	const addWatcher = (path: string, recursive: boolean): void => {
		if (watchers.has(path)) return;
		try {
			const watcher = watch(path, { recursive }, again);
			// A folder that goes away is seen as a change above it, or is gone for good.
			watcher.on("error", () => {
				watcher.close();
				watchers.delete(path);
			});
			watchers.set(path, watcher);
		} catch {
			// Not there (yet); the scan has told so.
		}
	};
	/** Folders of imported files that lie outside of what is watched already. */
	const watchMore = (functions: readonly FoundFunction[]): void => {
		for (const folder of new Set(functions.flatMap((found) => found.files.map((file) => dirname(file))))) {
			if (!roots.some((root) => isInside(root, folder))) addWatcher(folder, false);
		}
	};

	for (const root of roots) addWatcher(root, true);
	try {
		working = round();
		await working;
		if (deployed.size === 0) {
			const where = options.paths.join(", ");
			await options.stderr.write(`no functions under ${where} yet: save a file with a default export there\n`);
		}
		await ended;
	} finally {
		timer?.cancel();
		for (const watcher of watchers.values()) watcher.close();
		await working.catch(() => undefined);
		await tail;
	}
}

function isInside(root: string, path: string): boolean {
	const way = relative(root, path);
	return way === "" || (!way.startsWith("..") && !isAbsolute(way));
}

function aborted(signal: AbortSignal): Promise<void> {
	const { promise, resolve } = Promise.withResolvers<void>();
	if (signal.aborted) resolve();
	signal.addEventListener("abort", () => resolve(), { once: true });
	return promise;
}

async function deployOne(options: DevOptions, found: FoundFunction): Promise<void> {
	const { engine, clock, stdout, stderr } = options;
	const paint = painter(stdout);
	const from = clock.monotonic();
	try {
		const result = await engine.deploy({ function: found.name, register: true, path: found.path, build: true });
		const ms = durationText(clock.monotonic() - from);
		const url = options.httpUrl === undefined ? "" : paint("dim", `  ${options.httpUrl}/functions/${found.name}`);
		await stdout.write(`${paint("green", "✓")} ${paint("bold", found.name)} ${result.version}  ${ms}${url}\n`);
	} catch (error) {
		if (options.signal.aborted) return;
		const code = error instanceof EngineError ? `${error.code}: ` : "";
		const text = plain(messageOf(error)).trimEnd().replaceAll("\n", "\n    ");
		await stderr.write(`${painter(stderr)("red", "✗")} ${found.name}  ${code}${text}\n${kept(engine, found.name)}`);
	}
}

function kept(engine: Engine, name: string): string {
	const known = engine.listFunctions().find((record) => record.name === name);
	return known?.activeVersion === undefined ? "" : `    ${known.activeVersion} stays active\n`;
}

async function tellRemoved(
	options: DevOptions,
	deployed: Map<string, string>,
	functions: readonly FoundFunction[],
): Promise<void> {
	const there = new Set(functions.map((found) => found.name));
	for (const name of deployed.keys()) {
		if (there.has(name)) continue;
		deployed.delete(name);
		await options.stderr.write(`${name} is no longer on disk; what was deployed of it stays active\n`);
	}
}

/** Lines of all functions from now on, until the signal. */
async function tailLogs({ engine, stdout, stderr, signal }: DevOptions): Promise<void> {
	try {
		let after = engine.readLogs({ tail: true, limit: 1 }).logs.at(-1)?.id ?? 0;
		while (!signal.aborted) {
			await engine.waitForLogs(after, LOG_WAIT_MS, signal);
			const { logs } = engine.readLogs({ after, limit: LIMITS.logPageMax });
			if (logs.length === 0) continue;
			const names = new Map(engine.listFunctions().map((record) => [record.functionId, record.name]));
			let out = "";
			for (const line of logs) {
				after = line.id;
				const wire = {
					level: line.level,
					at: line.at,
					message: line.message,
					metadata: line.metadata,
					invocation_id: line.invocationId,
				};
				out += logLine(stdout, wire, names.get(line.functionId) ?? line.functionId);
			}
			await stdout.write(out);
		}
	} catch (error) {
		if (!signal.aborted) await stderr.write(`logs are no longer shown: ${plain(messageOf(error))}\n`);
	}
}
