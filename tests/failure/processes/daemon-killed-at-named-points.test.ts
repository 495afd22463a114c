/**
 * kill -9 of the daemon at the points between which an invocation could be lost or done twice: around the commit that
 * accepts it, around its claim, around its end, and in the recovery from such a death.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "../../../src/sources/client.ts";
import type { Daemon } from "../../support/daemon.ts";
import { readLedger } from "../../support/ledger.ts";
import { isGone } from "../../support/processes.ts";
import { seededRandom } from "../../support/seed.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import type { History } from "../harness/history.ts";
import { between, pick, standardPlans, type FunctionPlan } from "../harness/plans.ts";
import { faultRun, type Scene } from "../harness/run.ts";
import { COMPILE_CACHE, Subject } from "../harness/subject.ts";

const ROOT = join(import.meta.dirname, "../../..");
const DYING = join(ROOT, "tests/support/dying-daemon.ts");
const FUNCTIONS = join(ROOT, "tests/functions");

/** The daemon is gone by its own hand; its client is of no use any more. */
async function died(daemon: Daemon): Promise<void> {
	await waitFor("the daemon's death", () => daemon.process.signalCode === "SIGKILL", 20_000);
	daemon.client.close();
}

/** A daemon that dies at the point; recovery has commits too, so it may never come to be ready. */
async function dyingLife(subject: Subject, point: string): Promise<void> {
	let daemon: Daemon;
	try {
		daemon = await subject.start({ program: DYING, env: { DIE_AT: point } });
	} catch (error) {
		assert.match(String(error), /exited with SIGKILL/);
		return;
	}
	await died(daemon);
}

/**
 * Work that was running in ten daemons in a row that died ends crashed, by design: it might be why. Returns how many
 * ended so, and holds that nothing ended so for less.
 */
function givenUp(history: History): number {
	let count = 0;
	for (const row of history.lines) {
		if (row.kind !== "row" || row.state !== "crashed") continue;
		count += 1;
		assert.equal(row.code, "DAEMON_DEATHS", row.id);
		const before = row.attempts.slice(-10, -1).map(({ outcome }) => outcome);
		assert.deepEqual(before, Array<string>(9).fill("daemon_died"), `${row.id} was given up too soon`);
	}
	return count;
}

/** Under load, one daemon after another that dies at one of the points. */
function deathsAt(points: readonly string[], count: number, seed: number): (scene: Scene) => Promise<void> {
	return async ({ subject, history }) => {
		const random = seededRandom(seed);
		await subject.daemon.stop();
		for (let left = count; left > 0; left -= 1) {
			const point = `${pick(random, points)}:${between(random, 1, 40)}`;
			history.fault(`kill of the daemon at ${point}`);
			await dyingLife(subject, point);
		}
		await subject.start();
	};
}

fault(
	"A3",
	"kill between commit and acknowledgement, under load: what was committed is there once, also sent again",
	async (f) => {
		const steps = deathsAt(["commit.done"], f.runs(1, 40), f.seed);
		const { verdict, history } = await faultRun(f, { title: "A3", plans: standardPlans(["crashed"]), steps });
		givenUp(history);
		f.record(`unacknowledged and there: ${verdict.classes.recovered}`);
	},
);

fault(
	"A3",
	"kill between commit and acknowledgement: the same key answers with the invocation that was committed",
	async (f) => {
		await using subject = new Subject();
		const dying = await subject.start({ program: DYING, env: { DIE_AT: "commit.done", DIE_ARMED: "1" } });
		await subject.deploy(standardPlans().slice(0, 1));
		await arm(dying);
		const request = { body: '{"echo":"k"}', idempotencyKey: "k" };
		const answer = await dying.client.enqueue("steady", request).catch((error: unknown) => error as { code: string });
		assert.equal("code" in answer && answer.code, "DAEMON_UNREACHABLE");
		await died(dying);
		const { client } = await subject.start();
		const { invocations } = (await client.call("invocations.list", {})) as { invocations: { invocation_id: string }[] };
		assert.equal(invocations.length, 1, "it was committed, though nobody was told");
		const again = await client.enqueue("steady", request);
		assert.deepEqual([again.invocationId, again.replayed], [invocations[0]?.invocation_id, true]);
		assert.equal((await client.waitForResult(again.invocationId, { timeoutMs: 20_000 })).state, "succeeded");
		f.ran(1);
	},
);

async function arm(daemon: Daemon): Promise<void> {
	// The turn after an acknowledgement may have a commit of its own, with nothing in it.
	await daemon.client.call("stats.get", {});
	daemon.process.kill("SIGUSR2");
	await waitFor("it is armed", () => daemon.lines.some((line) => line.includes('"armed"')));
}

interface Crossing {
	readonly when: string;
	readonly point: string;
	/** Starts that functions may tell of, and the end, by delivery mode. */
	readonly atLeastOnce: { readonly starts: readonly number[]; readonly end: string };
	readonly atMostOnce: { readonly starts: readonly number[]; readonly end: string };
}

