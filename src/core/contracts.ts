/**
 * What a Source may ask of the engine, and what the engine asks of a Source. Sources see the engine through this
 * file alone. All times are UTC milliseconds; all durations milliseconds.
 */
import type { EngineError, ErrorRecord } from "./errors.ts";
import type { FunctionConfig, FunctionLimits, Misfire, Overlap, ResolvedConfig } from "./function-config.ts";
import type { State } from "./invocation.ts";
import type { InvokeRequest, Pairs, SourceKind } from "./request.ts";

/** The answer to an accepted request; sent only after the commit. */
export interface Accepted {
	readonly invocationId: string;
	readonly state: State;
	/** True where the idempotency key was seen before: this is the first request's invocation. */
	readonly replayed: boolean;
}

export interface InvocationResult {
	readonly status: number;
	readonly headers: Pairs;
	readonly body: Uint8Array;
}

/** How an invocation ended, as a waiter gets it. */
export interface Ended {
	readonly invocationId: string;
	readonly state: State;
	/** Set exactly where the state is `succeeded`. */
	readonly result: InvocationResult | undefined;
	/** Set exactly where it is terminal without success. */
	readonly error: ErrorRecord | undefined;
	/** Run time of the last attempt, whole ms. */
	readonly executionMs: number;
}

export interface AttemptRecord {
	readonly attempt: number;
	/** `running`, an outcome (`succeeded`, `failed`, `timed_out`, `crashed`, `cancelled`, `released`) or `daemon_died`. */
	readonly outcome: string;
	readonly startedAt: number;
	readonly finishedAt: number | undefined;
	/** `w12`, unique within one run of the daemon. */
	readonly worker: string | undefined;
	/** True where it had to wait for its worker to start. */
	readonly cold: boolean;
	readonly error: ErrorRecord | undefined;
}

/** One line of a list. */
export interface InvocationSummary {
	readonly invocationId: string;
	readonly functionId: string;
	readonly functionName: string;
	readonly version: string;
	readonly state: State;
	readonly source: SourceKind;
	/** The schedule or event that made it. */
	readonly origin: string | undefined;
	readonly attempt: number;
	readonly charged: number;
	readonly maxAttempts: number;
	readonly priority: number;
	readonly laneKey: string;
	readonly createdAt: number;
	/** Not before; 0 is at once. */
	readonly runAt: number;
	readonly startedAt: number | undefined;
	readonly finishedAt: number | undefined;
	/** From acceptance (or due time) to the start of the last attempt. */
	readonly queueWaitMs: number | undefined;
	/** Run time of the last attempt. */
	readonly runMs: number | undefined;
	readonly cold: boolean | undefined;
	readonly error: ErrorRecord | undefined;
}

/** Everything known of one invocation. */
export interface InvocationRecord extends InvocationSummary {
	readonly deadlineAt: number | undefined;
	readonly idempotencyKey: string | undefined;
	readonly tags: readonly string[];
	readonly traceparent: string | undefined;
	readonly request: {
		readonly method: string;
		readonly path: string;
		readonly headers: Pairs;
		readonly query: Pairs;
		readonly bodyBytes: number;
	};
	/** All attempts, first to last; the last may be running. */
	readonly attempts: readonly AttemptRecord[];
	readonly result: InvocationResult | undefined;
}

export interface InvocationFilter {
	/** Id or name. */
	readonly function?: string | undefined;
	readonly state?: State | undefined;
	readonly limit?: number | undefined;
	/** An invocation id; the page continues with older ones. */
	readonly before?: string | undefined;
}

export interface FunctionRecord {
	readonly functionId: string;
	readonly name: string;
	readonly runtime: "bun";
	/** Export that handles requests; `default` is the default export. */
	readonly handler: string;
	/** REGISTERED: no version. BUILT: has one. DEPLOYED: one is active. */
	readonly status: "REGISTERED" | "BUILT" | "DEPLOYED";
	readonly activeVersion: string | undefined;
	readonly createdAt: number;
	/** Overrides on the function. */
	readonly overrides: FunctionLimits;
	/** What is in force for the active version. */
	readonly config: ResolvedConfig;
}

