/** B22: a backup while work pours in, its restore elsewhere, and deaths and full disks in the middle of either. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import Database from "better-sqlite3";
import { startDaemon, type Daemon } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { tmpfs } from "../needs.ts";

const ROOT = join(import.meta.dirname, "../../..");
const MAIN = join(ROOT, "src/main.ts");
const FUNCTIONS = join(ROOT, "tests/functions");
const DYING = join(ROOT, "tests/support/dying-daemon.ts");
const DYING_RESTORE = join(ROOT, "tests/support/dying-restore.ts");

interface Ran {
	readonly status: number | null;
	readonly out: string;
	readonly err: string;
}

function bunbase(args: readonly string[], socketPath = "/nowhere/s.sock"): Ran {
	const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args, "--socket", socketPath], {
		encoding: "utf8",
		timeout: 60_000,
	});
	return { status, out: stdout, err: stderr };
}

async function deployLedger(daemon: Daemon, ledger: string): Promise<void> {
	const { client } = daemon;
	await client.call("functions.register", { name: "ledger" });
	await client.call("env.set", { function: "ledger", values: { LEDGER: ledger } });
	await client.call("functions.deploy", { function: "ledger", path: join(FUNCTIONS, "ledger.ts"), build: true });
}

interface Accepted {
	readonly id: string;
	/** What it must answer. */
	readonly echo: number;
}

/** Callers that enqueue one after another until they are told to stop. */
function pour(daemon: Daemon, callers: number, accepted: Accepted[]): { stop(): Promise<void> } {
	const stopped = new AbortController();
	let next = 0;
	const each = async (): Promise<void> => {
		while (!stopped.signal.aborted) {
			const echo = next++;
			// Some bodies are over 4 KiB, so that they are in a table of their own.
			const padding = "x".repeat(echo % 10 === 0 ? 8000 : 100);
			const body = JSON.stringify({ echo, ms: 0, padding });
			const { invocationId } = await daemon.client.enqueue("ledger", { method: "POST", path: "/", body });
			accepted.push({ id: invocationId, echo });
		}
	};
	const all = Promise.all(Array.from({ length: callers }, each));
	all.catch(() => undefined);
	return {
		async stop() {
			stopped.abort();
			await all;
		},
	};
}

async function drained(daemon: Daemon): Promise<void> {
	await waitFor(
		"the end of all work",
		async () => {
			const stats = await daemon.client.call("stats.get", {});
			return stats["queued"] === 0 && stats["running"] === 0;
		},
		60_000,
	);
}

