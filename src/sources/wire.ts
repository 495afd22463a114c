/**
 * The JSON that leaves the daemon: one explicit function per record of core/contracts.ts, shared by the socket and
 * HTTP, so that both faces always show the same document. What comes in is in wire-request.ts.
 *
 *   W1  keys are snake_case; the keys of a function's configuration stay as a module writes them (`timeoutMs`)
 *   W2  every key of a record is always there; what is unknown is null
 *   W3  times are UTC milliseconds (`*_at`), durations milliseconds (`*_ms`); only commands 0x01–0x05 use RFC 3339
 *   W4  a list is an object with one named array, so that it can grow other keys
 */
import type {
	Accepted,
	AttemptRecord,
	BackupRecord,
	DeploymentRecord,
	DeployResult,
	EmitResult,
	EventRecord,
	FunctionRecord,
	InvocationRecord,
	InvocationResult,
	InvocationSummary,
	LaneRecord,
	LogPage,
	LogRecord,
	MetricsRecord,
	ScheduleRecord,
	Stats,
	VersionRecord,
	WorkerRecord,
} from "../core/contracts.ts";
import type { EngineError, ErrorRecord } from "../core/errors.ts";
import type { Pairs } from "../core/request.ts";

/** Base64 of a body, without a copy of its bytes. */
export function base64Of(body: Uint8Array): string {
	return Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString("base64");
}

/** RFC 3339 in UTC, as the Go client parses it. */
export function rfc3339(at: number): string {
	return new Date(at).toISOString();
}

/**
 * Pairs as the compatible wire has them: one string per name. Values of a repeated name are joined with ", ";
 * of Set-Cookie only the first is kept, because a comma inside a cookie's date makes joined cookies unreadable.
 */
export function joinedPairs(pairs: Pairs): Record<string, string> {
	const joined: Record<string, string> = Object.create(null) as Record<string, string>;
	for (const [name, value] of pairs) {
		const before = joined[name];
		if (before === undefined) joined[name] = value;
		else if (name !== "set-cookie") joined[name] = `${before}, ${value}`;
	}
	return joined;
}

/** The error answer of every face. Every value is a string: the Go client decodes it as a map of strings. */
export function wireRefusal(error: EngineError): Record<string, string> {
	return {
		error: error.message,
		code: error.code,
		...(error.retryAfterSeconds === undefined ? {} : { retry_after_seconds: String(error.retryAfterSeconds) }),
		...(error.invocationId === undefined ? {} : { invocation_id: error.invocationId }),
	};
}

/** Why an invocation did not succeed. */
export function wireError(error: ErrorRecord): Record<string, unknown> {
	return { code: error.code, message: error.message, name: error.name ?? null, stack: error.stack ?? null };
}

/** In lists the stack is left out: a thousand of them would not fit one frame. */
function wireErrorBrief(error: ErrorRecord): Record<string, unknown> {
	return { code: error.code, message: error.message, name: error.name ?? null };
}

export function wireAccepted(accepted: Accepted): Record<string, unknown> {
	return { invocation_id: accepted.invocationId, state: accepted.state, replayed: accepted.replayed };
}

export function wireAttempt(attempt: AttemptRecord): Record<string, unknown> {
	return {
		attempt: attempt.attempt,
		outcome: attempt.outcome,
		started_at: attempt.startedAt,
		finished_at: attempt.finishedAt ?? null,
		worker: attempt.worker ?? null,
		cold: attempt.cold,
		error: attempt.error === undefined ? null : wireError(attempt.error),
	};
}

function summaryFields(record: InvocationSummary): Record<string, unknown> {
	return {
		invocation_id: record.invocationId,
		function_id: record.functionId,
		function_name: record.functionName,
		version: record.version,
		state: record.state,
		source: record.source,
		origin: record.origin ?? null,
		attempt: record.attempt,
		charged: record.charged,
		max_attempts: record.maxAttempts,
		priority: record.priority,
		lane_key: record.laneKey,
		created_at: record.createdAt,
		run_at: record.runAt,
		started_at: record.startedAt ?? null,
		finished_at: record.finishedAt ?? null,
		queue_wait_ms: record.queueWaitMs ?? null,
		run_ms: record.runMs ?? null,
		cold: record.cold ?? null,
	};
}

export function wireInvocationSummary(record: InvocationSummary): Record<string, unknown> {
	return { ...summaryFields(record), error: record.error === undefined ? null : wireErrorBrief(record.error) };
}

/** A response; `body` only where it is asked for, because it may be 11 MiB. */
export function wireResult(result: InvocationResult, withBody: boolean): Record<string, unknown> {
	return {
		status: result.status,
		headers: result.headers,
		body_bytes: result.body.byteLength,
		...(withBody ? { body: base64Of(result.body) } : {}),
	};
}

/** Everything known of one invocation. */
export function wireInvocation(record: InvocationRecord, withBody: boolean): Record<string, unknown> {
	return {
		...summaryFields(record),
		deadline_at: record.deadlineAt ?? null,
		idempotency_key: record.idempotencyKey ?? null,
		tags: record.tags,
		traceparent: record.traceparent ?? null,
		request: {
			method: record.request.method,
			path: record.request.path,
			headers: record.request.headers,
			query: record.request.query,
			body_bytes: record.request.bodyBytes,
		},
		attempts: record.attempts.map(wireAttempt),
		result: record.result === undefined ? null : wireResult(record.result, withBody),
		error: record.error === undefined ? null : wireError(record.error),
	};
}

