/**
 * One Worker: who comes aboard, what it says of them, and how each of them ends. It knows nothing of other workers.
 *
 *   P1  at most `workerConcurrency` attempts are aboard (aboard.ts)
 *   P2  an Outcome is reported only when the handler has ended or the process is gone (verdict.ts)
 *
 * lifetime.ts decides when its process starts and ends, ladder.ts how an attempt that does not end is stopped.
 */
import type { WorkerRecord } from "../core/contracts.ts";
import type { Environment } from "../core/environment.ts";
import type { Outcome } from "../core/invocation.ts";
import type { WorkerMessage } from "../protocol/index.ts";
import { AboardTable } from "./aboard.ts";
import { Alarm } from "./alarm.ts";
import { type Answer, outcomeOf } from "./answers.ts";
import type { AttemptSpec, SlotNeed, WorkerLogLine, WorkerSpec } from "./contract.ts";
import { Ladder } from "./ladder.ts";
import { Lifetime } from "./lifetime.ts";
import { Link } from "./link.ts";
import type { SpawnWorker } from "./process.ts";
import { Pulse } from "./pulse.ts";
import { type Death, type DeathScene, verdict } from "./verdict.ts";
import type { WorkerLife } from "./worker-life.ts";
import { WorkerLog } from "./worker-log.ts";

export interface WorkerEvents {
	ready(worker: Worker, config: unknown): void;
	/** A slot is free, or its loop answers again. */
	freed(worker: Worker): void;
	/** How long it may stay empty; Infinity where `warmWorkers` keeps it. */
	idleMs(worker: Worker): number;
	/** Its process is gone. `startError` is set where it failed to become READY. */
	gone(worker: Worker, startError: string | undefined): void;
	log(line: WorkerLogLine): void;
}

export interface WorkerDependencies {
	readonly environment: Environment;
	readonly spawn: SpawnWorker;
	readonly events: WorkerEvents;
}

export class Worker {
	readonly id: string;
	/** Empty it and give it to nobody but a solo attempt. */
	held = false;
	memoryBytes: number | undefined;
	#spec: WorkerSpec;
	/** Started because somebody waited for it; others are started ahead. */
	readonly #awaited: boolean;
	readonly #deps: WorkerDependencies;
	readonly #createdAt: number;
	readonly #aboard = new AboardTable();
	readonly #pulse = new Pulse();
	readonly #alarm: Alarm;
	readonly #link: Link;
	readonly #log: WorkerLog;
	readonly #lifetime: Lifetime;
	readonly #ladder: Ladder;

