/** A database of three schemas, for tests of migrations. */
import type { DatabaseKind } from "../../../src/store/database-kinds.ts";

const MIGRATIONS = [
	"CREATE TABLE t (x INTEGER NOT NULL) STRICT",
	"ALTER TABLE t ADD COLUMN y INTEGER; UPDATE t SET y = x * 2",
	"CREATE TABLE u AS SELECT x + y AS z FROM t; DROP TABLE t",
];

/** As the version knew it that knew so many schemas. */
export function kindOf(schemas: number, required = true): DatabaseKind {
	return { file: "x.db", applicationId: 4711, migrations: MIGRATIONS.slice(0, schemas), required, secret: false };
}
