/**
 * The program that reads databases through while the daemon serves: `node check-program.ts PATH…`. It says one line of
 * JSON (CheckAnswer) and waits to be ended; what it opens it opens to read.
 *
 * A process and not a thread: SQLite cannot be interrupted, so a thread would hold up the end of the daemon for as long
 * as the check takes (40 s for a cold 1 GiB); a process can be killed, and a database that crashes SQLite takes only it
 * along. It ends with the daemon: a thread waits for the end of stdin, whatever the main thread is doing.
 */
import { writeSync } from "node:fs";
import { Worker } from "node:worker_threads";
import BetterSqlite3 from "better-sqlite3";
import { EngineError, messageOf } from "../core/errors.ts";
import { checkDatabase } from "./database.ts";
import { mapStoreError } from "./store-errors.ts";

export interface CheckAnswer {
	/** Undefined: all are whole. */
	readonly error?: { readonly code: string; readonly message: string };
}

const END_WITH_STDIN = `
	const { readSync } = require("node:fs");
	try { while (readSync(0, Buffer.alloc(64)) > 0); } catch {}
	process.kill(process.pid, "SIGKILL");`;

function check(paths: readonly string[]): CheckAnswer {
	for (const path of paths) {
		try {
			const database = new BetterSqlite3(path, { readonly: true, fileMustExist: true });
			try {
				checkDatabase(database, path);
			} finally {
				database.close();
			}
		} catch (error) {
			const { code, message } = error instanceof EngineError ? error : mapStoreError(error, `checking ${path}`);
			return { error: { code, message } };
		}
	}
	return {};
}

const watch = new Worker(END_WITH_STDIN, { eval: true });
watch.once("error", (error) => {
	writeSync(2, `${messageOf(error)}\n`);
	process.kill(process.pid, "SIGKILL");
});
watch.once("online", () => {
	writeSync(1, `${JSON.stringify(check(process.argv.slice(2)))}\n`);
});
