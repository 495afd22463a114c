/**
 * Functions, versions, deployments, environment and triggers, over metadata.db. Each method is one transaction.
 *
 * - At most one version of a function is active; making one active is one commit together with its deployment record,
 *   its subscriptions and its schedules.
 * - A version never changes (the schema's trigger says so too): the same name with other bytes is VERSION_CONFLICT.
 * - A schedule keeps its id, and whether it is paused, for as long as its name lives in its function, also when the name
 *   goes and comes back: its cursor in queue.db hangs on the id. A name belongs to the module or to the API, not to both.
 *
 * It checks what only the rows can tell. Names, cron expressions and configs were checked by the caller.
 */
import type { FunctionLimits } from "../core/function-config.ts";
import { EngineError } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";
import { CommitCount } from "./commit-count.ts";
import type { Database } from "./database.ts";
import type { MetadataLevel } from "./high-water.ts";
import { prepareMetadataStatements, type MetadataStatements } from "./metadata-statements.ts";
import {
	dataTextOf,
	deploymentOf,
	environmentOf,
	functionOf,
	scheduleOf,
	versionOf,
	type Activation,
	type Catalogue,
	type DeploymentRow,
	type EnvironmentRow,
	type FunctionDraft,
	type FunctionRow,
	type ScheduleDraft,
	type ScheduleRow,
	type VersionDraft,
	type VersionRow,
} from "./metadata-rows.ts";
import { isFailStop, mapStoreError } from "./store-errors.ts";

export class FunctionStore {
	readonly #database: Database;
	readonly #statements: MetadataStatements;
	readonly #count: CommitCount;
	readonly #broken: (error: EngineError) => void;

	/** `broken` is told of an error after which nobody knows what is on the disk. */
	constructor(metadata: Database, broken: (error: EngineError) => void = () => undefined) {
		this.#database = metadata;
		this.#count = new CommitCount(metadata);
		this.#broken = broken;
		this.#statements = prepareMetadataStatements(metadata);
	}

