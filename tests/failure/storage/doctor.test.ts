/**
 * B16, B17, B19, B25: what `doctor` says of a damaged folder. Each damage is done to a copy of a real one, with work in
 * it; whatever it finds, it ends in order and not a byte, name or mode of the folder has changed.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import {
	appendFileSync,
	chmodSync,
	existsSync,
	lstatSync,
	mkdirSync,
	readdirSync,
	readFileSync,
	rmSync,
	truncateSync,
	writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before } from "node:test";
import Database from "better-sqlite3";
import { invocationId } from "../../../src/core/ids.ts";
import { doctor as lookAt } from "../../../src/upkeep.ts";
import { cli } from "../../support/cli-harness.ts";
import { startDaemon, type Daemon } from "../../support/daemon.ts";
import { tempFolder, type TempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { seededRandom } from "../../support/seed.ts";
import { fault } from "../fault.ts";

const ROOT = join(import.meta.dirname, "../../..");
const MAIN = join(ROOT, "src/main.ts");
const FUNCTIONS = join(ROOT, "tests/functions");

interface Finding {
	readonly check: string;
	readonly severity: string;
	readonly message: string;
	readonly advice: string | null;
	readonly code: string | null;
}
interface Looked {
	readonly status: number | null;
	readonly findings: readonly Finding[];
	readonly fixed: readonly string[];
	readonly told: string;
}

/** The command as a user types it; in this process, because half a second for each of a hundred looks is a minute. */
async function doctor(dataDir: string, ...more: readonly string[]): Promise<Looked> {
	const socket = more.includes("--socket") ? [] : ["--socket", `${dataDir}.sock`];
	const { code, out, err } = await cli(["doctor", "--data-dir", dataDir, ...socket, "--json", ...more], {
		doctor: (flags) => lookAt(flags, { env: {} }),
	});
	assert.equal(err, "", "it ends in order");
	const told = JSON.parse(out) as { findings: Finding[]; fixed: string[]; exit_code: number };
	assert.equal(told.exit_code, code);
	return { status: code, findings: told.findings, fixed: told.fixed, told: out };
}

/** Every name, mode, time of change and byte below a folder. */
function picture(root: string): string {
	const digest = createHash("sha256");
	for (const name of readdirSync(root, { recursive: true, encoding: "utf8" }).sort()) {
		const stats = lstatSync(join(root, name));
		digest.update(`${name} ${stats.mode} ${stats.size} ${stats.isFile() ? stats.mtimeMs : 0}\n`);
		if (stats.isFile()) digest.update(readFileSync(join(root, name)));
	}
	return digest.digest("hex");
}

let shared: TempFolder;
/** Closed in order. */
let clean = "";
/** Its daemon was killed: it has a WAL, and work that was running. */
let killed = "";
let ids: readonly string[] = [];

async function deployAll(daemon: Daemon): Promise<void> {
	for (const name of ["ledger", "misbehave"]) {
		const path = join(FUNCTIONS, `${name}.ts`);
		await daemon.client.call("functions.deploy", { function: name, path, build: true, register: true });
	}
}

before(async () => {
	shared = tempFolder();
	clean = join(shared.path, "clean");
	const first = await startDaemon(clean);
	await deployAll(first);
	const made: string[] = [];
	for (let echo = 0; echo < 40; echo += 1) {
		const padding = echo % 4 === 0 ? "z".repeat(12_000) : "x".repeat(300);
		const body = JSON.stringify({ echo, ms: 0, padding });
		made.push((await first.client.invoke("ledger", { method: "POST", path: "/", body })).invocationId);
	}
	ids = made;
	assert.equal(await first.stop(), 0);
	killed = join(shared.path, "killed");
	// What an earlier worker may have left is not the subject here.
	for (const name of readdirSync(join(clean, "tmp"))) rmSync(join(clean, "tmp", name), { recursive: true });
	copy(clean, killed);
	const second = await startDaemon(killed);
	// Its own limit is shorter than all that follows.
	await second.client.call("functions.configure", { function: "misbehave", overrides: { timeoutMs: 600_000 } });
	await second.client.enqueue("misbehave", { method: "POST", path: "/spin" });
	for (let echo = 0; echo < 10; echo += 1)
		await second.client.invoke("ledger", { method: "POST", path: "/", body: "{}" });
	await waitFor("the loop to run", async () => (await second.client.call("stats.get", {}))["running"] === 1);
	await waitFor("a high-water mark of all of it", () => {
		const mark = JSON.parse(readFileSync(join(killed, "high-water.json"), "utf8")) as { queue: { seq: number } };
		return mark.queue.seq >= 51;
	});
	await second.kill();
	assert.ok(lstatSync(join(killed, "queue.db-wal")).size > 0);
	rmSync(`${killed}.sock`, { force: true });
});
after(() => shared[Symbol.dispose]());

