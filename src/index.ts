/**
 * The library: the whole engine in your process.
 *
 *     import { createEngine, httpSource } from "bunbase-functions";
 *     const engine = createEngine({ dataDir: "./data", sources: [httpSource({ port: 8080 })] });
 *     await engine.start();
 *
 * Importing it has no effect. The cron and events sources are always there; what listens is for you to choose.
 */
import type { Source } from "./core/contracts.ts";
import type { Environment } from "./core/environment.ts";
import {
	createEngine as createBareEngine,
	systemEnvironment,
	systemLogger,
	type CreateEngineOptions,
	type EngineHandle,
} from "./engine/index.ts";
import * as sources from "./sources/index.ts";

/** An engine that is not started yet. Throws BAD_CONFIG, naming every option that is wrong. */
export function createEngine(options: CreateEngineOptions = {}): EngineHandle {
	const environment = environmentOf(options);
	const always: Source[] = [sources.eventsSource(), sources.cronSource(environment)];
	return createBareEngine({ ...options, environment, sources: [...always, ...(options.sources ?? [])] });
}

type OptionalEnvironment<Options extends { environment: Environment }> = Omit<Options, "environment"> & {
	readonly environment?: Environment;
};

/** HTTP on `host` (default 127.0.0.1) and `port` (0: any free one, see `address()`). */
export function httpSource(options: OptionalEnvironment<sources.HttpSourceOptions>): sources.HttpSource {
	return sources.httpSource({ ...options, environment: environmentOf(options) });
}

/** The socket protocol of docs/protocol.md on a unix socket at `path`. */
export function socketSource(options: OptionalEnvironment<sources.SocketSourceOptions>): sources.SocketSource {
	return sources.socketSource({ ...options, environment: environmentOf(options) });
}

function environmentOf(options: {
	readonly environment?: Environment;
	readonly logger?: CreateEngineOptions["logger"];
}): Environment {
	return options.environment ?? systemEnvironment(options.logger ?? systemLogger("warn"));
}

export type { CreateEngineOptions, EngineHandle } from "./engine/index.ts";
export { systemEnvironment, systemLogger, VERSION } from "./engine/index.ts";
export type { HttpAddress, HttpSource, SocketSource } from "./sources/index.ts";
export { EngineError, type ErrorCode } from "./core/errors.ts";
export type * from "./core/contracts.ts";
export type { Environment, Logger } from "./core/environment.ts";
export type { InvokeRequest, Pairs, SourceKind } from "./core/request.ts";
export type { Context, Handler } from "./core/handler.ts";
export type { FunctionConfig, FunctionLimits, ResolvedConfig, ScheduleConfig } from "./core/function-config.ts";
export type { State } from "./core/invocation.ts";
