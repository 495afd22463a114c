/** The high-water mark: what a database has lost shows at the next start, and what was never there is never missed. */
import assert from "node:assert/strict";
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test, type TestContext } from "node:test";
import BetterSqlite3 from "better-sqlite3";
import {
	CommitCount,
	findRollbacks,
	FunctionStore,
	openDataFolder,
	readHighWater,
	readLevels,
	type DataFolder,
	type Levels,
} from "../../../src/store/index.ts";
import { makeEnvironment, refusal, tempFolder, type TestEnvironment } from "./support.ts";

interface Use {
	readonly folder: DataFolder;
	readonly environment: TestEnvironment;
	readonly functions: FunctionStore;
	levels(): Levels;
	/** Writes a row of queue.db as the group commit does. */
	accept(): number;
}

function use(
	dataDir: string,
	options: { durability?: "power" | "process"; acceptRollback?: boolean; freeBytesMin?: number } = {},
): Use {
	const environment = makeEnvironment();
	const folder = openDataFolder({ dataDir, durability: "power", environment, freeBytesMin: 0, ...options });
	const count = new CommitCount(folder.queue);
	const functions = new FunctionStore(folder.metadata);
	let { seq } = readLevels(folder).queue;
	const insert = folder.queue.prepare(`
		INSERT INTO invocation (seq, lane, version, state, ready, priority, lane_key, created_at, run_at, attempt, charged,
			max_attempts, at_most_once, source, method, path, headers, query, body_bytes, body_crc)
		VALUES (?, 1, 1, 0, 1, 0, '', 1, 0, 0, 0, 1, 0, 0, 'POST', '/', '[]', '[]', 0, 0)`);
	const levels = (): Levels => ({ queue: { commits: count.value, seq }, metadata: functions.level });
	folder.keeper.start({ levels, broken: (error) => assert.fail(error.message) });
	return {
		folder,
		environment,
		functions,
		levels,
		accept() {
			seq += 1;
			insert.run(seq);
			return seq;
		},
	};
}

async function close({ folder }: Use): Promise<void> {
	await folder.keeper.stop();
	folder.close();
}

const register = ({ functions }: Use, name: string): void =>
	void functions.insertFunction({ functionId: `fn_${name}`, name, handler: "handler", createdAt: 1 });

/** A folder with 3 rows and a function in it, a copy of both databases, then 2 rows and a function more. */
async function rolledBackFolder(t: TestContext, files: readonly string[]): Promise<string> {
	const dataDir = tempFolder(t);
	const first = use(dataDir);
	register(first, "one");
	for (let row = 0; row < 3; row += 1) first.accept();
	await close(first);
	for (const file of files) copyFileSync(join(dataDir, file), join(dataDir, `${file}.old`));
	const second = use(dataDir);
	register(second, "two");
	for (let row = 0; row < 2; row += 1) second.accept();
	await close(second);
	for (const file of files) copyFileSync(join(dataDir, `${file}.old`), join(dataDir, file));
	return dataDir;
}

