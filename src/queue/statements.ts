/**
 * Every statement of the queue, named noun then verb, prepared once, bound by position (named binding costs about
 * a third more). Hot statements come first. What a statement may change it says in its WHERE: the fence
 * (seq, attempt, state = running) stands in every settling write.
 *
 * `+?` in queries: SQLite is built with STAT4 here and re-prepares a query whose plan might depend on a bound value at
 * each new value (40 µs for the head of a lane, measured); behind the unary plus the value is an expression like any
 * other, and the same plan costs 3 µs.
 */
import { isNamedIn, rowsOfBlock, type Database } from "../store/index.ts";

export type Statements = ReturnType<typeof prepareStatements>;

export function prepareStatements(db: Database) {
	return {
		invocationInsert: db.prepare(`
			INSERT INTO invocation (seq, lane, version, state, ready, priority, lane_key, created_at, run_at, deadline_at,
				attempt, charged, max_attempts, at_most_once, started_at, worker, cold, source, origin,
				method, path, headers, query, body, body_bytes, body_crc, idempotency_key, tags, traceparent, result_body)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`),
		/** The same for a request that asks for nothing special and waits for its turn: not half the values. */
		invocationInsertQueued: db.prepare(`
			INSERT INTO invocation (seq, lane, version, state, ready, priority, lane_key, created_at, run_at,
				attempt, charged, max_attempts, at_most_once, source, method, path, headers, query, body, body_bytes, body_crc)
			VALUES (?, ?, ?, 0, 1, 0, '', ?, 0, 0, 0, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?)`),
		/** And for one that is claimed at once: half the values, 3.2 µs in place of 4.0. */
		invocationInsertClaimed: db.prepare(`
			INSERT INTO invocation (seq, lane, version, state, ready, priority, lane_key, created_at, run_at,
				attempt, charged, max_attempts, at_most_once, started_at, worker, cold, source,
				method, path, headers, query, body, body_bytes, body_crc, result_body)
			VALUES (?, ?, ?, 1, 1, 0, '', ?, 0, 1, 0, ?, 0, ?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?)`),
		invocationSucceed: db.prepare(`
			UPDATE invocation SET state = 2, charged = ?, finished_at = ?, status = ?, result_headers = ?, result_body = ?,
				result_bytes = ?, result_crc = ?
			WHERE seq = ? AND state = 1 AND attempt = ?`),
		invocationEnd: db.prepare(`
			UPDATE invocation SET state = ?, charged = ?, worker_deaths = ?, daemon_deaths = ?, finished_at = ?, error = ?,
				result_body = NULL
			WHERE seq = ? AND state = 1 AND attempt = ?`),
		invocationRequeue: db.prepare(`
			UPDATE invocation SET state = 0, ready = ?, run_at = ?, charged = ?, worker_deaths = ?, daemon_deaths = ?, solo = ?,
				started_at = NULL, worker = NULL, cold = NULL, error = ?, result_body = NULL
			WHERE seq = ? AND state = 1 AND attempt = ?`),
		invocationClaim: db.prepare(`
			UPDATE invocation SET state = 1, attempt = attempt + 1, started_at = ?, worker = ?, cold = ?, error = NULL
			WHERE seq = ? AND state = 0 AND ready = 1 RETURNING attempt`),
		invocationSetAside: db.prepare(
			"UPDATE invocation SET ready = 0, run_at = ? WHERE seq = ? AND state = 0 AND ready = 1",
		),
		/** The head of a sub-lane. INDEXED BY, because STAT4 may otherwise change the plan with the data. */
		invocationReadyHead: db.prepare<[number, string], ReadyRow>(`
			SELECT seq, lane, version, lane_key AS laneKey, attempt, charged, max_attempts AS maxAttempts,
				at_most_once AS atMostOnce, worker_deaths AS workerDeaths, daemon_deaths AS daemonDeaths, solo,
				created_at AS createdAt, run_at AS runAt, deadline_at AS deadlineAt, method, path, headers, query, body,
				body_bytes AS bodyBytes, body_crc AS bodyCrc
			FROM invocation INDEXED BY invocation_ready
			WHERE state = 0 AND ready = 1 AND lane = +? AND lane_key = +?
			ORDER BY priority DESC, seq LIMIT 1`),
		/** The next lane key after the one served last: a step through the index, not a scan of the lane. */
		laneKeyNext: db.prepare<[number, string], { laneKey: string }>(`
			SELECT lane_key AS laneKey FROM invocation INDEXED BY invocation_ready
			WHERE state = 0 AND ready = 1 AND lane = +? AND lane_key > +? ORDER BY lane_key LIMIT 1`),
		laneKeyFirst: db.prepare<[number], { laneKey: string }>(`
			SELECT lane_key AS laneKey FROM invocation INDEXED BY invocation_ready
			WHERE state = 0 AND ready = 1 AND lane = +? ORDER BY lane_key LIMIT 1`),

		/** The rows of a block. */
		blockRows: db
			.prepare<[from: number, until: number], [seq: number, lane: number]>(
				"SELECT seq, lane FROM invocation WHERE seq >= +? AND seq < +?",
			)
			.raw(),
		laneBlockPut: db.prepare("INSERT OR REPLACE INTO lane_block (lane, block, offsets) VALUES (?, ?, ?)"),
		laneBlockList: db.prepare<[lane: number, until: number, limit: number], { block: number; offsets: Buffer }>(`
			SELECT block, offsets FROM lane_block WHERE lane = +? AND block < +? ORDER BY block DESC LIMIT +?`),
		laneBlockDeleteEmpty: db.prepare(`
			DELETE FROM lane_block WHERE lane = ? AND block = ? AND NOT EXISTS
				(SELECT 1 FROM invocation WHERE ${rowsOfBlock("lane_block.block")} AND invocation.lane = lane_block.lane)`),
		uncountedList: db.prepare<[], EndedRow>(`
			SELECT seq, lane, state, started_at AS startedAt, finished_at AS finishedAt, cold
			FROM running_block CROSS JOIN invocation NOT INDEXED ON ${rowsOfBlock("block")}
			WHERE state >= 2 AND NOT ${isNamedIn("counted")}`),
		runningBlockList: db.prepare<[], { block: number; counted: Buffer }>("SELECT block, counted FROM running_block"),
		runningBlockInsert: db.prepare("INSERT INTO running_block (block, counted) VALUES (?, ?)"),
		runningBlockCount: db.prepare("UPDATE running_block SET counted = ? WHERE block = ?"),
		runningBlockDelete: db.prepare("DELETE FROM running_block WHERE block = ?"),
		countedBlockGet: db.prepare<[number], { counted: Buffer }>("SELECT counted FROM counted_block WHERE block = +?"),
		countedBlockInsert: db.prepare("INSERT INTO counted_block (block, counted) VALUES (?, ?)"),
		countedBlockDelete: db.prepare("DELETE FROM counted_block WHERE block = ?"),
		countedBlockDeleteEmpty: db.prepare(`
			DELETE FROM counted_block WHERE block = ? AND NOT EXISTS
				(SELECT 1 FROM invocation WHERE ${rowsOfBlock("counted_block.block")})`),

		bodyInsert: db.prepare("INSERT INTO body (id, bytes) VALUES (?, ?)"),
		bodyGet: db.prepare<[number], { bytes: Buffer }>("SELECT bytes FROM body WHERE id = +?"),
		/** Nearly always there is one: an update costs one caller 1 % less than an insert that meets it. */
		metricRaise: db.prepare(`
			UPDATE metric SET invocations = invocations + ?, errors = errors + ?, run_ms = run_ms + ?, cold_starts = cold_starts + ?,
				last_at = MAX(last_at, ?) WHERE lane = ? AND minute = ?`),
		metricInsert: db.prepare(`
			INSERT INTO metric (invocations, errors, run_ms, cold_starts, last_at, lane, minute) VALUES (?, ?, ?, ?, ?, ?, ?)`),
		attemptInsert: db.prepare(`
			INSERT INTO attempt (seq, attempt, outcome, started_at, finished_at, worker, cold, error)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?)`),

		idempotencyGet: db.prepare<[number, string], { seq: number; fingerprint: Buffer; expiresAt: number }>(
			"SELECT seq, fingerprint, expires_at AS expiresAt FROM idempotency WHERE lane = +? AND key = +?",
		),
		idempotencyPut: db.prepare(`
			INSERT INTO idempotency (lane, key, seq, fingerprint, expires_at) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (lane, key) DO UPDATE SET seq = excluded.seq, fingerprint = excluded.fingerprint,
				expires_at = excluded.expires_at`),
		idempotencyDeleteExpired: db.prepare(`
			DELETE FROM idempotency WHERE (lane, key) IN
				(SELECT lane, key FROM idempotency INDEXED BY idempotency_expiry WHERE expires_at <= ? LIMIT +?)`),

		invocationCancelQueued: db.prepare(
			"UPDATE invocation SET state = 6, ready = 0, finished_at = ?, error = ? WHERE seq = ? AND state = 0",
		),
		invocationAskCancel: db.prepare("UPDATE invocation SET cancel_asked = 1 WHERE seq = ? AND state = 1"),
		invocationExpire: db.prepare(
			"UPDATE invocation SET state = 7, ready = 0, finished_at = ?, error = ? WHERE seq = ? AND state = 0",
		),
		invocationState: db.prepare<[number], StateRow>(`
			SELECT seq, lane, state, ready, attempt, created_at AS createdAt, lane_key AS laneKey FROM invocation WHERE seq = +?`),

		dueNext: db.prepare<[], { at: number | null }>(
			"SELECT MIN(run_at) AS at FROM invocation INDEXED BY invocation_due WHERE state = 0 AND ready = 0",
		),
		dueList: db.prepare<[number, number], { seq: number; lane: number }>(`
			SELECT seq, lane FROM invocation INDEXED BY invocation_due
			WHERE state = 0 AND ready = 0 AND run_at <= +? ORDER BY run_at LIMIT +?`),
		duePromote: db.prepare("UPDATE invocation SET ready = 1 WHERE seq = ? AND state = 0"),
		deadlineNext: db.prepare<[], { at: number | null }>(`
			SELECT MIN(deadline_at) AS at FROM invocation INDEXED BY invocation_deadline
			WHERE state = 0 AND deadline_at IS NOT NULL`),
		deadlineList: db.prepare<[number, number], StateRow>(`
			SELECT seq, lane, state, ready, attempt, created_at AS createdAt, lane_key AS laneKey
			FROM invocation INDEXED BY invocation_deadline
			WHERE state = 0 AND deadline_at IS NOT NULL AND deadline_at <= +? ORDER BY deadline_at LIMIT +?`),

		eventInsert: db.prepare(
			"INSERT INTO event (event_id, type, source, data, created_at, invocations) VALUES (?, ?, ?, ?, ?, ?)",
		),
		eventGet: db.prepare<[string], EventRow>(`
			SELECT id, event_id AS eventId, type, source, data, created_at AS createdAt, invocations FROM event WHERE event_id = +?`),
		eventList: db.prepare<[number], EventRow>(`
			SELECT id, event_id AS eventId, type, source, data, created_at AS createdAt, invocations
			FROM event ORDER BY id DESC LIMIT +?`),
		/** Looks at the oldest alone: there is no index on the time, and none is needed. */
		eventDeleteBefore: db.prepare(`
			DELETE FROM event WHERE id IN
				(SELECT id FROM (SELECT id, created_at FROM event ORDER BY id LIMIT ?) WHERE created_at < ?)`),

		cronSlotInsert: db.prepare(
			"INSERT OR IGNORE INTO cron_slot (schedule, slot, outcome, seq, decided_at) VALUES (?, ?, ?, ?, ?)",
		),
		cronSlotLast: db.prepare<[number], { slot: number | null }>(
			"SELECT MAX(slot) AS slot FROM cron_slot WHERE schedule = +?",
		),
		cronSlotLastUntil: db.prepare<[number, number], { slot: number | null }>(
			"SELECT MAX(slot) AS slot FROM cron_slot WHERE schedule = +? AND slot <= +?",
		),
		cronSlotGet: db.prepare<[number, number], { slot: number }>(
			"SELECT slot FROM cron_slot WHERE schedule = +? AND slot = +?",
		),
		cronSlotLastFired: db.prepare<[number, number], { seq: number; slot: number }>(`
			SELECT seq, slot FROM cron_slot WHERE schedule = +? AND slot < +? AND outcome = 'fired'
			ORDER BY slot DESC LIMIT 1`),
		cronSlotLastOfStep: db.prepare<[number, number, number, number], { slot: number | null }>(`
			SELECT MAX(slot) AS slot FROM
				(SELECT slot FROM cron_slot WHERE schedule = +? AND slot < +? AND slot <> +? ORDER BY slot LIMIT +?)`),
		cronSlotScheduleNext: db.prepare<[number], { owner: number | null }>(
			"SELECT MIN(schedule) AS owner FROM cron_slot WHERE schedule > ?",
		),
		cronSlotDeleteBefore: db.prepare(`
			DELETE FROM cron_slot WHERE (schedule, slot) IN
				(SELECT schedule, slot FROM cron_slot WHERE schedule = ? AND slot < ? AND slot <> ? ORDER BY slot LIMIT ?)`),

		turnList: db.prepare<[], { seq: number; schedule: number }>("SELECT seq, schedule FROM turn"),
		turnFirst: db.prepare<[number], { seq: number }>("SELECT seq FROM turn WHERE schedule = +? ORDER BY seq LIMIT 1"),
		turnFirstsHeld: db.prepare<[number], { seq: number }>(`
			SELECT seq FROM invocation WHERE state = 0 AND ready = 0 AND run_at = +? AND seq IN
				(SELECT MIN(seq) FROM turn GROUP BY schedule)`),
		turnInsert: db.prepare("INSERT INTO turn (schedule, seq) VALUES (?, ?)"),
		turnDelete: db.prepare("DELETE FROM turn WHERE schedule = ? AND seq = ?"),
		turnLetGo: db.prepare(
			"UPDATE invocation SET ready = 1, run_at = ? WHERE seq = ? AND state = 0 AND ready = 0 AND run_at = ? RETURNING lane",
		),

		metricSum: db.prepare<[number, number], MetricRow>(`
			SELECT COALESCE(SUM(invocations), 0) AS invocations, COALESCE(SUM(errors), 0) AS errors,
				COALESCE(SUM(run_ms), 0) AS runMs, COALESCE(SUM(cold_starts), 0) AS coldStarts, MAX(last_at) AS lastAt
			FROM metric WHERE lane = +? AND minute >= +?`),
		metricLaneNext: db.prepare<[number], { owner: number | null }>(
			"SELECT MIN(lane) AS owner FROM metric WHERE lane > ?",
		),
		metricDeleteBefore: db.prepare(`
			DELETE FROM metric WHERE (lane, minute) IN
				(SELECT lane, minute FROM metric WHERE lane = ? AND minute < ? ORDER BY minute LIMIT ?)`),

		markGet: db.prepare<[string], { value: number }>("SELECT value FROM mark WHERE name = +?"),
		markRaise: db.prepare(`
			INSERT INTO mark (name, value) VALUES (?, ?)
			ON CONFLICT (name) DO UPDATE SET value = MAX(value, excluded.value)`),
		seqLast: db.prepare<[], { seq: number | null }>("SELECT MAX(seq) AS seq FROM invocation"),

		/** From this block on, behind this seq. */
		runningList: db.prepare<[block: number, after: number, limit: number], RunningRowAtBoot>(`
			SELECT seq, lane, version, attempt, charged, max_attempts AS maxAttempts, at_most_once AS atMostOnce,
				worker_deaths AS workerDeaths, daemon_deaths AS daemonDeaths, solo, cancel_asked AS cancelAsked,
				deadline_at AS deadlineAt, started_at AS startedAt, worker, cold, created_at AS createdAt, run_at AS runAt,
				lane_key AS laneKey
			FROM running_block CROSS JOIN invocation NOT INDEXED ON ${rowsOfBlock("block")}
			WHERE block >= +? AND state = 1 AND +seq > +? ORDER BY block, seq LIMIT +?`),
		laneCountReady: db.prepare<[], { lane: number; count: number; keyed: number }>(`
			SELECT lane, COUNT(*) AS count, SUM(lane_key <> '') AS keyed FROM invocation INDEXED BY invocation_ready
			WHERE state = 0 AND ready = 1 GROUP BY lane`),
		laneCountDelayed: db.prepare<[], { lane: number; count: number; keyed: number }>(`
			SELECT lane, COUNT(*) AS count, SUM(lane_key <> '') AS keyed FROM invocation INDEXED BY invocation_due
			WHERE state = 0 AND ready = 0 GROUP BY lane`),

		pruneList: db.prepare<[number, number], PruneRow>(`
			SELECT seq, lane, created_at AS createdAt, finished_at AS finishedAt, body_bytes AS bodyBytes,
				result_bytes AS resultBytes, attempt FROM invocation WHERE seq > +? ORDER BY seq LIMIT +?`),
		invocationDelete: db.prepare("DELETE FROM invocation WHERE seq = ? AND state >= 2"),
		bodyDelete: db.prepare("DELETE FROM body WHERE id = ? OR id = ?"),
		attemptDelete: db.prepare("DELETE FROM attempt WHERE seq = ?"),

		invocationGet: db.prepare<[number], InvocationRow>(`SELECT ${RECORD_COLUMNS} FROM invocation WHERE seq = +?`),
		attemptList: db.prepare<[number], AttemptRow>(`
			SELECT attempt, outcome, started_at AS startedAt, finished_at AS finishedAt, worker, cold, error
			FROM attempt WHERE seq = +? ORDER BY attempt`),
		invocationList: db.prepare<[number, number], InvocationRow>(`
			SELECT ${SUMMARY_COLUMNS} FROM invocation WHERE seq < +? ORDER BY seq DESC LIMIT +?`),
		invocationRunning: db.prepare<[number], InvocationRow>(
			`SELECT ${SUMMARY_COLUMNS} FROM invocation WHERE seq = +? AND state = 1`,
		),
		/** Among few seqs, because it looks at each. With states from one to another, as below. */
		invocationListLane: db.prepare<
			[from: number, until: number, lane: number, low: number, high: number, limit: number],
			InvocationRow
		>(`SELECT ${SUMMARY_COLUMNS} FROM invocation NOT INDEXED
			WHERE seq >= +? AND seq < +? AND lane = +? AND state BETWEEN +? AND +? ORDER BY seq DESC LIMIT +?`),
		invocationOfLane: db.prepare<[seq: number, lane: number, low: number, high: number], InvocationRow>(
			`SELECT ${SUMMARY_COLUMNS} FROM invocation WHERE seq = +? AND lane = +? AND state BETWEEN +? AND +?`,
		),
	};
}