fault(
	"B22",
	"a backup under full load, restored elsewhere, has all that was acknowledged before it began",
	async (f) => {
		using folder = tempFolder();
		const before: Accepted[] = [];
		const backup = join(folder.path, "backup");
		const restored = join(folder.path, "restored");
		const after: Accepted[] = [];
		const daemon = await startDaemon(join(folder.path, "data"));
		try {
			await deployLedger(daemon, join(folder.path, "ledger.jsonl"));
			const first = pour(daemon, 50, before);
			await waitFor("work", () => before.length >= f.runs(1500, 20_000), 60_000);
			const acknowledged = [...before];
			const made = await daemon.client.call("backup.create", { path: backup });
			await first.stop();
			const during = before.length - acknowledged.length;
			assert.ok(during > 0, "work was accepted while the backup was made");
			const late = pour(daemon, 1, after);
			await waitFor("work after the backup", () => after.length >= 20);
			await late.stop();
			await drained(daemon);

			const ran = bunbase(["restore", backup, "--data-dir", restored]);
			assert.equal(ran.status, 0, ran.err);
			const next = await startDaemon(restored);
			try {
				for (const { id, echo } of acknowledged) {
					const end = await next.client.waitForResult(id, { timeoutMs: 60_000 });
					assert.equal(end.state, "succeeded", id);
					assert.equal(
						(end.response?.json() as { echo: number } | undefined)?.echo,
						echo,
						"its own result, not another one's",
					);
				}
				await drained(next);
				// New work takes the numbers that the first instance gave out after the backup.
				const reused: Accepted[] = [];
				const again = pour(next, 1, reused);
				await waitFor("new ones", () => reused.length >= 20);
				await again.stop();
				const known = Number(made["seq"]);
				const numbers = new Set(reused.map(({ id }) => id.slice(-11)));
				const issuedLater = [...before, ...after].filter(({ id }) => Number.parseInt(id.slice(-11), 32) > known);
				assert.ok(
					issuedLater.some(({ id }) => numbers.has(id.slice(-11))),
					"a number was given out a second time",
				);
				for (const { id } of issuedLater) {
					const asked = next.client.call("invocations.get", { invocation_id: id });
					await assert.rejects(asked, { code: "INVOCATION_NOT_FOUND" }, `${id} is of the other instance`);
				}
				f.record(
					`acknowledged before ${acknowledged.length}, during ${during}, lost 0; backup ${String(made["ms"])} ms`,
				);
				const looked = bunbase(["doctor", "--full"], next.socketPath);
				assert.equal(looked.status, 0, looked.out);
			} finally {
				assert.equal(await next.stop(), 0);
			}
			const looked = bunbase(["doctor", "--full"], daemon.socketPath);
			assert.equal(looked.status, 0, looked.out);
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
	},
);

fault("B22", "running work of a restored backup is resolved as its function says", async () => {
	using folder = tempFolder();
	const backup = join(folder.path, "backup");
	const daemon = await startDaemon(join(folder.path, "data"));
	const { client } = daemon;
	const ids: Record<string, string> = {};
	try {
		for (const delivery of ["at-least-once", "at-most-once"]) {
			const path = join(FUNCTIONS, "ledger.ts");
			await client.call("functions.deploy", { function: delivery, path, build: true, register: true });
			await client.call("functions.configure", { function: delivery, overrides: { delivery } });
			const ledger = join(folder.path, `${delivery}.jsonl`);
			await client.call("env.set", { function: delivery, values: { LEDGER: ledger } });
			const body = JSON.stringify({ echo: 1, ms: 2000 });
			ids[delivery] = (await client.enqueue(delivery, { method: "POST", path: "/", body })).invocationId;
		}
		await waitFor("both to run", async () => (await client.call("stats.get", {}))["running"] === 2);
		await client.call("backup.create", { path: backup });
	} finally {
		await daemon.kill();
	}
	assert.equal(bunbase(["restore", backup, "--data-dir", join(folder.path, "restored")]).status, 0);
	const next = await startDaemon(join(folder.path, "restored"));
	try {
		const once = await next.client.waitForResult(ids["at-most-once"] ?? "", { timeoutMs: 20_000 });
		assert.equal(once.state, "lost");
		const least = await next.client.waitForResult(ids["at-least-once"] ?? "", { timeoutMs: 20_000 });
		assert.equal(least.state, "succeeded");
	} finally {
		assert.equal(await next.stop(), 0);
	}
});

fault("B22", "a restored instance beside the one it was made of does not touch its workers", async () => {
	using folder = tempFolder();
	const backup = join(folder.path, "backup");
	const daemon = await startDaemon(join(folder.path, "data"));
	try {
		await deployLedger(daemon, join(folder.path, "ledger.jsonl"));
		const body = JSON.stringify({ echo: 1, ms: 60_000 });
		const { invocationId } = await daemon.client.enqueue("ledger", { method: "POST", path: "/", body });
		await waitFor("it to run", async () => (await daemon.client.call("stats.get", {}))["running"] === 1);
		await daemon.client.call("backup.create", { path: backup });
		assert.equal(bunbase(["restore", backup, "--data-dir", join(folder.path, "restored")]).status, 0);
		const next = await startDaemon(join(folder.path, "restored"));
		assert.equal(await next.stop(), 0);
		const record = await daemon.client.call("invocations.get", { invocation_id: invocationId });
		assert.deepEqual([record["state"], record["attempt"]], ["running", 1]);
		await daemon.client.cancel(invocationId);
	} finally {
		assert.equal(await daemon.stop(), 0);
	}
});

for (const point of ["backup.step", "backup.database_copied", "backup.checked"]) {
	fault("B22", `kill -9 at ${point}: the source is whole, and nothing looks like a backup`, async () => {
		using folder = tempFolder();
		const data = join(folder.path, "data");
		const accepted: Accepted[] = [];
		const dying = await startDaemon(data, { program: DYING, env: { DIE_AT: point } });
		await deployLedger(dying, join(folder.path, "ledger.jsonl"));
		const load = pour(dying, 8, accepted);
		await waitFor("work", () => accepted.length >= 50);
		await assert.rejects(dying.client.call("backup.create", { path: join(folder.path, "backup") }));
		await waitFor("the daemon's death", () => dying.process.signalCode === "SIGKILL");
		dying.client.close();
		await assert.rejects(load.stop());
		const acknowledged = [...accepted];

		assert.equal(existsSync(join(folder.path, "backup")), false);
		for (const name of readdirSync(folder.path).filter((name) => name.startsWith("backup"))) {
			const ran = bunbase(["restore", join(folder.path, name), "--data-dir", join(folder.path, "restored")]);
			// After the checks all that it lacks is its name, and a whole backup is one under any name.
			assert.equal(ran.status, point === "backup.checked" ? 0 : 65, ran.err);
		}
		const next = await startDaemon(data);
		try {
			for (const { id } of acknowledged) {
				assert.equal((await next.client.waitForResult(id, { timeoutMs: 20_000 })).state, "succeeded");
			}
			await next.client.call("backup.create", { path: join(folder.path, "backup") });
		} finally {
			assert.equal(await next.stop(), 0);
		}
	});
}

/** A backup of a daemon that is stopped, with results in it. */
async function stoppedBackup(path: string): Promise<{ data: string; backup: string; id: string }> {
	const [data, backup] = [join(path, "data"), join(path, "backup")];
	const daemon = await startDaemon(data);
	await deployLedger(daemon, join(path, "ledger.jsonl"));
	const body = JSON.stringify({ echo: 7, ms: 0 });
	const { invocationId } = await daemon.client.invoke("ledger", { method: "POST", path: "/", body });
	assert.equal(await daemon.stop(), 0);
	const ran = bunbase(["backup", backup, "--data-dir", data]);
	assert.equal(ran.status, 0, ran.err);
	return { data, backup, id: invocationId };
}

fault(
	"B22",
	"kill -9 anywhere in a restore: no daemon starts on the half of it, and the same restore again succeeds",
	async (f) => {
		using folder = tempFolder();
		const { backup, id } = await stoppedBackup(folder.path);
		const target = join(folder.path, "restored");
		for (const point of [
			"restore.copied:1",
			"restore.copied:3",
			"restore.checked:1",
			"restore.placed:1",
			"restore.placed:4",
		]) {
			f.ran(1);
			const dying = spawn(process.execPath, [DYING_RESTORE, backup, target], {
				env: { ...process.env, DIE_AT: point },
			});
			const [, signal] = (await once(dying, "exit")) as [number | null, string | null];
			assert.equal(signal, "SIGKILL", point);
			const refused = bunbase(["serve", "--data-dir", target, "--no-http"], join(folder.path, "s.sock"));
			assert.equal(refused.status, 65, `${point}: ${refused.err}`);
			assert.match(refused.err, /bunbase restore/);
			if (point !== "restore.placed:4") continue;
			const looked = bunbase(["doctor", "--data-dir", target]);
			assert.equal(looked.status, 65, looked.out);
		}
		assert.equal(bunbase(["restore", backup, "--data-dir", target]).status, 0);
		const daemon = await startDaemon(target);
		try {
			const answer = (await daemon.client.getResult(id)).response?.json() as { echo: number } | undefined;
			assert.equal(answer?.echo, 7);
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
	},
);

fault(
	"B22",
	"a disk that fills up during a backup: a clear error, nothing left behind, the daemon goes on",
	{ needs: [tmpfs] },
	async () => {
		using folder = tempFolder();
		const small = join(folder.path, "small");
		mkdirSync(small);
		const daemon = await startDaemon(join(folder.path, "data"));
		try {
			await deployLedger(daemon, join(folder.path, "ledger.jsonl"));
			const accepted: Accepted[] = [];
			const load = pour(daemon, 20, accepted);
			await waitFor("work", () => accepted.length >= 300);
			assert.equal(spawnSync("mount", ["-t", "tmpfs", "-o", "size=16m", "tmpfs", small]).status, 0);
			try {
				// What is free when it begins is enough; another program takes it meanwhile.
				const made = daemon.client.call("backup.create", { path: join(small, "backup") });
				let filler = 0;
				const full = (async (): Promise<void> => {
					await waitFor("its first bytes", () => readdirSync(small).some((name) => name.startsWith("backup.partial-")));
					for (; ; filler += 1) writeFileSync(join(small, `filler-${filler}`), Buffer.alloc(1024 * 1024, 1));
				})();
				await assert.rejects(full, { code: "ENOSPC" });
				await assert.rejects(made, { code: "STORAGE_FULL", message: /nothing is left of it/ });
				assert.deepEqual(
					readdirSync(small).filter((name) => name.startsWith("backup")),
					[],
				);
				// And where it is known from the start.
				const again = daemon.client.call("backup.create", { path: join(small, "backup") });
				await assert.rejects(again, { code: "STORAGE_FULL" });
				assert.deepEqual(
					readdirSync(small).filter((name) => name.startsWith("backup")),
					[],
				);
			} finally {
				assert.equal(spawnSync("umount", [small]).status, 0);
			}
			await load.stop();
			for (const { id } of accepted) {
				assert.equal((await daemon.client.waitForResult(id, { timeoutMs: 20_000 })).state, "succeeded");
			}
			const { status, err } = bunbase(["backup", join(folder.path, "backup")], daemon.socketPath);
			assert.equal(status, 0, err);
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
	},
);

fault("B22", "a stop in the middle of a backup ends it, and nothing is left of it", async () => {
	using folder = tempFolder();
	const data = join(folder.path, "data");
	const daemon = await startDaemon(data);
	try {
		await deployLedger(daemon, join(folder.path, "ledger.jsonl"));
		const made = daemon.client.call("backup.create", { path: join(folder.path, "backup") });
		const ended = assert.rejects(made);
		await waitFor("its first bytes", () => readdirSync(folder.path).some((name) => name.startsWith("backup.partial-")));
		assert.equal(await daemon.stop(), 0);
		await ended;
	} finally {
		if (daemon.process.exitCode === null) await daemon.kill();
	}
	assert.deepEqual(
		readdirSync(folder.path).filter((name) => name.startsWith("backup")),
		[],
	);
});

const DAMAGE: readonly [what: string, damage: (backup: string) => void][] = [
	["a missing file", (backup) => spawnSync("rm", [join(backup, "metadata.db")])],
	["a file that was cut short", (backup) => truncateSync(join(backup, "queue.db"), 8192)],
	["one flipped byte", (backup) => flip(join(backup, "queue.db"), 20_000)],
	["a manifest that was cut short", (backup) => truncateSync(join(backup, "manifest.json"), 50)],
	[
		"a manifest that names files outside",
		(backup) => {
			const path = join(backup, "manifest.json");
			writeFileSync(path, readFileSync(path, "utf8").replace('"metadata.db"', '"../../escaped"'));
		},
	],
];

function flip(path: string, at: number): void {
	const bytes = readFileSync(path);
	bytes[at] = (bytes[at] ?? 0) ^ 0x40;
	writeFileSync(path, bytes);
}

fault("B22", "a damaged backup is refused with exit 65, and nothing is made", async (f) => {
	using folder = tempFolder();
	const { backup } = await stoppedBackup(folder.path);
	for (const [what, damage] of DAMAGE) {
		f.ran(1);
		const copy = join(folder.path, `copy ${what}`);
		cpSync(backup, copy, { recursive: true });
		damage(copy);
		const target = join(folder.path, "restored");
		const ran = bunbase(["restore", copy, "--data-dir", target]);
		assert.equal(ran.status, 65, `${what}: ${ran.err}`);
		assert.equal(existsSync(target), false, what);
	}
	assert.equal(existsSync(join(folder.path, "escaped")), false);
});

fault(
	"B22",
	"a restore refuses a folder that is not empty and one that a daemon has, and changes neither",
	async () => {
		using folder = tempFolder();
		const { data, backup, id } = await stoppedBackup(folder.path);
		const full = bunbase(["restore", backup, "--data-dir", data]);
		assert.equal(full.status, 2, full.err);
		assert.match(full.err, /not empty/);
		const daemon = await startDaemon(data);
		try {
			const held = bunbase(["restore", backup, "--data-dir", data]);
			assert.equal(held.status, 69, held.err);
			assert.match(held.err, new RegExp(`\\b${daemon.pid}\\b`));
			assert.equal((await daemon.client.getResult(id)).state, "succeeded");
			// Without its socket, its folder cannot be backed up either, and the message says how it can.
			const offline = bunbase(["backup", join(folder.path, "second"), "--data-dir", data]);
			assert.equal(offline.status, 69, offline.err);
			assert.match(offline.err, /--socket/);
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
	},
);

fault(
	"B22",
	"damaged data is not backed up as if it were whole; with --damaged it is, and both sides say so",
	async () => {
		using folder = tempFolder();
		const { data } = await stoppedBackup(folder.path);
		const queue = new Database(join(data, "queue.db"));
		queue.exec("UPDATE invocation SET version = 4711");
		queue.close();
		const second = join(folder.path, "second");
		const refused = bunbase(["backup", second, "--data-dir", data]);
		assert.equal(refused.status, 65, refused.err);
		assert.match(refused.err, /version 4711/);
		assert.deepEqual(
			readdirSync(folder.path).filter((name) => name.startsWith("second")),
			[],
		);
		const kept = bunbase(["backup", second, "--data-dir", data, "--damaged"]);
		assert.equal(kept.status, 0, kept.err);
		assert.match(kept.err, /version 4711/);
		assert.equal(bunbase(["restore", second, "--data-dir", join(folder.path, "restored")]).status, 65);
		assert.equal(bunbase(["restore", second, "--data-dir", join(folder.path, "restored"), "--damaged"]).status, 0);
	},
);
