/**
 * Brings a database to the schema that this version knows: a backup beside it, then every step in one transaction. Cut
 * short anywhere, the database is the old one or the new one, and from the first step on the backup is there.
 *
 * The backup (queue.db.schema-1.bak) is for going back to the older version; it is never removed, and made anew where an
 * earlier try was cut short. What can be made anew from nothing (logs.db) has none.
 */
import { closeSync, fsyncSync, openSync, renameSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import type { Environment } from "../core/environment.ts";
import type { DatabaseKind } from "./database-kinds.ts";
import type { Database } from "better-sqlite3";
import { fsyncFolder } from "./durable-file.ts";

export function migrate(database: Database, path: string, kind: DatabaseKind, environment: Environment): void {
	const { probe, logger } = environment;
	const from = Number(database.pragma("user_version", { simple: true }));
	const to = kind.migrations.length;
	if (from === to) return;
	// Schema 0 is a file that is being made.
	if (from > 0 && kind.required) {
		const backup = backupPath(path, from);
		backUp(database, backup);
		probe.hit("migration.backed_up", kind.file);
		logger.warn({ path, from, to, backup }, "the database is brought up to date; a backup of it is beside it");
	}
	database
		.transaction(() => {
			for (const [index, sql] of kind.migrations.entries()) {
				if (index < from) continue;
				database.exec(sql);
				database.pragma(`user_version = ${index + 1}`);
				probe.hit("migration.step", String(index + 1));
			}
		})
		.immediate();
	probe.hit("migration.done", kind.file);
}

export function backupPath(path: string, schema: number): string {
	return `${path}.schema-${schema}.bak`;
}

/** A file of its own, which nobody has open: so it may be opened and closed here. */
function backUp(database: Database, backup: string): void {
	const temporary = `${backup}.tmp`;
	rmSync(temporary, { force: true });
	try {
		database.prepare("VACUUM INTO ?").run(temporary);
		const fd = openSync(temporary, "r");
		try {
			fsyncSync(fd);
		} finally {
			closeSync(fd);
		}
		renameSync(temporary, backup);
	} catch (error) {
		rmSync(temporary, { force: true });
		throw error;
	}
	fsyncFolder(dirname(backup));
}
