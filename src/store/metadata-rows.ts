/** Rows of metadata.db as the engine sees them. Integer ids are the store's; `functionId`, `scheduleId` … are public. */
import type { FunctionConfig, FunctionLimits, Misfire, Overlap } from "../core/function-config.ts";

export interface FunctionRow {
	/** The lane id. */
	readonly id: number;
	readonly functionId: string;
	readonly name: string;
	readonly handler: string;
	readonly overrides: FunctionLimits;
	/** Its lane starts nothing. */
	readonly paused: boolean;
	/** A version's integer id. */
	readonly activeVersion: number | undefined;
	readonly createdAt: number;
}

export interface VersionRow {
	readonly id: number;
	/** A function's integer id, here and below. */
	readonly function: number;
	readonly version: string;
	readonly sha256: string;
	readonly bytes: number;
	readonly config: FunctionConfig;
	readonly createdAt: number;
}

export type DeployReason = "deploy" | "rollback";

export interface DeploymentRow {
	readonly id: number;
	readonly deploymentId: string;
	readonly function: number;
	/** A version's integer id. */
	readonly version: number;
	readonly reason: DeployReason;
	readonly deployedAt: number;
}

export interface EnvironmentRow {
	readonly function: number;
	readonly name: string;
	readonly value: string;
	readonly updatedAt: number;
}

export interface ScheduleRow {
	/** What `cron_slot` of queue.db refers to. */
	readonly id: number;
	readonly scheduleId: string;
	readonly function: number;
	readonly name: string;
	readonly cron: string;
	readonly timezone: string;
	readonly misfire: Misfire;
	readonly overlap: Overlap;
	readonly origin: "module" | "api";
	readonly paused: boolean;
	/** Any JSON value; undefined where it has none. */
	readonly data: unknown;
	readonly createdAt: number;
	/** Slots up to here never fire: when it was made, brought back, resumed, or given another expression. */
	readonly effectiveAt: number;
}

export interface SubscriptionRow {
	readonly function: number;
	readonly eventType: string;
}

/** Everything that is in force, as read at boot. */
export interface Catalogue {
	readonly functions: readonly FunctionRow[];
	readonly versions: readonly VersionRow[];
	readonly environment: readonly EnvironmentRow[];
	readonly schedules: readonly ScheduleRow[];
	readonly subscriptions: readonly SubscriptionRow[];
}

export interface FunctionDraft {
	readonly functionId: string;
	readonly name: string;
	readonly handler: string;
	readonly createdAt: number;
}

export interface VersionDraft {
	readonly function: number;
	readonly version: string;
	readonly sha256: string;
	readonly bytes: number;
	readonly config: FunctionConfig;
	readonly createdAt: number;
}

export interface ScheduleDraft {
	/** Used only where the name is new to the function: a known name keeps its id. */
	readonly scheduleId: string;
	readonly name: string;
	readonly cron: string;
	readonly timezone: string;
	readonly misfire: Misfire;
	readonly overlap: Overlap;
	readonly data: unknown;
}

export interface Activation {
	readonly function: number;
	/** A version's integer id. */
	readonly version: number;
	readonly deploymentId: string;
	readonly reason: DeployReason;
	readonly at: number;
	/** The version's own, in place of those of the version before. */
	readonly schedules: readonly ScheduleDraft[];
	readonly events: readonly string[];
}

/** Columns as SQLite gives them: booleans are 0 or 1, JSON is text, absent is null. */
export interface RawFunction {
	id: number;
	function_id: string;
	name: string;
	handler: string;
	overrides: string;
	paused: number;
	active_version: number | null;
	created_at: number;
}

export interface RawVersion {
	id: number;
	function: number;
	version: string;
	sha256: string;
	bytes: number;
	config: string;
	created_at: number;
}

export interface RawDeployment {
	id: number;
	deployment_id: string;
	function: number;
	version: number;
	reason: DeployReason;
	deployed_at: number;
}

export interface RawEnvironment {
	function: number;
	name: string;
	value: string;
	updated_at: number;
}

export interface RawSchedule {
	id: number;
	schedule_id: string;
	function: number;
	name: string;
	cron: string;
	timezone: string;
	misfire: Misfire;
	overlap: Overlap;
	origin: "module" | "api";
	paused: number;
	data: string | null;
	created_at: number;
	effective_at: number;
	removed_at: number | null;
}

export const functionOf = (raw: RawFunction): FunctionRow => ({
	id: raw.id,
	functionId: raw.function_id,
	name: raw.name,
	handler: raw.handler,
	overrides: JSON.parse(raw.overrides) as FunctionLimits,
	paused: raw.paused === 1,
	activeVersion: raw.active_version ?? undefined,
	createdAt: raw.created_at,
});

export const versionOf = (raw: RawVersion): VersionRow => ({
	id: raw.id,
	function: raw.function,
	version: raw.version,
	sha256: raw.sha256,
	bytes: raw.bytes,
	config: JSON.parse(raw.config) as FunctionConfig,
	createdAt: raw.created_at,
});

export const deploymentOf = (raw: RawDeployment): DeploymentRow => ({
	id: raw.id,
	deploymentId: raw.deployment_id,
	function: raw.function,
	version: raw.version,
	reason: raw.reason,
	deployedAt: raw.deployed_at,
});

export const environmentOf = (raw: RawEnvironment): EnvironmentRow => ({
	function: raw.function,
	name: raw.name,
	value: raw.value,
	updatedAt: raw.updated_at,
});

export const scheduleOf = (raw: RawSchedule): ScheduleRow => ({
	id: raw.id,
	scheduleId: raw.schedule_id,
	function: raw.function,
	name: raw.name,
	cron: raw.cron,
	timezone: raw.timezone,
	misfire: raw.misfire,
	overlap: raw.overlap,
	origin: raw.origin,
	paused: raw.paused === 1,
	data: raw.data === null ? undefined : (JSON.parse(raw.data) as unknown),
	createdAt: raw.created_at,
	effectiveAt: raw.effective_at,
});

/** JSON text of a schedule's data; null where it has none. */
export function dataTextOf(data: unknown): string | null {
	return data === undefined ? null : JSON.stringify(data);
}
