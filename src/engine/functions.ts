/** Functions as their owner sees them: registered, configured, given an environment, with versions and deployments. */
import type * as Contract from "../core/contracts.ts";
import type { Environment } from "../core/environment.ts";
import { EngineError } from "../core/errors.ts";
import { parseFunctionLimits, type FunctionLimits } from "../core/function-config.ts";
import { newId } from "../core/ids.ts";
import { checkEnvName, checkFunctionName } from "../core/names.ts";
import type { Pool } from "../pool/index.ts";
import type { Queue } from "../queue/index.ts";
import type { FunctionStore } from "../store/index.ts";
import type { FunctionEntry, Registry } from "./registry.ts";

export interface FunctionsDeps {
	readonly environment: Environment;
	readonly store: FunctionStore;
	readonly registry: Registry;
	readonly queue: Queue;
	readonly pool: Pool;
}

export class Functions {
	readonly #deps: FunctionsDeps;

	constructor(deps: FunctionsDeps) {
		this.#deps = deps;
	}

	registerFunction(request: { name: string; runtime?: string; handler?: string }): Contract.FunctionRecord {
		if ((request.runtime ?? "bun") !== "bun") {
			throw new EngineError(
				"UNSUPPORTED_RUNTIME",
				`expected the runtime "bun", got ${JSON.stringify(request.runtime?.slice(0, 80))}`,
			);
		}
		const { registry } = this.#deps;
		const known = registry.find(checkFunctionName(request.name));
		return registry.functionRecord(known ?? this.register(request.name, request.handler));
	}

	register(name: string, handler: string | undefined): FunctionEntry {
		const { store, registry, queue } = this.#deps;
		const { clock, random } = this.#deps.environment;
		const row = store.insertFunction({
			functionId: newId("fn", clock, random),
			name: checkFunctionName(name),
			handler: handler === undefined || handler === "" ? "default" : handler,
			createdAt: clock.now(),
		});
		const entry = registry.addFunction(row);
		queue.lanes.add(entry.lane);
		return entry;
	}

	getFunction(idOrName: string): Contract.FunctionRecord {
		const { registry } = this.#deps;
		return registry.functionRecord(registry.resolve(idOrName));
	}

	listFunctions(): readonly Contract.FunctionRecord[] {
		const { registry } = this.#deps;
		return [...registry.all()].map((entry) => registry.functionRecord(entry));
	}

	configureFunction(idOrName: string, changes: Record<string, unknown>): Contract.FunctionRecord {
		const { store, registry, pool, queue } = this.#deps;
		const entry = registry.resolve(idOrName);
		const overrides = parseFunctionLimits("overrides", mergeOverrides(entry.overrides, changes));
		// Refuses contradictions before anything is written.
		for (const version of entry.versions.values()) {
			registry.specOf({ ...entry, overrides } as FunctionEntry, version.version, version.sha256, version.moduleConfig);
		}
		store.setOverrides(entry.id, overrides);
		registry.refresh(entry, { overrides });
		if (entry.active !== undefined) pool.activate(entry.active.spec);
		queue.consider(entry.lane);
		return registry.functionRecord(entry);
	}

	/** A paused lane takes work and starts none. */
	pauseLane(idOrName: string, paused: boolean): void {
		const { store, registry, queue } = this.#deps;
		const entry = registry.resolve(idOrName);
		store.setPaused(entry.id, paused);
		entry.lane.paused = paused;
		queue.consider(entry.lane);
	}

	listVersions(idOrName: string): readonly Contract.VersionRecord[] {
		const { registry } = this.#deps;
		return [...registry.resolve(idOrName).versions.values()]
			.map((version) => registry.versionRecord(version))
			.toReversed();
	}

	listDeployments(idOrName: string): readonly Contract.DeploymentRecord[] {
		const { store, registry } = this.#deps;
		const entry = registry.resolve(idOrName);
		return store.listDeployments(entry.id).map(({ deploymentId, version, deployedAt, reason }) => ({
			deploymentId,
			functionId: entry.functionId,
			version: registry.versionById(version).version,
			deployedAt,
			reason,
		}));
	}

	listEnvironment(idOrName: string): readonly { readonly name: string; readonly updatedAt: number }[] {
		const { store, registry } = this.#deps;
		return store.listEnvironment(registry.resolve(idOrName).id).map(({ name, updatedAt }) => ({ name, updatedAt }));
	}

	setEnvironment(idOrName: string, values: Readonly<Record<string, string>>): void {
		const { store, registry } = this.#deps;
		const entry = registry.resolve(idOrName);
		for (const name of Object.keys(values)) checkEnvName(name);
		store.setEnvironment(entry.id, values, this.#deps.environment.clock.now());
		this.#refreshEnvironment(entry);
	}

	unsetEnvironment(idOrName: string, names: readonly string[]): void {
		const { store, registry } = this.#deps;
		const entry = registry.resolve(idOrName);
		store.unsetEnvironment(entry.id, names);
		this.#refreshEnvironment(entry);
	}

	#refreshEnvironment(entry: FunctionEntry): void {
		const { store, registry, pool } = this.#deps;
		const env = Object.fromEntries(store.listEnvironment(entry.id).map(({ name, value }) => [name, value]));
		registry.refresh(entry, { env });
		pool.recycle(entry.functionId);
		if (entry.active !== undefined) pool.activate(entry.active.spec);
	}
}

/** Keys replace keys, also inside `retry`; null removes one. A map, so that `__proto__` is a key, and refused like one. */
function mergeOverrides(before: FunctionLimits, changes: Record<string, unknown>): Record<string, unknown> {
	const merged = new Map<string, unknown>(Object.entries(before));
	for (const [key, value] of Object.entries(changes)) {
		if (value === null) merged.delete(key);
		else if (key === "retry" && typeof value === "object" && !Array.isArray(value)) {
			const retry = mergeOverrides((before.retry ?? {}) as FunctionLimits, value as Record<string, unknown>);
			if (Object.keys(retry).length === 0) merged.delete(key);
			else merged.set(key, retry);
		} else merged.set(key, value);
	}
	return Object.fromEntries(merged);
}
