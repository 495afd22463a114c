import assert from "node:assert/strict";
import { once } from "node:events";
import {
	chmodSync,
	existsSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	statSync,
	truncateSync,
	unlinkSync,
	writeFileSync,
} from "node:fs";
import { copyFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test } from "node:test";
import BetterSqlite3 from "better-sqlite3";
import { describeHolder, openDataFolder, readHolder, type Database } from "../../../src/store/index.ts";
import { kill, lineOf, makeEnvironment, open, refusal, spawnHolder, tempFolder } from "./support.ts";

const DATABASES = ["metadata.db", "queue.db", "logs.db"];

function pragma(database: Database, name: string): unknown {
	return database.pragma(name, { simple: true });
}

/** Changes a closed database behind the store's back. */
function tamper(path: string, sql: string): void {
	const database = new BetterSqlite3(path);
	database.exec(sql);
	database.close();
}

function openAndClose(dataDir: string): string {
	const folder = openDataFolder({ dataDir, durability: "power", environment: makeEnvironment() });
	folder.close();
	return folder.instanceId;
}

function mode(path: string): string {
	return (statSync(path).mode & 0o777).toString(8);
}

suite("a data folder", () => {
	test("is made on first open, and is the same one on the next", (t) => {
		const dataDir = tempFolder(t);
		const first = open(t, dataDir);
		assert.match(first.instanceId, /^ins_/);
		assert.equal(first.unclean, false);
		first.close();
		const again = open(t, dataDir);
		assert.equal(again.instanceId, first.instanceId);
		assert.equal(again.unclean, false);
	});

	test("is for its owner only, also where the umask is open", (t) => {
		const umask = process.umask(0o000);
		t.after(() => process.umask(umask));
		const dataDir = tempFolder(t);
		const folder = open(t, dataDir);
		folder.writeHolder({ pid: process.pid, socketPath: undefined, startedAt: 1, version: "1" });
		folder.queue.exec("INSERT INTO mark (name, value) VALUES ('x', 1)");
		assert.equal(process.umask(), 0o000);
		assert.equal(mode(dataDir), "700");
		for (const name of readdirSync(dataDir)) {
			const isFolder = statSync(join(dataDir, name)).isDirectory();
			assert.equal(mode(join(dataDir, name)), isFolder ? "700" : "600", name);
		}
		assert.ok(existsSync(join(dataDir, "queue.db-wal")));
	});

	test("that came back from a backup readable by all is made private", (t) => {
		const dataDir = tempFolder(t);
		openAndClose(dataDir);
		chmodSync(dataDir, 0o755);
		chmodSync(join(dataDir, "queue.db"), 0o644);
		openAndClose(dataDir);
		assert.equal(mode(dataDir), "700");
		assert.equal(mode(join(dataDir, "queue.db")), "600");
	});

	test("with other things in it keeps its mode", (t) => {
		const dataDir = tempFolder(t);
		mkdirSync(dataDir, { mode: 0o755 });
		chmodSync(dataDir, 0o755);
		writeFileSync(join(dataDir, "notes.txt"), "mine");
		open(t, dataDir);
		assert.equal(mode(dataDir), "755");
	});

	test("that is a file is refused with what was expected", (t) => {
		const dataDir = tempFolder(t);
		writeFileSync(dataDir, "");
		assert.throws(() => open(t, dataDir), refusal("BAD_ENVIRONMENT", dataDir));
	});

	test("closes twice as once, and leaves no WAL, no holder and no lock", (t) => {
		const dataDir = tempFolder(t);
		const folder = open(t, dataDir);
		folder.writeHolder({ pid: 1, socketPath: "/s", startedAt: 1, version: "1" });
		folder.close();
		folder.close();
		assert.deepEqual(readdirSync(dataDir).sort(), [
			"ballast",
			"bundles",
			"daemon.lock",
			"instance.json",
			"logs",
			"logs.db",
			"metadata.db",
			"queue.db",
			"tmp",
		]);
		open(t, dataDir);
	});

	test("gives its ballast up once, and takes it back", (t) => {
		const { ballast, paths } = open(t, tempFolder(t));
		assert.equal(ballast.held, true);
		assert.equal(ballast.free(), true);
		assert.equal(ballast.free(), false);
		assert.equal(existsSync(join(paths.root, "ballast")), false);
		assert.equal(ballast.restore(), true);
		assert.equal(statSync(join(paths.root, "ballast")).size, 8 * 1024 * 1024);
	});
});