const CROSSINGS: readonly Crossing[] = [
	{
		when: "after the claim's commit, before its dispatch",
		point: "commit.done",
		atLeastOnce: { starts: [1], end: "succeeded" },
		atMostOnce: { starts: [0], end: "lost" },
	},
	{
		when: "after the dispatch",
		point: "attempt.dispatched",
		// Whether the bytes left before the death is up to the kernel.
		atLeastOnce: { starts: [1, 2], end: "succeeded" },
		atMostOnce: { starts: [0, 1], end: "lost" },
	},
	{
		when: "after the answer, before its commit",
		point: "attempt.answered",
		atLeastOnce: { starts: [2], end: "succeeded" },
		atMostOnce: { starts: [1], end: "lost" },
	},
	{
		when: "after the end's commit, before anybody was told",
		point: "settle.committed",
		atLeastOnce: { starts: [1], end: "succeeded" },
		atMostOnce: { starts: [1], end: "succeeded" },
	},
];

const MODES: readonly (readonly ["at-least-once" | "at-most-once", FunctionPlan | undefined])[] = [
	["at-least-once", standardPlans().find(({ name }) => name === "steady")],
	["at-most-once", standardPlans().find(({ name }) => name === "once")],
];

for (const crossing of CROSSINGS) {
	for (const [delivery, plan] of MODES) {
		if (plan === undefined) throw new Error("no such plan");
		const expected = delivery === "at-least-once" ? crossing.atLeastOnce : crossing.atMostOnce;
		fault(
			"A4",
			`kill ${crossing.when}, ${delivery}: ${expected.end}, started ${expected.starts.join(" or ")} times`,
			async (f) => {
				await using subject = new Subject();
				const dying = await subject.start({ program: DYING, env: { DIE_AT: crossing.point, DIE_ARMED: "1" } });
				await subject.deploy([plan]);
				// Accepted while the lane is paused, so that the claim has a commit of its own.
				await dying.client.call("lanes.pause", { function: plan.name, paused: true });
				const { invocationId } = await dying.client.enqueue(plan.name, { body: '{"echo":1}' });
				await arm(dying);
				dying.client.call("lanes.pause", { function: plan.name, paused: false }).catch(() => undefined);
				await died(dying);
				const { client } = await subject.start();
				const { state, error } = await client.waitForResult(invocationId, { timeoutMs: 20_000 });
				assert.equal(state, expected.end);
				if (state === "lost") assert.equal(error?.code, "LOST");
				const starts = readLedger(subject.ledger).filter(({ what }) => what === "start");
				assert.ok(expected.starts.includes(starts.length), `started ${starts.length} times`);
				const { charged } = await client.call("invocations.get", { invocation_id: invocationId });
				assert.equal(charged, 0, "nobody answered badly, so nothing is charged");
				f.ran(1);
			},
		);
	}
}

fault(
	"A4",
	"kills around claims and ends, under load: at-least-once runs to its end, at-most-once starts at most once",
	{ longOnly: true },
	async (f) => {
		const points = [
			"attempt.dispatched",
			"attempt.answered",
			"settle.committed",
			"commit.begin",
			"commit.acknowledged",
		];
		const steps = deathsAt(points, f.runs(5, 40), f.seed);
		const { history } = await faultRun(f, { title: "A4", plans: standardPlans(["crashed"]), steps });
		f.record(`${givenUp(history)} given up after ten deaths in a row`);
	},
);

/** Starts a daemon and kills it after this long, wherever it is then: while it loads, recovers, or already works. */
async function shortLife(subject: Subject, lifeMs: number): Promise<void> {
	const { dataDir, socketPath } = subject;
	const child = spawn(
		process.execPath,
		[join(ROOT, "src/main.ts"), "serve", "--data-dir", dataDir, "--socket", socketPath, "--http-port", "0"],
		{ stdio: "ignore", env: { ...process.env, NODE_COMPILE_CACHE: COMPILE_CACHE } },
	);
	const gone = once(child, "exit");
	await sleep(lifeMs);
	child.kill("SIGKILL");
	const [code] = (await gone) as [number | null];
	if (code !== null) throw new Error(`a start after a kill ended by itself with ${code}`);
}

