/** Processes that a function started end with its worker, and with the daemon: nobody is left behind. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { childrenOf, isGone } from "../../support/processes.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { Subject } from "../harness/subject.ts";

const FAMILY = join(import.meta.dirname, "../../functions/family.ts");

interface Family {
	readonly worker: number;
	/** By the way in which it was started, and what those started in turn. */
	readonly pids: ReadonlyMap<string, number>;
	/** Nobody's child, in a session of its own, with an environment of its own. */
	readonly daemonised: number;
}

/** Runs the function once, and returns its whole family. */
async function start(subject: Subject): Promise<Family> {
	const file = `${subject.ledger}.family`;
	const { client } = await subject.start();
	await client.call("functions.register", { name: "family" });
	await client.call("env.set", { function: "family", values: { FAMILY: file } });
	await client.call("functions.deploy", { function: "family", path: FAMILY, build: true });
	await client.enqueue("family", { maxAttempts: 1 });
	const text = await waitFor(
		"the family",
		() => existsSync(file) && readFileSync(file, "utf8").includes("\n") && readFileSync(file, "utf8"),
	);
	const { worker, family, daemonised } = JSON.parse(text) as {
		worker: number;
		family: Record<string, number>;
		daemonised: number;
	};
	const pids = new Map(Object.entries(family));
	const shell = pids.get("shell") ?? 0;
	const grandchild = await waitFor("the shell's child", () => childrenOf(shell)[0]);
	pids.set("grandchild", grandchild);
	for (const [name, pid] of pids) assert.ok(!isGone(pid), `${name} runs`);
	assert.ok(!isGone(daemonised));
	return { worker, pids, daemonised };
}

async function allGone({ worker, pids }: Family): Promise<void> {
	for (const [name, pid] of [["the worker", worker] as const, ...pids]) {
		await waitFor(`the end of ${name}`, () => isGone(pid), 5_000);
	}
}

fault("A11", "a worker with children is killed: child, detached child, shell and grandchild end with it", async (f) => {
	await using subject = new Subject();
	const family = await start(subject);
	process.kill(family.worker, "SIGKILL");
	await allGone(family);
	f.record(`${family.pids.size} processes of a function ended with its worker`);
	assert.ok(!isGone(family.daemonised), "what made itself a daemon outlives its worker");
	assert.equal(await subject.daemon.stop(), 0);
	assert.ok(isGone(family.daemonised), "but not the engine");
	assert.deepEqual(subject.leftovers(), []);
});

fault("A11", "a worker with children runs into its limit: all of them end with it", async () => {
	await using subject = new Subject();
	const family = await start(subject);
	const { invocations } = (await subject.daemon.client.call("invocations.list", {})) as {
		invocations: { invocation_id: string }[];
	};
	await subject.daemon.client.call("functions.configure", { function: "family", overrides: { graceMs: 100 } });
	await subject.daemon.client.cancel(invocations[0]?.invocation_id ?? "");
	await allGone(family);
	assert.equal(await subject.daemon.stop(), 0);
	assert.deepEqual(subject.leftovers(), []);
});

fault(
	"A11",
	"the daemon is killed while a function has children: worker and children end, the next start leaves none",
	async () => {
		await using subject = new Subject();
		const family = await start(subject);
		await subject.daemon.kill();
		await waitFor("the worker's end", () => isGone(family.worker), 1_000);
		await subject.start();
		await allGone(family);
		assert.ok(isGone(family.daemonised), "the next start ends it");
		// The work runs again, with a family of its own.
		assert.equal(await subject.daemon.stop(), 0);
		assert.deepEqual(subject.leftovers(), []);
	},
);
