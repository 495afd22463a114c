import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import BetterSqlite3 from "better-sqlite3";
import { EngineError, type ErrorCode } from "../../../src/core/errors.ts";
import { mapStoreError, writeFileDurably } from "../../../src/store/index.ts";
import { tempFolder } from "./support.ts";

suite("an error of the store", () => {
	const table: readonly (readonly [string, ErrorCode])[] = [
		["SQLITE_FULL", "STORAGE_FULL"],
		["ENOSPC", "STORAGE_FULL"],
		["EDQUOT", "STORAGE_FULL"],
		["SQLITE_IOERR", "IO_ERROR"],
		["SQLITE_IOERR_FSYNC", "IO_ERROR"],
		["SQLITE_CANTOPEN", "IO_ERROR"],
		["SQLITE_READONLY_DBMOVED", "IO_ERROR"],
		["EIO", "IO_ERROR"],
		["SQLITE_CORRUPT", "DATA_CORRUPT"],
		["SQLITE_CORRUPT_INDEX", "DATA_CORRUPT"],
		["SQLITE_NOTADB", "DATA_CORRUPT"],
		["SQLITE_BUSY", "STORE_BUSY"],
		["SQLITE_CONSTRAINT_UNIQUE", "STORE_ERROR"],
	];
	for (const [code, expected] of table) {
		test(`${code} is ${expected}, with its cause and what to do`, () => {
			const cause = new BetterSqlite3.SqliteError("what SQLite says", code);
			const error = mapStoreError(cause, "writing x.db");
			assert.equal(error.code, expected);
			assert.equal(error.cause, cause);
			assert.match(error.message, /^writing x\.db: what SQLite says/);
			assert.match(error.message, new RegExp(code));
			assert.equal(error.retryAfterSeconds !== undefined, expected === "STORAGE_FULL" || expected === "STORE_BUSY");
		});
	}

	test("that is an EngineError comes back as it is, and what is no Error is told as text", () => {
		const error = new EngineError("LANE_FULL", "full");
		assert.equal(mapStoreError(error), error);
		assert.equal(mapStoreError("odd").code, "STORE_ERROR");
		assert.match(mapStoreError("odd").message, /^odd/);
	});
});

suite("a durable file", () => {
	test("replaces what was there, for its owner only, and leaves nothing beside it", (t) => {
		const folder = tempFolder(t);
		mkdirSync(folder);
		const path = join(folder, "x.json");
		writeFileSync(`${path}.tmp`, "of a run that died, and longer than what comes");
		writeFileDurably(path, "one");
		writeFileDurably(path, new TextEncoder().encode("zwei ü"));
		assert.equal(readFileSync(path, "utf8"), "zwei ü");
		assert.equal(statSync(path).mode & 0o777, 0o600);
		assert.deepEqual(readdirSync(folder), ["x.json"]);
	});

	test("that cannot be written leaves the old one whole", (t) => {
		const folder = tempFolder(t);
		mkdirSync(join(folder, "x.json"), { recursive: true });
		assert.throws(() => writeFileDurably(join(folder, "x.json"), "new"));
		assert.deepEqual(readdirSync(folder), ["x.json"]);
	});
});