function copyOf(source: string, name: string): string {
	const target = join(shared.path, name.replaceAll(/\W+/g, "-"));
	rmSync(target, { recursive: true, force: true });
	copy(source, target);
	return target;
}

/** With modes and times, which cpSync leaves behind for folders. */
function copy(source: string, target: string): void {
	assert.equal(spawnSync("cp", ["-a", source, target]).status, 0);
}

function sql(path: string, text: string): void {
	const database = new Database(path);
	database.exec(text);
	database.close();
}

fault("B16", "doctor of a folder that is whole, closed or killed, is healthy and changes nothing", async () => {
	const closed = picture(clean);
	const looked = await doctor(clean, "--full");
	assert.equal(looked.status, 0, looked.told);
	assert.equal(picture(clean), closed);
	const left = picture(killed);
	const after = await doctor(killed, "--full");
	assert.equal(after.status, 0, after.told);
	assert.match(after.told, /1 invocations were running when the last daemon died/);
	assert.equal(picture(killed), left);
});

const flip = (path: string, at: number, mask = 0xff): void => {
	const bytes = readFileSync(path);
	bytes[at] = (bytes[at] ?? 0) ^ mask;
	writeFileSync(path, bytes);
};

const bundleOf = (root: string): string => {
	const [first] = readdirSync(join(root, "bundles"));
	return join(root, "bundles", first ?? "", "v1");
};

