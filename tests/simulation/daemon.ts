/**
 * One life of the daemon: the engine itself, with the clock, chance, disk and processes of the simulated machine. It
 * ends by a stop, by a failure of its store, or at any point of its code: from then on nothing that it does is heard.
 */
import type { Environment, ProbePoint } from "../../src/core/environment.ts";
import { EngineError } from "../../src/core/errors.ts";
import type { Parts } from "../../src/engine/assemble.ts";
import { assemble } from "../../src/engine/assemble.ts";
import { engineOn } from "../../src/engine/engine.ts";
import type { EngineHandle } from "../../src/engine/index.ts";
import type { Machine } from "../../src/engine/machine.ts";
import { cronSource } from "../../src/sources/cron.ts";
import { eventsSource } from "../../src/sources/events.ts";
import { Died, type Disk } from "./disk.ts";
import type { History } from "./history.ts";
import { SimProcess, type Machinery } from "./processes.ts";
import type { WorldPlan } from "./plan.ts";
import type { Chance } from "./random.ts";
import type { Scheduler } from "./scheduler.ts";

export type Answer<T> =
	| { readonly kind: "ok"; readonly value: T }
	| { readonly kind: "refused"; readonly error: EngineError }
	/** The daemon died first: whether it was done is unknown. */
	| { readonly kind: "unknown" };

/** A request that the daemon holds. */
export interface Pending {
	readonly label: string;
	readonly since: number;
	/** The invocation that it waits for, by id or by path. */
	waitsFor: string | undefined;
	lost(): void;
}

export interface DaemonDeps {
	readonly plan: WorldPlan;
	readonly scheduler: Scheduler;
	readonly disk: Disk;
	readonly chance: Chance;
	readonly history: History;
	readonly machinery: Omit<Machinery, "daemonAlive">;
	/** Processes of this and of earlier daemons that are not gone. */
	readonly processes: Set<SimProcess>;
	readonly nextPid: () => number;
	/** A named point of the engine's code was reached. True where the daemon dies at it. */
	readonly point: (point: ProbePoint) => boolean;
	/** It is dead, whatever killed it. */
	readonly died: (daemon: Daemon, why: string) => void;
	/** It has refused to go on: its store failed. */
	readonly failed: (daemon: Daemon, error: EngineError) => void;
	readonly broke: (what: string) => void;
}

/** Points at which code of a dead daemon may be thrown out of, because nobody there catches what it must not. */
const THROWS: ReadonlySet<string> = new Set([
	"commit.begin",
	"commit.done",
	"commit.acknowledged",
	"recover.begin",
	"recover.done",
]);

export class Daemon {
	readonly #deps: DaemonDeps;
	readonly engine: EngineHandle;
	parts: Parts | undefined;
	alive = true;
	ready = false;
	stopping = false;
	/** Since when it has been ready; monotonic. */
	readyAt = Number.POSITIVE_INFINITY;
	readonly pending = new Set<Pending>();
	readonly #processes = new Set<SimProcess>();
	/** Resolves the wait for the processes of the daemon before. */
	#swept: (() => void) | undefined;

	constructor(deps: DaemonDeps) {
		this.#deps = deps;
		const environment = this.#environment();
		const machine: Machine = {
			findBun: () => "/simulated/bun",
			openFolder: () => deps.disk.openFolder(environment, (afterMs, run) => this.#later(afterMs, run)),
			sweepOrphans: () => this.#sweep(),
			removeLeftovers: async () => undefined,
			assemble: (given) => {
				const parts = assemble({
					...given,
					defer: (flush) => this.#turn(flush),
					processes: {
						spawn: (_launch, events) => this.#spawn(events),
						readMemory: (pid) => [...this.#processes].find((process) => process.pid === pid && !process.dead)?.memory,
					},
				});
				// The far ends that are real files, and no part of what is simulated.
				Object.assign(parts.bundles, { sweep: async () => 0 });
				Object.assign(parts.logs, { close: async () => undefined, prune: () => 0, append: () => undefined });
				this.parts = parts;
				return parts;
			},
		};
		this.engine = engineOn(machine, {
			dataDir: "/simulated",
			resultRetentionMs: deps.plan.retentionMs,
			drainMs: deps.plan.drainMs,
			maxWorkersTotal: deps.plan.maxWorkersTotal,
			spareWorkers: deps.plan.spareWorkers,
			environment,
			sources: [eventsSource(), cronSource(environment)],
		});
		void this.engine.failed.then((error) => {
			if (this.alive) deps.failed(this, error);
		});
	}

	#environment(): Environment {
		const { scheduler, chance, history, broke } = this.#deps;
		const tell = (_fields: object, message: string): void => {
			if (this.alive) history.add(`log: ${message}`);
		};
		return {
			clock: scheduler.clockOf(() => this.alive),
			random: chance.stream("engine"),
			probe: { hit: (point) => this.#hit(point) },
			logger: {
				debug: () => undefined,
				info: () => undefined,
				warn: tell,
				error: (fields, message) => {
					tell(fields, message);
					const { err } = fields as { err?: unknown };
					// What only a defect of ours can log.
					if (this.alive && message === "a callback of a commit threw" && !(err instanceof Died))
						broke(`${message}: ${String(err)}`);
				},
			},
		};
	}

	#hit(point: ProbePoint): void {
		const { history, point: asked } = this.#deps;
		if (this.alive && asked(point)) {
			history.add(`the daemon dies at ${point}`);
			this.die(point);
		}
		if (!this.alive && THROWS.has(point)) throw new Died(point);
	}

	#later(afterMs: number, run: () => void): void {
		this.#deps.scheduler.after(afterMs, () => this.#turn(run));
	}

