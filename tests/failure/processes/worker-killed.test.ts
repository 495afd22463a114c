/**
 * Workers that die: by a signal from outside, by their own code, idle, with one attempt aboard, with many, and in the
 * middle of an answer. The attempt is accounted for, the lane goes on, and an answer counts only when it is whole.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, beforeEach } from "node:test";
import type { Daemon } from "../../support/daemon.ts";
import { readLedger } from "../../support/ledger.ts";
import { isGone } from "../../support/processes.ts";
import { seededRandom } from "../../support/seed.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { schedule } from "../harness/nemesis.ts";
import { pick, standardPlans } from "../harness/plans.ts";
import { faultRun } from "../harness/run.ts";
import { Subject } from "../harness/subject.ts";

const FUNCTIONS = join(import.meta.dirname, "../../functions");
const subject = new Subject();
let daemon: Daemon;

before(async () => {
	daemon = await subject.start();
	for (const name of ["ledger", "dies"]) {
		await daemon.client.call("functions.register", { name });
		await daemon.client.call("env.set", { function: name, values: { LEDGER: subject.ledger } });
		await daemon.client.call("functions.deploy", { function: name, path: join(FUNCTIONS, `${name}.ts`), build: true });
	}
});
beforeEach(async () => {
	for (const name of ["ledger", "dies"]) {
		await daemon.client.call("functions.configure", {
			function: name,
			overrides: { delivery: null, maxWorkers: null, retry: { maxAttempts: 3, baseMs: 10 } },
		});
	}
});
after(async () => {
	try {
		assert.equal(await daemon.stop(), 0);
		assert.deepEqual(subject.leftovers(), []);
	} finally {
		await subject[Symbol.asyncDispose]();
	}
});

async function enqueue(ms: number): Promise<string> {
	return (await daemon.client.enqueue("ledger", { body: JSON.stringify({ ms }) })).invocationId;
}

/** The worker that runs all of these, once it has begun them. */
async function workerOf(ids: readonly string[]): Promise<number> {
	await waitFor("their starts", () =>
		ids.every((id) => readLedger(subject.ledger).some((line) => line.id === id && line.what === "start")),
	);
	const lines = readLedger(subject.ledger).filter(({ id }) => ids.includes(id));
	const pids = new Set(lines.map(({ pid }) => pid));
	assert.equal(pids.size, 1, "all are aboard of one worker");
	return [...pids][0] ?? 0;
}

interface Record {
	readonly state: string;
	readonly attempt: number;
	readonly charged: number;
	readonly error: { readonly code: string; readonly message: string } | null;
	readonly result: { readonly body: string } | null;
	readonly attempts: readonly { outcome: string; error: { code: string; message: string } | null }[];
}

async function record(id: string): Promise<Record> {
	await daemon.client.waitForResult(id, { timeoutMs: 20_000 });
	return (await daemon.client.call("invocations.get", { invocation_id: id, with_body: true })) as unknown as Record;
}

function starts(id: string): number {
	return readLedger(subject.ledger).filter((line) => line.id === id && line.what === "start").length;
}

fault("A8", "kill a worker with one attempt aboard: it is charged, tried again, and succeeds", async () => {
	const id = await enqueue(300);
	process.kill(await workerOf([id]), "SIGKILL");
	const { state, attempt, charged, attempts } = await record(id);
	assert.deepEqual([state, attempt, charged], ["succeeded", 2, 1]);
	assert.deepEqual([attempts[0]?.outcome, attempts[0]?.error?.code], ["crashed", "WORKER_CRASHED"]);
	assert.match(attempts[0]?.error?.message ?? "", /SIGKILL/);
});

fault("A8", "kill a worker with eight attempts aboard: nobody is charged, each runs again, all succeed", async () => {
	await daemon.client.call("functions.configure", { function: "ledger", overrides: { maxWorkers: 1 } });
	const ids = await Promise.all(Array.from({ length: 8 }, () => enqueue(300)));
	process.kill(await workerOf(ids), "SIGKILL");
	for (const id of ids) {
		const { state, attempt, charged } = await record(id);
		assert.deepEqual([state, attempt, charged], ["succeeded", 2, 0]);
	}
});