suite("durability", () => {
	for (const [durability, metadata] of [
		["power", 2],
		["process", 1],
	] as const) {
		test(`"${durability}": metadata.db is synchronous=${metadata}, before and after writes and after reopening`, (t) => {
			const dataDir = tempFolder(t);
			for (let round = 0; round < 2; round += 1) {
				const folder = openDataFolder({ dataDir, durability, environment: makeEnvironment() });
				t.after(() => folder.close());
				for (const [database, expected] of [
					[folder.metadata, metadata],
					// Its commits are put on disk by queueDisk, before anybody is told (queue/acknowledge.ts).
					[folder.queue, 1],
					[folder.logs, 1],
				] as const) {
					assert.equal(pragma(database, "synchronous"), expected);
					database.exec(`CREATE TABLE probe_${round} (x) STRICT`.replace("(x)", "(x INTEGER)"));
					database.exec(`INSERT INTO probe_${round} VALUES (1)`);
					assert.equal(pragma(database, "synchronous"), expected);
					assert.equal(pragma(database, "journal_mode"), "wal");
					assert.equal(pragma(database, "auto_vacuum"), 2);
					assert.equal(pragma(database, "foreign_keys"), 1);
					assert.equal(pragma(database, "trusted_schema"), 0);
				}
				folder.close();
			}
		});
	}

	test("without our setting SQLite would fall to NORMAL: the twin that shows why it is set", (t) => {
		const dataDir = tempFolder(t);
		openAndClose(dataDir);
		const database = new BetterSqlite3(join(dataDir, "queue.db"));
		t.after(() => database.close());
		database.exec("INSERT INTO mark (name, value) VALUES ('x', 1)");
		assert.equal(pragma(database, "synchronous"), 1);
	});
});

suite("one daemon", () => {
	test("a second one is refused at once and told who is there; kill -9 frees the folder", async (t) => {
		const dataDir = tempFolder(t);
		const child = spawnHolder(t, dataDir);
		assert.equal(await lineOf(child), "open");
		const started = performance.now();
		assert.throws(() => open(t, dataDir), refusal("SECOND_DAEMON", `pid ${child.pid}`, "/run/test.sock", "since 20"));
		assert.ok(performance.now() - started < 1000);
		assert.equal(readHolder(dataDir)?.version, "1.2.3");

		const killed = performance.now();
		await kill(child);
		const folder = open(t, dataDir);
		assert.ok(performance.now() - killed < 1000);
		assert.equal(folder.unclean, true);
		assert.equal(readHolder(dataDir)?.pid, process.pid, "the dead daemon is not named any more, its heir is at once");
	});

	test("a refused daemon does not free the lock of the first, in one process too", async (t) => {
		const dataDir = tempFolder(t);
		open(t, dataDir);
		for (let round = 0; round < 3; round += 1) assert.throws(() => open(t, dataDir), refusal("SECOND_DAEMON"));
		assert.equal(await lineOf(spawnHolder(t, dataDir)), "refused SECOND_DAEMON");
		assert.match(describeHolder(dataDir), new RegExp(`^a daemon \\(pid ${process.pid}, since`));
	});

	test("of many that start in one instant exactly one wins", async (t) => {
		const dataDir = tempFolder(t);
		const said = await Promise.all(Array.from({ length: 8 }, () => lineOf(spawnHolder(t, dataDir))));
		assert.equal(said.filter((line) => line === "open").length, 1, String(said));
		assert.equal(said.filter((line) => line === "refused SECOND_DAEMON").length, 7, String(said));
	});

	test("a lock file that is not ours is refused", (t) => {
		const dataDir = tempFolder(t);
		mkdirSync(dataDir);
		writeFileSync(join(dataDir, "daemon.lock"), "4711\n".repeat(200));
		assert.throws(() => open(t, dataDir), refusal("DATA_FOREIGN", "daemon.lock"));
		tamper(join(dataDir, "other.db"), "CREATE TABLE t (x)");
		copyFileSync(join(dataDir, "other.db"), join(dataDir, "daemon.lock"));
		assert.throws(() => open(t, dataDir), refusal("DATA_FOREIGN", "daemon.lock"));
	});
});