fault(
	"A5",
	"a crash loop, killed 20 to 200 ms into and after each start: recovery is idempotent, nothing is lost",
	{ timeout: 900_000 },
	async (f) => {
		const count = f.runs(5, 150);
		const random = seededRandom(f.seed);
		const { verdict, history } = await faultRun(f, {
			title: "A5",
			// Ten daemons in a row that died while it ran end it, by design.
			plans: standardPlans(["crashed"]),
			steps: async ({ subject, history }) => {
				await sleep(500); // some work is queued, some runs
				for (let left = count; left > 0; left -= 1) {
					f.context.signal.throwIfAborted();
					await subject.daemon.kill();
					const boot = subject.bootsMs.at(-1) ?? 0;
					// Through the start, and past its end: half of the deaths are in recovery.
					for (let more = between(random, 0, 3); more > 0 && left > 1; more -= 1, left -= 1) {
						const lifeMs = between(random, Math.round(boot / 2), Math.round(boot) + 200);
						history.fault(`a daemon that lives for ${lifeMs} ms`);
						await shortLife(subject, lifeMs);
					}
					await subject.start();
					const lifeMs = between(random, 20, 200);
					history.fault(`the daemon ${subject.daemon.pid} lives for ${lifeMs} ms after it was ready`);
					await sleep(lifeMs);
				}
			},
		});
		f.record(`${verdict.reruns} attempts ran again, ${givenUp(history)} given up after ten deaths in a row`);
	},
);

fault("A5", "kill at each point of recovery, one after another: the next start finds the same work", async (f) => {
	await using subject = new Subject();
	await subject.start();
	const [steady] = standardPlans();
	if (steady === undefined) throw new Error("no plan");
	await subject.deploy([steady]);
	const { client } = subject.daemon;
	const ids: string[] = [];
	for (let index = 0; index < 10; index += 1) {
		ids.push((await client.enqueue("steady", { body: '{"ms":300}' })).invocationId);
	}
	await subject.daemon.kill();
	const points = ["folder.database_opened", "recover.begin", "commit.begin", "commit.done", "recover.done"];
	for (const point of points) {
		await assert.rejects(subject.start({ program: DYING, env: { DIE_AT: point } }), /exited with SIGKILL/);
	}
	f.ran(points.length);
	const next = await subject.start();
	for (const id of ids) assert.equal((await next.client.waitForResult(id, { timeoutMs: 20_000 })).state, "succeeded");
	for (const id of ids) await attemptsAreNumbered(next.client, id);
	assert.equal(await next.stop(), 0);
});

/** Recovery that was cut short and done again records no attempt twice. */
async function attemptsAreNumbered(client: Client, id: string): Promise<void> {
	const { attempt, attempts } = (await client.call("invocations.get", { invocation_id: id })) as {
		attempt: number;
		attempts: { attempt: number }[];
	};
	assert.deepEqual(
		attempts.map((each) => each.attempt),
		Array.from({ length: attempt }, (_, index) => index + 1),
	);
}

fault(
	"A10",
	"kill of the daemon with a spinning worker: it is gone within 1 s, and the next start runs the work again",
	async (f) => {
		await using subject = new Subject();
		const daemon = await subject.start();
		await daemon.client.call("functions.deploy", {
			function: "misbehave",
			path: join(FUNCTIONS, "misbehave.ts"),
			build: true,
			register: true,
		});
		await daemon.client.call("functions.configure", { function: "misbehave", overrides: { timeoutMs: 60_000 } });
		const { invocationId } = await daemon.client.enqueue("misbehave", { path: "/spin" });
		const pids = await waitFor("a busy worker", async () => {
			const workers = await subject.workers();
			return workers.some(({ state }) => state === "BUSY") ? workers.map(({ pid }) => pid) : undefined;
		});
		await daemon.kill();
		const from = performance.now();
		await waitFor("the end of every worker within 1 s", () => pids.every(isGone), 1_000);
		f.record(`gone after ${Math.round(performance.now() - from)} ms`);

		const next = await subject.start();
		const record = await waitFor("a second attempt", async () => {
			const found = await next.client.call("invocations.get", { invocation_id: invocationId });
			return found["attempt"] === 2 ? found : undefined;
		});
		assert.equal(record["charged"], 0, "nobody answered, so nothing is charged");
		await next.client.cancel(invocationId);
		assert.equal((await next.client.waitForResult(invocationId, { timeoutMs: 10_000 })).state, "cancelled");
		assert.equal(await next.stop(), 0);
		assert.deepEqual(subject.leftovers(), []);
	},
);

fault(
	"A10",
	"kill of the daemon while an at-most-once invocation runs: it ends lost and never runs again",
	async (f) => {
		await using subject = new Subject();
		const daemon = await subject.start();
		await subject.deploy(standardPlans().filter(({ name }) => name === "once"));
		const { invocationId } = await daemon.client.enqueue("once", { body: '{"ms":60000}' });
		await waitFor("its start", () => readLedger(subject.ledger).length > 0);
		await daemon.kill();
		const next = await subject.start();
		const { state, error } = await next.client.waitForResult(invocationId, { timeoutMs: 10_000 });
		assert.deepEqual([state, error?.code], ["lost", "LOST"]);
		assert.equal(readLedger(subject.ledger).filter(({ what }) => what === "start").length, 1);
		assert.equal(await next.stop(), 0);
		f.ran(1);
	},
);
