/**
 * One Worker's life: its state, its attempts, its clock. It knows nothing of other workers.
 *
 *   P1  at most `workerConcurrency` attempts are aboard
 *   P2  an Outcome is reported only when the handler has ended or the process is gone (verdict.ts)
 *   P4  an unexpected end says state, attempts and cause
 *
 * One alarm wakes it for everything that is timed. The alarm only ever moves nearer; when it rings, all due times
 * are looked at, so that an attempt that ends in time costs no timer at all.
 */
import type { LogLevel, WorkerRecord } from "../core/contracts.ts";
import type { Environment, Timer } from "../core/environment.ts";
import { type ErrorCode, messageOf } from "../core/errors.ts";
import type { Outcome } from "../core/invocation.ts";
import { LIMITS } from "../core/limits.ts";
import {
	type AbortReason,
	CHANNEL_VERSION,
	FrameReader,
	FrameWriter,
	type LogMessage,
	readWorkerMessage,
	type WorkerMessage,
} from "../protocol/index.ts";
import type { AttemptSpec, SlotNeed, WorkerLogLine, WorkerSpec } from "./contract.ts";
import { OutputReader } from "./output.ts";
import type { Exit, SpawnWorker, WorkerProcess } from "./process.ts";
import { type Death, type DeathScene, describeDeath, describeExit, type Phase, timedOut, verdict } from "./verdict.ts";
import { WORKER_MOVES, type WorkerLife } from "./worker-life.ts";

/** A timer that fires this late was held up by our own loop: what the worker sent meanwhile is read first. */
const LATE_MS = 20;
/** A worker whose channel closed exits at once; one that does not has closed it on purpose. */
const CLOSED_CHANNEL_MS = 250;
/** Ended calls whose late log lines still find their invocation. */
const RECENT_CALLS = 1_000;
const LAST_WORDS_LINES = 10;
const LAST_WORDS_CHARS = 2_000;
const CONFIG_BYTES_MAX = 256 * 1024;
const CALLS = 2 ** 32;
/** What a worker may say of a failed call; anything else it says is taken as the first. */
const FAILURE_CODES: ReadonlySet<string> = new Set<ErrorCode>([
	"HANDLER_ERROR",
	"RESULT_NOT_RESPONSE",
	"RESULT_UNREADABLE",
	"RESULT_TOO_LARGE",
]);

export interface WorkerEvents {
	ready(worker: Worker, config: unknown): void;
	/** A slot is free, or its loop answers again. */
	freed(worker: Worker): void;
	/** How long it may stay empty; Infinity where `warmWorkers` keeps it. */
	idleMs(worker: Worker): number;
	/** Its process is gone. `startError` is set where it never was READY. */
	gone(worker: Worker, startError: string | undefined): void;
	log(line: WorkerLogLine): void;
}

export interface WorkerDependencies {
	readonly environment: Environment;
	readonly spawn: SpawnWorker;
	readonly events: WorkerEvents;
}

interface Aboard {
	readonly call: number;
	readonly spec: AttemptSpec;
	readonly need: SlotNeed;
	readonly resolve: (outcome: Outcome) => void;
	phase: Phase;
	/** Deadline while running, end of grace after the abort; Infinity when it has overstayed that too. */
	dueAt: number;
	abortedAt: number;
}

type Fence = Pick<AttemptSpec, "invocationId" | "attempt">;

export class Worker {
	readonly id: string;
	readonly spec: WorkerSpec;
	/** Empty it and give it to nobody but a solo attempt. */
	held = false;
	/** When it last became empty; monotonic. */
	restedAt: number;
	memoryBytes: number | undefined;
	readonly #deps: WorkerDependencies;
	readonly #startedAt: number;
	readonly #bytesBudget: number;
	#life: WorkerLife = { state: "STARTING" };
	#process: WorkerProcess | undefined;
	readonly #attempts = new Map<number, Aboard>();
	readonly #recent = new Map<number, Fence>();
	#reserved = 0;
	#bytes = 0;
	#soloAboard = false;
	#lastCall = 0;
	#ran = 0;
	#readyMs: number | undefined;
	#readyAt = 0;
	#startError: string | undefined;
	/** Retired before it was READY: that is no failure of its version. */
	#givenUp = false;
	/** When its process was spawned; starts may wait for their turn. */
	#launchedAt = 0;
	#death: Death | undefined;
	/** Attempts aboard when the kill was decided. */
	#aboardAtKill = 0;
	#closedAt = Infinity;
	#pingAt: number | undefined;
	#silent = false;
	readonly #out = new FrameWriter();
	#flushing = false;
	readonly #reader: FrameReader;
	readonly #stdout: OutputReader;
	readonly #stderr: OutputReader;
	readonly #lastWords: string[] = [];
	#alarm: Timer | undefined;
	#alarmAt = Infinity;
	#postponed = false;

