/**
 * Deployment: source → bundle → a worker that answers READY → version → active. And back: rollback.
 *
 * The order is what makes a bad bundle harmless: bytes are stored and fsynced first, a worker of the new version must
 * load them, and only then does one commit of metadata.db make the version active. Until that commit the version
 * before it serves; running work finishes on the version that it started on.
 */
import { createHash } from "node:crypto";
import PQueue from "p-queue";
import type { DeployRequest, DeployResult } from "../core/contracts.ts";
import { checkCron } from "../core/cron.ts";
import type { Environment } from "../core/environment.ts";
import { EngineError } from "../core/errors.ts";
import { parseFunctionConfig, type FunctionConfig } from "../core/function-config.ts";
import { newId } from "../core/ids.ts";
import { LIMITS } from "../core/limits.ts";
import { checkEventType, checkFunctionName, checkScheduleName, checkVersionName } from "../core/names.ts";
import type { Pool } from "../pool/index.ts";
import type { BundleStore, FunctionStore, ScheduleDraft, VersionRow } from "../store/index.ts";
import { build, readBundle, type Built } from "./build.ts";
import type { FunctionEntry, Registry, VersionEntry } from "./registry.ts";

export interface DeployerDeps {
	readonly environment: Environment;
	readonly registry: Registry;
	readonly store: FunctionStore;
	readonly bundles: BundleStore;
	readonly pool: Pool;
	readonly bunPath: string;
	/** Folder for builds. */
	readonly tmp: string;
	readonly register: (name: string, handler: string | undefined) => FunctionEntry;
	/** A version became active: schedules may have changed, the lane may start again. */
	readonly activated: (entry: FunctionEntry) => void;
}

export class Deployer {
	readonly #deps: DeployerDeps;
	/** Builds take a core each. */
	readonly #builds = new PQueue({ concurrency: LIMITS.buildsAtOnceMax });
	/** Deployments of one function go one after another, so that the last one asked for wins. */
	readonly #turns = new Map<string, PQueue>();

	constructor(deps: DeployerDeps) {
		this.#deps = deps;
	}

	async deploy(request: DeployRequest): Promise<DeployResult> {
		const { registry } = this.#deps;
		if (request.version !== undefined) checkVersionName(request.version);
		if (request.register !== true) registry.resolve(request.function);
		else if (registry.find(request.function) === undefined) checkFunctionName(request.function);
		return this.#inTurn(request.function, () => this.#deploy(request));
	}

