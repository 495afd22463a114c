/** kill -9 in the middle of a migration: the database is the old one or the new one, and a backup of the old is there. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import BetterSqlite3 from "better-sqlite3";
import { EngineError } from "../../../src/core/errors.ts";
import { openDatabase, prepareDatabase } from "../../../src/store/database.ts";
import { realEnvironment } from "../../support/real-environment.ts";
import { seededRandom } from "../../support/seed.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { kindOf } from "../../unit/store/migrating-kind.ts";
import { fault } from "../fault.ts";
import { COMPILE_CACHE } from "../harness/subject.ts";
import { strace } from "../needs.ts";

const CHILD = join(import.meta.dirname, "../../unit/store/migrating.child.ts");
const CALLS = "pwrite64,fsync,fdatasync,ftruncate,rename,unlink";
const ROWS = 200;

/** Opens it as the version that knew so many schemas does, and brings it up to date as that version would. */
function start(path: string, schemas: number): number {
	const kind = kindOf(schemas);
	const opened = openDatabase(path, kind);
	try {
		prepareDatabase(opened, kind, { instanceId: "ins_x", synchronous: "FULL", environment: realEnvironment });
		return Number(opened.database.pragma("user_version", { simple: true }));
	} finally {
		opened.database.close();
	}
}

/** A database of the old version, with rows. */
function oldDatabase(folder: string): string {
	mkdirSync(folder);
	const path = join(folder, "x.db");
	start(path, 1);
	const database = new BetterSqlite3(path);
	for (let x = 1; x <= ROWS; x += 1) database.prepare("INSERT INTO t (x) VALUES (?)").run(x);
	database.close();
	return path;
}

/** The rows of a schema, and that the file is whole. */
function checkRows(path: string, schema: number): void {
	const database = new BetterSqlite3(path);
	try {
		assert.equal(database.pragma("integrity_check", { simple: true }), "ok");
		assert.equal(database.pragma("user_version", { simple: true }), schema);
		const sum = schema === 1 ? "SELECT SUM(x) FROM t" : "SELECT SUM(z) / 3 FROM u";
		assert.equal(database.prepare(sum).pluck().get(), (ROWS * (ROWS + 1)) / 2);
	} finally {
		database.close();
	}
}

fault(
	"A6",
	"kill before each system call of a migration: the old version still starts or is refused, the new one completes it",
	{ needs: [strace] },
	(f) => {
		using folder = tempFolder();
		const env = { ...process.env, NODE_COMPILE_CACHE: COMPILE_CACHE };
		const migrate = (path: string, trace: readonly string[]) =>
			spawnSync("strace", ["-qq", ...trace, process.execPath, CHILD, path], { encoding: "utf8", env });
		const log = join(folder.path, "calls.txt");
		// Twice, because the first fills the cache of compiled files.
		for (const name of ["warm", "counted"]) {
			const counted = migrate(oldDatabase(join(folder.path, name)), ["-o", log, "-e", `trace=${CALLS}`]);
			assert.equal(counted.status, 0, counted.stderr);
		}
		const counts = new Map<string, number>();
		const points = readFileSync(log, "utf8")
			.split("\n")
			.flatMap((line) => {
				const call = /^(\w+)\(/.exec(line)?.[1];
				if (call === undefined) return [];
				counts.set(call, (counts.get(call) ?? 0) + 1);
				return [{ call, n: counts.get(call) ?? 0 }];
			});
		const random = seededRandom(f.seed);
		const chosen = points
			.map((point) => ({ ...point, by: random.next() }))
			.toSorted((a, b) => a.by - b.by)
			.slice(0, f.runs(3, points.length));
		const came = { old: 0, new: 0 };
		for (const [index, { call, n }] of chosen.entries()) {
			const path = oldDatabase(join(folder.path, String(index)));
			const inject = `inject=${call}:signal=SIGKILL:when=${n}`;
			const { signal, stderr } = migrate(path, ["-o", "/dev/null", "-e", `trace=${call}`, "-e", inject]);
			assert.equal(signal, "SIGKILL", stderr);
			const where = `${call} ${n}`;
			const backup = `${path}.schema-1.bak`;
			try {
				assert.equal(start(path, 1), 1, where);
				checkRows(path, 1);
				came.old += 1;
			} catch (error) {
				// The old version says which is newer, and its way back is the backup.
				assert.ok(error instanceof EngineError && error.code === "DATA_NEWER", `${where}: ${String(error)}`);
				assert.ok(existsSync(backup), where);
				came.new += 1;
			}
			if (existsSync(backup)) checkRows(backup, 1);
			assert.equal(start(path, 3), 3, where);
			checkRows(path, 3);
			checkRows(backup, 1);
		}
		f.record(
			`${points.length} points, killed at ${chosen.length}: ${came.old} times the old schema, ${came.new} times the new`,
		);
	},
);
