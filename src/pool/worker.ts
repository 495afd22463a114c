/**
 * One Worker's life: its state, its attempts, its due times. It knows nothing of other workers.
 *
 *   P1  at most `workerConcurrency` attempts are aboard
 *   P2  an Outcome is reported only when the handler has ended or the process is gone (verdict.ts)
 *   P4  an unexpected end says state, attempts and cause
 */
import type { LogLevel, WorkerRecord } from "../core/contracts.ts";
import type { Environment } from "../core/environment.ts";
import type { Outcome } from "../core/invocation.ts";
import { LIMITS } from "../core/limits.ts";
import {
	type RuntimeLimits,
	type AbortReason,
	CHANNEL_VERSION,
	type LogMessage,
	type WorkerMessage,
} from "../protocol/index.ts";
import { type Aboard, AboardTable, type Fence } from "./aboard.ts";
import { Alarm } from "./alarm.ts";
import { outcomeOf } from "./answers.ts";
import type { AttemptSpec, SlotNeed, WorkerLogLine, WorkerSpec } from "./contract.ts";
import { LastWords } from "./last-words.ts";
import { Link } from "./link.ts";
import type { Exit, SpawnWorker } from "./process.ts";
import { type Death, type DeathScene, describeDeath, describeExit, verdict } from "./verdict.ts";
import { WORKER_MOVES, type WorkerLife } from "./worker-life.ts";