	constructor(id: string, spec: WorkerSpec, awaited: boolean, deps: WorkerDependencies) {
		this.id = id;
		this.#spec = spec;
		this.#awaited = awaited;
		this.#deps = deps;
		const { environment, events, spawn } = deps;
		const { clock, logger } = environment;
		this.#createdAt = clock.now();
		this.#alarm = new Alarm(clock, (now) => this.#ring(now));
		this.#log = new WorkerLog({
			worker: id,
			functionId: spec.functionId,
			aboard: this.#aboard,
			emit: (line) => events.log(line),
		});
		this.#link = new Link(clock, {
			message: (message) => this.#receive(message),
			broken: (problem) => this.#lifetime.broken(problem),
			printed: (level, line) => this.#log.printed(level, line, clock.now()),
			closed: () => this.#lifetime.channelClosed(),
			gone: (exit) => this.#lifetime.gone(exit),
		});
		this.#lifetime = new Lifetime({
			worker: id,
			clock,
			logger,
			spawn,
			link: this.#link,
			alarm: this.#alarm,
			aboard: this.#aboard,
			spec: () => this.#spec,
			idleMs: () => events.idleMs(this),
			lastWords: () => this.#log.lastWords,
			ready: (config) => events.ready(this, config),
			gone: (scene, startError) => this.#gone(scene, startError),
		});
		this.#ladder = new Ladder({
			aboard: this.#aboard,
			alarm: this.#alarm,
			lifetime: this.#lifetime,
			pulse: this.#pulse,
			graceMs: () => this.#spec.config.graceMs,
			signal: (call, reason) => {
				this.#link.host({ type: "abort", call, reason });
				this.pulse(false);
			},
		});
	}

	get spec(): WorkerSpec {
		return this.#spec;
	}

	get state(): WorkerLife["state"] {
		return this.#lifetime.life.state;
	}

	/** Ready and not on its way out. */
	get serving(): boolean {
		return this.#lifetime.life.serving;
	}

	/** Attempts and reserved places. */
	get load(): number {
		return this.#aboard.load;
	}

	get silent(): boolean {
		return this.#pulse.silent;
	}

	/** Its first attempt had to wait for it to start. */
	get cold(): boolean {
		return this.#awaited && this.#aboard.ran === 0 && this.#aboard.load === 0;
	}

	get pid(): number | undefined {
		return this.#link.pid;
	}

	get readyMs(): number {
		return this.#lifetime.start.readyMs ?? 0;
	}

	/** Since when it has been READY; monotonic. */
	get readyAt(): number {
		return this.#lifetime.start.readyAt;
	}

	/** When it last became empty; monotonic. */
	get restedAt(): number {
		return this.#lifetime.restedAt;
	}

	record(): WorkerRecord {
		const { functionId, functionName, version } = this.#spec;
		return {
			worker: this.id,
			pid: this.pid,
			functionId,
			functionName,
			version,
			state: this.state,
			startedAt: this.#createdAt,
			readyMs: this.#lifetime.start.readyMs,
			running: Array.from(this.#aboard.all(), (aboard) => aboard.spec.invocationId),
			ran: this.#aboard.ran,
			memoryBytes: this.memoryBytes,
		};
	}

	/** Starts the process, unless the start was given up while it waited for its turn. */
	launch(): void {
		this.#lifetime.launch();
	}

	/**
	 * Takes other limits for the same version and environment: the worker that proved a version was started before the
	 * limits that its module exports were known.
	 */
	adopt(spec: WorkerSpec): void {
		if (spec === this.#spec) return;
		this.#spec = spec;
		this.#lifetime.adopt();
	}

	/** The warm minimum or the idle time may have changed. */
	reconsider(): void {
		this.#lifetime.reconsider();
	}

	/** No new work; ends when it is empty. */
	retire(why: string): void {
		this.#lifetime.retire(why);
	}

	/** SIGKILL now. Its attempts get their verdicts when it is gone. */
	kill(death: Death): void {
		this.#lifetime.kill(death);
	}

	/** Whether an attempt that needs this may come aboard. */
	takes(need: SlotNeed): boolean {
		if (!this.#lifetime.life.serving || this.#pulse.silent || (this.held && !need.solo)) return false;
		return this.#aboard.fits(need, this.#spec.config);
	}

	reserve(need: SlotNeed): void {
		this.#aboard.reserve(need);
		if (need.solo) this.held = false;
		this.#lifetime.life.occupy();
	}

	/** The reserved place is given back unused. */
	release(need: SlotNeed): void {
		this.#aboard.unreserve(need);
		this.#left();
	}

	/** Sends an attempt into its reserved place. */
	send(need: SlotNeed, spec: AttemptSpec, ended: (outcome: Outcome) => void): void {
		// Retired since the reservation is fine: it finishes what it has. Killed or gone is not.
		if (this.#lifetime.over) {
			this.release(need);
			ended({ kind: "released", why: "worker_gone", started: false, solo: false });
			return;
		}
		const { clock, probe } = this.#deps.environment;
		const dueAt = clock.monotonic() + spec.timeoutMs;
		const deadline = clock.now() + spec.timeoutMs;
		const { call } = this.#aboard.board(need, spec, dueAt, ended);
		this.#link.invoke(call, spec, deadline);
		this.#alarm.by(dueAt);
		probe.hit("attempt.dispatched", spec.invocationId);
		const { maxInvocations } = this.#spec.config;
		if (maxInvocations > 0 && this.#aboard.ran >= maxInvocations) this.retire(`it ran ${maxInvocations} attempts`);
	}

	/** Tells the attempt to end. False where it is not aboard. */
	cancel(invocationId: string, attempt: number): boolean {
		const aboard = this.#aboard.find(invocationId, attempt);
		if (aboard?.phase === "running") this.#ladder.abort(aboard, "cancelled", this.#now());
		return aboard !== undefined;
	}

	/** Asks the loop for a sign of life, at a steady pace while somebody is aboard; `judge` the last asking. */
	pulse(judge: boolean): void {
		if (!this.#lifetime.over && this.#pulse.beat(this.#now(), judge)) this.#link.host({ type: "ping" });
	}

	#now(): number {
		return this.#deps.environment.clock.monotonic();
	}

	/** Returns what is wrong with a message, if anything. */
	#receive(message: WorkerMessage): string | undefined {
		switch (message.type) {
			case "response":
			case "failed":
			case "ended":
				return this.#answered(message);
			case "log":
				this.#log.said(message);
				return undefined;
			case "pong":
				if (this.#pulse.answered()) this.#deps.events.freed(this);
				return undefined;
			case "ready":
				return this.#lifetime.saidReady(message.protocol, message.config);
			case "start_failed":
				return this.#lifetime.saidStartFailed(message.message, message.stack);
			case "tainted":
				// Before the first attempt it is the bundle's own doing, and the next worker would be the same.
				if (this.#aboard.ran > 0) this.retire(message.message);
				return undefined;
		}
	}

	#answered(answer: Answer): string | undefined {
		const aboard = this.#aboard.get(answer.call);
		if (aboard === undefined) return `an answer for call ${answer.call}, which is not aboard`;
		const outcome = outcomeOf(aboard, answer, this.#spec.config.maxBodyBytes);
		if (outcome === undefined) return `call ${answer.call} ended by an abort that nobody sent`;
		this.#aboard.finish(aboard, outcome);
		this.#left();
		return undefined;
	}

	/** After an attempt or a reservation has left. */
	#left(): void {
		if (this.#aboard.load === 0) this.#lifetime.emptied();
		else if (this.state === "DRAINING" && !this.#lifetime.over) this.#ladder.settle();
		this.#deps.events.freed(this);
	}

	#gone(scene: DeathScene, startError: string | undefined): void {
		for (const aboard of this.#aboard.all()) this.#aboard.finish(aboard, verdict(aboard.phase, aboard.spec, scene));
		this.#deps.events.gone(this, startError);
	}

	#ring(now: number): void {
		this.#ladder.climb(now);
		if (!this.#lifetime.over) this.#lifetime.look(now);
		if (!this.#lifetime.over) this.#ladder.arm();
	}
}