	async rollback(ref: string, version: string | undefined): Promise<DeployResult> {
		const entry = this.#deps.registry.resolve(ref);
		return this.#inTurn(entry.name, async () => {
			const target = version === undefined ? this.#previous(entry) : this.#deps.registry.version(entry, version);
			return this.#activate(target, "rollback", { created: false, buildMs: 0 });
		});
	}

	/** Waits for deployments under way. */
	async idle(): Promise<void> {
		await Promise.all([...this.#turns.values()].map((turn) => turn.onIdle()));
	}

	async #inTurn<T>(ref: string, work: () => Promise<T>): Promise<T> {
		const key = this.#deps.registry.find(ref)?.name ?? ref;
		const turn = this.#turns.get(key) ?? new PQueue({ concurrency: 1 });
		this.#turns.set(key, turn);
		try {
			return await turn.add(work);
		} finally {
			if (turn.size === 0 && turn.pending === 0) this.#turns.delete(key);
		}
	}

	async #deploy(request: DeployRequest): Promise<DeployResult> {
		const { environment, registry, store, bundles, bunPath, tmp } = this.#deps;
		const began = environment.clock.monotonic();
		const built: Built =
			request.build === true
				? await this.#builds.add(() => build(bunPath, request.path, tmp))
				: { bytes: readBundle(request.path), sourcemap: undefined };
		const buildMs = Math.round(environment.clock.monotonic() - began);
		const entry = registry.find(request.function) ?? this.#deps.register(request.function, request.handler);
		const sha256 = createHash("sha256").update(built.bytes).digest("hex");
		const known = this.#known(entry, request.version, sha256);
		if (known !== undefined) return this.#activate(known, "deploy", { created: false, buildMs });

		const version = request.version ?? nextVersion(entry);
		await bundles.store(entry.functionId, version, built.bytes, built.sourcemap);
		environment.probe.hit("deploy.bundle_stored", entry.name);
		let row: VersionRow;
		let readyMs: number;
		try {
			const spec = registry.specOf(entry, version, sha256, {});
			const report = await this.#deps.pool.prove(spec);
			readyMs = report.readyMs;
			const config = checkConfig(report.config);
			// Refuses layers that contradict each other, before anything is written.
			registry.specOf(entry, version, sha256, config);
			row = store.insertVersion({
				function: entry.id,
				version,
				sha256,
				bytes: built.bytes.byteLength,
				config,
				createdAt: environment.clock.now(),
			});
		} catch (error) {
			// Its worker, if it came so far, is of no use.
			if (entry.active === undefined) this.#deps.pool.recycle(entry.functionId);
			else this.#deps.pool.activate(entry.active.spec);
			// Left there, it would keep other bytes from being this version. Where a row may have been written, it must stay.
			if (!isOutcomeUnknown(error)) await bundles.discard(entry.functionId, version);
			throw error;
		}
		environment.probe.hit("deploy.version_committed", entry.name);
		return this.#switch(registry.addVersion(row), "deploy", { created: true, buildMs, readyMs });
	}

	/** A version that the request means and that exists already. */
	#known(entry: FunctionEntry, version: string | undefined, sha256: string): VersionEntry | undefined {
		if (version === undefined) return [...entry.versions.values()].findLast((known) => known.sha256 === sha256);
		const known = entry.versions.get(version);
		if (known !== undefined && known.sha256 !== sha256) {
			throw new EngineError(
				"VERSION_CONFLICT",
				`version ${version} of ${entry.name} exists with other bytes; versions are immutable: choose another name for this one`,
			);
		}
		return known;
	}

	/** An existing version: its bytes are checked and a worker must load them, as for a new one. */
	async #activate(
		version: VersionEntry,
		reason: "deploy" | "rollback",
		told: { created: boolean; buildMs: number },
	): Promise<DeployResult> {
		const { bundles, pool } = this.#deps;
		await bundles.verify(version.entry.functionId, version.version, version.sha256);
		const { readyMs } = await pool.prove(version.spec);
		return this.#switch(version, reason, { ...told, readyMs });
	}

	#switch(
		version: VersionEntry,
		reason: "deploy" | "rollback",
		told: { created: boolean; buildMs: number; readyMs: number },
	): DeployResult {
		const { environment, registry, store, pool } = this.#deps;
		const { entry } = version;
		const events = version.moduleConfig.events ?? [];
		const { deployment } = store.activate({
			function: entry.id,
			version: version.id,
			deploymentId: newId("dep", environment.clock, environment.random),
			reason,
			at: environment.clock.now(),
			schedules: (version.moduleConfig.schedules ?? []).map((schedule) => this.#scheduleDraft(schedule)),
			events,
		});
		registry.activate(version, events);
		pool.activate(version.spec);
		this.#deps.activated(entry);
		environment.probe.hit("deploy.switched", entry.name);
		return {
			deploymentId: deployment.deploymentId,
			functionId: entry.functionId,
			name: entry.name,
			version: version.version,
			deployedAt: deployment.deployedAt,
			reason,
			created: told.created,
			sha256: version.sha256,
			buildMs: told.buildMs,
			readyMs: Math.round(told.readyMs),
		};
	}

	#scheduleDraft(schedule: NonNullable<FunctionConfig["schedules"]>[number]): ScheduleDraft {
		const { environment } = this.#deps;
		const timezone = schedule.timezone ?? "UTC";
		return {
			scheduleId: newId("sch", environment.clock, environment.random),
			name: schedule.name ?? defaultScheduleName(schedule.cron, timezone),
			cron: schedule.cron,
			timezone,
			misfire: schedule.misfire ?? "once",
			overlap: schedule.overlap ?? "skip",
			data: schedule.data,
		};
	}

	#previous(entry: FunctionEntry): VersionEntry {
		const deployment = this.#deps.store.previousDeployment(entry.id);
		if (deployment !== undefined) return this.#deps.registry.versionById(deployment.version);
		throw new EngineError(
			"VERSION_NOT_FOUND",
			`function ${entry.name} has no version before the active one; nothing to roll back to`,
		);
	}
}

/** The store failed in a way after which the next start finds out what was written. */
function isOutcomeUnknown(error: unknown): boolean {
	if (!(error instanceof EngineError)) return false;
	return error.code === "IO_ERROR" || error.code === "DATA_CORRUPT" || error.code === "STORE_ERROR";
}

/** The expression and the zone, in the characters of a name: "0 9 * * 1" in UTC is 0-9-x-x-1-UTC. */
export function defaultScheduleName(cron: string, timezone: string): string {
	const words = `${cron} ${timezone}`.replaceAll("*", "x").replaceAll(/[^A-Za-z0-9]+/g, "-");
	return checkScheduleName(words.replaceAll(/^-+|-+$/g, "").slice(0, 128));
}

/** v1, v2, …: one more than the highest number so far. */
function nextVersion(entry: FunctionEntry): string {
	let highest = 0;
	for (const version of entry.versions.keys()) {
		const number = /^v([0-9]{1,9})$/.exec(version)?.[1];
		if (number !== undefined) highest = Math.max(highest, Number(number));
	}
	return `v${highest + 1}`;
}

/** The module's exported `config`: its keys, its names, and that its schedules can fire. */
function checkConfig(value: unknown): FunctionConfig {
	if (value === undefined || value === null) return {};
	const config = parseFunctionConfig("config", value);
	for (const schedule of config.schedules ?? []) {
		if (schedule.name !== undefined) checkScheduleName(schedule.name);
		checkCron({ expression: schedule.cron, timezone: schedule.timezone ?? "UTC" }, Date.UTC(2000, 0, 1));
	}
	for (const type of config.events ?? []) checkEventType(type);
	return config;
}
