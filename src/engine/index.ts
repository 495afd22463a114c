/** The engine's door for whoever runs one. Its declarations are public, so the types of the store end behind it. */
export { createEngine } from "./create.ts";
export type { CreateEngineOptions, EngineHandle } from "./handle.ts";
export { systemClock, systemEnvironment, systemLogger, systemRandom } from "./system.ts";
export { VERSION } from "./version.ts";