suite("the high-water mark", () => {
	test("is written about a second after something was committed, says what is there, and not twice the same", async (t) => {
		const dataDir = tempFolder(t);
		const used = use(dataDir);
		t.after(() => used.folder.close());
		await used.folder.keeper.look();
		const empty = readHighWater(dataDir);
		assert.deepEqual(empty?.queue, { commits: 0, seq: 0 });
		rmSync(join(dataDir, "high-water.json"));
		await used.folder.keeper.look();
		assert.equal(existsSync(join(dataDir, "high-water.json")), false, "nothing moved");
		used.accept();
		register(used, "one");
		await used.folder.keeper.look();
		const { instanceId, ...levels } = readHighWater(dataDir) ?? assert.fail();
		assert.equal(instanceId, used.folder.instanceId);
		assert.deepEqual(levels, { queue: { commits: 0, seq: 1 }, metadata: { commits: 1 } });
		assert.deepEqual(levels, readLevels(used.folder), "and the databases say the same");
		await used.folder.keeper.stop();
	});

	test("is written at a clean stop, and a start after it finds nothing missing", async (t) => {
		const dataDir = tempFolder(t);
		const used = use(dataDir);
		for (let row = 0; row < 5; row += 1) used.accept();
		await close(used);
		assert.equal(readHighWater(dataDir)?.queue.seq, 5);
		const again = use(dataDir);
		assert.deepEqual(again.environment.warnings, []);
		await close(again);
	});

	test("without fsync at each commit it holds only what a checkpoint has put on the disk", async (t) => {
		const dataDir = tempFolder(t);
		const used = use(dataDir, { durability: "process" });
		t.after(() => used.folder.close());
		used.accept();
		await used.folder.keeper.look();
		assert.equal(existsSync(join(dataDir, "high-water.json")), false, "it may be in memory only");
		await used.folder.keeper.look();
		assert.equal(readHighWater(dataDir)?.queue.seq, 1, "after a quiet second it was moved to the disk");
		const file = readFileSync(join(dataDir, "queue.db"));
		assert.ok(file.byteLength > 4096, "the row is in the file itself");
		await used.folder.keeper.stop();
	});

	test("a transaction that is rolled back raises nothing", (t) => {
		const used = use(tempFolder(t));
		t.after(() => used.folder.close());
		register(used, "one");
		const before = used.levels();
		assert.throws(() => register(used, "one"), refusal("STORE_ERROR"));
		assert.deepEqual(used.levels(), before);
		assert.deepEqual(readLevels(used.folder), before);
	});
});