export interface VersionRecord {
	readonly functionId: string;
	readonly version: string;
	/** Hex SHA-256 of the bundle. */
	readonly sha256: string;
	readonly bytes: number;
	readonly createdAt: number;
	readonly active: boolean;
	readonly config: FunctionConfig;
}

export interface DeploymentRecord {
	readonly deploymentId: string;
	readonly functionId: string;
	readonly version: string;
	readonly deployedAt: number;
	/** `deploy`, `rollback`. */
	readonly reason: string;
}

export interface DeployRequest {
	/** Id or name; unknown names are registered when `register` is set. */
	readonly function: string;
	readonly register?: boolean;
	/** Export that handles requests; only where this registers the function. */
	readonly handler?: string;
	/** Default: the version with the same bytes, else v1, v2, … */
	readonly version?: string;
	/** Absolute path on this machine: a JavaScript bundle, or TypeScript/a folder when `build` is set. */
	readonly path: string;
	readonly build?: boolean;
}

export interface DeployResult extends DeploymentRecord {
	readonly name: string;
	/** False where the version existed already and was activated again. */
	readonly created: boolean;
	readonly sha256: string;
	readonly buildMs: number;
	readonly readyMs: number;
}

export interface ScheduleRecord {
	readonly scheduleId: string;
	readonly functionId: string;
	readonly functionName: string;
	readonly name: string;
	readonly cron: string;
	readonly timezone: string;
	readonly misfire: Misfire;
	readonly overlap: Overlap;
	/** `module`: from the active version's config. `api`: made by CLI or API. */
	readonly origin: "module" | "api";
	readonly paused: boolean;
	readonly nextDueAt: number | undefined;
	/** The newest slot that was decided; in the future where the clock was ahead then. */
	readonly lastSlotAt: number | undefined;
	/** Slots up to here are decided, or from before it was made, resumed or changed. Never ahead of the clock. */
	readonly decidedUntil: number;
	readonly data: unknown;
}

/** Told of the one schedule that changed; of `undefined` where it may be any, so that all are to be listed again. */
export type ScheduleListener = (change: ScheduleChange | undefined) => void;

export interface ScheduleChange {
	readonly scheduleId: string;
	/** As it is now; undefined: it was removed. */
	readonly schedule: ScheduleRecord | undefined;
}

/** What became of a slot: it made an invocation, an earlier one still ran, it was missed, or the lane refused it. */
export type SlotDecision = "fired" | "overlapped" | "misfired" | "refused";

export interface ScheduleRequest {
	readonly function: string;
	readonly name?: string | undefined;
	readonly cron: string;
	readonly timezone?: string | undefined;
	readonly misfire?: Misfire | undefined;
	readonly overlap?: Overlap | undefined;
	readonly data?: unknown;
}

export interface EmitResult {
	readonly eventId: string;
	readonly type: string;
	/** One invocation for each subscribed function, committed with the event. */
	readonly invocations: readonly { readonly functionName: string; readonly invocationId: string }[];
}

export interface EmitRequest {
	readonly type: string;
	/** Anything JSON. */
	readonly data: unknown;
	/** URI-reference of who says so, as in CloudEvents; default `bunbase`. */
	readonly source?: string | undefined;
	/** Emitting a known id again answers as the first time. Default: a new id. */
	readonly id?: string | undefined;
}

/** An event that is about to be committed. */
export interface EmittedEvent {
	readonly eventId: string;
	readonly type: string;
	readonly source: string;
	readonly dataJson: string;
	readonly at: number;
}

export type EventTranslator = (event: EmittedEvent, functionId: string) => InvokeRequest;

export interface EventRecord {
	readonly eventId: string;
	readonly type: string;
	readonly createdAt: number;
	readonly data: unknown;
	readonly invocationIds: readonly string[];
}

export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface LogRecord {
	/** Rises with time; the cursor of `after`. */
	readonly id: number;
	readonly functionId: string;
	readonly invocationId: string | undefined;
	readonly attempt: number | undefined;
	readonly level: LogLevel;
	readonly message: string;
	/** JSON object or undefined. */
	readonly metadata: unknown;
	readonly at: number;
}

