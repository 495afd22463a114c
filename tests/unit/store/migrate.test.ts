/** A migration is whole or has not been, and from its first step on there is a backup. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { suite, test, type TestContext } from "node:test";
import BetterSqlite3 from "better-sqlite3";
import { openDatabase, prepareDatabase } from "../../../src/store/database.ts";
import { kindOf } from "./migrating-kind.ts";
import { makeEnvironment, refusal, tempFolder } from "./support.ts";

const CHILD = join(import.meta.dirname, "migrating.child.ts");
const ROWS = 500;

function prepare(path: string, schemas: number, required = true): void {
	const kind = kindOf(schemas, required);
	const opened = openDatabase(path, kind);
	prepareDatabase(opened, kind, { instanceId: "ins_x", synchronous: "FULL", environment: makeEnvironment() });
	opened.database.close();
}

/** Of schema 1, with rows. */
function oldDatabase(t: TestContext, required = true): string {
	const path = join(tempFolder(t), "x.db");
	mkdirSync(dirname(path));
	prepare(path, 1, required);
	const database = new BetterSqlite3(path);
	for (let x = 1; x <= ROWS; x += 1) database.prepare("INSERT INTO t (x) VALUES (?)").run(x);
	database.close();
	return path;
}

/** Its schema; and that all rows are there, as that schema has them. */
function schemaOf(path: string): number {
	const database = new BetterSqlite3(path);
	try {
		assert.equal(database.pragma("integrity_check", { simple: true }), "ok");
		const schema = Number(database.pragma("user_version", { simple: true }));
		const sum =
			schema === 1 ? "SELECT COUNT(*) || ' ' || SUM(x) FROM t" : "SELECT COUNT(*) || ' ' || (SUM(z) / 3) FROM u";
		assert.equal(database.prepare(sum).pluck().get(), `${ROWS} ${(ROWS * (ROWS + 1)) / 2}`);
		return schema;
	} finally {
		database.close();
	}
}

const POINTS: readonly (readonly [point: string, schemaAfter: number, backedUp: boolean])[] = [
	["migration.backed_up", 1, true],
	["migration.step:2", 1, true],
	["migration.step:3", 1, true],
	["migration.done", 3, true],
];

suite("a migration", () => {
	for (const [point, schemaAfter, backedUp] of POINTS) {
		test(`that is killed at ${point} leaves schema ${schemaAfter}, whole, with a backup; the next start completes it`, (t) => {
			const path = oldDatabase(t);
			const { signal, stderr } = spawnSync(process.execPath, [CHILD, path, point], {
				encoding: "utf8",
				timeout: 20_000,
			});
			assert.equal(signal, "SIGKILL", stderr);
			assert.equal(existsSync(`${path}.schema-1.bak`), backedUp);
			assert.equal(schemaOf(`${path}.schema-1.bak`), 1);
			assert.equal(schemaOf(path), schemaAfter);
			prepare(path, 3);
			assert.equal(schemaOf(path), 3);
			assert.equal(schemaOf(`${path}.schema-1.bak`), 1);
		});
	}

	test("makes its backup for the owner only, over the rest of one that was cut short, and tells where it is", (t) => {
		const path = oldDatabase(t);
		writeFileSync(`${path}.schema-1.bak.tmp`, "the start of a copy");
		const environment = makeEnvironment();
		const kind = kindOf(3);
		const opened = openDatabase(path, kind);
		const umask = process.umask(0o077);
		t.after(() => process.umask(umask));
		prepareDatabase(opened, kind, { instanceId: "ins_x", synchronous: "FULL", environment });
		opened.database.close();
		assert.equal(statSync(`${path}.schema-1.bak`).mode & 0o777, 0o600);
		assert.deepEqual(readdirSync(dirname(path)).sort(), ["x.db", "x.db.schema-1.bak"]);
		assert.equal(environment.warnings.length, 1);
		assert.equal(schemaOf(path), 3);
	});

	test("is no migration where nothing is older: a new database, one of today, and one that can be made anew", (t) => {
		const path = join(tempFolder(t), "x.db");
		mkdirSync(dirname(path));
		prepare(path, 3);
		prepare(path, 3);
		assert.deepEqual(readdirSync(dirname(path)), ["x.db"]);
		const logs = oldDatabase(t, false);
		prepare(logs, 3, false);
		assert.equal(schemaOf(logs), 3);
		assert.deepEqual(readdirSync(dirname(logs)), ["x.db"]);
	});

	test("whose step fails has changed nothing, and names the file", (t) => {
		const path = oldDatabase(t);
		const kind = { ...kindOf(2), migrations: [...kindOf(2).migrations, "CREATE TABLE broken ("] };
		const opened = openDatabase(path, kind);
		assert.throws(
			() => prepareDatabase(opened, kind, { instanceId: "ins_x", synchronous: "FULL", environment: makeEnvironment() }),
			refusal("STORE_ERROR", path),
		);
		opened.database.close();
		assert.equal(schemaOf(path), 1);
	});

	test("of a database that is newer than this version is refused, with both versions and what to do", (t) => {
		const path = oldDatabase(t);
		prepare(path, 3);
		assert.throws(
			() => openDatabase(path, kindOf(2)),
			refusal("DATA_NEWER", path, "schema 3", "knows 2", "newer version"),
		);
		assert.equal(schemaOf(path), 3);
	});
});
