/**
 * What the pool is asked for and what it answers. The dispatcher (engine) is its only caller.
 *
 * The pool never sees a database and never decides what an Outcome means for an invocation.
 */
import type { LogLevel, WorkerRecord } from "../core/contracts.ts";
import type { ErrorCode } from "../core/errors.ts";
import type { ResolvedConfig } from "../core/function-config.ts";
import type { Outcome } from "../core/invocation.ts";

/** One FunctionVersion as a worker needs it. */
export interface WorkerSpec {
	/** Unique for (function, version); workers and breakers are kept under it. */
	readonly key: string;
	readonly functionId: string;
	readonly functionName: string;
	readonly version: string;
	/** Absolute path of the stored bundle. */
	readonly bundlePath: string;
	/** Export that handles requests. */
	readonly handler: string;
	readonly config: ResolvedConfig;
	/** The function's own variables; PATH, HOME, TZ and LANG are added by the pool. */
	readonly env: Readonly<Record<string, string>>;
}

/** One claimed Attempt, ready to be sent. */
export interface AttemptSpec {
	readonly invocationId: string;
	readonly attempt: number;
	readonly method: string;
	readonly path: string;
	/** JSON text of `Pairs`, sent as it is stored. */
	readonly headersJson: string;
	readonly queryJson: string;
	readonly body: Uint8Array;
	/** From dispatch to the abort signal, monotonic; the smaller of `timeoutMs` and what is left of the deadline. */
	readonly timeoutMs: number;
	readonly timeoutCode: Extract<ErrorCode, "TIMED_OUT" | "DEADLINE_EXCEEDED">;
}

/** What an attempt needs of a worker. */
export interface SlotNeed {
	/** Body bytes; those in flight in one worker stay under a quarter of `memoryMb`, and a larger one runs alone. */
	readonly bytes: number;
	/** A suspect: it must be alone aboard. */
	readonly solo: boolean;
}

/** A reserved place in a READY worker. Ends by `run`, or by `release` where the claim was not committed. */
export interface Slot {
	/** `w12`; unique within one run of the daemon. */
	readonly worker: string;
	/** True where this attempt had to wait for the worker to start. */
	readonly cold: boolean;
	release(): void;
}

export interface WorkerLogLine {
	readonly functionId: string;
	readonly invocationId: string | undefined;
	readonly attempt: number | undefined;
	readonly level: LogLevel;
	readonly message: string;
	readonly metadata: Readonly<Record<string, unknown>> | undefined;
	/** UTC ms. */
	readonly at: number;
	readonly worker: string;
}

/** What a READY worker found in its bundle. */
export interface ReadyReport {
	/** The module's exported `config`, as JSON; undefined where there is none. Not validated by the pool. */
	readonly config: unknown;
	readonly readyMs: number;
}

export interface PoolEvents {
	/** A slot of this function may be free now, or a reservation that failed may succeed. Never called inside `reserve`. */
	capacity(functionId: string): void;
	log(line: WorkerLogLine): void;
}

export interface Pool {
	/**
	 * A place in a READY worker of this version, or undefined. Where none is free this notes the demand, starts
	 * another worker if the limits allow, and `capacity` is called when it is worth asking again.
	 */
	reserve(spec: WorkerSpec, need: SlotNeed): Slot | undefined;
	/**
	 * Sends the attempt. `ended` is called once, whatever a worker does; perhaps before this returns, where the worker is
	 * gone, and from within the pool's own loops. So it must neither throw nor call the pool.
	 */
	run(slot: Slot, attempt: AttemptSpec, ended: (outcome: Outcome) => void): void;
	/** Abort signal, grace, SIGKILL; the attempt's outcome is `cancelled` unless it had answered. */
	cancel(invocationId: string, attempt: number): void;
	/**
	 * Starts a worker of a version that is not active yet and resolves when it is READY (it stays, WARM).
	 * May exceed `maxWorkers` by one. Rejects with BAD_BUNDLE and the worker's last output.
	 */
	prove(spec: WorkerSpec): Promise<ReadyReport>;
	/**
	 * Keeps `warmWorkers` of this version started; its workers take the spec's limits; idle workers of the function's
	 * other versions are ended.
	 */
	activate(spec: WorkerSpec): void;
	/**
	 * A new environment: ends the function's workers as they fall idle and starts no more of the old kind; what could not
	 * start before is tried again at once.
	 */
	recycle(functionId: string): void;
	/** Why no worker of this version can be started now, e.g. "breaker open for 4 s: SyntaxError …", or undefined. */
	blocked(key: string): string | undefined;
	workers(): readonly WorkerRecord[];
	/** No new reservations; attempts may finish for `drainMs`, then they are released with `why: "drain"`. Ends every worker. */
	stop(drainMs: number): Promise<void>;
}
