/**
 * The versions that the pool knows: which have workers or want some, which one is active for its function, and how
 * long their workers may stay empty. A version that has nothing and wants nothing is forgotten, so that memory does
 * not grow with deployments.
 */
import type { WorkerSpec } from "./contract.ts";
import { VersionWorkers } from "./version-workers.ts";
import type { Worker } from "./worker.ts";

/** Workers of a replaced version serve what is pinned to it and leave soon after. */
const SUPERSEDED_IDLE_MS = 1_000;

export class Versions {
	readonly #versions = new Map<string, VersionWorkers>();
	/** The active version of each function. */
	readonly #active = new Map<string, WorkerSpec>();

	/** The version, made where it is new; it takes the newest spec that was given. */
	of(spec: WorkerSpec): VersionWorkers {
		let version = this.#versions.get(spec.key);
		if (version === undefined) {
			version = new VersionWorkers(spec);
			this.#versions.set(spec.key, version);
		} else if (version.spec !== spec) version.spec = spec;
		return version;
	}

	get(key: string): VersionWorkers | undefined {
		return this.#versions.get(key);
	}

	all(): IterableIterator<VersionWorkers> {
		return this.#versions.values();
	}

	active(): IterableIterator<WorkerSpec> {
		return this.#active.values();
	}

	activate(spec: WorkerSpec): void {
		this.of(spec);
		this.#active.set(spec.functionId, spec);
		for (const version of this.#versions.values()) {
			if (version.spec.functionId === spec.functionId) version.superseded = version.spec.key !== spec.key;
		}
	}

	/** How long this worker may stay empty; Infinity where `warmWorkers` keeps it. */
	idleMs(worker: Worker): number {
		const { key, functionId, config } = worker.spec;
		const version = this.#versions.get(key);
		if (version === undefined || version.superseded) return Math.min(config.idleTimeoutMs, SUPERSEDED_IDLE_MS);
		const active = this.#active.get(functionId);
		const kept = active?.key === key ? active.config.warmWorkers : 0;
		return version.staying <= kept ? Infinity : config.idleTimeoutMs;
	}

	/** Forgets a version without workers and demand, unless it is active or its breaker remembers failed starts. */
	forget(key: string, wanted: boolean): void {
		const version = this.#versions.get(key);
		if (version === undefined || version.workers.length > 0 || wanted) return;
		if (!version.breaker.closed || this.#active.get(version.spec.functionId)?.key === key) return;
		this.#versions.delete(key);
	}
}
