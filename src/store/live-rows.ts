/** Counts in the rows of a folder that a daemon has open, read beside the daemon by short read-only transactions. */
import BetterSqlite3 from "better-sqlite3";
import { join } from "node:path";
import { METADATA, QUEUE } from "./database-kinds.ts";
import { rowsOfBlock } from "./queue-schema.ts";
import { mapStoreError } from "./store-errors.ts";

export interface LiveRows {
	/** By public function id; lanes without queued or running rows are left out. */
	readonly lanes: ReadonlyMap<string, { readonly running: number; readonly ready: number; readonly delayed: number }>;
	readonly running: readonly { readonly seq: number; readonly createdAt: number }[];
}

export interface LookInto extends Disposable {
	countRows(): LiveRows;
}

export function openToLook(root: string): LookInto {
	const open = (file: string): BetterSqlite3.Database =>
		new BetterSqlite3(join(root, file), { readonly: true, fileMustExist: true });
	let queue: BetterSqlite3.Database | undefined;
	try {
		queue = open(QUEUE.file);
		return looking(queue, open(METADATA.file));
	} catch (error) {
		queue?.close();
		throw mapStoreError(error, `looking into ${root}`);
	}
}

function looking(queue: BetterSqlite3.Database, metadata: BetterSqlite3.Database): LookInto {
	// A daemon of an older version has an index in place of the table.
	const isOlder = queue.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'running_block'").get() === undefined;
	const whereRunning = isOlder
		? "invocation WHERE state = 1"
		: `running_block CROSS JOIN invocation NOT INDEXED ON ${rowsOfBlock("block")} WHERE state = 1`;
	const counts = queue.prepare<[], { lane: number; running: number; ready: number; delayed: number }>(`
		SELECT lane, sum(running) AS running, sum(ready) AS ready, sum(delayed) AS delayed FROM (
			SELECT lane, count(*) AS running, 0 AS ready, 0 AS delayed FROM ${whereRunning} GROUP BY lane
			UNION ALL SELECT lane, 0, count(*), 0 FROM invocation INDEXED BY invocation_ready
				WHERE state = 0 AND ready = 1 GROUP BY lane
			UNION ALL SELECT lane, 0, 0, count(*) FROM invocation INDEXED BY invocation_due
				WHERE state = 0 AND ready = 0 GROUP BY lane)
		GROUP BY lane`);
	const running = queue.prepare<[], { seq: number; createdAt: number }>(
		`SELECT seq, created_at AS createdAt FROM ${whereRunning}`,
	);
	const names = metadata.prepare<[], [number, string]>("SELECT id, function_id FROM function").raw();
	const read = queue.transaction(() => ({ counted: counts.all(), running: running.all() }));
	return {
		countRows() {
			const rows = read.deferred();
			const ids = new Map(names.all());
			return {
				lanes: new Map(rows.counted.map(({ lane, ...count }) => [ids.get(lane) ?? String(lane), count])),
				running: rows.running,
			};
		},
		[Symbol.dispose]() {
			queue.close();
			metadata.close();
		},
	};
}
