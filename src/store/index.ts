/**
 * The store's door. This folder is the only opener of database files and of the bundle folder; it knows rows, files and
 * durability, and nothing of what an invocation is.
 */
export type { Ballast } from "./ballast.ts";
export {
	completeBackup,
	copyDatabases,
	openBackupTarget,
	type BackupPhase,
	type BackupTarget,
	type CompleteBackupOptions,
	type TellProgress,
} from "./backup.ts";
export type { BackupFile, Manifest } from "./backup-manifest.ts";
export { BundleStore, type StoredBundle } from "./bundles.ts";
export { CommitCount, readCommitCount } from "./commit-count.ts";
export { describeHolder, isHeld, readHolder, takeDaemonLock, type Holder } from "./daemon-lock.ts";
export {
	openDataFolder,
	openToCopy,
	type DataFolder,
	type DataFolderOptions,
	type DataFolderPaths,
} from "./data-folder.ts";
export { checkDatabase, checkpoint, type Database, type Statement } from "./database.ts";
export { writeFileDurably } from "./durable-file.ts";
export { inspectDataFolder, type InspectRows } from "./inspect.ts";
export { FunctionStore } from "./function-store.ts";
export { openToLook, type LiveRows } from "./live-rows.ts";
export type { LogLine, LogReadFilter, LogRow, LogRows } from "./log-rows.ts";
export {
	describeRollback,
	findRollbacks,
	highWaterPath,
	readHighWater,
	readLevels,
	writeHighWater,
	type HighWaterMark,
	type Levels,
	type MetadataLevel,
	type QueueLevel,
	type Rollback,
} from "./high-water.ts";
export type { Keeper } from "./keeper.ts";
export { BLOCK_ROWS, blockOf, blockOfRow, isNamedIn, rowsOfBlock } from "./queue-schema.ts";
export { LogStore, type LogStoreDeps } from "./logs.ts";
export type {
	Activation,
	Catalogue,
	DeploymentRow,
	DeployReason,
	EnvironmentRow,
	FunctionDraft,
	FunctionRow,
	ScheduleDraft,
	ScheduleRow,
	SubscriptionRow,
	VersionDraft,
	VersionRow,
} from "./metadata-rows.ts";
export { repair } from "./repair.ts";
export { restoreBackup, type Restored, type RestoreOptions } from "./restore.ts";
export { errnoOf, mapStoreError } from "./store-errors.ts";