suite("refuses to start", () => {
	for (const name of ["metadata.db", "queue.db"]) {
		test(`where ${name} is gone or empty, and makes none`, (t) => {
			const dataDir = tempFolder(t);
			openAndClose(dataDir);
			const path = join(dataDir, name);
			truncateSync(path, 0);
			assert.throws(() => open(t, dataDir), refusal("DATA_MISSING", path, "backup"));
			assert.equal(statSync(path).size, 0);
			unlinkSync(path);
			assert.throws(() => open(t, dataDir), refusal("DATA_MISSING", path));
			assert.equal(existsSync(path), false);
		});

		test(`where ${name} is a database without tables`, (t) => {
			const dataDir = tempFolder(t);
			openAndClose(dataDir);
			const path = join(dataDir, name);
			const applicationId = new BetterSqlite3(path, { readonly: true }).pragma("application_id", { simple: true });
			unlinkSync(path);
			tamper(path, `PRAGMA application_id = ${String(applicationId)}`);
			assert.throws(() => open(t, dataDir), refusal("DATA_MISSING", path));
		});

		test(`where ${name} is of another instance`, (t) => {
			const [here, there] = [tempFolder(t), tempFolder(t)];
			const [idHere, idThere] = [openAndClose(here), openAndClose(there)];
			copyFileSync(join(there, name), join(here, name));
			assert.throws(() => open(t, here), refusal("DATA_FOREIGN", name, idHere, idThere));
		});
	}

	for (const name of DATABASES) {
		test(`where ${name} is a database of something else, and leaves it as it is`, (t) => {
			const dataDir = tempFolder(t);
			openAndClose(dataDir);
			const path = join(dataDir, name);
			unlinkSync(path);
			tamper(path, "CREATE TABLE t (x); PRAGMA application_id = 7");
			const before = readFileSync(path);
			assert.throws(() => open(t, dataDir), refusal("DATA_FOREIGN", path, "application_id 7"));
			assert.deepEqual(readFileSync(path), before);
		});

		test(`where ${name} is newer, with both versions, and leaves it as it is`, (t) => {
			const dataDir = tempFolder(t);
			openAndClose(dataDir);
			const path = join(dataDir, name);
			tamper(path, "PRAGMA user_version = 99");
			const before = readFileSync(path);
			assert.throws(() => open(t, dataDir), refusal("DATA_NEWER", path, "99", "this version knows "));
			assert.deepEqual(readFileSync(path), before);
		});

		test(`where ${name} is no database`, (t) => {
			const dataDir = tempFolder(t);
			openAndClose(dataDir);
			writeFileSync(join(dataDir, name), "not a database at all ".repeat(100));
			assert.throws(() => open(t, dataDir), refusal("DATA_CORRUPT", name));
		});
	}

	test("where half of metadata.db is gone", (t) => {
		const dataDir = tempFolder(t);
		openAndClose(dataDir);
		const path = join(dataDir, "metadata.db");
		truncateSync(path, Math.floor(statSync(path).size / 8192) * 4096);
		assert.throws(() => open(t, dataDir), refusal("DATA_CORRUPT", path));
	});

	test("after a kill where a page of queue.db is damaged", async (t) => {
		const dataDir = tempFolder(t);
		openAndClose(dataDir);
		const child = spawnHolder(t, dataDir);
		assert.equal(await lineOf(child), "open");
		await kill(child);
		const path = join(dataDir, "queue.db");
		const bytes = readFileSync(path);
		bytes.fill(0xff, bytes.length - 4096);
		writeFileSync(path, bytes);
		assert.throws(() => open(t, dataDir), refusal("DATA_CORRUPT", path));
	});

	test("where the marker is lost but the data is not", (t) => {
		const dataDir = tempFolder(t);
		openAndClose(dataDir);
		unlinkSync(join(dataDir, "instance.json"));
		assert.throws(() => open(t, dataDir), refusal("DATA_FOREIGN", "instance.json"));
	});

	test("where the marker cannot be read, or is of a newer format", (t) => {
		const dataDir = tempFolder(t);
		openAndClose(dataDir);
		const path = join(dataDir, "instance.json");
		const marker = readFileSync(path, "utf8");
		writeFileSync(path, marker.slice(0, 10));
		assert.throws(() => open(t, dataDir), refusal("DATA_CORRUPT", path));
		writeFileSync(path, marker.replace('"format":1', '"format":2'));
		assert.throws(() => open(t, dataDir), refusal("DATA_NEWER", path, "format 2"));
	});

	test("and is whole again when the cause is gone: a refusal changed nothing", (t) => {
		const dataDir = tempFolder(t);
		const instanceId = openAndClose(dataDir);
		const path = join(dataDir, "queue.db");
		const queue = readFileSync(path);
		truncateSync(path, 0);
		assert.throws(() => open(t, dataDir), refusal("DATA_MISSING"));
		writeFileSync(path, queue);
		const folder = open(t, dataDir);
		assert.equal(folder.instanceId, instanceId);
		assert.equal(folder.unclean, false);
	});
});

