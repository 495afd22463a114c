/**
 * Looks at one database file and tells what is wrong with it, as values. It never throws for what is in the file and
 * never writes: whoever calls it gives it a file that may be opened read-only (one that a daemon has open, or a copy).
 */
import BetterSqlite3 from "better-sqlite3";
import { statSync } from "node:fs";
import { damage, note, ok, warning, type Diagnosis } from "../core/diagnosis.ts";
import { messageOf } from "../core/errors.ts";
import type { DatabaseKind } from "./database-kinds.ts";
import { readMeta, type Database } from "./database.ts";
import { mapStoreError } from "./store-errors.ts";

const BUSY_MS = 2000;
const PROBLEMS_SHOWN = 5;
export const RESTORE_ADVICE = "restore a backup: `bunbase restore BACKUP --data-dir NEW`";

export interface DatabaseLook {
	readonly findings: readonly Diagnosis[];
	/** Open for reading; undefined where it cannot be read at all. The caller closes it. */
	readonly database: Database | undefined;
	readonly instanceId: string | undefined;
}

export interface DatabaseLookOptions {
	/** Whose the file should be; undefined where that is not known. */
	readonly instanceId: string | undefined;
	/** `integrity_check` in place of `quick_check`: it compares each index with its table, and takes several times as long. */
	readonly full: boolean;
}

export function inspectDatabase(path: string, kind: DatabaseKind, options: DatabaseLookOptions): DatabaseLook {
	const check = kind.file;
	const nothing = (finding: Diagnosis): DatabaseLook => ({
		findings: [finding],
		database: undefined,
		instanceId: undefined,
	});
	const size = statSync(path, { throwIfNoEntry: false })?.size;
	if (size === undefined || size === 0) {
		const what = size === undefined ? "is missing" : "has 0 bytes";
		if (!kind.required) return nothing(note(check, `it ${what}; the next start makes it anew`));
		return nothing(damage(check, "DATA_MISSING", `it ${what}, though this folder had one`, RESTORE_ADVICE));
	}
	let database: Database;
	try {
		database = new BetterSqlite3(path, { readonly: true, fileMustExist: true, timeout: BUSY_MS });
	} catch (error) {
		return nothing(unreadable(check, error));
	}
	const findings: Diagnosis[] = [];
	try {
		const foreign = identity(database, kind);
		if (foreign !== undefined) findings.push(foreign);
		if (foreign?.severity === "error") {
			database.close();
			return { findings, database: undefined, instanceId: undefined };
		}
		findings.push(...integrity(database, check, options.full));
		const instanceId = tablesOf(database).has("meta") ? readMeta(database).get("instance_id") : undefined;
		if (options.instanceId !== undefined && instanceId !== options.instanceId && (kind.required || instanceId)) {
			findings.push(
				damage(
					check,
					"DATA_FOREIGN",
					`it is of instance ${instanceId ?? "(none)"}, instance.json of ${options.instanceId}: files of two folders were mixed`,
					"put the files of one backup together, or " + RESTORE_ADVICE,
				),
			);
		}
		if (findings.length === 0) findings.push(ok(check, `${options.full ? "integrity" : "quick"} check passed`));
		return { findings, database, instanceId };
	} catch (error) {
		findings.push(unreadable(check, error));
		return { findings, database, instanceId: undefined };
	}
}

function identity(database: Database, kind: DatabaseKind): Diagnosis | undefined {
	const applicationId = Number(database.pragma("application_id", { simple: true }));
	if (applicationId !== kind.applicationId) {
		return damage(
			kind.file,
			"DATA_FOREIGN",
			`it is a database of something else (application_id ${applicationId}, expected ${kind.applicationId})`,
			`check --data-dir; else move the file away and ${RESTORE_ADVICE}`,
		);
	}
	const version = Number(database.pragma("user_version", { simple: true }));
	const known = kind.migrations.length;
	if (version > known) {
		return damage(
			kind.file,
			"DATA_NEWER",
			`it has schema ${version}, this version knows ${known}`,
			"run the version that wrote it, or a newer one",
		);
	}
	if (version === known) return undefined;
	return note(kind.file, `it has schema ${version}; the next start brings it to ${known}`);
}

function integrity(database: Database, check: string, full: boolean): Diagnosis[] {
	const problems = database
		.prepare<[], string>(full ? `PRAGMA integrity_check(${PROBLEMS_SHOWN})` : `PRAGMA quick_check(${PROBLEMS_SHOWN})`)
		.pluck()
		.all();
	if (problems.length !== 1 || problems[0] !== "ok") {
		return [damage(check, "DATA_CORRUPT", `it is damaged: ${problems.join("; ")}`, RESTORE_ADVICE)];
	}
	const references = database.prepare<[], { table: string }>("PRAGMA foreign_key_check").all();
	if (references.length === 0) return [];
	const tables = [...new Set(references.map(({ table }) => table))].join(", ");
	return [
		damage(check, "DATA_CORRUPT", `${references.length} rows of ${tables} refer to rows that are gone`, RESTORE_ADVICE),
	];
}

export function tablesOf(database: Database): ReadonlySet<string> {
	return new Set(database.prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'table'").pluck().all());
}

function unreadable(check: string, error: unknown): Diagnosis {
	const { code, message } = mapStoreError(error);
	if (code === "DATA_CORRUPT" || code === "IO_ERROR") {
		const advice =
			code === "DATA_CORRUPT" ? RESTORE_ADVICE : "check the disk (dmesg), and the owner and mode of the file";
		return damage(check, code, `it cannot be read: ${messageOf(error)}`, advice);
	}
	return warning(
		check,
		`it could not be looked at: ${message}`,
		"close other programs that use the file, and look again",
	);
}
