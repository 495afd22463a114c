/** C9 and C10: whatever is thrown is recorded; what comes after the answer, or is left behind, costs no later call. */
import assert from "node:assert/strict";
import { childrenOf, isGone } from "../../support/processes.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { ALONE, cameTo, startLab, textOf } from "./lab.ts";

/** What the record's message says. */
const THROWN: Readonly<Record<string, RegExp>> = {
	"/null": /thrown: null/,
	"/undefined": /thrown: undefined/,
	"/number": /thrown: 42/,
	"/string": /a string, thrown/,
	"/symbol": /Symbol\(thrown\)/,
	"/bigint": /thrown: 7/,
	"/function": /thrown: /,
	"/object": /like an error/,
	"/array": /an array of 3/,
	"/response": /an instance of Response/,
	"/hostile": /an instance of Hostile/,
	"/proxy": /cannot be read/,
	"/revoked": /cannot be read/,
	"/null-prototype": /an object/,
	"/message-number": /an instance of Error/,
	"/huge": /^h+ … \[cut\]$/,
	"/huge-stack": /from the depth/,
	"/aggregate": /both failed/,
	"/cause-cycle": /round/,
	"/overflow": /call stack/,
	"/surrogates": /half/,
	"/rejects": /rejected/,
	"/rejects-null": /thrown: null/,
	"/rejects-late": /rejected late/,
	"/thenable": /by a thenable/,
	"/abort-error": /abort/i,
	"/dom": /a DOMException/,
};

fault(
	"C9",
	"whatever a handler throws is recorded as HANDLER_ERROR within bounds, and its worker goes on",
	async (f) => {
		await using lab = await startLab();
		await lab.deploy("throws", "faults/throws.ts", ALONE);
		const pid = textOf(await lab.call("throws", "/fine"));
		for (let round = f.runs(1, 20); round > 0; round -= 1) {
			for (const [path, message] of Object.entries(THROWN)) {
				const record = await lab.call("throws", path);
				assert.equal(cameTo(record), "failed HANDLER_ERROR charged 1", path);
				assert.match(record.error?.message ?? "", message, path);
				assert.ok(Buffer.byteLength(JSON.stringify(record.error)) < 40_000, `${path} is not within bounds`);
			}
			assert.equal(textOf(await lab.call("throws", "/fine")), pid);
		}
		f.record(`${Object.keys(THROWN).length} kinds, one worker`);
	},
);

fault("C9", "an error keeps its name, its message and a stack that names the function's file", async () => {
	await using lab = await startLab();
	await lab.deploy("throws", "faults/throws.ts", ALONE);
	const { error } = await lab.call("throws", "/rejects");
	assert.deepEqual([error?.name, error?.message], ["TypeError", "rejected"]);
	assert.match(error?.stack ?? "", /throws\.ts/);
});

fault(
	"C9",
	"an error after the answer is in the log, its worker is replaced, and neither neighbours nor the next are charged",
	async (f) => {
		await using lab = await startLab();
		await lab.deploy("throws", "faults/throws.ts", { ...ALONE, workerConcurrency: 8 });
		for (let round = f.runs(1, 10); round > 0; round -= 1) {
			for (const path of [
				"/late-throw",
				"/late-rejection",
				"/late-null",
				"/late-microtask",
				"/late-emitter",
				"/late-immediate",
			]) {
				const neighbour = await lab.enqueue("throws", "/fine", { query: [["ms", "60"]] });
				const guilty = await lab.call("throws", path);
				const before = textOf(guilty);
				// It is aboard, or about to be, when the error comes.
				const next = await lab.call("throws", "/fine", { query: [["ms", "20"]] });
				for (const record of [await lab.ended(neighbour), guilty, next]) {
					assert.equal(cameTo(record), "succeeded - charged 0", `${record.request.path} with ${path}`);
					assert.equal(record.attempts.length, 1);
				}
				assert.equal(textOf(await lab.ended(neighbour)), before);
				await waitFor(
					`the worker of ${path} to be replaced`,
					async () => textOf(await lab.call("throws", "/fine")) !== before,
				);
				const line = lab.logs().findLast(({ level }) => level === "error");
				assert.match(line?.message ?? "", /uncaught exception|unhandled rejection/, path);
			}
		}
	},
);

fault(
	"C10",
	"what a call leaves behind costs the next nothing: timers, promises, listeners, servers, sockets, children",
	async (f) => {
		await using lab = await startLab();
		await lab.deploy("throws", "faults/throws.ts", ALONE);
		const paths = ["/interval", "/promise", "/listeners", "/server", "/socket", "/child", "/output", "/wait-until"];
		const pid = textOf(await lab.call("throws", "/fine"));
		for (let round = f.runs(2, 40); round > 0; round -= 1) {
			for (const path of paths) {
				assert.equal(textOf(await lab.call("throws", path)), pid, path);
				const next = await lab.call("throws", "/fine");
				assert.equal(textOf(next), pid, `after ${path}`);
				assert.deepEqual(
					lab.logs(next.invocationId).map(({ message }) => message),
					[],
					`lines of ${path} are in the next call's log`,
				);
			}
		}
		const children = childrenOf(Number(pid));
		assert.ok(children.length > 0);
		lab.engine.setEnvironment("throws", { RECYCLED: "1" });
		await waitFor("the old worker to end", () => isGone(Number(pid)));
		await waitFor("what it had started to end with it", () => children.every(isGone));
	},
);

fault("C10", "work given to waitUntil that never ends does not hold its worker for ever", async () => {
	await using lab = await startLab();
	await lab.deploy("throws", "faults/throws.ts", ALONE);
	const pid = Number(textOf(await lab.call("throws", "/wait-for-ever")));
	lab.engine.setEnvironment("throws", { RECYCLED: "1" });
	await waitFor("the worker to end after its grace", () => isGone(pid));
	assert.notEqual(textOf(await lab.call("throws", "/fine")), `${pid}`);
});
