/** Which parts an engine has and what each is given: the wiring, and nothing else. */
import type { Environment } from "../core/environment.ts";
import type { EngineError } from "../core/errors.ts";
import { parseInvocationId } from "../core/ids.ts";
import { LIMITS } from "../core/limits.ts";
import type { ResolvedOptions } from "../core/options.ts";
import { createPool, type Pool, type PoolDependencies } from "../pool/index.ts";
import { Queue } from "../queue/index.ts";
import { BundleStore, FunctionStore, LogStore, type DataFolder, type Levels } from "../store/index.ts";
import { Backups } from "./backup.ts";
import { Deployer } from "./deploy.ts";
import { Dispatcher } from "./dispatcher.ts";
import { Functions } from "./functions.ts";
import { Invocations } from "./invocations.ts";
import { Maintenance } from "./maintenance.ts";
import { Registry } from "./registry.ts";
import { Telemetry } from "./telemetry.ts";
import { Triggers } from "./triggers.ts";
import { Views } from "./views.ts";
import { Waiters } from "./waiters.ts";

/** What exists between start and stop. */
export interface Parts {
	readonly folder: DataFolder;
	readonly bundles: BundleStore;
	readonly logs: LogStore;
	readonly registry: Registry;
	readonly pool: Pool;
	readonly queue: Queue;
	readonly waiters: Waiters;
	readonly invocations: Invocations;
	readonly functions: Functions;
	readonly deployer: Deployer;
	readonly triggers: Triggers;
	readonly views: Views;
	readonly maintenance: Maintenance;
	/** What the databases must at least contain from now on. */
	readonly levels: () => Levels;
	readonly backups: Backups;
}

export interface AssembleDeps {
	readonly options: ResolvedOptions;
	readonly environment: Environment;
	readonly folder: DataFolder;
	readonly bunPath: string;
	readonly startedAt: number;
	readonly draining: () => boolean;
	/** The store failed in a way that cannot be gone on from. */
	readonly broken: (error: EngineError) => void;
	/** Calls back at the end of this turn of the event loop. */
	readonly defer: (flush: () => void) => void;
	/** Processes that are none; default: real ones. */
	readonly processes?: Required<Pick<PoolDependencies, "spawn" | "readMemory">>;
}

export function assemble(deps: AssembleDeps): Parts {
	const { options, environment, folder, bunPath, startedAt, draining, broken, defer } = deps;
	const store = new FunctionStore(folder.metadata, broken);
	const bundles = new BundleStore(folder.paths);
	const logs = new LogStore({ database: folder.logs, folder: folder.paths.logs, environment });
	const waiters = new Waiters();
	const telemetry = new Telemetry();
	const registry = new Registry({
		defaults: options.defaults,
		bundlePath: (functionId, version) => bundles.path(functionId, version),
	});
	registry.load(store.load());

	const pool = createPool({
		environment,
		bunPath,
		tmpDir: folder.paths.tmp,
		instanceId: folder.instanceId,
		maxWorkersTotal: options.maxWorkersTotal,
		spareWorkers: options.spareWorkers,
		...deps.processes,
		events: {
			capacity(functionId) {
				const entry = registry.find(functionId);
				if (entry !== undefined) queue.consider(entry.lane);
			},
			log(line) {
				const entry = registry.find(line.functionId);
				if (entry === undefined) return;
				const seq = line.invocationId === undefined ? undefined : parseInvocationId(line.invocationId)?.seq;
				logs.append({ ...line, lane: entry.id, seq });
			},
		},
	});
	const dispatcher = new Dispatcher({ environment, registry, pool, queue: () => queue });
	const queue: Queue = new Queue({
		database: folder.queue,
		disk: folder.queueDisk,
		environment,
		slots: dispatcher,
		names: {
			functionOf: (lane) => registry.byId(lane),
			versionOf: (version) => registry.versionById(version).version,
		},
		resultRetentionMs: options.resultRetentionMs,
		defer,
		claimed: (claims) => dispatcher.send(claims),
		ended(end) {
			telemetry.endedInvocation(registry.byId(end.lane.id).name, end);
			waiters.ended(end.seq, end);
		},
		awaited: (end) => waiters.has(end.seq),
		retryOf: (_lane, version) => registry.versionById(version).spec.config.retry,
		freeBallast: () => folder.ballast.free(),
		spaceLow: () => folder.keeper.spaceLow || folder.ballast.givenUp,
		broken,
	});
	for (const entry of registry.all()) queue.lanes.add(entry.lane);

	const functions = new Functions({ environment, store, registry, queue, pool });
	const triggers = new Triggers({ environment, registry, store, queue });
	const deployer = new Deployer({
		environment,
		registry,
		store,
		bundles,
		pool,
		bunPath,
		tmp: folder.paths.tmp,
		register: (name, handler) => functions.register(name, handler),
		activated(entry) {
			queue.consider(entry.lane);
			triggers.schedulesChanged();
		},
	});
	const invocations = new Invocations({ environment, registry, queue, pool, waiters });
	const views = new Views({
		environment,
		folder,
		logs,
		registry,
		queue,
		pool,
		telemetry,
		waiters,
		startedAt,
		draining,
	});
	const maintenance = new Maintenance(environment, [
		{ name: "prune results", step: () => queue.prune() },
		{
			name: "prune logs",
			step: () => logs.prune(environment.clock.now() - options.logRetentionMs, LIMITS.pruneStepRows) > 0,
		},
		{
			name: "restore ballast",
			step() {
				folder.ballast.restore();
				return false;
			},
		},
	]);
	const backups = new Backups({
		environment,
		root: folder.paths.root,
		queue: folder.queue,
		metadata: folder.metadata,
	});
	return {
		folder,
		bundles,
		logs,
		registry,
		pool,
		queue,
		waiters,
		invocations,
		functions,
		deployer,
		triggers,
		views,
		maintenance,
		levels: () => ({ queue: queue.level, metadata: store.level }),
		backups,
	};
}
