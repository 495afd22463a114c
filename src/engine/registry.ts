/**
 * Functions and versions in memory: what a name means, what is active, and with which configuration.
 *
 * A mirror of metadata.db, filled at boot and changed only after the store has committed. Resolving a request costs
 * one Map lookup.
 */
import type { FunctionRecord, VersionRecord } from "../core/contracts.ts";
import { EngineError } from "../core/errors.ts";
import {
	resolveConfig,
	type FunctionConfig,
	type FunctionLimits,
	type ResolvedConfig,
} from "../core/function-config.ts";
import type { WorkerSpec } from "../pool/index.ts";
import { Lane } from "../queue/index.ts";
import type { Catalogue, FunctionRow, VersionRow } from "../store/index.ts";

export interface VersionEntry {
	/** Integer id in metadata.db; what rows of queue.db are pinned to. */
	readonly id: number;
	readonly entry: FunctionEntry;
	readonly version: string;
	readonly sha256: string;
	readonly bytes: number;
	readonly createdAt: number;
	readonly moduleConfig: FunctionConfig;
	/** With the configuration in force; replaced when that changes. */
	spec: WorkerSpec;
}

export interface FunctionEntry {
	/** Integer id in metadata.db; the lane's id. */
	readonly id: number;
	readonly functionId: string;
	readonly name: string;
	readonly handler: string;
	readonly createdAt: number;
	readonly lane: Lane;
	readonly versions: Map<string, VersionEntry>;
	overrides: FunctionLimits;
	env: Readonly<Record<string, string>>;
	active: VersionEntry | undefined;
	/** Event types it is subscribed to. */
	events: readonly string[];
}

export interface RegistryDeps {
	readonly defaults: FunctionLimits;
	readonly bundlePath: (functionId: string, version: string) => string;
}

export class Registry {
	readonly #deps: RegistryDeps;
	readonly #byId = new Map<number, FunctionEntry>();
	/** By `fn_…` and by name; their shapes are disjoint. */
	readonly #byRef = new Map<string, FunctionEntry>();
	readonly #versions = new Map<number, VersionEntry>();
	readonly #subscribers = new Map<string, Set<FunctionEntry>>();

	constructor(deps: RegistryDeps) {
		this.#deps = deps;
	}

	load(catalogue: Catalogue): void {
		for (const row of catalogue.functions) this.addFunction(row);
		for (const { function: id, name, value } of catalogue.environment) {
			const entry = this.byId(id);
			entry.env = { ...entry.env, [name]: value };
		}
		for (const row of catalogue.versions) this.addVersion(row);
		const events = Map.groupBy(catalogue.subscriptions, (row) => row.function);
		for (const row of catalogue.functions) {
			if (row.activeVersion === undefined) continue;
			const types = (events.get(row.id) ?? []).map((subscription) => subscription.eventType);
			this.activate(this.versionById(row.activeVersion), types);
		}
	}

	addFunction(row: FunctionRow): FunctionEntry {
		const config = this.#resolve(row.overrides, {});
		const entry: FunctionEntry = {
			id: row.id,
			functionId: row.functionId,
			name: row.name,
			handler: row.handler,
			createdAt: row.createdAt,
			lane: new Lane(row.id, row.functionId, {
				limit: config.concurrency,
				maxQueued: config.maxQueued,
				paused: row.paused,
			}),
			versions: new Map(),
			overrides: row.overrides,
			env: {},
			active: undefined,
			events: [],
		};
		this.#byId.set(entry.id, entry);
		this.#byRef.set(entry.functionId, entry);
		this.#byRef.set(entry.name, entry);
		return entry;
	}

	addVersion(row: VersionRow): VersionEntry {
		const entry = this.byId(row.function);
		const known = entry.versions.get(row.version);
		if (known !== undefined) return known;
		const { id, version, sha256, bytes, createdAt, config: moduleConfig } = row;
		const spec = this.specOf(entry, version, sha256, moduleConfig);
		const made: VersionEntry = { id, entry, version, sha256, bytes, createdAt, moduleConfig, spec };
		entry.versions.set(version, made);
		this.#versions.set(id, made);
		return made;
	}