suite("logs.db", () => {
	test("is made anew where it is missing, because no backup has it", (t) => {
		const dataDir = tempFolder(t);
		openAndClose(dataDir);
		unlinkSync(join(dataDir, "logs.db"));
		const environment = makeEnvironment();
		const folder = open(t, dataDir, environment);
		assert.equal(folder.logs.prepare("SELECT count(*) FROM log").pluck().get(), 0);
		assert.equal(environment.warnings.length, 1);
	});

	test("of another instance is refused: its lanes are other functions", (t) => {
		const [here, there] = [tempFolder(t), tempFolder(t)];
		openAndClose(here);
		openAndClose(there);
		copyFileSync(join(there, "logs.db"), join(here, "logs.db"));
		assert.throws(() => open(t, here), refusal("DATA_FOREIGN", "logs.db"));
	});
});

suite("kill during the first creation", () => {
	for (const point of [...DATABASES.map((name) => `folder.database_opened:${name}`), "folder.marked"]) {
		test(`at ${point}: the next open completes the folder`, async (t) => {
			const dataDir = tempFolder(t);
			const child = spawnHolder(t, dataDir, point);
			const [, signal] = (await once(child, "exit")) as [number | null, string | null];
			assert.equal(signal, "SIGKILL");
			const marked = existsSync(join(dataDir, "instance.json"));
			assert.equal(marked, point === "folder.marked");
			const folder = open(t, dataDir);
			assert.equal(folder.unclean, false, "nothing ever ran on it");
			folder.queue.exec("INSERT INTO mark (name, value) VALUES ('x', 1)");
			folder.close();
			assert.equal(openAndClose(dataDir), folder.instanceId);
		});
	}

	test("at any moment: the next open completes the folder", async (t) => {
		for (let round = 0; round < 12; round += 1) {
			const dataDir = tempFolder(t);
			const child = spawnHolder(t, dataDir);
			// From before the first file to after the last; the moment itself is chance, the rule holds at all of them.
			while (!existsSync(join(dataDir, "daemon.lock"))) await new Promise((next) => setImmediate(next));
			const until = performance.now() + round * 4;
			while (performance.now() < until) await new Promise((next) => setImmediate(next));
			await kill(child);
			const folder = open(t, dataDir);
			folder.close();
			assert.equal(openAndClose(dataDir), folder.instanceId, `round ${round}`);
		}
	});

	test("left-overs by hand: an empty file, a first page without tables, a torn marker file", (t) => {
		const dataDir = tempFolder(t);
		openAndClose(dataDir);
		const model = new BetterSqlite3(join(dataDir, "metadata.db"), { readonly: true });
		const applicationId = model.pragma("application_id", { simple: true });
		model.close();
		const partial = tempFolder(t);
		mkdirSync(partial);
		writeFileSync(join(partial, "queue.db"), "");
		writeFileSync(join(partial, "instance.json.tmp"), '{"instan');
		tamper(join(partial, "metadata.db"), `PRAGMA application_id = ${String(applicationId)}`);
		const folder = open(t, partial);
		assert.equal(folder.metadata.prepare("SELECT count(*) FROM function").pluck().get(), 0);
		assert.deepEqual(
			readdirSync(partial).filter((name) => name.endsWith(".tmp")),
			[],
		);
	});

	test("a foreign database where ours would be made is not taken over", (t) => {
		const dataDir = tempFolder(t);
		mkdirSync(dataDir);
		tamper(join(dataDir, "queue.db"), "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)");
		assert.throws(() => open(t, dataDir), refusal("DATA_FOREIGN", "queue.db"));
		assert.equal(existsSync(join(dataDir, "instance.json")), false);
	});
});