export function wireFunction(record: FunctionRecord): Record<string, unknown> {
	return {
		function_id: record.functionId,
		name: record.name,
		runtime: record.runtime,
		handler: record.handler,
		status: record.status,
		active_version: record.activeVersion ?? null,
		created_at: record.createdAt,
		overrides: record.overrides,
		config: record.config,
	};
}

export function wireVersion(record: VersionRecord): Record<string, unknown> {
	return {
		function_id: record.functionId,
		version: record.version,
		sha256: record.sha256,
		bytes: record.bytes,
		created_at: record.createdAt,
		active: record.active,
		config: record.config,
	};
}

export function wireDeployment(record: DeploymentRecord): Record<string, unknown> {
	return {
		deployment_id: record.deploymentId,
		function_id: record.functionId,
		version: record.version,
		deployed_at: record.deployedAt,
		reason: record.reason,
	};
}

export function wireDeployResult(result: DeployResult): Record<string, unknown> {
	return {
		...wireDeployment(result),
		name: result.name,
		created: result.created,
		sha256: result.sha256,
		build_ms: result.buildMs,
		ready_ms: result.readyMs,
	};
}

export function wireSchedule(record: ScheduleRecord): Record<string, unknown> {
	return {
		schedule_id: record.scheduleId,
		function_id: record.functionId,
		function_name: record.functionName,
		name: record.name,
		cron: record.cron,
		timezone: record.timezone,
		misfire: record.misfire,
		overlap: record.overlap,
		origin: record.origin,
		paused: record.paused,
		next_due_at: record.nextDueAt ?? null,
		last_slot_at: record.lastSlotAt ?? null,
		data: record.data ?? null,
	};
}

export function wireEmitted(result: EmitResult): Record<string, unknown> {
	return {
		event_id: result.eventId,
		type: result.type,
		invocations: result.invocations.map((made) => ({
			function_name: made.functionName,
			invocation_id: made.invocationId,
		})),
	};
}

export function wireEvent(record: EventRecord): Record<string, unknown> {
	return {
		event_id: record.eventId,
		type: record.type,
		created_at: record.createdAt,
		data: record.data ?? null,
		invocation_ids: record.invocationIds,
	};
}

export function wireLog(record: LogRecord): Record<string, unknown> {
	return {
		id: record.id,
		function_id: record.functionId,
		invocation_id: record.invocationId ?? null,
		attempt: record.attempt ?? null,
		level: record.level,
		message: record.message,
		metadata: record.metadata ?? null,
		at: record.at,
	};
}

/** GET_LOGS (0x02). The id is a string there: other stores of the API server give it words. */
export function wireLegacyLogs(page: LogPage): Record<string, unknown> {
	return {
		logs: page.logs.map((record) => ({
			id: String(record.id),
			execution_id: record.invocationId ?? "",
			level: record.level,
			message: record.message,
			metadata: record.metadata ?? null,
			timestamp: rfc3339(record.at),
		})),
		total: page.total,
	};
}

export function wireMetrics(record: MetricsRecord): Record<string, unknown> {
	return {
		invocations: record.invocations,
		errors: record.errors,
		average_duration_ms: record.averageDurationMs,
		cold_starts: record.coldStarts,
		last_invoked_at: record.lastInvokedAt ?? null,
		period: record.period,
	};
}

/** GET_METRICS (0x03). */
export function wireLegacyMetrics(record: MetricsRecord): Record<string, unknown> {
	return {
		invocations: record.invocations,
		errors: record.errors,
		average_duration_ms: record.averageDurationMs,
		cold_starts: record.coldStarts,
		last_invoked: record.lastInvokedAt === undefined ? null : rfc3339(record.lastInvokedAt),
		period: record.period,
	};
}

export function wireWorker(record: WorkerRecord): Record<string, unknown> {
	return {
		worker: record.worker,
		pid: record.pid ?? null,
		function_id: record.functionId,
		function_name: record.functionName,
		version: record.version,
		state: record.state,
		started_at: record.startedAt,
		ready_ms: record.readyMs ?? null,
		running: record.running,
		ran: record.ran,
		memory_bytes: record.memoryBytes ?? null,
	};
}

export function wireLane(record: LaneRecord): Record<string, unknown> {
	return {
		function_id: record.functionId,
		function_name: record.functionName,
		running: record.running,
		limit: record.limit,
		ready: record.ready,
		delayed: record.delayed,
		max_queued: record.maxQueued,
		paused: record.paused,
		blocked: record.blocked ?? null,
	};
}

export function wireStats(stats: Stats): Record<string, unknown> {
	return {
		version: stats.version,
		started_at: stats.startedAt,
		pid: stats.pid,
		data_dir: stats.dataDir,
		draining: stats.draining,
		functions: stats.functions,
		queued: stats.queued,
		running: stats.running,
		waiters: stats.waiters,
		workers: stats.workers,
		ended: stats.ended,
		accepted: stats.accepted,
		commits: stats.commits,
		log_lines_dropped: stats.logLinesDropped,
		rss_bytes: stats.rssBytes,
		wal_bytes: stats.walBytes,
		storage_low: stats.storageLow,
	};
}

export function wireBackup(record: BackupRecord): Record<string, unknown> {
	return {
		path: record.path,
		instance_id: record.instanceId,
		created_at: record.createdAt,
		seq: record.seq,
		files: record.files,
		bytes: record.bytes,
		damage: record.damage,
		ms: record.ms,
	};
}
