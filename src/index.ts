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
import { createEngine as createBareEngine, type CreateEngineOptions, type EngineHandle } from "./engine/index.ts";
import { systemEnvironment, systemLogger } from "./engine/index.ts";
import { cronSource, eventsSource } from "./sources/index.ts";

/** An engine that is not started yet. Throws BAD_CONFIG, naming every option that is wrong. */
export function createEngine(options: CreateEngineOptions = {}): EngineHandle {
	const environment = options.environment ?? systemEnvironment(options.logger ?? systemLogger("warn"));
	const sources: Source[] = [eventsSource(), cronSource(environment), ...(options.sources ?? [])];
	return createBareEngine({ ...options, environment, sources });
}

export type { CreateEngineOptions, EngineHandle } from "./engine/index.ts";
export { systemEnvironment, systemLogger, VERSION } from "./engine/index.ts";
export { httpSource, socketSource } from "./sources/index.ts";
export { EngineError, type ErrorCode } from "./core/errors.ts";
export type * from "./core/contracts.ts";
export type { InvokeRequest, Pairs, SourceKind } from "./core/request.ts";
export type { FunctionConfig, FunctionLimits, ResolvedConfig, ScheduleConfig } from "./core/function-config.ts";
export type { State } from "./core/invocation.ts";
