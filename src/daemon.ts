/**
 * The engine as a process: `serve` is createEngine with its sources, configuration and signals; `dev` is the same in
 * ./.bunbase with functions deployed from disk.
 *
 * Exit codes: 0 after a drain, that of the error where it cannot start or fails later, 78 for bad configuration.
 */
import { existsSync } from "node:fs";
import { setFlagsFromString } from "node:v8";
import { resolveSettings, type Settings } from "./config.ts";
import type { Logger } from "./core/environment.ts";
import { EngineError, EXIT, messageOf } from "./core/errors.ts";
import type { ProcessHost } from "./host.ts";
import {
	createEngine,
	httpSource,
	socketSource,
	systemEnvironment,
	systemLogger,
	type EngineHandle,
	type HttpSource,
} from "./index.ts";
import { failureOf, renderFailure } from "./sources/cli-errors.ts";
import type { ServeFlags } from "./sources/cli-flags.ts";
import { terminalLogger } from "./terminal-logger.ts";

/**
 * What V8 does otherwise in the daemon's own process; an application that uses the library keeps its V8 as it wants it. V8 says
 * nothing of a flag that it does not know, so a test asks this Node for each.
 */
export const V8_FLAGS = [
	// How far the heap may grow beyond what is in use, before all of it is collected. By default several times, and little is
	// given back: a million invocations queued in batches left the daemon at 324 MB, of which the heap was 179 and used 42.
	// With this 223 to 255 MB; throughput at 100 callers is the same (19,166/s beside 18,710 without, eight turns each).
	"--heap-growing-percent=25",
	// How often a function runs before it gets V8's best code; 3,000 by default, which takes seconds with one caller. Of a daemon that was
	// busy for four seconds, one caller then waited 0.96 to 0.98 times as long, in turns. Of a new one the first two seconds cost up to
	// 1.7 times as much processor, and what follows 0.85 to 0.95 times.
	"--invocation-count-for-turbofan=500",
];

export async function serve(flags: ServeFlags, host: ProcessHost): Promise<number> {
	const from = host.clock.monotonic();
	return withSettings(flags, host, undefined, async (settings) => {
		const logger = loggerOf(settings.logLevel);
		for (const warning of settings.warnings) logger.warn({}, warning);
		const { engine, http } = assemble(settings, logger);
		try {
			await engine.start();
		} catch (error) {
			await engine.stop().catch(() => undefined);
			return tellStartFailure(error, host, logger);
		}
		logger.info(
			{
				socket: settings.socket,
				http: http?.address().url ?? null,
				data_dir: settings.engine.dataDir,
				version: host.version,
				ms: Math.round(host.clock.monotonic() - from),
			},
			"ready",
		);
		const why = await Promise.race([signalled(host.interrupted), engine.failed]);
		if (why instanceof EngineError) {
			logger.error({ code: why.code, exit_code: why.exitCode }, why.message);
			return why.exitCode;
		}
		logger.info({ signal: why }, "stopping: what runs may finish; a second signal ends it at once");
		await engine.stop();
		logger.info({}, "stopped");
		return EXIT.ok;
	});
}

export async function dev(paths: readonly string[], flags: ServeFlags, host: ProcessHost): Promise<number> {
	return withSettings(flags, host, { dataDir: "./.bunbase" }, async (settings) => {
		const { runDev } = await import("./sources/cli-dev.ts");
		const logger = loggerOf(flags.logLevel ?? "error");
		const { engine, http } = assemble(settings, logger);
		try {
			await engine.start();
		} catch (error) {
			await engine.stop().catch(() => undefined);
			return tellStartFailure(error, host, logger);
		}
		const httpUrl = http?.address().url;
		const where = [settings.socket, ...(httpUrl === undefined ? [] : [httpUrl])].join(" and ");
		await host.stderr.write(`engine on ${where}, data in ${settings.engine.dataDir}; Ctrl-C ends it\n`);
		const ended = new AbortController();
		host.interrupted.addEventListener("abort", () => ended.abort(), { once: true });
		const failed = engine.failed.then((error) => {
			ended.abort();
			return error;
		});
		const { clock, stdout, stderr } = host;
		await runDev({ engine, paths: pathsOf(paths), clock, stdout, stderr, httpUrl, signal: ended.signal });
		const why = await Promise.race([failed, signalled(host.interrupted)]);
		if (why instanceof EngineError) return tellStartFailure(why, host, logger);
		await engine.stop();
		return EXIT.ok;
	});
}

/** Bad configuration is told in three lines, before there is a logger, and ends with 78. */
async function withSettings(
	flags: ServeFlags,
	host: ProcessHost,
	fallback: { readonly dataDir: string } | undefined,
	run: (settings: Settings) => Promise<number>,
): Promise<number> {
	let settings: Settings;
	try {
		settings = resolveSettings(flags, host.env, fallback);
	} catch (error) {
		await host.stderr.write(renderFailure(failureOf(error), host.stderr, false));
		return EXIT.config;
	}
	return run(settings);
}

function assemble(settings: Settings, logger: Logger): { engine: EngineHandle; http: HttpSource | undefined } {
	for (const flag of V8_FLAGS) setFlagsFromString(flag);
	const environment = systemEnvironment(logger);
	const { http: at } = settings;
	const http = at === undefined ? undefined : httpSource({ environment, ...at });
	const socket = socketSource({ environment, path: settings.socket });
	const engine = createEngine({
		...settings.engine,
		socketPath: settings.socket,
		environment,
		sources: http === undefined ? [socket] : [socket, http],
	});
	return { engine, http };
}

async function tellStartFailure(error: unknown, host: ProcessHost, logger: Logger): Promise<number> {
	const failure = failureOf(error);
	if (host.stderr.isTTY) await host.stderr.write(renderFailure(failure, host.stderr, false));
	else
		logger.error(
			{ code: failure.code, why: failure.why, advice: failure.advice, exit_code: failure.exitCode },
			messageOf(error),
		);
	return failure.code === "BAD_CONFIG" ? EXIT.config : failure.exitCode;
}

/** Readable for a person who watches; JSON for whatever collects it. */
function loggerOf(level: string): Logger {
	return process.stderr.isTTY ? terminalLogger(level, (line) => process.stderr.write(line)) : systemLogger(level);
}

function signalled(interrupted: AbortSignal): Promise<string> {
	const { promise, resolve } = Promise.withResolvers<string>();
	if (interrupted.aborted) resolve(String(interrupted.reason));
	interrupted.addEventListener("abort", () => resolve(String(interrupted.reason)), { once: true });
	return promise;
}

function pathsOf(paths: readonly string[]): readonly string[] {
	if (paths.length > 0) return paths;
	return [existsSync("functions") ? "functions" : "."];
}
