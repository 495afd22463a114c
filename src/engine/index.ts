/** The engine's door. */
export { backupOffline } from "./backup.ts";
export { examine, fix, type Ask, type ExamineOptions } from "./doctor.ts";
export { createEngine, type CreateEngineOptions, type EngineHandle } from "./engine.ts";
export type { Machine } from "./machine.ts";
export { restore, type RestoreRecord } from "./restore.ts";
export { systemClock, systemEnvironment, systemLogger, systemRandom } from "./system.ts";
export { VERSION } from "./version.ts";