	/** What metadata.db must at least contain from now on. */
	get level(): MetadataLevel {
		return { commits: this.#count.value };
	}

	/** One consistent picture. */
	load(): Catalogue {
		return this.#read(() => ({
			functions: this.#statements.functionList.all().map(functionOf),
			versions: this.#statements.versionList.all().map(versionOf),
			environment: this.#statements.environmentList.all().map(environmentOf),
			schedules: this.#statements.scheduleList.all().map(scheduleOf),
			subscriptions: this.#statements.subscriptionList.all(),
		}));
	}

	insertFunction(draft: FunctionDraft): FunctionRow {
		return this.#transaction(() =>
			functionOf(
				one(this.#statements.functionInsert.get(draft.functionId, draft.name, draft.handler, draft.createdAt)),
			),
		);
	}

	setOverrides(id: number, overrides: FunctionLimits): FunctionRow {
		return this.#transaction(() => {
			this.#statements.functionSetOverrides.run(JSON.stringify(overrides), id);
			return this.#function(id);
		});
	}

	setPaused(id: number, paused: boolean): FunctionRow {
		return this.#transaction(() => {
			this.#statements.functionSetPaused.run(paused ? 1 : 0, id);
			return this.#function(id);
		});
	}

	/** The same version with the same bytes again is the version that is there. */
	insertVersion(draft: VersionDraft): VersionRow {
		const { function: fn, version, sha256, bytes, config, createdAt } = draft;
		return this.#transaction(() => {
			const known = this.#statements.versionGetByName.get(fn, version);
			if (known === undefined) {
				const text = JSON.stringify(config);
				return versionOf(one(this.#statements.versionInsert.get(fn, version, sha256, bytes, text, createdAt)));
			}
			if (known.sha256 === sha256) return versionOf(known);
			throw new EngineError(
				"VERSION_CONFLICT",
				`version ${version} exists with other bytes (${known.sha256.slice(0, 12)}…, not ${sha256.slice(0, 12)}…); choose another version`,
			);
		});
	}

	listVersions(id: number): VersionRow[] {
		return this.#read(() => this.#statements.versionListOfFunction.all(id).map(versionOf));
	}

	findVersion(id: number, version: string): VersionRow | undefined {
		return this.#read(() => optional(this.#statements.versionGetByName.get(id, version), versionOf));
	}

	/** The oldest version of the function with these bytes. */
	findVersionBySha(id: number, sha256: string): VersionRow | undefined {
		return this.#read(() => optional(this.#statements.versionGetBySha.get(id, sha256), versionOf));
	}

	/** Makes a version the active one, with its own triggers. Throws BAD_CONFIG where a schedule's name is the API's. */
	activate(activation: Activation): { readonly deployment: DeploymentRow; readonly schedules: readonly ScheduleRow[] } {
		const { function: fn, version, deploymentId, reason, at } = activation;
		return this.#transaction(() => {
			const deployment = one(this.#statements.deploymentInsert.get(deploymentId, fn, version, reason, at));
			this.#statements.functionSetActive.run(version, fn);
			this.#statements.subscriptionDeleteOfFunction.run(fn);
			for (const eventType of activation.events) this.#statements.subscriptionInsert.run(fn, eventType);
			this.#replaceModuleSchedules(fn, activation.schedules, at);
			return { deployment: deploymentOf(deployment), schedules: this.#schedules(fn) };
		});
	}

	/** Newest first. */
	listDeployments(id: number, limit: number = LIMITS.listPageMax): DeploymentRow[] {
		return this.#read(() => this.#statements.deploymentList.all(id, limit).map(deploymentOf));
	}

	/** The last deployment of another version than the active one: where a rollback without a version goes. */
	previousDeployment(id: number): DeploymentRow | undefined {
		return this.#read(() => optional(this.#statements.deploymentGetPrevious.get(id), deploymentOf));
	}

	/** With values: for workers only. */
	listEnvironment(id: number): EnvironmentRow[] {
		return this.#read(() => this.#statements.environmentListOfFunction.all(id).map(environmentOf));
	}

	/** All or none. Throws BAD_CONFIG where the function's variables would be too large. */
	setEnvironment(id: number, values: Readonly<Record<string, string>>, at: number): void {
		this.#transaction(() => {
			for (const [name, value] of Object.entries(values)) this.#statements.environmentPut.run(id, name, value, at);
			const bytes = this.#statements.environmentCountBytes.get(id) ?? 0;
			if (bytes <= LIMITS.envBytesMax) return;
			throw new EngineError(
				"BAD_CONFIG",
				`the environment would have ${bytes} bytes; expected at most ${LIMITS.envBytesMax} in all`,
			);
		});
	}

	/** Names that are not set are no error. */
	unsetEnvironment(id: number, names: readonly string[]): void {
		this.#transaction(() => {
			for (const name of names) this.#statements.environmentDelete.run(id, name);
		});
	}

	/** Live ones, of one function or of all. */
	listSchedules(id?: number): ScheduleRow[] {
		return this.#read(() =>
			id === undefined ? this.#statements.scheduleList.all().map(scheduleOf) : this.#schedules(id),
		);
	}

	/** Makes or changes a schedule of the API. Throws BAD_CONFIG where the name is the module's. */
	putSchedule(fn: number, draft: ScheduleDraft, at: number): ScheduleRow {
		return this.#transaction(() => {
			const known = this.#statements.scheduleGetByName.get(fn, draft.name);
			if (known !== undefined && known.removed_at === null && known.origin === "module") {
				throw new EngineError(
					"BAD_CONFIG",
					`the schedule ${draft.name} comes from the function's own config; change it there, or choose another name`,
				);
			}
			return this.#put(fn, draft, "api", at);
		});
	}

	pauseSchedule(scheduleId: string, paused: boolean, at: number): ScheduleRow {
		return this.#transaction(() => {
			const schedule = this.#schedule(scheduleId);
			if (schedule.paused === paused) return schedule;
			if (paused) this.#statements.schedulePause.run(schedule.id);
			else this.#statements.scheduleResume.run(at, schedule.id);
			return this.#schedule(scheduleId);
		});
	}

	/** Throws BAD_CONFIG for one of the module: the next activation would bring it back. */
	removeSchedule(scheduleId: string, at: number): ScheduleRow {
		return this.#transaction(() => {
			const schedule = this.#schedule(scheduleId);
			if (schedule.origin === "module") {
				throw new EngineError(
					"BAD_CONFIG",
					`the schedule ${schedule.name} comes from the function's own config; pause it, or deploy a version without it`,
				);
			}
			this.#statements.scheduleRemove.run(at, schedule.id);
			return schedule;
		});
	}

	#replaceModuleSchedules(fn: number, drafts: readonly ScheduleDraft[], at: number): void {
		const live = this.#schedules(fn);
		const named = new Set<string>();
		for (const draft of drafts) {
			if (named.has(draft.name)) {
				throw new EngineError("BAD_CONFIG", `config.schedules: two are named ${draft.name}; give each its own name`);
			}
			named.add(draft.name);
			if (live.some((schedule) => schedule.name === draft.name && schedule.origin === "api")) {
				throw new EngineError(
					"BAD_CONFIG",
					`config.schedules: the name ${draft.name} belongs to a schedule that was made by CLI or API; remove that one, or choose another name`,
				);
			}
			this.#put(fn, draft, "module", at);
		}
		for (const schedule of live) {
			if (schedule.origin === "module" && !named.has(schedule.name)) {
				this.#statements.scheduleRemove.run(at, schedule.id);
			}
		}
	}

	#put(fn: number, draft: ScheduleDraft, origin: ScheduleRow["origin"], at: number): ScheduleRow {
		const data = dataTextOf(draft.data);
		return scheduleOf(one(this.#statements.schedulePut.get({ ...draft, fn, origin, data, at })));
	}

	#schedules(fn: number): ScheduleRow[] {
		return this.#statements.scheduleListOfFunction.all(fn).map(scheduleOf);
	}

	#schedule(scheduleId: string): ScheduleRow {
		const raw = this.#statements.scheduleGet.get(scheduleId);
		if (raw !== undefined) return scheduleOf(raw);
		throw new EngineError("SCHEDULE_NOT_FOUND", `no schedule has the id ${scheduleId}; list them to see their ids`);
	}

	#function(id: number): FunctionRow {
		const raw = this.#statements.functionGet.get(id);
		if (raw !== undefined) return functionOf(raw);
		throw new EngineError("FUNCTION_NOT_FOUND", `no function has the integer id ${id}`);
	}

	/** BEGIN IMMEDIATE … COMMIT; an error of the database comes out as an EngineError. */
	#transaction<T>(work: () => T): T {
		try {
			const answer = this.#database
				.transaction(() => {
					const answer = work();
					this.#count.write();
					return answer;
				})
				.immediate();
			this.#count.committed();
			return answer;
		} catch (error) {
			throw this.#failed(error, "writing metadata.db");
		}
	}

	#read<T>(work: () => T): T {
		try {
			return this.#database.transaction(work).deferred();
		} catch (error) {
			throw this.#failed(error, "reading metadata.db");
		}
	}

	/** Fail-stop: a commit whose fsync failed may be there at the next start, so what memory says may be wrong. */
	#failed(error: unknown, doing: string): EngineError {
		const mapped = mapStoreError(error, doing);
		if (mapped !== error && isFailStop(mapped)) this.#broken(mapped);
		return mapped;
	}
}

function one<T>(row: T | undefined): T {
	if (row === undefined) throw new Error("RETURNING gave no row");
	return row;
}

function optional<Raw, Row>(raw: Raw | undefined, rowOf: (raw: Raw) => Row): Row | undefined {
	return raw === undefined ? undefined : rowOf(raw);
}