/** A worker whose channel closed exits at once; one that does not has closed it on purpose. */
const CLOSED_CHANNEL_MS = 250;
/** It must be asked for a sign of life this long before its silence may cost its neighbours their run. */
const ASKED_MS = 2 * LIMITS.loopSilentMs;
const CONFIG_BYTES_MAX = 256 * 1024;

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
	#spec: WorkerSpec;
	/** Whose limits the runtime knows. */
	#toldSpec: WorkerSpec;
	/** Started because somebody waited for it; others are started ahead. */
	readonly #awaited: boolean;
	/** Empty it and give it to nobody but a solo attempt. */
	held = false;
	/** When it last became empty; monotonic. */
	restedAt: number;
	memoryBytes: number | undefined;
	readonly #deps: WorkerDependencies;
	readonly #startedAt: number;
	readonly #link: Link;
	readonly #alarm: Alarm;
	readonly #aboard = new AboardTable();
	readonly #lastWords = new LastWords();
	#life: WorkerLife = { state: "STARTING" };
	/** When its process was spawned; starts may wait for their turn. */
	#launchedAt = 0;
	#readyAt = 0;
	#readyMs: number | undefined;
	#startError: string | undefined;
	/** Retired before it was READY: that is no failure of its version. */
	#givenUp = false;
	#death: Death | undefined;
	/** Attempts aboard when the kill was decided. */
	#aboardAtKill = 0;
	#closedAt = Infinity;
	#pingAt: number | undefined;
	#silent = false;

	constructor(id: string, spec: WorkerSpec, awaited: boolean, deps: WorkerDependencies) {
		this.id = id;
		this.#spec = spec;
		this.#toldSpec = spec;
		this.#awaited = awaited;
		this.#deps = deps;
		const { clock } = deps.environment;
		this.#startedAt = clock.now();
		this.restedAt = clock.monotonic();
		this.#alarm = new Alarm(clock, (now) => this.#ring(now));
		this.#link = new Link(clock, {
			message: (message) => this.#receive(message),
			broken: (problem) => this.#broken(problem),
			printed: (level, line) => this.#printed(level, line),
			closed: () => {
				this.#closedAt = this.#now();
				this.#alarm.by(this.#closedAt + CLOSED_CHANNEL_MS);
			},
			gone: (exit) => this.#gone(exit),
		});
	}

	get spec(): WorkerSpec {
		return this.#spec;
	}

	get state(): WorkerLife["state"] {
		return this.#life.state;
	}

	/** Attempts and reserved places. */
	get load(): number {
		return this.#aboard.load;
	}

	/** Ready and not on its way out. */
	get serving(): boolean {
		return this.#life.state === "WARM" || this.#life.state === "BUSY" || this.#life.state === "IDLE";
	}

	get silent(): boolean {
		return this.#silent;
	}

	/** Its first attempt had to wait for it to start. */
	get cold(): boolean {
		return this.#awaited && this.#aboard.ran === 0 && this.#aboard.load === 0;
	}

	get pid(): number | undefined {
		return this.#link.pid;
	}

	get readyMs(): number {
		return this.#readyMs ?? 0;
	}

	/** Since when it has been READY; monotonic. */
	get readyAt(): number {
		return this.#readyAt;
	}

	record(): WorkerRecord {
		const { functionId, functionName, version } = this.#spec;
		return {
			worker: this.id,
			pid: this.pid,
			functionId,
			functionName,
			version,
			state: this.#life.state,
			startedAt: this.#startedAt,
			readyMs: this.#readyMs,
			running: Array.from(this.#aboard.all(), (aboard) => aboard.spec.invocationId),
			ran: this.#aboard.ran,
			memoryBytes: this.memoryBytes,
		};
	}

	/** Starts the process. The start may have been given up while it waited for its turn. */
	launch(): void {
		if (this.#life.state !== "STARTING") return;
		const { bundlePath, handler, functionName, version, env } = this.#spec;
		const limits = limitsOf(this.#spec);
		this.#toldSpec = this.#spec;
		this.#launchedAt = this.#now();
		this.#link.launch(this.#deps.spawn, { env });
		if (this.state === "TERMINATED") return;
		this.#link.post((out) =>
			out.host({ type: "init", protocol: CHANNEL_VERSION, bundlePath, handler, functionName, version, limits }),
		);
		this.#alarm.by(this.#launchedAt + LIMITS.workerStartMsMax);
	}

	/**
	 * Takes other limits for the same version and environment: the worker that proved a version was started before the
	 * limits that its module exports were known.
	 */
	adopt(spec: WorkerSpec): void {
		if (spec === this.#spec) return;
		this.#spec = spec;
		// One that is starting is told when it is READY.
		if (!this.serving) return;
		this.#tellLimits();
		this.reconsider();
	}

	#tellLimits(): void {
		this.#toldSpec = this.#spec;
		this.#link.post((out) => out.host({ type: "limits", limits: limitsOf(this.#spec) }));
	}

	/** Whether an attempt that needs this may come aboard. */
	takes(need: SlotNeed): boolean {
		if (!this.serving || this.#silent || this.#aboard.solo) return false;
		const { load } = this.#aboard;
		const { maxInvocations, memoryMb, workerConcurrency } = this.#spec.config;
		if (maxInvocations > 0 && this.#aboard.promised >= maxInvocations) return false;
		if (need.solo) return load === 0;
		if (this.held || load >= workerConcurrency) return false;
		return load === 0 || this.#aboard.bytes + need.bytes <= (memoryMb * 1_048_576) / 4;
	}

	reserve(need: SlotNeed): void {
		this.#aboard.reserve(need);
		if (need.solo) this.held = false;
		if (this.#life.state !== "BUSY") this.#become({ state: "BUSY" });
	}

	/** The reserved place is given back unused. */
	release(need: SlotNeed): void {
		this.#aboard.unreserve(need);
		this.#left();
	}

	/** Sends an attempt into its reserved place. */
	send(need: SlotNeed, spec: AttemptSpec): Promise<Outcome> {
		// Retired since the reservation is fine: it finishes what it has. Killed or gone is not.
		if (this.#death !== undefined || this.#life.state === "TERMINATED") {
			this.release(need);
			return Promise.resolve({ kind: "released", why: "worker_gone", started: false, solo: false });
		}
		const { clock, probe } = this.#deps.environment;
		const { invocationId, attempt, method, path, headersJson, queryJson, body, timeoutMs } = spec;
		const dueAt = clock.monotonic() + timeoutMs;
		const deadline = clock.now() + timeoutMs;
		const outcome = new Promise<Outcome>((resolve) => {
			const { call } = this.#aboard.board(need, spec, dueAt, resolve);
			const message = { call, invocationId, attempt, method, path, deadline, body };
			this.#link.post((out) => out.invoke(message, headersJson, queryJson));
		});
		this.#alarm.by(dueAt);
		probe.hit("attempt.dispatched", invocationId);
		const { maxInvocations } = this.#spec.config;
		if (maxInvocations > 0 && this.#aboard.ran >= maxInvocations) this.retire(`it ran ${maxInvocations} attempts`);
		return outcome;
	}

	/** Tells the attempt to end. False where it is not aboard. */
	cancel(invocationId: string, attempt: number): boolean {
		const aboard = this.#aboard.find(invocationId, attempt);
		if (aboard?.phase === "running") this.#abort(aboard, "cancelled");
		return aboard !== undefined;
	}

	/** No new work; ends when it is empty. */
	retire(why: string): void {
		const { state } = this.#life;
		if (state === "DRAINING" || state === "TERMINATED") return;
		this.#deps.environment.logger.debug({ worker: this.id, state, running: this.#aboard.size, why }, "worker retires");
		if (state === "STARTING") {
			this.#givenUp = true;
			this.kill({ kind: "unneeded", why });
			return;
		}
		this.#become({ state: "DRAINING", why, killAt: Infinity });
		if (this.load === 0) this.#stop();
	}

	/** SIGKILL now. Its attempts get their verdicts when it is gone. */
	kill(death: Death): void {
		if (this.#death !== undefined || this.#life.state === "TERMINATED") return;
		this.#death = death;
		this.#aboardAtKill = this.#aboard.size;
		if (this.#life.state !== "DRAINING") this.#become({ state: "DRAINING", why: death.kind, killAt: Infinity });
		if (this.#link.open) this.#link.kill();
		else this.#gone({ code: null, signal: null });
	}

	/** The warm minimum or the idle time may have changed. */
	reconsider(): void {
		if (this.#life.state === "WARM" || this.#life.state === "IDLE") this.#alarm.by(this.#now());
	}

	/** Asks the loop for a sign of life, at a steady pace while somebody is aboard; `judge` the last asking. */
	pulse(judge: boolean): void {
		if (this.#death !== undefined) return;
		const now = this.#now();
		if (this.#pingAt === undefined) {
			this.#pingAt = now;
			this.#link.post((out) => out.host({ type: "ping" }));
		} else if (judge && now - this.#pingAt >= LIMITS.loopSilentMs) {
			this.#silent = true;
		}
	}

	#now(): number {
		return this.#deps.environment.clock.monotonic();
	}

	/** The one setter of the state. */
	#become(next: WorkerLife): void {
		const from = this.#life.state;
		if (!WORKER_MOVES[from].includes(next.state)) {
			throw new Error(`worker ${this.id}: no move from ${from} to ${next.state}`);
		}
		this.#life = next;
		if (next.state === "DRAINING") this.#alarm.by(next.killAt);
	}

	// What it says

	#broken(problem: string): void {
		this.#link.deaf = true;
		this.#startError ??= `it broke its channel: ${problem}`;
		this.kill({ kind: "protocol", problem });
	}

	/** Returns what is wrong with a message, if anything. */
	#receive(message: WorkerMessage): string | undefined {
		switch (message.type) {
			case "ready":
				return this.#ready(message.protocol, message.config);
			case "start_failed": {
				if (this.#readyMs !== undefined) return "it said start_failed after ready";
				const { message: text, stack = "" } = message;
				this.#startError ??= stack.includes(text) ? stack : `${text}\n${stack}`.trimEnd();
				this.kill({ kind: "unneeded", why: "its start failed" });
				return undefined;
			}
			case "response":
			case "failed":
			case "ended": {
				const aboard = this.#aboard.get(message.call);
				if (aboard === undefined) return `an answer for call ${message.call}, which is not aboard`;
				const outcome = outcomeOf(aboard, message, this.#spec.config.maxBodyBytes);
				if (outcome === undefined) return `call ${message.call} ended by an abort that nobody sent`;
				this.#aboard.finish(aboard, outcome);
				this.#left();
				return undefined;
			}
			case "log":
				this.#logged(message);
				return undefined;
			case "tainted":
				// Before the first attempt it is the bundle's own doing, and the next worker would be the same.
				if (this.#aboard.ran > 0) this.retire(message.message);
				return undefined;
			case "pong":
				this.#pingAt = undefined;
				if (!this.#silent) return undefined;
				this.#silent = false;
				this.#deps.events.freed(this);
				return undefined;
		}
	}

	#ready(protocol: number, config: unknown): string | undefined {
		if (this.#readyMs !== undefined) return "it said ready twice";
		if (protocol !== CHANNEL_VERSION) return `it speaks channel version ${protocol}, not ${CHANNEL_VERSION}`;
		if (this.#life.state !== "STARTING") return undefined;
		const now = this.#now();
		this.#readyAt = now;
		this.restedAt = now;
		this.#readyMs = Math.round((now - this.#launchedAt) * 10) / 10;
		this.#become({ state: "WARM", since: now });
		if (this.#toldSpec !== this.#spec) this.#tellLimits();
		this.#alarm.by(now + this.#deps.events.idleMs(this));
		const { maxAgeMs } = this.#spec.config;
		if (maxAgeMs > 0) this.#alarm.by(now + maxAgeMs);
		this.#deps.events.ready(this, config);
		return undefined;
	}

	#logged(message: LogMessage): void {
		const { call, level, at, metadata } = message;
		const text = message.message.slice(0, LIMITS.logLineBytesMax + 32);
		if (level === "error") this.#lastWords.add(text);
		this.#log(level, text, call === undefined ? undefined : this.#aboard.fenceOf(call), at, metadata);
	}

	/** A line of a pipe: it is the attempt's where only one is aboard. */
	#printed(level: LogLevel, line: string): void {
		if (level === "error") this.#lastWords.add(line);
		this.#log(level, line, this.#aboard.only?.spec, this.#deps.environment.clock.now(), undefined);
	}

	#log(
		level: LogLevel,
		message: string,
		fence: Fence | undefined,
		at: number,
		metadata: WorkerLogLine["metadata"],
	): void {
		const { functionId } = this.#spec;
		const { invocationId, attempt } = fence ?? { invocationId: undefined, attempt: undefined };
		this.#deps.events.log({ functionId, invocationId, attempt, level, message, metadata, at, worker: this.id });
	}

	// The ladder: abort signal, grace, neighbours' time, SIGKILL

	#abort(aboard: Aboard, reason: AbortReason): void {
		const now = this.#now();
		aboard.phase = reason === "timeout" ? "timed_out" : "cancelled";
		aboard.abortedAt = now;
		aboard.dueAt = now + this.#spec.config.graceMs;
		const { call } = aboard;
		this.#link.post((out) => out.host({ type: "abort", call, reason }));
		this.pulse(false);
		this.#alarm.by(aboard.dueAt);
	}

	/** An attempt is still aboard when its grace is over. */
	#overstay(aboard: Aboard, now: number): void {
		const askedLongEnough = now >= aboard.abortedAt + ASKED_MS;
		if (this.#aboard.size === 1 || (this.#silent && askedLongEnough)) {
			this.kill({ kind: this.#silent ? "silent" : "overdue" });
		} else if (!askedLongEnough) {
			// A short grace: neighbours are only risked once it is known whether the loop answers.
			aboard.dueAt = aboard.abortedAt + ASKED_MS;
		} else {
			aboard.dueAt = Infinity;
			this.retire("an attempt ignored its abort signal");
			if (this.#life.state === "DRAINING" && this.#life.killAt === Infinity) {
				this.#become({ ...this.#life, killAt: now + LIMITS.neighbourGraceMsMax });
			}
			this.#endOverstay();
		}
	}

	/** Ends the neighbours' time where no neighbour is left, or no overstayer. */
	#endOverstay(): void {
		const { overstayers, load } = this.#aboard;
		if (overstayers > 0 && overstayers === load) this.kill({ kind: "overdue" });
		else if (overstayers === 0 && load > 0 && this.#life.state === "DRAINING") {
			this.#become({ ...this.#life, killAt: Infinity });
		}
	}

	/** After an attempt or a reservation has left. */
	#left(): void {
		const empty = this.load === 0;
		if (this.#life.state === "BUSY" && empty) {
			const now = this.#now();
			const idleMs = this.#deps.events.idleMs(this);
			this.restedAt = now;
			this.#become({ state: idleMs === Infinity ? "WARM" : "IDLE", since: now });
			this.#alarm.by(now + idleMs);
		} else if (this.#life.state === "DRAINING" && this.#death === undefined) {
			if (empty) this.#stop();
			else this.#endOverstay();
		}
		this.#deps.events.freed(this);
	}

	/** Empty and retired: it may finish what waitUntil holds, for the grace. */
	#stop(): void {
		if (this.#life.state !== "DRAINING") return;
		this.#link.post((out) => out.host({ type: "stop" }));
		this.#become({ ...this.#life, killAt: this.#now() + this.#spec.config.graceMs });
	}

	#gone(exit: Exit): void {
		if (this.#life.state === "TERMINATED") return;
		const { state } = this.#life;
		const wasReady = this.#readyMs !== undefined;
		const running = this.#aboard.size;
		const scene: DeathScene = {
			death: this.#death ?? { kind: "exit", exit },
			worker: this.id,
			pid: this.pid,
			aboard: this.#death === undefined ? running : this.#aboardAtKill,
			lastWords: this.#lastWords.text,
		};
		this.#become({ state: "TERMINATED" });
		this.#alarm.cancel();
		if (wasReady && (running > 0 || state !== "DRAINING")) {
			this.#deps.environment.logger.warn({ worker: this.id, state, running }, describeDeath(scene).message);
		}
		for (const aboard of this.#aboard.all()) this.#aboard.finish(aboard, verdict(aboard.phase, aboard.spec, scene));
		const failed = !wasReady && !this.#givenUp;
		const error = this.#startError ?? `it ${describeExit(exit)} before it was ready`;
		const words = scene.lastWords === "" ? "" : `; last output: ${scene.lastWords}`;
		this.#deps.events.gone(this, failed ? error + words : undefined);
	}

	// Time

	#ring(now: number): void {
		for (const aboard of this.#aboard.all()) {
			if (now < aboard.dueAt || this.#death !== undefined) continue;
			if (aboard.phase === "running") this.#abort(aboard, "timeout");
			else this.#overstay(aboard, now);
		}
		if (this.#death === undefined) this.#lookAtLife(now);
		for (const aboard of this.#aboard.all()) if (this.#death === undefined) this.#alarm.by(aboard.dueAt);
	}

	#lookAtLife(now: number): void {
		if (now >= this.#closedAt + CLOSED_CHANNEL_MS) {
			this.#broken("it closed its channel");
			return;
		}
		this.#alarm.by(this.#closedAt + CLOSED_CHANNEL_MS);
		const life = this.#life;
		switch (life.state) {
			case "STARTING":
				if (now >= this.#launchedAt + LIMITS.workerStartMsMax) {
					this.#startError ??= `it was not ready within ${LIMITS.workerStartMsMax} ms; move slow work out of the module's top level`;
					this.kill({ kind: "unneeded", why: "it was not ready in time" });
				} else this.#alarm.by(this.#launchedAt + LIMITS.workerStartMsMax);
				return;
			case "WARM":
			case "IDLE": {
				const endAt = life.since + this.#deps.events.idleMs(this);
				if (now >= endAt) {
					this.retire("it was idle");
					return;
				}
				if (life.state === "IDLE" && endAt === Infinity) this.#become({ state: "WARM", since: life.since });
				this.#alarm.by(endAt);
				break;
			}
			case "DRAINING":
				if (now >= life.killAt) {
					this.kill(this.#aboard.overstayers > 0 ? { kind: "overdue" } : { kind: "unneeded", why: life.why });
				} else this.#alarm.by(life.killAt);
				return;
			case "BUSY":
			case "TERMINATED":
				break;
		}
		const { maxAgeMs } = this.#spec.config;
		if (maxAgeMs === 0 || !this.serving) return;
		if (now >= this.#readyAt + maxAgeMs) this.retire(`it is older than its maxAgeMs of ${maxAgeMs} ms`);
		else this.#alarm.by(this.#readyAt + maxAgeMs);
	}
}

function limitsOf({ config }: WorkerSpec): RuntimeLimits {
	return {
		bodyBytesMax: config.maxBodyBytes,
		headersBytesMax: LIMITS.headersBytesMax,
		errorTextBytesMax: LIMITS.errorTextBytesMax,
		logLineBytesMax: LIMITS.logLineBytesMax,
		logBytesPerAttemptMax: LIMITS.logBytesPerAttemptMax,
		configBytesMax: CONFIG_BYTES_MAX,
	};
}