/** What a list shows; the bodies stay on disk. */
export const SUMMARY_COLUMNS = `seq, lane, version, state, source, origin, attempt, charged, max_attempts AS maxAttempts, priority,
	lane_key AS laneKey, created_at AS createdAt, run_at AS runAt, started_at AS startedAt, finished_at AS finishedAt,
	worker, cold, error`;
const RECORD_COLUMNS = `${SUMMARY_COLUMNS}, deadline_at AS deadlineAt, idempotency_key AS idempotencyKey, tags, traceparent,
	method, path, headers, query, body, body_bytes AS bodyBytes, body_crc AS bodyCrc, status,
	result_headers AS resultHeaders, result_body AS resultBody, result_bytes AS resultBytes, result_crc AS resultCrc`;

export interface ReadyRow {
	readonly seq: number;
	readonly lane: number;
	readonly version: number;
	readonly laneKey: string;
	readonly attempt: number;
	readonly charged: number;
	readonly maxAttempts: number;
	readonly atMostOnce: number;
	readonly workerDeaths: number;
	readonly daemonDeaths: number;
	readonly solo: number;
	readonly createdAt: number;
	readonly runAt: number;
	readonly deadlineAt: number | null;
	readonly method: string;
	readonly path: string;
	readonly headers: string;
	readonly query: string;
	readonly body: Buffer | null;
	readonly bodyBytes: number;
	readonly bodyCrc: number;
}

