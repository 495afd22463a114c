/**
 * The store's door. This folder is the only opener of database files and of the bundle folder; it knows rows, files and
 * durability, and nothing of what an invocation is.
 */
export type { Ballast } from "./ballast.ts";
export { BundleStore, type StoredBundle } from "./bundles.ts";
export { CommitCount, readCommitCount } from "./commit-count.ts";
export { describeHolder, readHolder, type Holder } from "./daemon-lock.ts";
export { openDataFolder, type DataFolder, type DataFolderOptions, type DataFolderPaths } from "./data-folder.ts";
export { checkDatabase, checkpoint, type Database, type Statement } from "./database.ts";
export { writeFileDurably } from "./durable-file.ts";
export { FunctionStore } from "./function-store.ts";
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
export { errnoOf, mapStoreError } from "./store-errors.ts";
