/** Moves the WAL of a database into its file and cuts it, as often as it can, until it is killed. */
import BetterSqlite3 from "better-sqlite3";

const db = new BetterSqlite3(process.argv[2] ?? "", { timeout: 0 });
setInterval(() => db.pragma("wal_checkpoint(TRUNCATE)"), 1);