export interface StateRow {
	readonly seq: number;
	readonly lane: number;
	readonly state: number;
	readonly ready: number;
	readonly attempt: number;
	readonly createdAt: number;
	readonly laneKey: string;
}

export interface RunningRowAtBoot {
	readonly seq: number;
	readonly lane: number;
	readonly version: number;
	readonly attempt: number;
	readonly charged: number;
	readonly maxAttempts: number;
	readonly atMostOnce: number;
	readonly workerDeaths: number;
	readonly daemonDeaths: number;
	readonly solo: number;
	readonly cancelAsked: number;
	readonly deadlineAt: number | null;
	readonly startedAt: number;
	readonly worker: string;
	readonly cold: number;
	readonly createdAt: number;
	readonly runAt: number;
	readonly laneKey: string;
}

export interface EndedRow {
	readonly seq: number;
	readonly lane: number;
	readonly state: number;
	readonly startedAt: number | null;
	readonly finishedAt: number;
	readonly cold: number | null;
}

export interface InvocationRow {
	readonly seq: number;
	readonly lane: number;
	readonly version: number;
	readonly state: number;
	readonly source: number;
	readonly origin: string | null;
	readonly attempt: number;
	readonly charged: number;
	readonly maxAttempts: number;
	readonly priority: number;
	readonly laneKey: string;
	readonly createdAt: number;
	readonly runAt: number;
	readonly startedAt: number | null;
	readonly finishedAt: number | null;
	readonly worker: string | null;
	readonly cold: number | null;
	readonly error: string | null;
	readonly deadlineAt: number | null;
	readonly idempotencyKey: string | null;
	readonly tags: string | null;
	readonly traceparent: string | null;
	readonly method: string;
	readonly path: string;
	readonly headers: string;
	readonly query: string;
	readonly body: Buffer | null;
	readonly bodyBytes: number;
	readonly bodyCrc: number;
	readonly status: number | null;
	readonly resultHeaders: string | null;
	readonly resultBody: Buffer | null;
	readonly resultBytes: number | null;
	readonly resultCrc: number | null;
}

export interface AttemptRow {
	readonly attempt: number;
	readonly outcome: string;
	readonly startedAt: number;
	readonly finishedAt: number;
	readonly worker: string;
	readonly cold: number;
	readonly error: string | null;
}

export interface EventRow {
	readonly id: number;
	readonly eventId: string;
	readonly type: string;
	readonly source: string;
	readonly data: string;
	readonly createdAt: number;
	readonly invocations: string;
}

export interface MetricRow {
	readonly invocations: number;
	readonly errors: number;
	readonly runMs: number;
	readonly coldStarts: number;
	readonly lastAt: number | null;
}

export interface PruneRow {
	readonly seq: number;
	readonly lane: number;
	readonly createdAt: number;
	readonly finishedAt: number | null;
	readonly bodyBytes: number;
	readonly resultBytes: number | null;
	readonly attempt: number;
}