	#turn(flush: () => void): void {
		if (!this.alive) return;
		this.#deps.scheduler.turn(() => {
			if (!this.alive) return;
			try {
				flush();
			} catch (error) {
				if (!(error instanceof Died)) this.#deps.broke(`a turn threw ${String((error as Error).stack ?? error)}`);
			}
		});
	}

	#spawn(events: ConstructorParameters<typeof SimProcess>[2]): SimProcess {
		const { machinery, nextPid, processes } = this.#deps;
		if (!this.alive) throw new Died("spawn");
		const process: SimProcess = new SimProcess(
			nextPid(),
			{
				...machinery,
				daemonAlive: () => this.alive,
				gone: (gone) => {
					this.#processes.delete(gone);
					machinery.gone(gone);
				},
			},
			events,
		);
		this.#processes.add(process);
		processes.add(process);
		return process;
	}

	/** Kills what is left of the daemon before, and waits until it is gone. */
	#sweep(): Promise<number> {
		const { processes, history } = this.#deps;
		const left = [...processes].filter((process) => !this.#processes.has(process));
		if (left.length === 0) return Promise.resolve(0);
		history.add(`${left.length} processes of an earlier daemon live`);
		for (const process of left) process.kill();
		return new Promise((resolve) => {
			this.#swept = () => {
				if ([...processes].some((process) => !this.#processes.has(process))) return;
				this.#swept = undefined;
				resolve(left.length);
			};
		});
	}

	/** A process is gone. */
	looked(): void {
		this.#swept?.();
	}

	start(started: (error: unknown) => void): void {
		this.engine.start().then(
			() => {
				if (!this.alive) return;
				this.ready = true;
				this.readyAt = this.#deps.scheduler.monotonic;
				started(undefined);
			},
			(error: unknown) => {
				if (this.alive) started(error);
			},
		);
	}

	stop(stopped: () => void): void {
		this.stopping = true;
		this.ready = false;
		this.engine.stop().then(
			() => {
				if (this.alive) stopped();
			},
			(error: unknown) => {
				if (this.alive) this.#deps.broke(`stop failed: ${String(error)}`);
			},
		);
	}

	/** Nothing that it does from here on is heard, and nobody hears from it. */
	die(why: string): void {
		if (!this.alive) return;
		this.alive = false;
		this.ready = false;
		const { scheduler, disk, died } = this.#deps;
		disk.crash();
		scheduler.forgetDaemon();
		for (const pending of this.pending) pending.lost();
		this.pending.clear();
		died(this, why);
	}

	/** Its processes: they die with it, a moment later. */
	get orphans(): readonly SimProcess[] {
		return [...this.#processes];
	}

	/** Asks the engine; the answer comes in the moment in which it leaves the daemon, or when that died. */
	ask<T>(
		label: string,
		waitsFor: string | undefined,
		ask: (engine: EngineHandle) => Promise<T>,
		answer: (answer: Answer<T>) => void,
	): void {
		const pending: Pending = {
			label,
			since: this.#deps.scheduler.monotonic,
			waitsFor,
			lost: () => answer({ kind: "unknown" }),
		};
		this.pending.add(pending);
		const settled = (told: Answer<T>): void => {
			if (this.pending.delete(pending)) answer(told);
		};
		ask(this.engine).then(
			(value) => settled({ kind: "ok", value }),
			(error: unknown) => {
				if (!this.alive) return;
				if (error instanceof EngineError) settled({ kind: "refused", error });
				else {
					this.#deps.broke(`${label} threw ${String((error as Error | undefined)?.stack ?? error)}`);
					settled({ kind: "unknown" });
				}
			},
		);
	}
}
