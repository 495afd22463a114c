/** A function whose workers cannot start any more: it is held back, says why, harms nobody, and comes back by itself. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { waitFor } from "../../support/wait-for.ts";
import { fault, type Fault } from "../fault.ts";
import { Subject } from "../harness/subject.ts";

const FUNCTIONS = join(import.meta.dirname, "../../functions");

async function deploy(subject: Subject, name: string): Promise<void> {
	const path = join(FUNCTIONS, `${name}.ts`);
	await subject.daemon.client.call("functions.deploy", { function: name, path, build: true, register: true });
}

async function mode(subject: Subject, value: string): Promise<void> {
	await subject.daemon.client.call("env.set", { function: "stubborn", values: { MODE: value } });
}

async function blocked(subject: Subject): Promise<string | undefined> {
	const { lanes } = (await subject.daemon.client.call("lanes.list", {})) as {
		lanes: { function_name: string; blocked: string | null }[];
	};
	return lanes.find((lane) => lane.function_name === "stubborn")?.blocked ?? undefined;
}

/** Starts that failed, from the daemon's own log. */
function failedStarts(subject: Subject): number {
	return subject.daemon.lines.filter((line) => line.includes("a worker did not start")).length;
}

async function crashLoop(f: Fault, how: "throw" | "hang", why: RegExp, watchMs: number): Promise<void> {
	await using subject = new Subject();
	const { client } = await subject.start();
	await deploy(subject, "stubborn");
	await deploy(subject, "ledger");
	assert.equal((await client.invoke("stubborn", {})).text(), "loaded with MODE=none");
	await mode(subject, how);
	const ids = await Promise.all(Array.from({ length: 20 }, () => client.enqueue("stubborn", {})));
	const status = await waitFor(
		"the breaker",
		async () => {
			const text = await blocked(subject);
			return text?.includes("breaker") === true && text;
		},
		60_000,
	);
	assert.match(status, why);
	const before = failedStarts(subject);
	const until = performance.now() + watchMs;
	let calls = 0;
	while (performance.now() < until) {
		const answer = await client.invoke("ledger", { body: '{"echo":1}' });
		assert.equal(answer.success, true, "other functions are unharmed");
		calls += 1;
		await sleep(50);
	}
	// One start at a time after 1 s, 2 s, 4 s …: not one after another as fast as they fail.
	const starts = failedStarts(subject) - before;
	const most = Math.ceil(Math.log2(watchMs / 1000 + 1)) + 1;
	assert.ok(starts <= most, `${starts} starts in ${watchMs} ms, at most ${most}`);
	for (const { invocationId } of ids) {
		const { state, charged } = await client.call("invocations.get", { invocation_id: invocationId });
		assert.deepEqual([state, charged], ["queued", 0], "nothing ran, so nothing is charged and nothing is lost");
	}
	await mode(subject, "fine");
	for (const { invocationId } of ids) {
		const end = await client.waitForResult(invocationId, { timeoutMs: 60_000 });
		assert.equal(end.response?.text(), "loaded with MODE=fine");
	}
	assert.equal(await blocked(subject), undefined);
	f.record(
		`${how}: ${starts} starts in ${watchMs / 1000} s with the breaker open, ${calls} calls of another function beside`,
	);
	assert.equal(await subject.daemon.stop(), 0);
	assert.deepEqual(subject.leftovers(), []);
}

fault(
	"A15",
	"a function that throws when it loads: the breaker opens and says why, others run, it comes back when mended",
	async (f) => {
		await crashLoop(f, "throw", /failed starts, the last: .*no connection to what it needs/s, f.long ? 15_000 : 1_500);
	},
);

fault(
	"A15",
	"a function whose import never ends: each start is given up after 10 s, the same breaker holds it back",
	{ longOnly: true },
	async (f) => {
		await crashLoop(f, "hang", /not ready within 10000 ms/, 15_000);
	},
);

fault("A15", "a bundle that does not load is refused at its deploy, and the version before goes on", async () => {
	await using subject = new Subject();
	const { client } = await subject.start();
	await deploy(subject, "stubborn");
	const path = join(FUNCTIONS, "does-not-load.ts");
	await assert.rejects(client.call("functions.deploy", { function: "stubborn", path, build: true }), (error: Error) => {
		assert.equal((error as Error & { code: string }).code, "BAD_BUNDLE");
		assert.match(error.message, /no configuration found/);
		return true;
	});
	assert.equal((await client.invoke("stubborn", {})).text(), "loaded with MODE=none");
	assert.equal(await blocked(subject), undefined);
	assert.equal(await subject.daemon.stop(), 0);
});
