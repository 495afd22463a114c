/**
 * kill -9 of the daemon, at named points and while it works. After the next start: nothing that was acknowledged is
 * lost, nothing acknowledged once has two records, every record is terminal, no worker has survived.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { startDaemon, type Daemon } from "../support/daemon.ts";
import { readLedger } from "../support/ledger.ts";
import { isGone } from "../support/processes.ts";
import { tempFolder } from "../support/temp-folder.ts";
import { waitFor } from "../support/wait-for.ts";

const FUNCTIONS = join(import.meta.dirname, "../functions");
const DYING = join(import.meta.dirname, "../support/dying-daemon.ts");

async function deployLedger(daemon: Daemon, ledger: string, overrides: Record<string, unknown> = {}): Promise<void> {
	const { client } = daemon;
	await client.call("functions.register", { name: "ledger" });
	await client.call("env.set", { function: "ledger", values: { LEDGER: ledger } });
	if (Object.keys(overrides).length > 0) await client.call("functions.configure", { function: "ledger", overrides });
	await client.call("functions.deploy", { function: "ledger", path: join(FUNCTIONS, "ledger.ts"), build: true });
}

/** Enqueues until the daemon is gone; returns what was acknowledged, by key. */
async function enqueueUntilDeath(daemon: Daemon, count: number): Promise<Map<string, string>> {
	const acknowledged = new Map<string, string>();
	// Four callers, each one after another, so that commits are many and small.
	const calls = [0, 1, 2, 3].map(async (caller) => {
		for (let index = caller; index < count; index += 4) {
			const idempotencyKey = `k${index}`;
			const { invocationId } = await daemon.client.enqueue("ledger", {
				method: "POST",
				path: "/",
				body: JSON.stringify({ echo: index, ms: 20 }),
				idempotencyKey,
			});
			acknowledged.set(idempotencyKey, invocationId);
		}
	});
	await Promise.race([Promise.allSettled(calls), once(daemon.process, "exit")]);
	daemon.client.close();
	await Promise.allSettled(calls);
	return acknowledged;
}

const POINTS = [
	["before a commit", "commit.begin", 12],
	["after a commit, before it was acknowledged", "commit.done", 12],
	["after an acknowledgement", "commit.acknowledged", 12],
	["after an answer, before it was settled", "attempt.answered", 3],
	["after an end was committed", "settle.committed", 3],
] as const;

for (const [when, point, count] of POINTS) {
	test(`kill engine ${when}: what was acknowledged ends exactly once`, async () => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		const ledger = join(folder.path, "ledger.jsonl");
		const dying = await startDaemon(dataDir, { program: DYING, env: { DIE_AT: `${point}:${count}` } });
		// The deploys hit commit points too; the count leaves room for them.
		await deployLedger(dying, ledger);
		const acknowledged = await enqueueUntilDeath(dying, 40);
		await waitFor("the daemon's death", () => dying.process.signalCode === "SIGKILL");

		const daemon = await startDaemon(dataDir);
		try {
			for (const [key, id] of acknowledged) {
				const end = await daemon.client.waitForResult(id, { timeoutMs: 20_000 });
				assert.equal(end.state, "succeeded", `${key} ${id}`);
				const again = await daemon.client.enqueue("ledger", {
					method: "POST",
					path: "/",
					body: JSON.stringify({ echo: Number(key.slice(1)), ms: 20 }),
					idempotencyKey: key,
				});
				assert.equal(again.invocationId, id, "the same key is the same invocation, also after the crash");
			}
			await waitFor("the end of all work", async () => {
				const stats = await daemon.client.call("stats.get", {});
				return stats["queued"] === 0 && stats["running"] === 0;
			});
			const finishes = new Set(
				readLedger(ledger)
					.filter(({ what }) => what === "finish")
					.map(({ id }) => id),
			);
			for (const id of acknowledged.values()) assert.ok(finishes.has(id), `${id} says succeeded and ran`);
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
	});
}

