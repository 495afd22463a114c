/** Signals to the daemon: a stop is bounded whatever runs, a second signal ends it at once, a frozen daemon judges fairly. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client, ClientError } from "../../../src/sources/client.ts";
import { readLedger } from "../../support/ledger.ts";
import { isGone } from "../../support/processes.ts";
import { seededRandom } from "../../support/seed.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { schedule } from "../harness/nemesis.ts";
import { between, pick, standardPlans } from "../harness/plans.ts";
import { faultRun } from "../harness/run.ts";
import { COMPILE_CACHE, Subject } from "../harness/subject.ts";

const ROOT = join(import.meta.dirname, "../../..");
const PLANS = standardPlans().filter(({ name }) => ["steady", "single", "once"].includes(name));

async function start(drain: string): Promise<Subject> {
	const subject = new Subject({ env: { BUNBASE_DRAIN: drain } });
	const { client } = await subject.start();
	await subject.deploy(PLANS);
	const path = join(ROOT, "tests/functions/misbehave.ts");
	await client.call("functions.deploy", { function: "misbehave", path, build: true, register: true });
	await client.call("functions.configure", { function: "misbehave", overrides: { timeoutMs: 600_000 } });
	return subject;
}

async function enqueue(client: Client, name: string, ms: number): Promise<string> {
	return (await client.enqueue(name, { body: JSON.stringify({ ms }) })).invocationId;
}

function started(subject: Subject, id: string): boolean {
	return readLedger(subject.ledger).some((line) => line.id === id && line.what === "start");
}

interface Ran {
	readonly state: string;
	readonly attempt: number;
	readonly charged: number;
	readonly started_at: number;
	readonly finished_at: number;
}

async function ran(client: Client, id: string): Promise<Ran> {
	await client.waitForResult(id, { timeoutMs: 30_000 });
	return (await client.call("invocations.get", { invocation_id: id })) as unknown as Ran;
}

fault(
	"A12",
	"SIGTERM with running, queued, spinning and stopped work: over within the drain time, exit 0, all accounted for",
	async (f) => {
		await using subject = await start("1500ms");
		const { client } = subject.daemon;
		const finishes = await enqueue(client, "steady", 600);
		const first = await enqueue(client, "single", 60_000);
		const queued = await enqueue(client, "single", 0);
		const { invocationId: spinning } = await client.enqueue("misbehave", { path: "/spin" });
		const stopped = await enqueue(client, "once", 60_000);
		await waitFor("their starts", () => [finishes, first, stopped].every((id) => started(subject, id)));
		const workers = await waitFor("a spinning worker", async () => {
			const all = await subject.workers();
			return all.some(({ running }) => running.includes(spinning)) && all;
		});
		const frozen = workers.find(({ running }) => running.includes(stopped))?.pid ?? 0;
		process.kill(frozen, "SIGSTOP");
		const waiting = client.invoke("steady", { body: '{"ms":300}', idempotencyKey: "waits" });
		await waitFor(
			"the waiting call",
			() => readLedger(subject.ledger).filter(({ what }) => what === "start").length === 4,
		);

		const from = performance.now();
		subject.daemon.process.kill("SIGTERM");
		const refusal = await waitFor("a refusal", async () => {
			const answer = await client.enqueue("steady", { body: "{}" }).catch((error: unknown) => error as ClientError);
			return answer instanceof Error && answer;
		});
		assert.equal(refusal.code, "SHUTTING_DOWN");
		assert.equal((await waiting).state, "succeeded", "who waits for work that ends in time gets its answer");
		await once(subject.daemon.process, "exit");
		const tookMs = performance.now() - from;
		assert.equal(subject.daemon.process.exitCode, 0);
		assert.ok(tookMs < 1_500 + 3_000, `over after ${Math.round(tookMs)} ms`);
		f.record(`a stop with a drain time of 1,500 ms took ${Math.round(tookMs)} ms`);
		client.close();
		assert.ok(
			workers.every(({ pid }) => isGone(pid)),
			"no worker is left, not even the stopped one",
		);
		assert.deepEqual(subject.leftovers(), []);

		const next = await subject.start();
		assert.deepEqual(pickOf(await ran(next.client, finishes)), ["succeeded", 1, 0]);
		assert.equal((await ran(next.client, stopped)).state, "lost", "it may have run and does not again");
		// A drain charges nobody: both run again as if it had not been.
		await waitFor("the second start of the first in its lane", () =>
			readLedger(subject.ledger).some(({ id, attempt }) => id === first && attempt === 2),
		);
		const again = (await next.client.call("invocations.get", { invocation_id: first })) as unknown as Ran;
		assert.deepEqual(pickOf(again), ["running", 2, 0]);
		assert.equal(started(subject, queued), false, "behind the first of a lane of one");
		await next.client.cancel(first);
		await next.client.cancel(spinning);
		assert.deepEqual(pickOf(await ran(next.client, queued)), ["succeeded", 1, 0]);
		assert.equal((await ran(next.client, spinning)).state, "cancelled");
		assert.equal(await next.stop(), 0);
		f.ran(1);
	},
);

function pickOf({ state, attempt, charged }: Ran): [string, number, number] {
	return [state, attempt, charged];
}

for (const [first, second, code] of [
	["SIGTERM", "SIGTERM", 143],
	["SIGINT", "SIGINT", 130],
	["SIGHUP", "SIGHUP", 129],
	["SIGTERM", "SIGINT", 130],
] as const) {
	fault(
		"A12",
		`${first} drains, and ${second} after it ends at once with ${code}; nothing acknowledged is lost`,
		// One pair shows it; the others are the same path.
		{ longOnly: first !== "SIGTERM" || second !== "SIGTERM" },
		async () => {
			await using subject = await start("30s");
			const { client, process: daemon } = subject.daemon;
			const id = await enqueue(client, "steady", 2_000);
			const { invocationId: spinning } = await client.enqueue("misbehave", { path: "/spin" });
			await waitFor("its start", () => started(subject, id));
			const pids = (await subject.workers()).map(({ pid }) => pid);
			daemon.kill(first);
			await waitFor("the drain", () => subject.daemon.lines.some((line) => line.includes("stopping: ")));
			await sleep(50);
			assert.equal(daemon.exitCode, null, "it drains");
			const from = performance.now();
			daemon.kill(second);
			if (daemon.exitCode === null) await once(daemon, "exit");
			assert.equal(daemon.exitCode, code);
			assert.ok(performance.now() - from < 2_000, "at once");
			client.close();
			await waitFor("the end of every worker within 1 s", () => pids.every(isGone), 1_000);
			const next = await subject.start();
			await next.client.cancel(spinning);
			assert.equal((await ran(next.client, id)).state, "succeeded");
			assert.equal(await next.stop(), 0);
		},
	);
}

fault("A12", "SIGHUP, as a closed terminal sends it, drains like SIGTERM and ends with 0", async () => {
	await using subject = await start("10s");
	const { client, process: daemon } = subject.daemon;
	const id = await enqueue(client, "steady", 500);
	await waitFor("its start", () => started(subject, id));
	daemon.kill("SIGHUP");
	await once(daemon, "exit");
	assert.deepEqual([daemon.exitCode, daemon.signalCode], [0, null]);
	client.close();
	const next = await subject.start();
	assert.deepEqual(pickOf(await ran(next.client, id)), ["succeeded", 1, 0]);
	assert.equal(await next.stop(), 0);
});

fault(
	"A12",
	"a signal at any moment of the start ends it in order, or before it has begun; the next start works",
	async (f) => {
		await using subject = new Subject();
		await subject.start();
		await subject.deploy(PLANS);
		assert.equal(await subject.daemon.stop(), 0);
		const boot = subject.bootsMs.at(-1) ?? 0;
		const random = seededRandom(f.seed);
		const ends = new Map<string, number>();
		for (let left = f.runs(3, 60); left > 0; left -= 1) {
			const child = spawn(
				process.execPath,
				[
					join(ROOT, "src/main.ts"),
					"serve",
					"--data-dir",
					subject.dataDir,
					"--socket",
					subject.socketPath,
					"--http-port",
					"0",
				],
				{ stdio: "ignore", env: { ...process.env, NODE_COMPILE_CACHE: COMPILE_CACHE } },
			);
			const gone = once(child, "exit");
			const signal = pick(random, ["SIGTERM", "SIGINT", "SIGHUP"] as const);
			await sleep(between(random, 0, Math.round(boot * 1.2)));
			child.kill(signal);
			const [code, by] = (await gone) as [number | null, string | null];
			assert.ok(code === 0 || by === signal, `ended with ${code ?? by} after ${signal}`);
			ends.set(String(code ?? "the signal"), (ends.get(String(code ?? "the signal")) ?? 0) + 1);
			assert.deepEqual(subject.workerProcesses(), []);
		}
		const { client } = await subject.start();
		assert.equal((await client.invoke("steady", { body: "{}" })).status, 200);
		assert.equal(await subject.daemon.stop(), 0);
		assert.deepEqual(subject.leftovers(), []);
		f.record([...ends].map(([end, count]) => `${count} times ${end === "0" ? "exit 0" : end}`).join(", "));
	},
);

fault(
	"A12",
	"clean stops under load: nothing acknowledged is lost, nothing waits for a drain that has nothing to do",
	{ timeout: 600_000 },
	async (f) => {
		const steps = schedule(f.seed, { count: f.runs(1, 40), minMs: 100, maxMs: 1_500, kinds: ["stop daemon"] });
		await faultRun(f, { title: "A12", plans: standardPlans(), steps });
	},
);

fault(
	"A13",
	"a daemon that is frozen and goes on: what ended in time succeeded, what did not is timed out, late and once",
	async (f) => {
		await using subject = await start("10s");
		const { client, process: daemon } = subject.daemon;
		const overrides = { timeoutMs: 1_000, graceMs: 100, retry: { maxAttempts: 1 } };
		await client.call("functions.configure", { function: "steady", overrides });
		// Each has a worker of its own, so that none pays for another.
		await client.call("functions.configure", { function: "steady", overrides: { workerConcurrency: 1 } });
		const inTime = await Promise.all([300, 500, 700].map((ms) => enqueue(client, "steady", ms)));
		const endless = await enqueue(client, "steady", 60_000);
		// Its limit is past the freeze: it ends after it, in time.
		const frozenMs = f.long ? 10_000 : 2_500;
		await client.call("functions.configure", { function: "once", overrides: { timeoutMs: frozenMs + 2_000 } });
		const across = await enqueue(client, "once", frozenMs + 1_000);
		await waitFor("their starts", () => [...inTime, endless, across].every((id) => started(subject, id)));
		const delayed = await client.enqueue("single", { body: "{}", delayMs: 400 });
		daemon.kill("SIGSTOP");
		await sleep(frozenMs);
		assert.equal(readLedger(subject.ledger).filter(({ what }) => what === "finish").length, 3, "workers go on");
		daemon.kill("SIGCONT");
		for (const id of inTime) {
			assert.deepEqual(pickOf(await ran(client, id)), ["succeeded", 1, 0], "its answer was there before its limit");
		}
		const late = await ran(client, endless);
		assert.equal(late.state, "timed_out");
		assert.ok(late.finished_at - late.started_at >= 1_000, "not early");
		assert.deepEqual(pickOf(await ran(client, across)), ["succeeded", 1, 0], "a freeze takes nothing of its time");
		assert.deepEqual(pickOf(await ran(client, delayed.invocationId)), ["succeeded", 1, 0]);
		const starts = readLedger(subject.ledger).filter(({ what }) => what === "start");
		assert.equal(starts.length, 6, "each once");
		assert.equal(await subject.daemon.stop(), 0);
		f.record(`frozen for ${frozenMs / 1000} s`);
	},
);

fault(
	"A13",
	"a daemon that is frozen again and again under load: nothing is lost, nothing runs twice at once",
	{ longOnly: true, timeout: 300_000 },
	async (f) => {
		const steps = schedule(f.seed, { count: f.runs(3, 60), minMs: 50, maxMs: 800, kinds: ["freeze daemon"] });
		await faultRun(f, { title: "A13", plans: standardPlans(), steps });
	},
);
