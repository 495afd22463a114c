/**
 * The schema of queue.db: everything that must commit together with an invocation.
 *
 * States are the codes of core/invocation.ts: 0 queued, 1 running, 2 succeeded, 3 failed, 4 timed_out, 5 crashed,
 * 6 cancelled, 7 expired, 8 lost. `lane` and `version` are the integer ids of metadata.db's function and version.
 * The CHECKs repeat what the transition table says. That an ended row never changes stands in the WHERE of every
 * statement (state = 0 or state = 1); a trigger for it was measured to cost 2 to 5 of 20 µs of each invocation, because
 * SQLite then loads the old row column by column, and was left out. The indexes are partial, so that each is no
 * larger than the rows that it serves: claiming costs the same with a thousand queued or a million. What every row would
 * have to be written to is no index but a table of blocks.
 *
 * Append only: a released migration is never edited.
 */
export const QUEUE_MIGRATIONS: readonly string[] = [
	`
CREATE TABLE invocation (
  seq            INTEGER PRIMARY KEY,
  lane           INTEGER NOT NULL,
  version        INTEGER NOT NULL,
  state          INTEGER NOT NULL CHECK (state BETWEEN 0 AND 8),
  ready          INTEGER NOT NULL CHECK (ready IN (0, 1)),
  priority       INTEGER NOT NULL,
  lane_key       TEXT    NOT NULL,
  created_at     INTEGER NOT NULL,
  run_at         INTEGER NOT NULL,
  deadline_at    INTEGER,
  attempt        INTEGER NOT NULL CHECK (attempt >= 0),
  charged        INTEGER NOT NULL CHECK (charged BETWEEN 0 AND max_attempts),
  max_attempts   INTEGER NOT NULL CHECK (max_attempts >= 1),
  at_most_once   INTEGER NOT NULL CHECK (at_most_once IN (0, 1)),
  worker_deaths  INTEGER NOT NULL DEFAULT 0,
  daemon_deaths  INTEGER NOT NULL DEFAULT 0,
  solo           INTEGER NOT NULL DEFAULT 0 CHECK (solo IN (0, 1)),
  cancel_asked   INTEGER NOT NULL DEFAULT 0 CHECK (cancel_asked IN (0, 1)),
  started_at     INTEGER,
  finished_at    INTEGER,
  worker         TEXT,
  cold           INTEGER,
  source         INTEGER NOT NULL,
  origin         TEXT,
  method         TEXT    NOT NULL,
  path           TEXT    NOT NULL,
  headers        TEXT    NOT NULL,
  query          TEXT    NOT NULL,
  body           BLOB,
  body_bytes     INTEGER NOT NULL,
  body_crc       INTEGER NOT NULL,
  idempotency_key TEXT,
  tags           TEXT,
  traceparent    TEXT,
  status         INTEGER,
  result_headers TEXT,
  result_body    BLOB,
  result_bytes   INTEGER,
  result_crc     INTEGER,
  error          TEXT,
  CHECK ((state >= 2) = (finished_at IS NOT NULL)),
  CHECK ((state = 2) = (status IS NOT NULL)),
  CHECK (state <> 1 OR (attempt >= 1 AND started_at IS NOT NULL AND worker IS NOT NULL))
) STRICT;

CREATE INDEX invocation_ready ON invocation (lane, lane_key, priority DESC, seq) WHERE state = 0 AND ready = 1;
CREATE INDEX invocation_due ON invocation (run_at) WHERE state = 0 AND ready = 0;
CREATE INDEX invocation_deadline ON invocation (deadline_at) WHERE state = 0 AND deadline_at IS NOT NULL;
CREATE INDEX invocation_running ON invocation (lane) WHERE state = 1;
CREATE INDEX invocation_unsuccessful ON invocation (lane, seq) WHERE state >= 3;
CREATE INDEX invocation_by_lane ON invocation (lane, seq);

-- Attempts that were followed by another; the last one stands in the invocation's own row.
CREATE TABLE attempt (
  seq         INTEGER NOT NULL,
  attempt     INTEGER NOT NULL,
  outcome     TEXT    NOT NULL,
  started_at  INTEGER NOT NULL,
  finished_at INTEGER NOT NULL,
  worker      TEXT    NOT NULL,
  cold        INTEGER NOT NULL,
  error       TEXT,
  PRIMARY KEY (seq, attempt)
) STRICT, WITHOUT ROWID;

-- Bodies over 4 KiB: seq * 2 is the request's, seq * 2 + 1 the response's.
CREATE TABLE body (
  id    INTEGER PRIMARY KEY,
  bytes BLOB NOT NULL
) STRICT;

CREATE TABLE idempotency (
  lane        INTEGER NOT NULL,
  key         TEXT    NOT NULL,
  seq         INTEGER NOT NULL,
  fingerprint BLOB    NOT NULL,
  expires_at  INTEGER NOT NULL,
  PRIMARY KEY (lane, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_expiry ON idempotency (expires_at);

CREATE TABLE event (
  id          INTEGER PRIMARY KEY,
  event_id    TEXT    NOT NULL UNIQUE,
  type        TEXT    NOT NULL,
  source      TEXT    NOT NULL,
  data        TEXT    NOT NULL,
  created_at  INTEGER NOT NULL,
  invocations TEXT    NOT NULL
) STRICT;

-- One row for each slot that was decided: the reason why a slot fires at most once, ever.
CREATE TABLE cron_slot (
  schedule   INTEGER NOT NULL,
  slot       INTEGER NOT NULL,
  outcome    TEXT    NOT NULL CHECK (outcome IN ('fired', 'overlapped', 'misfired', 'refused')),
  seq        INTEGER,
  decided_at INTEGER NOT NULL,
  PRIMARY KEY (schedule, slot),
  CHECK ((outcome = 'fired') = (seq IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- Ended invocations by function and minute, written in the commit that ends them.
CREATE TABLE metric (
  lane        INTEGER NOT NULL,
  minute      INTEGER NOT NULL,
  invocations INTEGER NOT NULL,
  errors      INTEGER NOT NULL,
  run_ms      INTEGER NOT NULL,
  cold_starts INTEGER NOT NULL,
  last_at     INTEGER NOT NULL,
  PRIMARY KEY (lane, minute)
) STRICT, WITHOUT ROWID;

-- Numbers that pruning must not lower, e.g. the highest seq ever given out.
CREATE TABLE mark (
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`,
	// Rows from here on have checksums over the whole request and the whole result; those before, over the body alone.
	`
INSERT INTO mark (name, value)
  SELECT 'whole_checksums_from', 1 + MAX(
    (SELECT COALESCE(MAX(seq), 0) FROM invocation),
    (SELECT COALESCE(MAX(value), 0) FROM mark WHERE name = 'seq'));
`,
	`
-- Invocations of schedules with overlap 'queue' that have not ended: each line takes turns in the order of seq.
CREATE TABLE turn (
  schedule INTEGER NOT NULL,
  seq      INTEGER NOT NULL,
  PRIMARY KEY (schedule, seq)
) STRICT, WITHOUT ROWID;
`,
	// In place of two indexes that every invocation was written to (queue/blocks.ts).
	`
CREATE TABLE lane_block (
  lane    INTEGER NOT NULL,
  block   INTEGER NOT NULL,
  offsets BLOB    NOT NULL,
  PRIMARY KEY (lane, block)
) STRICT, WITHOUT ROWID;
CREATE TABLE running_block (
  block INTEGER PRIMARY KEY
) STRICT;
INSERT INTO lane_block (lane, block, offsets)
  SELECT lane, seq / 256, unhex(group_concat(printf('%02x', seq % 256), ''))
  FROM invocation INDEXED BY invocation_by_lane GROUP BY lane, seq / 256;
INSERT INTO running_block (block)
  SELECT DISTINCT seq / 256 FROM invocation INDEXED BY invocation_running WHERE state = 1;
DROP INDEX invocation_by_lane;
DROP INDEX invocation_running;
`,
	// Metrics are written for many ends at once from here on (queue/tally.ts). Which ends of a block they count, as in lane_block; counted_block for those that are not in
	// running_block. Where more rows may end, all that have ended so far are counted.
	`
ALTER TABLE running_block ADD COLUMN counted BLOB NOT NULL DEFAULT x'';
CREATE TABLE counted_block (
  block   INTEGER PRIMARY KEY,
  counted BLOB NOT NULL
) STRICT;
CREATE TEMP TABLE unended AS
  SELECT block FROM running_block
  UNION SELECT seq / 256 FROM invocation INDEXED BY invocation_ready WHERE state = 0 AND ready = 1
  UNION SELECT seq / 256 FROM invocation INDEXED BY invocation_due WHERE state = 0 AND ready = 0
  UNION SELECT MAX(seq) / 256 FROM invocation HAVING MAX(seq) IS NOT NULL;
INSERT INTO counted_block (block, counted)
  SELECT block, unhex(group_concat(printf('%02x', seq % 256), ''))
  FROM unended CROSS JOIN invocation NOT INDEXED ON seq BETWEEN block * 256 AND block * 256 + 255 AND state >= 2
  GROUP BY block;
DROP TABLE unended;
UPDATE running_block SET counted = counted_block.counted FROM counted_block WHERE counted_block.block = running_block.block;
DELETE FROM counted_block WHERE block IN (SELECT block FROM running_block);
`,
];

/** The blocks of lane_block, running_block and counted_block are of so many rows, which a byte can count; only a migration can change it. */
export const BLOCK_ROWS = 256;

export function blockOf(seq: number): number {
	return Math.floor(seq / BLOCK_ROWS);
}

/** The same in SQL, of a column or an expression. */
export function blockOfRow(seq: string): string {
	return `(${seq} / ${BLOCK_ROWS})`;
}

/** In SQL, the rows of a block, for `… CROSS JOIN invocation NOT INDEXED ON …`: else SQLite may make an index of all rows first. */
export function rowsOfBlock(block: string): string {
	return `invocation.seq BETWEEN ${block} * ${BLOCK_ROWS} AND ${block} * ${BLOCK_ROWS} + ${BLOCK_ROWS - 1}`;
}

/** In SQL, whether these offsets of `block` name the row. */
export function isNamedIn(offsets: string): string {
	return `instr(${offsets}, unhex(printf('%02x', seq - block * ${BLOCK_ROWS}))) > 0`;
}
