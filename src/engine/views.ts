/** What somebody sees who looks at the engine: lanes, workers, logs, metrics, totals. Nothing here changes anything. */
import { statSync } from "node:fs";
import { join } from "node:path";
import type * as Contract from "../core/contracts.ts";
import type { Environment } from "../core/environment.ts";
import type { Pool } from "../pool/index.ts";
import type { Queue } from "../queue/index.ts";
import type { DataFolder, LogStore } from "../store/index.ts";
import type { FunctionEntry, Registry } from "./registry.ts";
import type { Telemetry } from "./telemetry.ts";
import type { Waiters } from "./waiters.ts";
import { VERSION } from "./version.ts";

export interface ViewsDeps {
	readonly environment: Environment;
	readonly folder: DataFolder;
	readonly logs: LogStore;
	readonly registry: Registry;
	readonly queue: Queue;
	readonly pool: Pool;
	readonly telemetry: Telemetry;
	readonly waiters: Waiters;
	readonly startedAt: number;
	readonly draining: () => boolean;
}

export class Views {
	readonly #deps: ViewsDeps;

	constructor(deps: ViewsDeps) {
		this.#deps = deps;
	}

	listLanes(): readonly Contract.LaneRecord[] {
		return [...this.#deps.registry.all()].map((entry) => this.#laneRecord(entry));
	}

	#laneRecord(entry: FunctionEntry): Contract.LaneRecord {
		const { lane } = entry;
		return {
			functionId: entry.functionId,
			functionName: entry.name,
			running: lane.running,
			limit: lane.limit,
			ready: lane.ready,
			delayed: lane.delayed,
			maxQueued: lane.maxQueued,
			paused: lane.paused,
			blocked: entry.active === undefined ? undefined : this.#deps.pool.blocked(entry.active.spec.key),
		};
	}

	getLane(idOrName: string): Contract.LaneRecord {
		return this.#laneRecord(this.#deps.registry.resolve(idOrName));
	}

	listWorkers(): readonly Contract.WorkerRecord[] {
		return this.#deps.pool.workers();
	}

	readLogs(filter: Contract.LogFilter): Contract.LogPage {
		const { logs, registry, queue } = this.#deps;
		const seq = filter.invocationId === undefined ? undefined : queue.read.row(filter.invocationId).seq;
		const lane = filter.function === undefined ? undefined : registry.resolve(filter.function).id;
		const page = logs.read({ ...filter, lane, seq });
		return {
			total: page.total,
			logs: page.rows.map((row) => ({
				id: row.id,
				functionId: registry.byId(row.lane).functionId,
				invocationId: row.seq === undefined ? undefined : queue.read.idOf(row.seq),
				attempt: row.attempt,
				level: row.level,
				message: row.message,
				metadata: row.metadata,
				at: row.at,
			})),
		};
	}

	waitForLogs(after: number, timeoutMs: number, signal?: AbortSignal): Promise<void> {
		const { logs } = this.#deps;
		return new Promise((resolve) => {
			const done = (): void => {
				timer.cancel();
				signal?.removeEventListener("abort", done);
				unsubscribe();
				resolve();
			};
			const unsubscribe = logs.onAppend(done);
			const timer = this.#deps.environment.clock.setTimer(timeoutMs, done);
			if (signal?.aborted === true || logs.lastId > after) done();
			else signal?.addEventListener("abort", done, { once: true });
		});
	}

	getMetrics(idOrName: string, period: Contract.MetricsPeriod): Contract.MetricsRecord {
		const { queue, registry } = this.#deps;
		const row = queue.read.metrics(registry.resolve(idOrName).id, period);
		return {
			invocations: row.invocations,
			errors: row.errors,
			averageDurationMs: row.invocations === 0 ? 0 : row.runMs / row.invocations,
			coldStarts: row.coldStarts,
			lastInvokedAt: row.lastAt ?? undefined,
			period,
		};
	}

	renderMetrics(): string {
		const { folder } = this.#deps;
		const size = (name: string): number =>
			statSync(join(folder.paths.root, name), { throwIfNoEntry: false })?.size ?? 0;
		return this.#deps.telemetry.render({
			stats: this.stats(),
			lanes: this.listLanes(),
			databaseBytes: size("queue.db") + size("queue.db-wal"),
		});
	}

	stats(): Contract.Stats {
		const { folder, logs, pool, queue, registry } = this.#deps;
		const workers = { STARTING: 0, WARM: 0, BUSY: 0, IDLE: 0, DRAINING: 0, TERMINATED: 0 };
		for (const { state } of pool.workers()) workers[state] += 1;
		let queued = 0;
		let running = 0;
		for (const { lane } of registry.all()) {
			queued += lane.queued;
			running += lane.running;
		}
		return {
			version: VERSION,
			startedAt: this.#deps.startedAt,
			pid: process.pid,
			dataDir: folder.paths.root,
			draining: this.#deps.draining(),
			functions: registry.size,
			queued,
			running,
			waiters: this.#deps.waiters.count,
			workers,
			ended: { ...this.#deps.telemetry.ended },
			accepted: queue.accepted,
			commits: queue.commits,
			logLinesDropped: logs.dropped,
			rssBytes: residentBytes(),
			walBytes: folder.keeper.walBytes,
			storageLow: folder.keeper.spaceLow || folder.ballast.givenUp,
		};
	}
}

/** Reading /proc fails where file descriptors have run out (measured); a sample is not worth a crash. */
function residentBytes(): number {
	try {
		return process.memoryUsage.rss();
	} catch {
		return 0;
	}
}
