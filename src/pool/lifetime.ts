/**
 * A worker from its launch to the proven end of its process: when it starts, rests, drains, stops and is killed.
 *
 *   P2  `gone` is told once, when the process can do no more
 *   P4  an unexpected end says state, attempts and cause
 *
 * The first reason to kill it stands, and so does the number of attempts that were aboard then: what they did brought
 * it about, not what the pipes still deliver. Whose fault it was is for verdict.ts.
 */
import type { Clock, Logger } from "../core/environment.ts";
import { LIMITS } from "../core/limits.ts";
import type { AboardTable } from "./aboard.ts";
import type { Alarm } from "./alarm.ts";
import type { WorkerSpec } from "./contract.ts";
import type { Link } from "./link.ts";
import type { Exit, SpawnWorker } from "./process.ts";
import { type Death, type DeathScene, describeDeath } from "./verdict.ts";
import { brokenAt, dueOf } from "./worker-due.ts";
import { Life } from "./worker-life.ts";
import { initOf, limitsOf, WorkerStart } from "./worker-start.ts";

export interface LifetimeDependencies {
	readonly worker: string;
	readonly clock: Clock;
	readonly logger: Logger;
	readonly spawn: SpawnWorker;
	readonly link: Link;
	readonly alarm: Alarm;
	/** Read only here. */
	readonly aboard: AboardTable;
	readonly spec: () => WorkerSpec;
	/** How long it may stay empty; Infinity where `warmWorkers` keeps it. */
	readonly idleMs: () => number;
	readonly lastWords: () => string;
	readonly ready: (config: unknown) => void;
	/** `startError` is set where it failed to become READY. */
	readonly gone: (scene: DeathScene, startError: string | undefined) => void;
}

export class Lifetime {
	readonly life: Life;
	readonly start = new WorkerStart();
	/** When it last became empty; monotonic. */
	restedAt: number;
	readonly #deps: LifetimeDependencies;
	/** Whose limits the runtime knows. */
	#toldSpec: WorkerSpec | undefined;
	#death: Death | undefined;
	/** Attempts aboard when the kill was decided. */
	#aboardAtKill = 0;
	#closedAt = Infinity;

	constructor(deps: LifetimeDependencies) {
		this.#deps = deps;
		this.life = new Life(deps.worker, deps.alarm);
		this.restedAt = deps.clock.monotonic();
	}

	/** It is being killed, or gone. */
	get over(): boolean {
		return this.#death !== undefined || this.life.state === "TERMINATED";
	}