test("kill engine with a spinning worker: no worker survives, and the next start runs the work again", async () => {
	using folder = tempFolder();
	const dataDir = join(folder.path, "data");
	const daemon = await startDaemon(dataDir);
	await daemon.client.call("functions.deploy", {
		function: "misbehave",
		path: join(FUNCTIONS, "misbehave.ts"),
		build: true,
		register: true,
	});
	await daemon.client.call("functions.configure", { function: "misbehave", overrides: { timeoutMs: 60_000 } });
	const { invocationId } = await daemon.client.enqueue("misbehave", { method: "POST", path: "/spin" });
	const pids = await waitFor("a busy worker", async () => {
		const { workers } = (await daemon.client.call("workers.list", {})) as { workers: { pid: number; state: string }[] };
		const busy = workers.filter(({ state }) => state === "BUSY");
		return busy.length > 0 ? workers.map(({ pid }) => pid) : undefined;
	});
	await daemon.kill();
	await waitFor("the end of every worker within 1 s", () => pids.every(isGone), 1_000);

	const next = await startDaemon(dataDir);
	try {
		const record = await waitFor("a second attempt", async () => {
			const found = await next.client.call("invocations.get", { invocation_id: invocationId });
			return found["attempt"] === 2 ? found : undefined;
		});
		assert.equal(record["charged"], 0, "nobody answered, so nothing is charged");
		await next.client.cancel(invocationId);
		const end = await next.client.waitForResult(invocationId, { timeoutMs: 10_000 });
		assert.equal(end.state, "cancelled");
	} finally {
		assert.equal(await next.stop(), 0);
	}
});

test("kill engine while an at-most-once invocation runs: it ends lost and never runs again", async () => {
	using folder = tempFolder();
	const dataDir = join(folder.path, "data");
	const ledger = join(folder.path, "ledger.jsonl");
	const daemon = await startDaemon(dataDir);
	await deployLedger(daemon, ledger, { delivery: "at-most-once" });
	const { invocationId } = await daemon.client.enqueue("ledger", { method: "POST", path: "/", body: '{"ms":60000}' });
	await waitFor("its start", () => readLedger(ledger).length > 0);
	await daemon.kill();

	const next = await startDaemon(dataDir);
	try {
		const end = await next.client.waitForResult(invocationId, { timeoutMs: 10_000 });
		assert.equal(end.state, "lost");
		assert.equal(end.error?.code, "LOST");
		assert.equal(readLedger(ledger).filter(({ what }) => what === "start").length, 1);
	} finally {
		assert.equal(await next.stop(), 0);
	}
});

test("kill engine in recovery, again and again: recovery is idempotent", async () => {
	using folder = tempFolder();
	const dataDir = join(folder.path, "data");
	const ledger = join(folder.path, "ledger.jsonl");
	const daemon = await startDaemon(dataDir);
	await deployLedger(daemon, ledger);
	const ids: string[] = [];
	for (let index = 0; index < 10; index += 1) {
		ids.push((await daemon.client.enqueue("ledger", { method: "POST", path: "/", body: '{"ms":300}' })).invocationId);
	}
	await daemon.kill();
	for (const point of ["recover.begin", "commit.begin", "commit.done", "recover.done"]) {
		await assert.rejects(startDaemon(dataDir, { program: DYING, env: { DIE_AT: point } }), /exited with SIGKILL/);
	}
	const next = await startDaemon(dataDir);
	try {
		for (const id of ids) assert.equal((await next.client.waitForResult(id, { timeoutMs: 20_000 })).state, "succeeded");
	} finally {
		assert.equal(await next.stop(), 0);
	}
});

for (const point of ["deploy.bundle_stored", "deploy.version_committed", "deploy.switched"]) {
	test(`kill engine in a deploy at ${point}: the old or the new version serves, never none`, async () => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		const daemon = await startDaemon(dataDir);
		await daemon.client.call("functions.deploy", {
			function: "subject",
			path: join(FUNCTIONS, "misbehave.ts"),
			build: true,
			register: true,
		});
		await daemon.stop();

		const dying = await startDaemon(dataDir, { program: DYING, env: { DIE_AT: point } });
		const deploy = dying.client.call("functions.deploy", {
			function: "subject",
			path: join(FUNCTIONS, "ledger.ts"),
			build: true,
		});
		await assert.rejects(deploy);
		dying.client.close();
		await waitFor("the daemon's death", () => dying.process.signalCode === "SIGKILL");

		const next = await startDaemon(dataDir);
		try {
			const answer = await next.client.invoke("subject", { method: "POST", path: "/", body: "{}" });
			assert.equal(answer.status, 200);
			// Whatever was left half done does not stand in the way of doing it again.
			await next.client.call("functions.deploy", {
				function: "subject",
				path: join(FUNCTIONS, "ledger.ts"),
				build: true,
			});
			const after = await next.client.invoke("subject", { method: "POST", path: "/", body: '{"echo":1}' });
			assert.equal((after.json() as { echo: number }).echo, 1);
		} finally {
			assert.equal(await next.stop(), 0);
		}
	});
}