const DAMAGE: readonly [id: string, what: string, code: string, says: RegExp, damage: (root: string) => void][] = [
	["B16", "queue.db of 0 bytes", "DATA_MISSING", /0 bytes/, (root) => truncateSync(join(root, "queue.db"), 0)],
	["B16", "no metadata.db", "DATA_MISSING", /missing/, (root) => rmSync(join(root, "metadata.db"))],
	[
		"B16",
		"no databases at all",
		"DATA_MISSING",
		/missing/,
		(root) => {
			for (const name of readdirSync(root)) if (/\.db/.test(name)) rmSync(join(root, name));
		},
	],
	[
		"B16",
		"queue.db cut in half",
		"DATA_CORRUPT",
		/damaged|malformed/,
		(root) => {
			truncateSync(join(root, "queue.db"), Math.floor(lstatSync(join(root, "queue.db")).size / 8192) * 4096);
		},
	],
	[
		"B16",
		"queue.db with a page of zeros",
		"DATA_CORRUPT",
		/damaged|malformed/,
		(root) => {
			const bytes = readFileSync(join(root, "queue.db"));
			bytes.fill(0, 4096, 8192);
			writeFileSync(join(root, "queue.db"), bytes);
		},
	],
	[
		"B16",
		"queue.db that is no database",
		"DATA_CORRUPT",
		/not a database/,
		(root) => {
			writeFileSync(join(root, "queue.db"), "x".repeat(10_000));
		},
	],
	[
		"B16",
		"a flipped byte in a body",
		"DATA_CORRUPT",
		/checksum/,
		(root) => {
			// A page in the middle of a body: nothing but its bytes, and none that an older row has left behind.
			const page = readFileSync(join(root, "queue.db")).indexOf("z".repeat(4000));
			flip(join(root, "queue.db"), page + 2000, 0x01);
		},
	],
	[
		"B16",
		"a body that is gone",
		"DATA_CORRUPT",
		/request body of invocation/,
		(root) => {
			sql(join(root, "queue.db"), "DELETE FROM body WHERE id = (SELECT min(id) FROM body)");
		},
	],
	[
		"B16",
		"a missing bundle",
		"DATA_MISSING",
		/bundle of fn_\w+ v1 is missing/,
		(root) => rmSync(bundleOf(root), { recursive: true }),
	],
	[
		"B16",
		"a changed bundle",
		"DATA_CORRUPT",
		/bundle of fn_\w+ v1 is damaged/,
		(root) => {
			const path = join(bundleOf(root), "bundle.js");
			chmodSync(path, 0o600);
			appendFileSync(path, "\n//");
		},
	],
	[
		"B16",
		"metadata.db older than queue.db",
		"DATA_CORRUPT",
		/which metadata\.db does not have/,
		(root) => {
			sql(
				join(root, "metadata.db"),
				"PRAGMA foreign_keys = OFF; DELETE FROM version; DELETE FROM deployment; UPDATE function SET active_version = NULL",
			);
		},
	],
	[
		"B16",
		"no instance.json",
		"DATA_FOREIGN",
		/instance\.json is missing/,
		(root) => rmSync(join(root, "instance.json")),
	],
	[
		"B16",
		"instance.json that is cut short",
		"DATA_CORRUPT",
		/cannot be read/,
		(root) => truncateSync(join(root, "instance.json"), 10),
	],
	[
		"B19",
		"somebody else's database",
		"DATA_FOREIGN",
		/something else/,
		(root) => {
			sql(join(root, "queue.db"), "PRAGMA application_id = 7");
		},
	],
	[
		"B19",
		"a newer schema",
		"DATA_NEWER",
		/schema 99/,
		(root) => sql(join(root, "queue.db"), "PRAGMA user_version = 99"),
	],
	[
		"B19",
		"a database of another instance",
		"DATA_FOREIGN",
		/of instance ins_other/,
		(root) => {
			sql(join(root, "queue.db"), "UPDATE meta SET value = 'ins_other' WHERE key = 'instance_id'");
		},
	],
	[
		"B16",
		"an invocation that waits for a turn and stands in no line",
		"DATA_CORRUPT",
		/invocation 5 of a schedule with overlap "queue" would wait for ever/,
		(root) => {
			sql(
				join(root, "queue.db"),
				"UPDATE invocation SET state = 0, ready = 0, run_at = 9007199254740991, finished_at = NULL, status = NULL WHERE seq = 5",
			);
		},
	],
	[
		"B16",
		"an invocation that runs in a block that is not named",
		"DATA_CORRUPT",
		/the next start would not find that invocation 5 was running/,
		(root) => {
			sql(
				join(root, "queue.db"),
				"UPDATE invocation SET state = 1, finished_at = NULL, status = NULL WHERE seq = 5; DELETE FROM running_block",
			);
		},
	],
	[
		"B16",
		"invocations that are not named for their function",
		"DATA_CORRUPT",
		/invocations 1, 2, 3 and \d+ more cannot be found in the list of their function/,
		(root) => {
			// So that they are not in the newest block.
			sql(
				join(root, "queue.db"),
				`DELETE FROM lane_block; CREATE TEMP TABLE copy AS SELECT * FROM invocation WHERE seq = 1;
				UPDATE copy SET seq = seq + 1000; INSERT INTO invocation SELECT * FROM copy`,
			);
		},
	],
	[
		"B16",
		"an attempt beyond its invocation",
		"DATA_CORRUPT",
		/attempts of invocation 3 go beyond/,
		(root) => {
			sql(join(root, "queue.db"), "INSERT INTO attempt VALUES (3, 9, 'failed', 1, 2, 'w1', 0, NULL)");
		},
	],
];

for (const [id, what, code, says, damage] of DAMAGE) {
	fault(id, `doctor of a folder with ${what}: exit 65, ${code}, and nothing changed`, async () => {
		const root = copyOf(clean, what);
		damage(root);
		const left = picture(root);
		const looked = await doctor(root, "--full");
		assert.equal(looked.status, 65, looked.told);
		const found = looked.findings.filter((finding) => finding.code === code && says.test(finding.message));
		assert.ok(found.length > 0, looked.told);
		assert.ok(
			found.every(({ advice }) => advice !== null),
			"it says what helps",
		);
		assert.equal(picture(root), left);
	});
}

fault("B16", "doctor survives flipped bytes anywhere, and changes nothing", async (f) => {
	const random = seededRandom(f.seed);
	const pick = (below: number): number => Math.floor(random.next() * below);
	let told = 0;
	const times = f.runs(12, 400);
	for (let time = 0; time < times; time += 1) {
		const root = copyOf(time % 2 === 0 ? clean : killed, "flipped");
		const file = ["queue.db", "metadata.db", "queue.db-wal", "instance.json", "daemon.lock"][pick(5)] ?? "";
		if (!existsSync(join(root, file))) continue;
		const { size } = lstatSync(join(root, file));
		if (size === 0) continue;
		for (let flips = 1 + pick(20); flips > 0; flips -= 1) flip(join(root, file), pick(size), 1 << pick(8));
		const left = picture(root);
		const looked = await doctor(root, "--full");
		assert.ok([0, 1, 65, 74].includes(looked.status ?? -1), `${file}: ${looked.told}`);
		assert.equal(picture(root), left, file);
		if (looked.status !== 0) told += 1;
	}
	f.record(`folders with flipped bytes ${times}, told ${told}`);
});

