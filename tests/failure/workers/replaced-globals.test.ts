/**
 * C12: user code replaces globals and methods of globals, one at a time, each there is. What it breaks of itself is its
 * own affair; the calls after it in the same worker get their answers, and their lines are kept.
 */
import assert from "node:assert/strict";
import type { Outcome } from "../../../src/core/invocation.ts";
import { createRealPool, specOf } from "../../support/real-pool.ts";
import { seededRandom } from "../../support/seed.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault, type Fault } from "../fault.ts";

const spec = specOf(
	"faults/overrides.ts",
	{ timeoutMs: 500, graceMs: 50, workerConcurrency: 1, maxWorkers: 1 },
	{ functionName: "overrides" },
);

/** What the runtime itself once stumbled over; in every run. */
const KNOWN = [
	"globalThis.JSON",
	"globalThis.Promise",
	"globalThis.Date",
	"globalThis.Buffer",
	"globalThis.Uint8Array",
	"globalThis.Array",
	"process.exit",
	"process.nextTick",
	"process.env",
	"Date.now",
	"JSON.stringify",
	"TypedArray.Symbol(Symbol.species)",
	"TypedArray.prototype.byteLength",
	"TypedArray.prototype.set",
	"TypedArray.prototype.subarray",
	"ArrayIterator.next",
	"AsyncLocalStorage.prototype.run",
	"AsyncLocalStorage.prototype.getStore",
	"Array.isArray",
	"Array.prototype.join",
	"Array.prototype.push",
	"Array.prototype.indexOf",
	"Array.prototype.map",
	"Array.prototype.Symbol(Symbol.iterator)",
	"Promise.Symbol(Symbol.species)",
	"Promise.prototype.then",
	"Map.prototype.delete",
	"Map.prototype.set",
	"TextEncoder.prototype.encodeInto",
	"TextDecoder.prototype.decode",
	"Headers.prototype.set",
	"AbortController.prototype.signal",
	"AbortSignal.prototype.aborted",
	"Buffer.prototype.subarray",
	"new Object.prototype.toJSON",
	"new Array.prototype.toJSON",
	"new Object.prototype.body",
];

/** With these an answer cannot be given at all: Bun's own tick queue reads the one, every await the other. */
const SELF_HARM = new Set(["process._exiting", "new Object.prototype.then"]);

const said = (outcome: Outcome): string =>
	outcome.kind === "succeeded" ? Buffer.from(outcome.body).toString() : JSON.stringify(outcome);

async function replaceEach(f: Fault, when: "spoil" | "spoil-later", hows: readonly string[], share: number) {
	await using real = createRealPool();
	const call = (path: string, query: [string, string][] = []) => real.call(spec, path, { query });
	const targets = JSON.parse(said(await call("/targets"))) as string[];
	for (const known of KNOWN) assert.ok(targets.includes(known), `${known} is no target`);
	const random = seededRandom(f.seed);
	const bad: string[] = [];
	let replaced = 0;
	for (const how of hows) {
		for (const target of targets) {
			if (when === "spoil-later" && SELF_HARM.has(target)) continue;
			if (!KNOWN.includes(target) && random.next() >= share) continue;
			replaced += 1;
			const logged = real.logs.length;
			// Whatever becomes of the one that replaced it.
			await call(`/${when}`, [
				["target", target],
				["how", how],
			]);
			const answers = [await call("/check"), await call("/check"), await call("/logs"), await call("/restore")];
			const wrong = answers.map(said).filter((text) => text !== "fine");
			const lines = real.logs.slice(logged).map(({ message }) => message);
			const kept = ["printed", "logged"].every((line) => lines.includes(line));
			if (wrong.length === 0 && kept) continue;
			bad.push(`${target} (${how}): ${wrong[0] ?? `lines ${lines.join("|")}`}`);
			const { pid } = real.pool.workers()[0] ?? {};
			if (pid !== undefined) process.kill(pid, "SIGKILL");
			await waitFor("its end", () => real.pool.workers().every((worker) => worker.pid !== pid));
		}
	}
	f.ran(replaced);
	assert.deepEqual(bad, []);
	f.record(
		`${replaced} replacements of ${targets.length} globals and methods, ${when === "spoil" ? "during" : "after"} a call`,
	);
}

fault("C12", "a replaced global or method hurts no later call of its worker", (f) =>
	replaceEach(f, "spoil", f.long ? ["throw", "nothing"] : ["throw"], f.long ? 1 : 0.1),
);

fault("C12", "nor one that is replaced after its call has ended", (f) =>
	replaceEach(f, "spoil-later", f.long ? ["throw", "nothing"] : ["throw"], f.long ? 1 : 0),
);
