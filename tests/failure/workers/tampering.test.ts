/** C11: a function that writes to its worker's descriptors hurts its own worker, is found, and is the only one charged. */
import assert from "node:assert/strict";
import { fault } from "../fault.ts";
import { cameTo, startLab, textOf, type Lab } from "./lab.ts";

const LIMITS = { timeoutMs: 400, graceMs: 100, maxWorkers: 1, retry: { maxAttempts: 1 } };

const TRICKS = ["/garbage", "/text", "/unknown-type", "/host-message", "/unknown-call", "/ready-again", "/broken-json"];

/** Runs the trick beside four others, which must all get their own answers. */
async function beside(lab: Lab, path: string, query: [string, string][] = []): Promise<string> {
	await lab.call("tampers", "/fine", { query: [["name", "warm"]] });
	const names = ["a", "b", "c", "d"].map((name) => `${name} beside ${path}`);
	const others = await Promise.all(
		names.map((name) =>
			lab.enqueue("tampers", "/fine", {
				query: [
					["name", name],
					["ms", "60"],
				],
			}),
		),
	);
	const guilty = await lab.enqueue("tampers", path, { query });
	for (const [i, id] of others.entries()) {
		const record = await lab.ended(id);
		assert.equal(cameTo(record), "succeeded - charged 0", `${names[i]}`);
		assert.equal(textOf(record), names[i]);
	}
	return cameTo(await lab.ended(guilty));
}

fault("C11", "bytes on the channel that are no message of a runtime: only the guilty attempt is charged", async (f) => {
	await using lab = await startLab();
	await lab.deploy("tampers", "faults/tampers.ts", LIMITS);
	for (let round = f.runs(1, 5); round > 0; round -= 1) {
		// In npm test about three of them, others with each seed.
		for (const path of f.long ? TRICKS : TRICKS.filter((_, i) => (i + f.seed) % 3 === 0)) {
			assert.equal(await beside(lab, path), "crashed WORKER_PROTOCOL charged 1", path);
		}
		assert.equal(await beside(lab, "/close"), "crashed WORKER_PROTOCOL charged 1", "/close");
		// The pool cannot tell it from an answer that takes its time: the time limit finds it.
		assert.equal(await beside(lab, "/swallow"), "timed_out TIMED_OUT charged 1", "/swallow");
	}
});

fault("C11", "writes to descriptors 4 to 10 reach nobody else's answer", async (f) => {
	await using lab = await startLab();
	await lab.deploy("tampers", "faults/tampers.ts", LIMITS);
	const ends = new Map<string, number>();
	for (let round = f.runs(1, 5); round > 0; round -= 1) {
		for (let fd = 4; fd <= 10; fd += f.long ? 1 : 3) {
			const end = await beside(lab, "/garbage", [["fd", `${fd}`]]);
			assert.match(end, /^(failed HANDLER_ERROR|crashed WORKER_\w+|timed_out TIMED_OUT) charged 1$/);
			ends.set(end, (ends.get(end) ?? 0) + 1);
		}
	}
	f.record([...ends].map(([end, count]) => `${count} × ${end}`).join(", "));
});

fault("C11", "frames on stdout and stderr are lines of output, not messages", async () => {
	await using lab = await startLab();
	await lab.deploy("tampers", "faults/tampers.ts", LIMITS);
	assert.equal(await beside(lab, "/frames-on-output"), "succeeded - charged 0");
});