	/** The version is the active one from now on; its lane takes its limits. */
	activate(version: VersionEntry, events: readonly string[]): void {
		const { entry } = version;
		for (const type of entry.events) this.#subscribers.get(type)?.delete(entry);
		entry.events = events;
		for (const type of events) {
			const set = this.#subscribers.get(type) ?? new Set();
			set.add(entry);
			this.#subscribers.set(type, set);
		}
		entry.active = version;
		this.#limitLane(entry);
	}

	/** Overrides or environment changed: every version of the function gets a new spec. */
	refresh(entry: FunctionEntry, change: { overrides?: FunctionLimits; env?: Readonly<Record<string, string>> }): void {
		entry.overrides = change.overrides ?? entry.overrides;
		entry.env = change.env ?? entry.env;
		for (const version of entry.versions.values())
			version.spec = this.specOf(entry, version.version, version.sha256, version.moduleConfig);
		this.#limitLane(entry);
	}

	/** Throws BAD_CONFIG where the layers contradict each other. */
	specOf(entry: FunctionEntry, version: string, sha256: string, moduleConfig: FunctionConfig): WorkerSpec {
		return {
			// With the bytes: a version that was refused may come again, mended, under the same name.
			key: `${entry.functionId}/${version}/${sha256}`,
			functionId: entry.functionId,
			functionName: entry.name,
			version,
			bundlePath: this.#deps.bundlePath(entry.functionId, version),
			handler: entry.handler,
			config: this.#resolve(entry.overrides, moduleConfig),
			env: entry.env,
		};
	}

	#resolve(overrides: FunctionLimits, moduleConfig: FunctionConfig): ResolvedConfig {
		return resolveConfig([overrides, moduleConfig, this.#deps.defaults]);
	}

	#limitLane(entry: FunctionEntry): void {
		const config = this.configOf(entry);
		entry.lane.limit = config.concurrency;
		entry.lane.maxQueued = config.maxQueued;
	}

	configOf(entry: FunctionEntry): ResolvedConfig {
		return entry.active?.spec.config ?? this.#resolve(entry.overrides, {});
	}

	/** By id or name. Throws FUNCTION_NOT_FOUND. */
	resolve(ref: string): FunctionEntry {
		const entry = this.#byRef.get(ref);
		if (entry !== undefined) return entry;
		throw new EngineError(
			"FUNCTION_NOT_FOUND",
			`no function ${JSON.stringify(ref.slice(0, 140))}; list them with: bunbase functions`,
		);
	}

	find(ref: string): FunctionEntry | undefined {
		return this.#byRef.get(ref);
	}

	byId(id: number): FunctionEntry {
		const entry = this.#byId.get(id);
		if (entry === undefined) throw new Error(`no function with the integer id ${id}`);
		return entry;
	}

	versionById(id: number): VersionEntry {
		const version = this.#versions.get(id);
		if (version === undefined) throw new Error(`no version with the integer id ${id}`);
		return version;
	}

	/** Throws VERSION_NOT_FOUND. */
	version(entry: FunctionEntry, version: string): VersionEntry {
		const found = entry.versions.get(version);
		if (found !== undefined) return found;
		throw new EngineError(
			"VERSION_NOT_FOUND",
			`function ${entry.name} has no version ${JSON.stringify(version)}; list them with: bunbase versions ${entry.name}`,
		);
	}

	/** Deployed functions that are subscribed to this event type, in a stable order. */
	subscribers(type: string): FunctionEntry[] {
		return [...(this.#subscribers.get(type) ?? [])].sort((a, b) => a.id - b.id);
	}

	all(): IterableIterator<FunctionEntry> {
		return this.#byId.values();
	}

	get size(): number {
		return this.#byId.size;
	}

	functionRecord(entry: FunctionEntry): FunctionRecord {
		return {
			functionId: entry.functionId,
			name: entry.name,
			runtime: "bun",
			handler: entry.handler,
			status: entry.active !== undefined ? "DEPLOYED" : entry.versions.size > 0 ? "BUILT" : "REGISTERED",
			activeVersion: entry.active?.version,
			createdAt: entry.createdAt,
			overrides: entry.overrides,
			config: this.configOf(entry),
		};
	}

	versionRecord(version: VersionEntry): VersionRecord {
		return {
			functionId: version.entry.functionId,
			version: version.version,
			sha256: version.sha256,
			bytes: version.bytes,
			createdAt: version.createdAt,
			active: version.entry.active === version,
			config: version.moduleConfig,
		};
	}
}