suite("a database that knows less than the mark", () => {
	test("queue.db: refuses, names what is missing, why and what to do, and has changed nothing", async (t) => {
		const dataDir = await rolledBackFolder(t, ["queue.db"]);
		const before = readFileSync(join(dataDir, "queue.db"));
		assert.throws(
			() => use(dataDir),
			refusal(
				"DATA_ROLLED_BACK",
				join(dataDir, "queue.db"),
				"lacks the invocations from seq 4 to seq 5, and the claims and ends of that time",
				"queue.db-wal",
				"bunbase doctor",
				"bunbase restore",
				"--accept-rollback",
			),
		);
		copyFileSync(join(dataDir, "queue.db"), join(dataDir, "after"));
		assert.equal(readHighWater(dataDir)?.queue.seq, 5, "the mark stays");
		assert.throws(() => use(dataDir), refusal("DATA_ROLLED_BACK"), "also at the next start");
		assert.ok(before.byteLength > 0);
	});

	test("metadata.db: the same", async (t) => {
		const dataDir = await rolledBackFolder(t, ["metadata.db"]);
		assert.throws(() => use(dataDir), refusal("DATA_ROLLED_BACK", join(dataDir, "metadata.db"), "last 1 commits"));
	});

	test("a lost end shows too, where no seq is missing", () => {
		const mark = { queue: { commits: 9, seq: 4 }, metadata: { commits: 2 } };
		assert.deepEqual(findRollbacks(mark, { ...mark, queue: { commits: 8, seq: 4 } }), [
			{ file: "queue.db", commits: 1, seqs: undefined },
		]);
		assert.deepEqual(findRollbacks(mark, mark), []);
		assert.deepEqual(findRollbacks(mark, { queue: { commits: 10, seq: 5 }, metadata: { commits: 3 } }), []);
	});

	test("accepted: it is told, the next seq is above the mark, and the start after it is like any other", async (t) => {
		const dataDir = await rolledBackFolder(t, ["queue.db"]);
		const accepted = use(dataDir, { acceptRollback: true });
		assert.equal(accepted.environment.warnings.length, 1);
		assert.match(accepted.environment.warnings[0] ?? "", /from seq 4 to seq 5/);
		const seq = accepted.accept();
		assert.ok(seq > 5 + 100_000, `${seq} may not be one that was given out after the mark was written`);
		await close(accepted);
		const after = use(dataDir);
		assert.deepEqual(after.environment.warnings, []);
		assert.equal(after.accept(), seq + 1);
		await close(after);
	});

	test("accepted, with metadata.db: ids are not given out again, and work of what is gone with it leaves", async (t) => {
		const dataDir = await rolledBackFolder(t, ["metadata.db"]);
		const raw = use(dataDir, { acceptRollback: true });
		await close(raw);
		const again = use(dataDir);
		t.after(() => again.folder.close());
		register(again, "three");
		const ids = again.folder.metadata.prepare("SELECT id FROM function ORDER BY id").pluck().all() as number[];
		assert.equal(ids[0], 1);
		assert.ok((ids[1] ?? 0) > 1_000, `id ${ids[1]} was another function's`);
		// Their version was never there: nothing could run them.
		assert.equal(again.folder.queue.prepare("SELECT COUNT(*) FROM invocation").pluck().get(), 0);
		await again.folder.keeper.stop();
	});

	test("accepted, where the newest row is removed and the mark is old: its seq is not given out again", async (t) => {
		const dataDir = await rolledBackFolder(t, ["metadata.db"]);
		const newest = 3_000_000;
		const queue = new BetterSqlite3(join(dataDir, "queue.db"));
		queue.prepare("UPDATE invocation SET seq = ? WHERE seq = (SELECT MAX(seq) FROM invocation)").run(newest);
		queue.prepare("INSERT INTO turn (schedule, seq) VALUES (1, ?)").run(newest);
		queue.close();
		const accepted = use(dataDir, { acceptRollback: true });
		assert.equal(accepted.folder.queue.prepare("SELECT COUNT(*) FROM invocation").pluck().get(), 0);
		const places = accepted.folder.queue.prepare("SELECT COUNT(*) FROM turn").pluck().get();
		assert.equal(places, 0, "a line whose first is gone would wait for ever");
		assert.ok(accepted.accept() > newest);
		await close(accepted);
	});

	test("a mark of another instance says nothing; one that cannot be read is refused, and may be accepted", async (t) => {
		const dataDir = tempFolder(t);
		const used = use(dataDir);
		used.accept();
		await close(used);
		const path = join(dataDir, "high-water.json");
		const text = readFileSync(path, "utf8");
		const far = { queue: { commits: 1_000, seq: 1_000 }, metadata: { commits: 1_000 } };
		writeFileSync(path, JSON.stringify({ instanceId: "ins_other", ...far }));
		const other = use(dataDir);
		assert.match(other.environment.warnings[0] ?? "", /another instance/);
		await close(other);
		writeFileSync(path, text.slice(0, 20));
		assert.throws(() => use(dataDir), refusal("DATA_CORRUPT", path, "bunbase doctor", "--accept-rollback"));
		await close(use(dataDir, { acceptRollback: true }));
		await close(use(dataDir));
	});

	test("a folder from before there was a mark opens", async (t) => {
		const dataDir = tempFolder(t);
		const used = use(dataDir);
		used.accept();
		used.folder.queue.exec("DELETE FROM meta WHERE key = 'commits'");
		await close(used);
		rmSync(join(dataDir, "high-water.json"));
		const again = use(dataDir);
		assert.equal(again.levels().queue.seq, 1);
		await close(again);
		assert.equal(readHighWater(dataDir)?.queue.seq, 1);
	});
});

suite("the space on the disk", () => {
	test("too little is seen at the open, told once, and over when there is space", async (t) => {
		const dataDir = tempFolder(t);
		const used = use(dataDir, { freeBytesMin: Number.MAX_SAFE_INTEGER });
		t.after(() => used.folder.close());
		assert.equal(used.folder.keeper.spaceLow, true);
		await used.folder.keeper.look();
		assert.equal(used.environment.warnings.length, 1);
		await close(used);
		const enough = use(dataDir);
		assert.equal(enough.folder.keeper.spaceLow, false);
		await close(enough);
	});
});