	constructor(id: string, spec: WorkerSpec, deps: WorkerDependencies) {
		this.id = id;
		this.spec = spec;
		this.#deps = deps;
		const { clock } = deps.environment;
		this.#startedAt = clock.now();
		this.restedAt = clock.monotonic();
		this.#bytesBudget = (spec.config.memoryMb * 1_048_576) / 4;
		this.#stdout = new OutputReader(clock, (line) => this.#printed("info", line));
		this.#stderr = new OutputReader(clock, (line) => this.#printed("error", line));
		this.#reader = new FrameReader((type, head, body) => {
			const message = readWorkerMessage(type, head, body);
			return typeof message === "string" ? message : this.#receive(message);
		});
	}

	get state(): WorkerLife["state"] {
		return this.#life.state;
	}

	/** Attempts and reserved slots. */
	get load(): number {
		return this.#attempts.size + this.#reserved;
	}

	get running(): number {
		return this.#attempts.size;
	}

	/** Ready and not on its way out. */
	get serving(): boolean {
		return this.#life.state === "WARM" || this.#life.state === "BUSY" || this.#life.state === "IDLE";
	}

	get silent(): boolean {
		return this.#silent;
	}

	get cold(): boolean {
		return this.#ran === 0 && this.load === 0;
	}

	get pid(): number | undefined {
		return this.#process?.pid;
	}

	get readyMs(): number {
		return this.#readyMs ?? 0;
	}

	/** Since when it has been READY; monotonic. */
	get readyAt(): number {
		return this.#readyAt;
	}

	record(): WorkerRecord {
		return {
			worker: this.id,
			pid: this.pid,
			functionId: this.spec.functionId,
			functionName: this.spec.functionName,
			version: this.spec.version,
			state: this.#life.state,
			startedAt: this.#startedAt,
			readyMs: this.#readyMs,
			running: [...this.#attempts.values()].map((aboard) => aboard.spec.invocationId),
			ran: this.#ran,
			memoryBytes: this.memoryBytes,
		};
	}

	/** Starts the process. The start may have been given up while it waited for its turn. */
	launch(): void {
		if (this.#life.state !== "STARTING") return;
		const { bundlePath, handler, functionName, version, config, env } = this.spec;
		this.#launchedAt = this.#now();
		try {
			this.#process = this.#deps.spawn(
				{ env },
				{
					data: (chunk) => this.#data(chunk),
					output: (stream, chunk) => (stream === "stdout" ? this.#stdout : this.#stderr).push(chunk),
					channelClosed: () => {
						this.#closedAt = this.#now();
						this.#wakeAt(this.#closedAt + CLOSED_CHANNEL_MS);
					},
					gone: (exit) => this.#gone(exit),
				},
			);
		} catch (error) {
			this.#gone({ code: null, signal: null, error: messageOf(error) });
			return;
		}
		this.#out.host({
			type: "init",
			protocol: CHANNEL_VERSION,
			bundlePath,
			handler,
			functionName,
			version,
			limits: {
				bodyBytesMax: config.maxBodyBytes,
				headersBytesMax: LIMITS.headersBytesMax,
				errorTextBytesMax: LIMITS.errorTextBytesMax,
				logLineBytesMax: LIMITS.logLineBytesMax,
				logBytesPerAttemptMax: LIMITS.logBytesPerAttemptMax,
				configBytesMax: CONFIG_BYTES_MAX,
			},
		});
		this.#flush();
		this.#wakeAt(this.#launchedAt + LIMITS.workerStartMsMax);
	}

	/** Whether an attempt that needs this may come aboard. */
	takes(need: SlotNeed): boolean {
		if (!this.serving || this.#silent || this.#soloAboard) return false;
		const { load } = this;
		const { maxInvocations, workerConcurrency } = this.spec.config;
		if (maxInvocations > 0 && this.#ran + this.#reserved >= maxInvocations) return false;
		if (need.solo) return load === 0;
		if (this.held || load >= workerConcurrency) return false;
		return load === 0 || this.#bytes + need.bytes <= this.#bytesBudget;
	}

	reserve(need: SlotNeed): void {
		this.#reserved += 1;
		this.#bytes += need.bytes;
		if (need.solo) {
			this.#soloAboard = true;
			this.held = false;
		}
		if (this.#life.state !== "BUSY") this.#become({ state: "BUSY" });
	}

	/** The reserved place is given back unused. */
	release(need: SlotNeed): void {
		this.#reserved -= 1;
		this.#leave(need);
	}

	/** Sends an attempt into its reserved place. */
	send(need: SlotNeed, spec: AttemptSpec): Promise<Outcome> {
		this.#reserved -= 1;
		// Retired since the reservation is fine: it finishes what it has. Killed or gone is not.
		if (this.#death !== undefined || this.#life.state === "TERMINATED") {
			this.#leave(need);
			return Promise.resolve({ kind: "released", why: "worker_gone", started: false, solo: false });
		}
		const { clock, probe } = this.#deps.environment;
		this.#lastCall = (this.#lastCall + 1) % CALLS;
		this.#ran += 1;
		const { invocationId, attempt, method, path, headersJson, queryJson, body, timeoutMs } = spec;
		const call = this.#lastCall;
		const dueAt = clock.monotonic() + timeoutMs;
		const deadline = clock.now() + timeoutMs;
		this.#out.invoke({ call, invocationId, attempt, method, path, deadline, body }, headersJson, queryJson);
		this.#flushSoon();
		this.#wakeAt(dueAt);
		const outcome = new Promise<Outcome>((resolve) => {
			this.#attempts.set(call, { call, spec, need, resolve, phase: "running", dueAt, abortedAt: 0 });
		});
		probe.hit("attempt.dispatched", invocationId);
		const { maxInvocations } = this.spec.config;
		if (maxInvocations > 0 && this.#ran >= maxInvocations) this.retire(`it ran ${this.#ran} attempts`);
		return outcome;
	}

	/** Tells the attempt to end. False where it is not aboard. */
	cancel(invocationId: string, attempt: number): boolean {
		for (const aboard of this.#attempts.values()) {
			if (aboard.spec.invocationId !== invocationId || aboard.spec.attempt !== attempt) continue;
			if (aboard.phase === "running") this.#abort(aboard, "cancelled");
			return true;
		}
		return false;
	}

	/** No new work; ends when it is empty. */
	retire(why: string): void {
		const { state } = this.#life;
		if (state === "DRAINING" || state === "TERMINATED") return;
		this.#deps.environment.logger.debug({ worker: this.id, state, running: this.running, why }, "worker retires");
		if (state === "STARTING") {
			this.#givenUp = true;
			if (this.#process === undefined) this.#gone({ code: null, signal: null });
			else this.kill({ kind: "unneeded", why });
			return;
		}
		this.#become({ state: "DRAINING", why, killAt: Infinity });
		if (this.load === 0) this.#stop();
	}

	/** SIGKILL now. Its attempts get their verdicts when it is gone. */
	kill(death: Death): void {
		if (this.#death !== undefined || this.#life.state === "TERMINATED") return;
		this.#death = death;
		this.#aboardAtKill = this.#attempts.size;
		if (this.#life.state !== "DRAINING") this.#become({ state: "DRAINING", why: death.kind, killAt: Infinity });
		if (this.#process === undefined) this.#gone({ code: null, signal: null });
		else this.#process.kill();
	}

	/** The warm minimum or the idle time may have changed. */
	reconsider(): void {
		if (this.#life.state === "WARM" || this.#life.state === "IDLE") this.#wakeAt(this.#now());
	}

	/** Asks the loop for a sign of life; called at a steady pace while somebody is aboard. */
	pulse(judge: boolean): void {
		if (this.#death !== undefined || this.#process === undefined) return;
		const now = this.#now();
		if (this.#pingAt === undefined) {
			this.#pingAt = now;
			this.#out.host({ type: "ping" });
			this.#flushSoon();
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
		if (next.state === "DRAINING") this.#wakeAt(next.killAt);
	}

	// Bytes and messages

	#flushSoon(): void {
		if (this.#flushing) return;
		this.#flushing = true;
		// The tick queue runs when the microtasks are done: all attempts sent in this turn share one write.
		queueMicrotask(() =>
			process.nextTick(() => {
				this.#flushing = false;
				this.#flush();
			}),
		);
	}

	#flush(): void {
		if (!this.#out.empty) this.#process?.send(this.#out.take());
	}

	#data(chunk: Uint8Array): void {
		// After a protocol error nothing of it is believed; after other kills complete answers still win.
		if (this.#life.state === "TERMINATED" || this.#death?.kind === "protocol") return;
		const problem = this.#reader.push(chunk);
		if (problem !== undefined) this.#broken(problem);
	}

	#broken(problem: string): void {
		this.#startError ??= `it broke its channel: ${problem}`;
		this.kill({ kind: "protocol", problem });
	}

	/** Returns what is wrong with a message, if anything. */
	#receive(message: WorkerMessage): string | undefined {
		const starting = this.#readyMs === undefined;
		switch (message.type) {
			case "ready":
				if (!starting) return "it said ready twice";
				return this.#ready(message.protocol, message.config);
			case "start_failed":
				if (!starting) return "it said start_failed after ready";
				this.#startError ??= message.stack ?? message.message;
				if (!this.#startError.includes(message.message)) this.#startError = `${message.message}\n${this.#startError}`;
				this.kill({ kind: "unneeded", why: "its start failed" });
				return undefined;
			case "response":
			case "failed":
			case "ended": {
				const aboard = this.#attempts.get(message.call);
				if (aboard === undefined) return `an answer for call ${message.call}, which is not aboard`;
				const outcome = this.#outcome(aboard, message);
				if (outcome === undefined) return `call ${message.call} ended by an abort that nobody sent`;
				this.#finish(aboard, outcome);
				this.#leave(aboard.need);
				return undefined;
			}
			case "log":
				this.#log(message);
				return undefined;
			case "tainted":
				// Before the first attempt it is the bundle's own doing, and the next worker would be the same.
				if (this.#ran > 0) this.retire(message.message);
				return undefined;
			case "pong":
				this.#pingAt = undefined;
				if (this.#silent) {
					this.#silent = false;
					this.#deps.events.freed(this);
				}
				return undefined;
		}
	}

	#ready(protocol: number, config: unknown): string | undefined {
		if (protocol !== CHANNEL_VERSION) return `it speaks channel version ${protocol}, not ${CHANNEL_VERSION}`;
		if (this.#life.state !== "STARTING") return undefined;
		const now = this.#now();
		this.#readyAt = now;
		this.restedAt = now;
		this.#readyMs = Math.round((now - this.#launchedAt) * 10) / 10;
		this.#become({ state: "WARM", since: now });
		this.#wakeAt(now + this.#deps.events.idleMs(this));
		const { maxAgeMs } = this.spec.config;
		if (maxAgeMs > 0) this.#wakeAt(now + maxAgeMs);
		this.#deps.events.ready(this, config);
		return undefined;
	}

	#outcome(
		aboard: Aboard,
		message: Extract<WorkerMessage, { type: "response" | "failed" | "ended" }>,
	): Outcome | undefined {
		// Past its deadline every answer is late, also one that was under way when the abort was sent.
		if (aboard.phase === "timed_out") return timedOut(aboard.spec);
		switch (message.type) {
			case "ended":
				return aboard.phase === "cancelled" ? { kind: "cancelled" } : undefined;
			case "failed": {
				const code = (FAILURE_CODES.has(message.code) ? message.code : "HANDLER_ERROR") as ErrorCode;
				const { name, stack } = message;
				return {
					kind: "failed",
					error: {
						code,
						message: message.message.slice(0, LIMITS.errorTextBytesMax),
						...(name === undefined ? {} : { name: name.slice(0, 256) }),
						...(stack === undefined ? {} : { stack: stack.slice(0, LIMITS.errorTextBytesMax) }),
					},
				};
			}
			case "response": {
				const { status, headers, body } = message;
				const { maxBodyBytes } = this.spec.config;
				if (body.byteLength <= maxBodyBytes) return { kind: "succeeded", status, headers, body };
				const text = `the body of the Response has ${body.byteLength} bytes; at most ${maxBodyBytes} are allowed`;
				return { kind: "failed", error: { code: "RESULT_TOO_LARGE", message: text } };
			}
		}
	}

	#log(message: LogMessage): void {
		const { call } = message;
		const fence = call === undefined ? undefined : (this.#attempts.get(call)?.spec ?? this.#recent.get(call));
		if (message.level === "error") this.#keepLastWords(message.message);
		this.#post(
			message.level,
			message.message.slice(0, LIMITS.logLineBytesMax + 32),
			fence,
			message.at,
			message.metadata,
		);
	}

	/** A line of a pipe: it is the attempt's where only one is aboard. */
	#printed(level: LogLevel, line: string): void {
		if (level === "error") this.#keepLastWords(line);
		const only = this.#attempts.size === 1 ? this.#attempts.values().next().value : undefined;
		this.#post(level, line, only?.spec, this.#deps.environment.clock.now(), undefined);
	}

	#post(
		level: LogLevel,
		message: string,
		fence: Fence | undefined,
		at: number,
		metadata: WorkerLogLine["metadata"],
	): void {
		const { functionId } = this.spec;
		const { invocationId, attempt } = fence ?? { invocationId: undefined, attempt: undefined };
		this.#deps.events.log({ functionId, invocationId, attempt, level, message, metadata, at, worker: this.id });
	}

	#keepLastWords(line: string): void {
		this.#lastWords.push(line.slice(0, LAST_WORDS_CHARS));
		if (this.#lastWords.length > LAST_WORDS_LINES) this.#lastWords.shift();
	}

	// Attempts

	#abort(aboard: Aboard, reason: AbortReason): void {
		const now = this.#now();
		aboard.phase = reason === "timeout" ? "timed_out" : "cancelled";
		aboard.abortedAt = now;
		aboard.dueAt = now + this.spec.config.graceMs;
		this.#out.host({ type: "abort", call: aboard.call, reason });
		this.pulse(false);
		this.#flushSoon();
		this.#wakeAt(aboard.dueAt);
	}

	/** An attempt is still aboard when its grace is over. */
	#overstay(aboard: Aboard, now: number): void {
		const alone = this.#attempts.size === 1;
		const askedLongEnough = now >= aboard.abortedAt + 2 * LIMITS.loopSilentMs;
		if (alone || (this.#silent && askedLongEnough)) {
			this.kill({ kind: this.#silent ? "silent" : "overdue" });
		} else if (!askedLongEnough) {
			// A short grace: neighbours are only risked once it is known whether the loop answers.
			aboard.dueAt = aboard.abortedAt + 2 * LIMITS.loopSilentMs;
		} else {
			aboard.dueAt = Infinity;
			this.retire("an attempt ignored its abort signal");
			if (this.#life.state === "DRAINING" && this.#life.killAt === Infinity) {
				this.#become({ ...this.#life, killAt: now + LIMITS.neighbourGraceMsMax });
			}
			this.#endIfOnlyOverstayers();
		}
	}

	#overstayers(): number {
		let count = 0;
		for (const aboard of this.#attempts.values()) if (aboard.dueAt === Infinity) count += 1;
		return count;
	}

	#endIfOnlyOverstayers(): void {
		const count = this.#overstayers();
		if (count > 0 && count === this.load) this.kill({ kind: "overdue" });
		// The last one ended after all: its neighbours have all their time again.
		else if (count === 0 && this.#life.state === "DRAINING" && this.load > 0) {
			this.#become({ ...this.#life, killAt: Infinity });
		}
	}

	#finish(aboard: Aboard, outcome: Outcome): void {
		this.#attempts.delete(aboard.call);
		this.#recent.set(aboard.call, aboard.spec);
		if (this.#recent.size > RECENT_CALLS) {
			for (const oldest of this.#recent.keys()) {
				this.#recent.delete(oldest);
				break;
			}
		}
		aboard.resolve(outcome);
	}

	/** After an attempt or a reservation has left. */
	#leave(need: SlotNeed): void {
		this.#bytes -= need.bytes;
		if (need.solo) this.#soloAboard = false;
		const empty = this.load === 0;
		if (this.#life.state === "BUSY" && empty) {
			const now = this.#now();
			const idleMs = this.#deps.events.idleMs(this);
			this.restedAt = now;
			this.#become({ state: idleMs === Infinity ? "WARM" : "IDLE", since: now });
			this.#wakeAt(now + idleMs);
		} else if (this.#life.state === "DRAINING" && this.#death === undefined) {
			if (empty) this.#stop();
			else this.#endIfOnlyOverstayers();
		}
		this.#deps.events.freed(this);
	}

	/** Empty and retired: it may finish what waitUntil holds, for the grace. */
	#stop(): void {
		if (this.#life.state !== "DRAINING") return;
		this.#out.host({ type: "stop" });
		this.#flushSoon();
		this.#become({ ...this.#life, killAt: this.#now() + this.spec.config.graceMs });
	}

	#gone(exit: Exit): void {
		if (this.#life.state === "TERMINATED") return;
		this.#stdout.end();
		this.#stderr.end();
		const wasReady = this.#readyMs !== undefined;
		const scene: DeathScene = {
			death: this.#death ?? { kind: "exit", exit },
			worker: this.id,
			pid: this.pid,
			aboard: this.#death === undefined ? this.#attempts.size : this.#aboardAtKill,
			lastWords: this.#lastWords.join("\n").slice(-LAST_WORDS_CHARS),
		};
		const { state } = this.#life;
		this.#become({ state: "TERMINATED" });
		this.#alarm?.cancel();
		if (wasReady && (this.#attempts.size > 0 || state !== "DRAINING")) {
			const running = this.#attempts.size;
			this.#deps.environment.logger.warn({ worker: this.id, state, running }, describeDeath(scene).message);
		}
		for (const aboard of this.#attempts.values()) {
			this.#finish(aboard, verdict(aboard.phase, aboard.spec, scene));
		}
		const words = scene.lastWords === "" ? "" : `; last output: ${scene.lastWords}`;
		const startError =
			wasReady || this.#givenUp
				? undefined
				: (this.#startError ?? `it ${describeExit(exit)} before it was ready`) + words;
		this.#deps.events.gone(this, startError);
	}

	// Time

	#wakeAt(at: number): void {
		if (at >= this.#alarmAt || this.#life.state === "TERMINATED") return;
		this.#alarm?.cancel();
		this.#alarmAt = at;
		this.#alarm = this.#deps.environment.clock.setTimer(Math.max(0, at - this.#now()), () => this.#ring());
	}

	#ring(): void {
		const now = this.#now();
		const late = now - this.#alarmAt;
		this.#alarmAt = Infinity;
		this.#alarm = undefined;
		if (late > LATE_MS && !this.#postponed) {
			this.#postponed = true;
			this.#wakeAt(now + 1);
			return;
		}
		this.#postponed = false;
		for (const aboard of this.#attempts.values()) {
			if (now < aboard.dueAt || this.#death !== undefined) continue;
			if (aboard.phase === "running") this.#abort(aboard, "timeout");
			else this.#overstay(aboard, now);
		}
		this.#lookAtLife(now);
		for (const aboard of this.#attempts.values()) this.#wakeAt(aboard.dueAt);
	}

	#lookAtLife(now: number): void {
		if (this.#death !== undefined) return;
		if (now >= this.#closedAt + CLOSED_CHANNEL_MS) {
			this.#broken("it closed its channel");
			return;
		}
		this.#wakeAt(this.#closedAt + CLOSED_CHANNEL_MS);
		const life = this.#life;
		switch (life.state) {
			case "STARTING":
				if (now >= this.#launchedAt + LIMITS.workerStartMsMax) {
					this.#startError ??= `it was not ready within ${LIMITS.workerStartMsMax} ms; move slow work out of the module's top level`;
					this.kill({ kind: "unneeded", why: "it was not ready in time" });
				} else this.#wakeAt(this.#launchedAt + LIMITS.workerStartMsMax);
				return;
			case "WARM":
			case "IDLE": {
				const endAt = life.since + this.#deps.events.idleMs(this);
				if (now >= endAt) {
					this.retire("it was idle");
					return;
				}
				if (life.state === "IDLE" && endAt === Infinity) this.#become({ state: "WARM", since: life.since });
				this.#wakeAt(endAt);
				break;
			}
			case "DRAINING":
				if (now >= life.killAt) {
					this.kill(this.#overstayers() > 0 ? { kind: "overdue" } : { kind: "unneeded", why: life.why });
				} else this.#wakeAt(life.killAt);
				return;
			case "BUSY":
			case "TERMINATED":
				break;
		}
		const { maxAgeMs } = this.spec.config;
		if (maxAgeMs === 0 || !this.serving) return;
		if (now >= this.#readyAt + maxAgeMs) this.retire(`it is older than maxAgeMs ${maxAgeMs}`);
		else this.#wakeAt(this.#readyAt + maxAgeMs);
	}
}