	/** Starts the process, unless the start was given up while it waited for its turn. */
	launch(): void {
		if (this.life.state !== "STARTING") return;
		const { alarm, clock, link, spawn, spec } = this.#deps;
		this.start.launchedAt = clock.monotonic();
		link.launch(spawn, { env: spec().env });
		// One that cannot be started is gone at once.
		if (this.over) return;
		this.#toldSpec = spec();
		link.host(initOf(this.#toldSpec));
		alarm.by(this.start.lateAt);
	}

	/** Its spec is another now. One that is starting is told when it is READY. */
	adopt(): void {
		if (!this.life.serving) return;
		this.#tellLimits();
		this.reconsider();
	}

	/** Returns what is wrong with that, if anything. */
	saidReady(protocol: number, config: unknown): string | undefined {
		const objection = this.start.objection(protocol);
		if (objection !== undefined || this.life.state !== "STARTING") return objection;
		const { alarm, clock, idleMs, spec } = this.#deps;
		const now = clock.monotonic();
		this.start.succeeded(now);
		this.restedAt = now;
		this.life.become({ state: "WARM", since: now });
		if (this.#toldSpec !== spec()) this.#tellLimits();
		alarm.by(now + idleMs());
		const { maxAgeMs } = spec().config;
		if (maxAgeMs > 0) alarm.by(now + maxAgeMs);
		this.#deps.ready(config);
		return undefined;
	}

	/** Returns what is wrong with that, if anything. */
	saidStartFailed(message: string, stack = ""): string | undefined {
		if (this.start.readyMs !== undefined) return "it said start_failed after ready";
		// A stack repeats the message in most cases.
		this.start.failed(stack.includes(message) ? stack : `${message}\n${stack}`.trimEnd());
		this.kill({ kind: "unneeded", why: "its start failed" });
		return undefined;
	}

	/** The last one has left: it rests, or stops where it was retired. */
	emptied(): void {
		const { alarm, clock, idleMs } = this.#deps;
		if (this.life.state === "BUSY") {
			const now = clock.monotonic();
			const restMs = idleMs();
			this.restedAt = now;
			this.life.become({ state: restMs === Infinity ? "WARM" : "IDLE", since: now });
			alarm.by(now + restMs);
		} else if (!this.over) this.#stop();
	}

	/** No new work; ends when it is empty. */
	retire(why: string): void {
		const { aboard, logger, worker } = this.#deps;
		const { state } = this.life;
		if (state === "DRAINING" || state === "TERMINATED") return;
		logger.debug({ worker, state, running: aboard.size, why }, "worker retires");
		if (state === "STARTING") {
			this.start.givenUp = true;
			this.kill({ kind: "unneeded", why });
			return;
		}
		this.life.become({ state: "DRAINING", why, killAt: Infinity });
		if (aboard.load === 0) this.#stop();
	}

	/** SIGKILL now. Its attempts get their verdicts when it is gone. */
	kill(death: Death): void {
		if (this.over) return;
		const { aboard, link } = this.#deps;
		this.#death = death;
		this.#aboardAtKill = aboard.size;
		if (this.life.state !== "DRAINING") this.life.become({ state: "DRAINING", why: death.kind, killAt: Infinity });
		if (link.open) link.kill();
		else this.gone({ code: null, signal: null });
	}

	/** Nothing that it says can be believed any more. */
	broken(problem: string): void {
		this.#deps.link.deaf = true;
		this.start.failed(`it broke its channel: ${problem}`);
		this.kill({ kind: "protocol", problem });
	}

	channelClosed(): void {
		const { alarm, clock } = this.#deps;
		this.#closedAt = clock.monotonic();
		alarm.by(brokenAt(this.#closedAt));
	}

	/** The warm minimum or the idle time may have changed. */
	reconsider(): void {
		const { alarm, clock } = this.#deps;
		if (this.life.state === "WARM" || this.life.state === "IDLE") alarm.by(clock.monotonic());
	}

	/** Does what is due by now, and sets the alarm to what comes next. */
	look(now: number): void {
		const { aboard, alarm, idleMs, spec } = this.#deps;
		const resting = this.life.state === "WARM" || this.life.state === "IDLE";
		const restMs = resting ? idleMs() : Infinity;
		const { lateAt, readyAt } = this.start;
		const { maxAgeMs } = spec().config;
		const due = dueOf(this.life.now, { closedAt: this.#closedAt, lateAt, readyAt, idleMs: restMs, maxAgeMs }, now);
		switch (due.kind) {
			case "nothing":
				if (this.life.now.state === "IDLE" && restMs === Infinity) {
					this.life.become({ state: "WARM", since: this.life.now.since });
				}
				alarm.by(due.nextAt);
				return;
			case "channel_closed":
				this.broken("it closed its channel");
				return;
			case "start_late":
				this.start.failed(
					`it was not ready within ${LIMITS.workerStartMsMax} ms; move slow work out of the module's top level`,
				);
				this.kill({ kind: "unneeded", why: "it was not ready in time" });
				return;
			case "retire":
				this.retire(due.why);
				return;
			case "patience_over":
				this.kill(aboard.overstayers > 0 ? { kind: "overdue" } : { kind: "unneeded", why: due.why });
				return;
		}
	}

	/** Its process is gone, by our hand or by itself. */
	gone(exit: Exit): void {
		const { state } = this.life;
		if (state === "TERMINATED") return;
		const { aboard, alarm, lastWords, link, logger, worker } = this.#deps;
		const running = aboard.size;
		const scene: DeathScene = {
			death: this.#death ?? { kind: "exit", exit },
			worker,
			pid: link.pid,
			aboard: this.#death === undefined ? running : this.#aboardAtKill,
			lastWords: lastWords(),
		};
		this.life.become({ state: "TERMINATED" });
		alarm.cancel();
		if (this.start.readyMs !== undefined && (running > 0 || state !== "DRAINING")) {
			logger.warn({ worker, state, running }, describeDeath(scene).message);
		}
		this.#deps.gone(scene, this.start.failure(exit, scene.lastWords));
	}

	#tellLimits(): void {
		const { link, spec } = this.#deps;
		this.#toldSpec = spec();
		link.host({ type: "limits", limits: limitsOf(this.#toldSpec) });
	}

	/** Empty and retired: it may finish what waitUntil holds, for the grace. */
	#stop(): void {
		if (this.life.state !== "DRAINING") return;
		const { clock, link, spec } = this.#deps;
		link.host({ type: "stop" });
		this.life.bePatient(clock.monotonic() + spec().config.graceMs);
	}
}
