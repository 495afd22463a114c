/** The engine's door. */
export { createEngine, type CreateEngineOptions, type EngineHandle } from "./engine.ts";
export { systemClock, systemEnvironment, systemLogger, systemRandom } from "./system.ts";
export { VERSION } from "./version.ts";