fault(
	"B17",
	"doctor of a folder whose WAL was cut short, flipped or deleted says what is missing, and changes nothing",
	async () => {
		const wal = (root: string): string => join(root, "queue.db-wal");
		for (const [what, status, damage] of [
			["cut", 65, (root: string) => truncateSync(wal(root), 5000)],
			["flipped", 65, (root: string) => flip(wal(root), 100)],
			["deleted", 65, (root: string) => rmSync(wal(root))],
			["garbage", 0, (root: string) => writeFileSync(join(root, "queue.db-shm"), "y".repeat(32_768))],
		] as const) {
			const root = copyOf(killed, `wal ${what}`);
			damage(root);
			const left = picture(root);
			const looked = await doctor(root);
			assert.equal(looked.status, status, `${what}: ${looked.told}`);
			if (status === 65) assert.match(looked.told, /DATA_ROLLED_BACK/);
			assert.equal(picture(root), left, what);
		}
	},
);

fault(
	"B25",
	"doctor finds a torn JSONL line, leftovers, open modes and a stale socket; --fix mends them and no row",
	async () => {
		const root = copyOf(clean, "untidy");
		const logs = join(root, "logs", "2026-01-01.jsonl");
		writeFileSync(logs, '{"message":"whole"}\n{"message":"to', { mode: 0o600 });
		mkdirSync(join(root, "tmp", "worker-gone"));
		mkdirSync(join(root, "bundles", "fn_nobody", "v1"), { recursive: true });
		chmodSync(join(root, "queue.db"), 0o644);
		const socket = `${root}.sock`;
		// A socket that nobody listens on: its listener died without removing it.
		const listener = spawnSync(process.execPath, [
			"-e",
			`require("net").createServer().listen(${JSON.stringify(socket)}, () => process.kill(process.pid, "SIGKILL"))`,
		]);
		assert.equal(listener.signal, "SIGKILL");
		const left = picture(root);
		const looked = await doctor(root);
		assert.equal(looked.status, 1, looked.told);
		for (const says of [/ends in the middle of a line/, /worker-gone/, /fn_nobody/, /mode 644/, /left by a daemon/]) {
			assert.match(looked.told, says);
		}
		assert.equal(picture(root), left);

		const queue = readFileSync(join(root, "queue.db"));
		const fixed = await doctor(root, "--fix");
		assert.equal(fixed.status, 0, fixed.told);
		assert.equal(fixed.fixed.length, 5, fixed.told);
		assert.equal(readFileSync(logs, "utf8"), '{"message":"whole"}\n');
		assert.equal(lstatSync(join(root, "queue.db")).mode & 0o777, 0o600);
		assert.deepEqual(readFileSync(join(root, "queue.db")), queue);
		assert.equal(existsSync(socket), false);
		const daemon = await startDaemon(root);
		try {
			assert.equal((await daemon.client.getResult(ids[0] ?? "")).state, "succeeded");
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
	},
);

fault("B16", "doctor --fix of damaged data mends nothing of it, and says the same as before", async () => {
	const root = copyOf(clean, "fix damaged");
	truncateSync(join(root, "metadata.db"), 0);
	const bundles = picture(join(root, "bundles"));
	const looked = await doctor(root, "--fix");
	assert.equal(looked.status, 65);
	assert.deepEqual(looked.fixed, []);
	assert.equal(picture(join(root, "bundles")), bundles, "without metadata.db nobody knows which bundles are needed");
	assert.equal(lstatSync(join(root, "metadata.db")).size, 0);
});

fault("B16", "doctor of a clock that is wrong, and of a schedule that fired in the future", async () => {
	const root = copyOf(clean, "clock");
	const later = Date.now() + 10 * 86_400_000;
	sql(
		join(root, "metadata.db"),
		`INSERT INTO schedule (schedule_id, function, name, cron, timezone, misfire, overlap, origin, created_at, effective_at)
		VALUES ('sch_x', 1, 'nightly', '* * * * *', 'UTC', 'once', 'skip', 'api', 1, 1)`,
	);
	sql(
		join(root, "queue.db"),
		`INSERT INTO cron_slot (schedule, slot, outcome, seq, decided_at) VALUES (1, ${later}, 'misfired', NULL, 1);
		UPDATE invocation SET created_at = ${later} WHERE seq = (SELECT max(seq) FROM invocation)`,
	);
	const looked = await doctor(root);
	assert.equal(looked.status, 1, looked.told);
	assert.match(looked.told, /the clock went back/);
	assert.match(looked.told, /ledger nightly are decided up to/);
});

fault(
	"B16",
	"doctor beside a daemon under load is healthy, disturbs nothing, and finds what the daemon does not know",
	async () => {
		using folder = tempFolder();
		const root = join(folder.path, "data");
		const daemon = await startDaemon(root);
		try {
			await deployAll(daemon);
			const stopped = new AbortController();
			let done = 0;
			const callers = [0, 1, 2, 3].map(async () => {
				while (!stopped.signal.aborted) {
					await daemon.client.invoke("ledger", { method: "POST", path: "/", body: '{"ms":1}' });
					done += 1;
				}
			});
			const poured = Promise.all(callers);
			// What a look finds is told first, also where it ends the daemon under the callers.
			poured.catch(() => undefined);
			const from = done;
			// In a process of its own, so that this one goes on calling.
			for (let looks = 0; looks < 2; looks += 1) {
				const child = spawn(process.execPath, [MAIN, "doctor", "--socket", daemon.socketPath, "--full"], {
					stdio: ["ignore", "pipe", "ignore"],
				});
				let out = "";
				child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
				const [code] = (await once(child, "close")) as [number | null, string | null];
				assert.equal(code, 0, out);
			}
			stopped.abort();
			await poured;
			assert.ok(done > from);
			const seq = 999_999;
			const lost = invocationId(1, seq);
			sql(
				join(root, "queue.db"),
				`INSERT INTO invocation (seq, lane, version, state, ready, priority, lane_key, created_at, run_at, attempt, charged,
				max_attempts, at_most_once, started_at, worker, source, method, path, headers, query, body_bytes, body_crc)
			VALUES (${seq}, 1, 1, 1, 1, 0, '', 1, 0, 1, 0, 1, 0, 1, 'w99', 0, 'GET', '/', '[]', '[]', 0, 0);
			INSERT OR REPLACE INTO lane_block (lane, block, offsets)
				SELECT lane, seq / 256, unhex(group_concat(printf('%02x', seq % 256), '')) FROM invocation GROUP BY lane, seq / 256;
			INSERT INTO running_block (block) VALUES (${seq} / 256)`,
			);
			const looked = await doctor(root, "--socket", daemon.socketPath);
			assert.equal(looked.status, 1, looked.told);
			assert.match(looked.told, /counts 0 running, 0 ready, 0 delayed of ledger; its rows say 1, 0, 0/);
			assert.match(looked.told, new RegExp(`running without a worker, e\\.g\\. ${lost}`));
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
	},
);

fault("B16", "doctor of what is no data folder, and of sockets that cannot be ours", async () => {
	using folder = tempFolder();
	const nothing = await doctor(join(folder.path, "nothing"));
	assert.equal(nothing.status, 65);
	assert.match(nothing.told, /does not exist/);
	assert.equal(existsSync(join(folder.path, "nothing")), false);
	const empty = join(folder.path, "empty");
	mkdirSync(empty, { mode: 0o700 });
	assert.equal((await doctor(empty)).status, 0);
	assert.deepEqual(readdirSync(empty), []);
	writeFileSync(join(folder.path, "file"), "");
	const file = await doctor(empty, "--socket", join(folder.path, "file"));
	assert.equal(file.status, 78, file.told);
	assert.match(file.told, /is a regular file/);
	const other = join(folder.path, "other.sock");
	const server = createServer();
	await new Promise<void>((resolve) => server.listen(other, resolve));
	try {
		chmodSync(other, 0o777);
		const looked = await doctor(empty, "--socket", other);
		assert.equal(looked.status, 1, looked.told);
		assert.match(looked.told, /mode 777/);
	} finally {
		server.close();
	}
});