fault("A8", "kill a worker that runs an at-most-once invocation: it ends lost and never runs again", async () => {
	await daemon.client.call("functions.configure", {
		function: "ledger",
		overrides: { delivery: "at-most-once", retry: null },
	});
	const id = await enqueue(60_000);
	process.kill(await workerOf([id]), "SIGKILL");
	const { state, error } = await record(id);
	assert.deepEqual([state, error?.code], ["lost", "LOST"]);
	assert.equal(starts(id), 1);
});

for (const signal of ["SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM"] as const) {
	fault("A8", `${signal} to every idle worker: the next call has a fresh one`, async () => {
		assert.equal((await daemon.client.invoke("ledger", { body: "{}" })).status, 200);
		const idle = await waitFor("idle workers", async () => {
			const all = (await subject.workers()).filter(({ state }) => state === "IDLE" || state === "WARM");
			return all.length > 0 ? all.map(({ pid }) => pid) : undefined;
		});
		for (const pid of idle) process.kill(pid, signal);
		await waitFor("their ends", () => idle.every(isGone));
		const answer = await daemon.client.invoke("ledger", { body: "{}", maxAttempts: 2 });
		assert.equal(answer.status, 200);
	});
}

fault("A8", "the spare worker is killed: nobody waits for it, and the next one serves", async () => {
	const spares = async (): Promise<number[]> => {
		const taken = (await subject.workers()).map(({ pid }) => pid);
		return subject.workerProcesses().filter((pid) => !taken.includes(pid));
	};
	const spare = async (): Promise<number> => waitFor("a spare", async () => (await spares())[0]);
	const dead = await spare();
	process.kill(dead, "SIGKILL");
	await waitFor("its end", () => isGone(dead));
	// It has no variables, so that it takes a spare where there is one.
	const deploy = async (name: string): Promise<void> => {
		await daemon.client.call("functions.register", { name });
		await daemon.client.call("functions.deploy", { function: name, path: join(FUNCTIONS, "trials.ts"), build: true });
	};
	await deploy("without-spare");
	const next = await spare();
	await deploy("with-spare");
	const { body } = await daemon.client.invoke("with-spare", { path: "/pid" });
	assert.equal(Buffer.from(body).toString(), `${next}`);
});

for (const [how, said] of [
	["SIGKILL", /SIGKILL/],
	["SIGSEGV", /SIGSEGV|code 139/],
	["segfault", /SIGSEGV|SIGTRAP|SIGILL|code \d+/],
	["exit 0", /code 0/],
	["exit 3", /code 3/],
	["abort", /SIGABRT|SIGTRAP|SIGILL|code \d+/],
] as const) {
	fault(
		"A8",
		`a worker that ends by ${how} mid-run: the attempt crashed and says so, the next one succeeds`,
		async () => {
			const { invocationId: id } = await daemon.client.enqueue("dies", { body: JSON.stringify({ how, until: 1 }) });
			const { state, attempt, charged, attempts } = await record(id);
			assert.deepEqual([state, attempt, charged], ["succeeded", 2, 1]);
			assert.deepEqual([attempts[0]?.outcome, attempts[0]?.error?.code], ["crashed", "WORKER_CRASHED"]);
			assert.match(attempts[0]?.error?.message ?? "", said);
			assert.equal(starts(id), 2);
		},
	);
}

fault(
	"A8",
	"signals to workers at random moments under load: records, limits and results hold",
	{ timeout: 300_000 },
	async (f) => {
		const count = f.runs(8, 150);
		const steps = schedule(f.seed, { count, minMs: 20, maxMs: 400, kinds: ["kill worker"] });
		// Killed alone three times it is given up, by design.
		await faultRun(f, { title: "A8", plans: standardPlans(["crashed"]), steps });
	},
);

/** Sizes around what a socket takes at once (about 200 KB). */
const SIZES = [100_000, 2_000_000] as const;

