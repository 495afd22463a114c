/**
 * The schema of logs.db. `lane` is a function's integer id in metadata.db, `seq` an invocation's in queue.db; `level`
 * is the place in LOG_LEVELS. The first two indexes hold `level`, so that counting a page's `total` reads no rows.
 *
 * Append only: a released migration is never edited.
 */
export const LOGS_MIGRATIONS: readonly string[] = [
	`
CREATE TABLE log (
  id       INTEGER PRIMARY KEY AUTOINCREMENT,
  lane     INTEGER NOT NULL,
  seq      INTEGER,
  attempt  INTEGER,
  level    INTEGER NOT NULL CHECK (level BETWEEN 0 AND 3),
  message  TEXT    NOT NULL,
  metadata TEXT,
  at       INTEGER NOT NULL,
  worker   TEXT    NOT NULL
) STRICT;

CREATE INDEX log_by_lane ON log (lane, at, level);
CREATE INDEX log_by_time ON log (at, level);
CREATE INDEX log_by_invocation ON log (seq) WHERE seq IS NOT NULL;
`,
];
