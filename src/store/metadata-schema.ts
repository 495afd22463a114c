/**
 * The schema of metadata.db: functions, their versions and deployments, and what triggers them.
 *
 * The integer ids of `function` (the lane id), `version` and `schedule` are what rows of queue.db and logs.db refer to,
 * so they are AUTOINCREMENT: never given out twice. Rows that something may refer to get a `deleted_at` or
 * `removed_at` instead of going away.
 *
 * Append only: a released migration is never edited.
 */
export const METADATA_MIGRATIONS: readonly string[] = [
	`
CREATE TABLE function (
  id             INTEGER PRIMARY KEY AUTOINCREMENT,
  function_id    TEXT    NOT NULL UNIQUE,
  name           TEXT    NOT NULL,
  handler        TEXT    NOT NULL CHECK (handler <> ''),
  overrides      TEXT    NOT NULL DEFAULT '{}' CHECK (json_type(overrides) = 'object'),
  paused         INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
  active_version INTEGER,
  created_at     INTEGER NOT NULL,
  deleted_at     INTEGER,
  FOREIGN KEY (id, active_version) REFERENCES version (function, id)
) STRICT;
CREATE UNIQUE INDEX function_name ON function (name) WHERE deleted_at IS NULL;

CREATE TABLE version (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  function   INTEGER NOT NULL REFERENCES function (id),
  version    TEXT    NOT NULL CHECK (version <> ''),
  sha256     TEXT    NOT NULL CHECK (length(sha256) = 64),
  bytes      INTEGER NOT NULL CHECK (bytes >= 0),
  config     TEXT    NOT NULL CHECK (json_type(config) = 'object'),
  created_at INTEGER NOT NULL,
  UNIQUE (function, version),
  UNIQUE (function, id)
) STRICT;
CREATE INDEX version_by_bytes ON version (function, sha256);

CREATE TRIGGER version_is_immutable BEFORE UPDATE ON version
BEGIN SELECT RAISE(ABORT, 'a version never changes'); END;

CREATE TABLE deployment (
  id            INTEGER PRIMARY KEY AUTOINCREMENT,
  deployment_id TEXT    NOT NULL UNIQUE,
  function      INTEGER NOT NULL REFERENCES function (id),
  version       INTEGER NOT NULL,
  reason        TEXT    NOT NULL CHECK (reason IN ('deploy', 'rollback')),
  deployed_at   INTEGER NOT NULL,
  FOREIGN KEY (function, version) REFERENCES version (function, id)
) STRICT;
CREATE INDEX deployment_by_function ON deployment (function, id);

CREATE TRIGGER deployment_is_immutable BEFORE UPDATE ON deployment
BEGIN SELECT RAISE(ABORT, 'a deployment never changes'); END;

CREATE TABLE environment (
  function   INTEGER NOT NULL REFERENCES function (id),
  name       TEXT    NOT NULL CHECK (name <> ''),
  value      TEXT    NOT NULL,
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (function, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE schedule (
  id          INTEGER PRIMARY KEY AUTOINCREMENT,
  schedule_id TEXT    NOT NULL UNIQUE,
  function    INTEGER NOT NULL REFERENCES function (id),
  name        TEXT    NOT NULL CHECK (name <> ''),
  cron        TEXT    NOT NULL CHECK (cron <> ''),
  timezone    TEXT    NOT NULL CHECK (timezone <> ''),
  misfire     TEXT    NOT NULL CHECK (misfire IN ('once', 'skip', 'all')),
  overlap     TEXT    NOT NULL CHECK (overlap IN ('allow', 'skip', 'queue')),
  origin      TEXT    NOT NULL CHECK (origin IN ('module', 'api')),
  paused      INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
  data        TEXT    CHECK (data IS NULL OR json_valid(data)),
  created_at  INTEGER NOT NULL,
  -- Slots up to here never fire: when it was made, brought back, resumed, or given another expression.
  effective_at INTEGER NOT NULL,
  removed_at  INTEGER,
  UNIQUE (function, name)
) STRICT;

CREATE TABLE subscription (
  function   INTEGER NOT NULL REFERENCES function (id),
  event_type TEXT    NOT NULL CHECK (event_type <> ''),
  PRIMARY KEY (function, event_type)
) STRICT, WITHOUT ROWID;
`,
];