export interface LogFilter {
	readonly function?: string | undefined;
	readonly invocationId?: string | undefined;
	readonly level?: LogLevel | undefined;
	readonly since?: number | undefined;
	readonly until?: number | undefined;
	/** Only lines with a higher id: how `--follow` goes on. */
	readonly after?: number | undefined;
	readonly offset?: number | undefined;
	readonly limit?: number | undefined;
	/** The newest `limit` lines in place of the oldest; lines come oldest first either way. */
	readonly tail?: boolean | undefined;
}

export interface LogPage {
	readonly logs: readonly LogRecord[];
	/** Lines that match, over all pages. */
	readonly total: number;
}

export type MetricsPeriod = "minute" | "hour" | "day";

export interface MetricsRecord {
	readonly invocations: number;
	readonly errors: number;
	readonly averageDurationMs: number;
	readonly coldStarts: number;
	readonly lastInvokedAt: number | undefined;
	readonly period: MetricsPeriod;
}

export type WorkerState = "STARTING" | "WARM" | "BUSY" | "IDLE" | "DRAINING" | "TERMINATED";

export interface WorkerRecord {
	readonly worker: string;
	readonly pid: number | undefined;
	readonly functionId: string;
	readonly functionName: string;
	readonly version: string;
	readonly state: WorkerState;
	readonly startedAt: number;
	readonly readyMs: number | undefined;
	readonly running: readonly string[];
	readonly ran: number;
	readonly memoryBytes: number | undefined;
}

export interface LaneRecord {
	readonly functionId: string;
	readonly functionName: string;
	readonly running: number;
	readonly limit: number;
	readonly ready: number;
	readonly delayed: number;
	readonly maxQueued: number;
	readonly paused: boolean;
	/** Why nothing starts although something is ready, e.g. "breaker open until …". */
	readonly blocked: string | undefined;
}

export interface Stats {
	readonly version: string;
	readonly startedAt: number;
	readonly pid: number;
	readonly dataDir: string;
	readonly draining: boolean;
	readonly functions: number;
	readonly queued: number;
	readonly running: number;
	/** Callers that wait for an invocation to end. */
	readonly waiters: number;
	readonly workers: Readonly<Record<WorkerState, number>>;
	/** Since the daemon started, by terminal state. */
	readonly ended: Readonly<Partial<Record<State, number>>>;
	readonly accepted: number;
	readonly commits: number;
	readonly logLinesDropped: number;
	readonly rssBytes: number;
	/** The larger write-ahead log of queue.db and metadata.db. */
	readonly walBytes: number;
	/** The disk has too little space, and new work is refused. */
	readonly storageLow: boolean;
}

export interface BackupRequest {
	/** Absolute; a folder that is empty or does not exist yet, outside the data folder. */
	readonly path: string;
	/** Also where checks find damage: the backup then says which. */
	readonly damaged?: boolean;
}

export interface BackupRecord {
	readonly path: string;
	readonly instanceId: string;
	/** When its queue was whole: everything acknowledged before is in it. */
	readonly createdAt: number;
	/** The highest sequence number in it. */
	readonly seq: number;
	readonly files: number;
	readonly bytes: number;
	/** What checks found; empty unless `damaged` was asked for. */
	readonly damage: readonly string[];
	readonly ms: number;
}

export interface BackupProgress {
	/** What is copied, or `checks`. */
	readonly phase: string;
	/** Bytes of this phase; of `checks` both are 0. */
	readonly done: number;
	readonly total: number;
}

