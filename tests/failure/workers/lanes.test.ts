/** C17, C18 and C19: more functions than workers, a lane that is flooded, a function that waits for itself. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { httpSource } from "../../../src/index.ts";
import { realEnvironment } from "../../support/real-environment.ts";
import { seededRandom } from "../../support/seed.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { cameTo, startLab, textOf, type Lab } from "./lab.ts";

/** Functions that answer with their own name. */
async function deployMany(lab: Lab, names: readonly string[]): Promise<void> {
	await Promise.all(
		names.map(async (name) => {
			const path = join(lab.folder, `${name}.js`);
			const ms = name === "hot" ? 50 : 0;
			writeFileSync(
				path,
				`export default async () => (await Bun.sleep(${ms}), new Response(${JSON.stringify(name)}));`,
			);
			await lab.engine.deploy({ function: name, path, register: true });
		}),
	);
}

fault(
	"C17",
	"many more functions than workers, called at once and again: each gets its own answer at the first try",
	async (f) => {
		await using lab = await startLab({ maxWorkersTotal: 3 });
		const names = Array.from({ length: f.runs(10, 200) }, (_, i) => `f${i}`);
		await deployMany(lab, names);
		const random = seededRandom(f.seed);
		const started = performance.now();
		let calls = 0;
		for (let round = 0; round < 2; round += 1) {
			const order = names.map((name) => [random.next(), name] as const).toSorted(([a], [b]) => a - b);
			const ids = await Promise.all(order.map(async ([, name]) => [name, await lab.enqueue(name, "/")] as const));
			for (const [name, id] of ids) {
				const record = await lab.ended(id, 120_000);
				assert.equal(textOf(record), name);
				// A slot of a worker that was on its way out would have been released and tried again.
				assert.deepEqual([record.attempt, record.charged], [1, 0], name);
				calls += 1;
			}
			assert.ok(lab.engine.listWorkers().length <= 4, "more than one process over the limit");
		}
		f.record(
			`${names.length} functions on 3 workers: ${calls} calls, ${((performance.now() - started) / calls).toFixed(0)} ms each`,
		);
	},
);

fault("C18", "one lane with a deep backlog beside cold lanes: each cold call starts within a second", async (f) => {
	await using lab = await startLab({ durability: "process" });
	const depth = f.long ? 100_000 : 5_000;
	const cold = f.runs(6, 50);
	await deployMany(lab, ["hot", ...Array.from({ length: cold }, (_, i) => `cold${i}`)]);
	// Cold: what proved the version has gone.
	for (const { functionName } of lab.engine.listWorkers()) lab.engine.setEnvironment(functionName, { A: "1" });
	const request = {
		function: "hot",
		source: "cli" as const,
		method: "POST",
		path: "/",
		headers: [],
		query: [],
		body: new Uint8Array(),
		waits: false,
	};
	for (let left = depth; left > 0; left -= 1_000) {
		await lab.engine.enqueueBatch(Array.from({ length: Math.min(1_000, left) }, () => request));
	}
	const waits: number[] = [];
	for (let i = 0; i < cold; i += 1) {
		const record = await lab.call(`cold${i}`, "/");
		assert.equal(textOf(record), `cold${i}`);
		waits.push(record.queueWaitMs ?? Infinity);
	}
	const left = lab.engine.listLanes().find(({ functionName }) => functionName === "hot")?.ready ?? 0;
	waits.sort((a, b) => a - b);
	f.record(
		`${cold} cold lanes beside ${depth.toLocaleString("en")} queued (${left.toLocaleString("en")} left at the end): ` +
			`median ${waits[Math.floor(cold / 2)]} ms, slowest ${waits.at(-1)} ms`,
	);
	assert.ok((waits.at(-1) ?? Infinity) <= 1_000, `a cold lane waited ${waits.at(-1)} ms`);
	assert.ok(left > 0, "the hot lane was empty before the last cold call");
});

fault(
	"C19",
	"a function that waits for itself in a lane of one ends by its time limit, and the lane goes on",
	async () => {
		const http = httpSource({ port: 0, environment: realEnvironment });
		await using lab = await startLab({ sources: [http] });
		await lab.deploy("races", "faults/races.ts", {
			timeoutMs: 500,
			graceMs: 100,
			concurrency: 1,
			retry: { maxAttempts: 1 },
		});
		lab.engine.setEnvironment("races", { SELF: http.address().url });
		const outer = await lab.call("races", "/recurse", { query: [["depth", "3"]] });
		assert.equal(cameTo(outer), "timed_out TIMED_OUT charged 1");
		// Each level that it had called waits for the next in the same way; all come to an end.
		assert.equal(textOf(await lab.call("races", "/sleeps")), "done");
		await waitFor("every level to end", () => {
			const { queued, running } = lab.engine.stats();
			return queued + running === 0;
		});
		const ends = lab.engine.listInvocations({ function: "races" }).map(({ state }) => state);
		assert.deepEqual([...new Set(ends)].toSorted(), ["succeeded", "timed_out"]);
		// The same with room for every level.
		lab.engine.configureFunction("races", { concurrency: 8, timeoutMs: 10_000 });
		assert.equal(textOf(await lab.call("races", "/recurse", { query: [["depth", "3"]] })), "done < 1 < 2 < 3");
	},
);
