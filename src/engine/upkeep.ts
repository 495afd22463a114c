/** The engine's door for what is done to a data folder without a running engine. */
export { backupOffline } from "./backup.ts";
export { examine, fix, type Ask, type ExamineOptions } from "./doctor.ts";
export { restore, type RestoreRecord } from "./restore.ts";