for (const bytes of SIZES) {
	fault(
		"A9",
		`a worker that ends while ${bytes / 1000} KB of answer leave it: a whole answer counts, a part never does`,
		async (f) => {
			const random = seededRandom(f.seed);
			const overrides = { retry: { maxAttempts: 1 }, workerConcurrency: 1 };
			await daemon.client.call("functions.configure", { function: "dies", overrides });
			const came = { succeeded: 0, crashed: 0 };
			for (let left = f.runs(8, 100); left > 0; left -= 1) {
				const how = pick(random, ["exit 0", "SIGKILL", "abort"] as const);
				// So long that both happen: a large answer takes its time to leave.
				const afterMs = Math.round((random.next() * bytes) / 5_000) / 10;
				const { invocationId } = await daemon.client.enqueue("dies", { body: JSON.stringify({ how, afterMs, bytes }) });
				const { state, error, result, charged, attempts } = await record(invocationId);
				// The one before may take its worker along before this one is sent to it: then another gets it, uncharged.
				const { length } = attempts.filter(({ outcome }) => outcome !== "released");
				const due = state === "succeeded" ? 0 : 1;
				assert.deepEqual([length, charged, starts(invocationId) <= 1], [1, due, true], "never both");
				const scene = `${how} after ${afterMs} ms`;
				if (state === "succeeded") {
					came.succeeded += 1;
					assert.equal(
						Buffer.from(result?.body ?? "", "base64").toString(),
						"r".repeat(bytes),
						`a whole answer, ${scene}`,
					);
					assert.equal(error, null);
				} else {
					came.crashed += 1;
					assert.deepEqual([state, error?.code, result], ["crashed", "WORKER_CRASHED", null], scene);
				}
			}
			await daemon.client.call("functions.configure", { function: "dies", overrides: { workerConcurrency: null } });
			f.record(`${bytes / 1000} KB: ${came.succeeded} whole, ${came.crashed} crashed`);
		},
	);
}

fault(
	"A14",
	"a poison pill that kills its worker each time: crashed after three deaths, and its lane goes on",
	async (f) => {
		await daemon.client.call("functions.configure", {
			function: "dies",
			overrides: { retry: { maxAttempts: 20, baseMs: 1, capMs: 10 }, concurrency: 1 },
		});
		const pill = await daemon.client.enqueue("dies", { body: '{"how":"SIGKILL"}' });
		const behind = await Promise.all(
			Array.from({ length: 5 }, () => daemon.client.enqueue("dies", { body: '{"how":"none"}' })),
		);
		const { state, charged, error } = await record(pill.invocationId);
		assert.deepEqual([state, charged, error?.code], ["crashed", 3, "WORKER_CRASHED"]);
		assert.equal(starts(pill.invocationId), 3);
		for (const { invocationId } of behind) {
			const { state, charged } = await record(invocationId);
			assert.deepEqual([state, charged], ["succeeded", 0], "the pill's neighbours in the lane pay nothing");
		}
		f.ran(3);
	},
);

fault("A14", "a poison pill among neighbours in one worker: only the pill ends crashed", async (f) => {
	await daemon.client.call("functions.configure", {
		function: "ledger",
		overrides: { maxWorkers: 1, retry: { maxAttempts: 20, baseMs: 1, capMs: 10 } },
	});
	await daemon.client.call("functions.configure", {
		function: "dies",
		overrides: { maxWorkers: 1, concurrency: 10, retry: { maxAttempts: 20, baseMs: 1, capMs: 10 } },
	});
	const bodies = ['{"how":"none","bytes":10}', '{"how":"SIGKILL"}', '{"how":"none"}', '{"how":"none"}'];
	const sent = await Promise.all(bodies.map((body) => daemon.client.enqueue("dies", { body })));
	for (const [index, { invocationId }] of sent.entries()) {
		const { state, charged } = await record(invocationId);
		assert.deepEqual([state, charged], index === 1 ? ["crashed", 3] : ["succeeded", 0]);
	}
	f.ran(3);
});