/** What a Source may ask. Every method that refuses throws (or rejects with) an EngineError. */
export interface Engine {
	/** Accepts and waits for the end. Rejects if refused; a failed invocation is an answer, not a rejection. */
	invoke(request: InvokeRequest): Promise<Ended>;
	/** Resolves after the commit. */
	enqueue(request: InvokeRequest): Promise<Accepted>;
	/** One commit for all; each item is accepted or refused on its own, in order. At most 1,000. */
	enqueueBatch(requests: readonly InvokeRequest[]): Promise<readonly (Accepted | EngineError)[]>;
	getInvocation(invocationId: string): InvocationRecord;
	/** The record as it is when it ends, or when the wait runs out or `signal` aborts. */
	awaitInvocation(
		invocationId: string,
		options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
	): Promise<{ readonly record: InvocationRecord; readonly timedOutWaiting: boolean }>;
	/** Queued work is cancelled at once; running work is told, and killed after its grace. */
	cancel(invocationId: string): Promise<{ readonly invocationId: string; readonly state: State }>;
	/** A new invocation of the same request on the active version; only of one that has ended. */
	retry(invocationId: string): Promise<Accepted>;
	listInvocations(filter: InvocationFilter): readonly InvocationSummary[];

	registerFunction(request: { name: string; runtime?: string; handler?: string }): FunctionRecord;
	getFunction(idOrName: string): FunctionRecord;
	listFunctions(): readonly FunctionRecord[];
	/** Overrides on the function; null removes one. */
	configureFunction(idOrName: string, overrides: Record<string, unknown>): FunctionRecord;
	deploy(request: DeployRequest): Promise<DeployResult>;
	/** To `version`, or to the version that was active before. */
	rollback(idOrName: string, version?: string): Promise<DeployResult>;
	listVersions(idOrName: string): readonly VersionRecord[];
	listDeployments(idOrName: string): readonly DeploymentRecord[];

	/** Names and when they were set; values never leave the engine. */
	listEnvironment(idOrName: string): readonly { readonly name: string; readonly updatedAt: number }[];
	setEnvironment(idOrName: string, values: Readonly<Record<string, string>>): void;
	unsetEnvironment(idOrName: string, names: readonly string[]): void;

	listSchedules(idOrName?: string): readonly ScheduleRecord[];
	putSchedule(request: ScheduleRequest): ScheduleRecord;
	/** By id, or by name where that is unambiguous; as for `pauseSchedule`. */
	deleteSchedule(scheduleId: string): void;
	pauseSchedule(scheduleId: string, paused: boolean): ScheduleRecord;

	/** For the cron source: told whenever a schedule was made, changed, paused or removed. Returns how to stop listening. */
	onSchedulesChanged(listener: ScheduleListener): () => void;
	/**
	 * For the cron source: decides one slot of a schedule, at most once ever. Without a request the slot is recorded
	 * as missed. Undefined: it, or a later one, had been decided before.
	 */
	fireSchedule(scheduleId: string, slot: number, request: InvokeRequest | undefined): Promise<SlotDecision | undefined>;

	emit(request: EmitRequest): Promise<EmitResult>;
	/** For the events source: how an event becomes the request of one subscriber. */
	translateEvents(translate: EventTranslator): void;
	listEvents(limit?: number): readonly EventRecord[];

	listLanes(): readonly LaneRecord[];
	pauseLane(idOrName: string, paused: boolean): LaneRecord;
	listWorkers(): readonly WorkerRecord[];
	readLogs(filter: LogFilter): LogPage;
	/** Resolves when lines after `after` may exist, or when the time is over. For `--follow`. */
	waitForLogs(after: number, timeoutMs: number, signal?: AbortSignal): Promise<void>;
	getMetrics(idOrName: string, period: MetricsPeriod): MetricsRecord;
	/** Prometheus text. */
	renderMetrics(): string;
	stats(): Stats;
	/** A checked copy of all that a restore needs, made while everything goes on. Given up when `signal` aborts. */
	backup(request: BackupRequest, signal?: AbortSignal): Promise<BackupRecord>;
	/** Of the backup that is under way; undefined where none is. */
	readonly backupProgress: BackupProgress | undefined;
	/** Whether new work would be taken. */
	readonly ready: boolean;
	/** The body limit that a source should apply before it reads a body for this function. */
	maxBodyBytes(idOrName: string): number;
}

/** Something that turns the outside world into InvokeRequests. Start and stop may each be called twice. */
export interface Source {
	readonly kind: string;
	/** Resolves when it takes requests. */
	start(engine: Engine): Promise<void>;
	/** Takes no more requests, answers what it holds, resolves when it holds nothing. */
	stop(): Promise<void>;
}
