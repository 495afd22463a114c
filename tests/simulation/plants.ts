/**
 * Bugs to be caught: each is a change to one or two lines of the engine's real source, made as the module is loaded.
 * Nothing in the engine knows of them. A plant whose text is not found fails the run, so none goes stale in silence.
 *
 * Each variant is a module graph of its own (a query in the URL), so a plant and the true engine fit in one process.
 */
import { registerHooks } from "node:module";
import { fileURLToPath } from "node:url";
import { COUNTING } from "./coverage.ts";
import type * as World from "./world.ts";

interface Patch {
	/** Under src/. */
	readonly file: string;
	readonly find: string;
	readonly replace: string;
}

export interface Plant {
	/** What somebody might have got wrong. */
	readonly story: string;
	readonly patches: readonly Patch[];
	/** Invariants that may say so. */
	readonly caughtBy: readonly string[];
}

export const PLANTS = {
	"fence-removed": {
		story: "an answer of an attempt that is over is taken for one of the attempt that runs",
		patches: [
			{
				file: "queue/statements.ts",
				find: "result_bytes = ?, result_crc = ?\n\t\t\tWHERE seq = ? AND state = 1 AND attempt = ?",
				replace: "result_bytes = ?, result_crc = ?\n\t\t\tWHERE seq = ? AND state = 1 AND attempt >= ?",
			},
		],
		caughtBy: ["I5", "I7", "Q5", "Q3", "I3"],
	},
	"ack-before-commit": {
		story: "a client is told that its request is accepted before the row is committed",
		patches: [
			{
				file: "queue/queue.ts",
				find: "answer = this.#enqueuer.accept(batch, submission);\n\t\t\t},\n\t\t\tcommitted: () => {",
				replace:
					"answer = this.#enqueuer.accept(batch, submission);\n\t\t\t\taccepted(answer);\n\t\t\t},\n\t\t\tcommitted: () => {",
			},
		],
		caughtBy: ["I1"],
	},
	"slot-freed-early": {
		story: "a killed worker counts as gone when the signal is sent, not when its process has ended",
		patches: [
			{
				file: "pool/lifetime.ts",
				find: "if (link.open) link.kill();\n\t\telse this.gone({ code: null, signal: null });",
				replace: 'if (link.open) link.kill();\n\t\tthis.gone({ code: null, signal: "SIGKILL" });',
			},
		],
		caughtBy: ["I5", "I4"],
	},
	"cron-slot-without-unique-key": {
		story: "a slot that was decided is decided again when the schedules are loaded anew at the wrong moment",
		patches: [
			{
				file: "queue/cron-slots.ts",
				find: "if (this.#isDecided(schedule, slot, batch.now)) return undefined;",
				replace: "",
			},
			{
				file: "store/queue-schema.ts",
				find: "PRIMARY KEY (schedule, slot),",
				replace: "PRIMARY KEY (schedule, slot, decided_at, outcome),",
			},
		],
		caughtBy: ["I14"],
	},
	"recovery-after-first-claim": {
		story: "sources are let in before the rows of the last daemon are recovered",
		patches: [
			{
				file: "engine/engine.ts",
				find: "const recovered = parts.queue.recover();",
				replace:
					"const recovered = { requeued: 0, ended: 0 };\n\t\tthis.#environment.clock.setTimer(20, () => void parts.queue.recover());",
			},
		],
		caughtBy: ["E3", "I8", "I6", "DEFECT"],
	},
	"key-forgotten-early": {
		story: "the window of an idempotency key ends one millisecond before it should",
		patches: [
			{
				file: "queue/enqueue.ts",
				find: "row.expiresAt <= batch.now) return undefined;",
				replace: "row.expiresAt - 1 <= batch.now) return undefined;",
			},
		],
		caughtBy: ["I13"],
	},
	"retry-too-early": {
		story: "the delay before a retry counts the attempts before this one, not this one",
		patches: [
			{
				file: "core/invocation.ts",
				find: "retryDelayMs(retry, charged + 1, random)",
				replace: "retryDelayMs(retry, charged, random)",
			},
		],
		caughtBy: ["R"],
	},
	"waiter-not-woken": {
		story: "who waits for an invocation that is cancelled in the queue is never told",
		patches: [
			{
				file: "engine/waiters.ts",
				find: "if (waiting === undefined) return;",
				replace: 'if (waiting === undefined || end.state === "cancelled") return;',
			},
		],
		caughtBy: ["E1"],
	},
	overtaking: {
		story: "a new invocation takes a free place although others wait for it",
		patches: [{ file: "queue/enqueue.ts", find: "if (lane.ready > 0 || !lane.hasRoom", replace: "if (!lane.hasRoom" }],
		caughtBy: ["I6"],
	},
	"late-answer-after-restart": {
		story: "at boot an at-most-once invocation that was running is put back into the queue",
		patches: [
			{
				file: "core/invocation.ts",
				find: 'if (row.atMostOnce) {\n\t\t\t\treturn {\n\t\t\t\t\t...same,\n\t\t\t\t\tdaemonDeaths: deaths,\n\t\t\t\t\tto: "lost"',
				replace:
					'if (row.atMostOnce && deaths > 1) {\n\t\t\t\treturn {\n\t\t\t\t\t...same,\n\t\t\t\t\tdaemonDeaths: deaths,\n\t\t\t\t\tto: "lost"',
			},
		],
		caughtBy: ["I4"],
	},
	"turn-out-of-line": {
		story: "what ends lets the last of its line go, not the first",
		patches: [
			{
				file: "queue/statements.ts",
				find: "FROM turn WHERE schedule = +? ORDER BY seq LIMIT 1",
				replace: "FROM turn WHERE schedule = +? ORDER BY seq DESC LIMIT 1",
			},
		],
		caughtBy: ["C3"],
	},
} as const satisfies Readonly<Record<string, Plant>>;
export type PlantName = keyof typeof PLANTS;

/** BUGGIFY: bounds so small that each is reached all the time. */
const TINY: readonly Patch[] = [
	{ file: "queue/group-commit.ts", find: "const ITEMS_MAX = 512;", replace: "const ITEMS_MAX = 2;" },
	{ file: "queue/claim.ts", find: "const CLAIMS_MAX = 256;", replace: "const CLAIMS_MAX = 1;" },
	{ file: "queue/due.ts", find: "const PAGE = 500;", replace: "const PAGE = 1;" },
	{ file: "queue/recover.ts", find: "const PAGE = 500;", replace: "const PAGE = 2;" },
	{ file: "queue/prune.ts", find: "const OWNERS_MAX = 100;", replace: "const OWNERS_MAX = 1;" },
	{ file: "core/limits.ts", find: "pruneStepRows: 500,", replace: "pruneStepRows: 3," },
];

type WorldModule = typeof World;

const SRC = new URL("../../src/", import.meta.url).href;
const graphs = new Map<string, Promise<WorldModule>>();
/** Patches of a variant that were not applied yet. */
const waiting = new Map<string, Set<Patch>>();

registerHooks({
	resolve(specifier, context, nextResolve) {
		const resolved = nextResolve(specifier, context);
		const variant = variantOf(context.parentURL);
		const isOurs = resolved.url.startsWith("file:") && !resolved.url.includes("/node_modules/");
		if (variant === undefined || !isOurs || variantOf(resolved.url) !== undefined) return resolved;
		return { ...resolved, url: `${resolved.url}?variant=${variant}` };
	},
	load(url, context, nextLoad) {
		const loaded = nextLoad(url, context);
		const patches = waiting.get(variantOf(url) ?? "");
		if (patches === undefined || !url.startsWith(SRC)) return loaded;
		const file = url.slice(SRC.length).replace(/\?.*$/, "");
		let text = Buffer.from(loaded.source as Uint8Array).toString("utf8");
		for (const patch of patches) {
			if (patch.file !== file) continue;
			if (text.split(patch.find).length !== 2) throw new Error(`plant: ${file} does not hold this once: ${patch.find}`);
			text = text.replace(patch.find, () => patch.replace);
			patches.delete(patch);
		}
		return { ...loaded, source: text };
	},
});

function variantOf(url: string | undefined): string | undefined {
	return /\?variant=([a-z-]+)$/.exec(url ?? "")?.[1];
}

/** The simulator over the engine as it is, with tiny bounds, or with a planted bug. */
export function loadWorld(variant: "true" | "tiny" | PlantName): Promise<WorldModule> {
	let graph = graphs.get(variant);
	if (graph === undefined) {
		graph = load(variant);
		graphs.set(variant, graph);
	}
	return graph;
}

async function load(variant: "true" | "tiny" | PlantName): Promise<WorldModule> {
	const patches = variant === "true" ? [] : variant === "tiny" ? TINY : PLANTS[variant].patches;
	const left = new Set<Patch>([COUNTING, ...patches]);
	waiting.set(variant, left);
	const url = new URL(`./world.ts?variant=${variant}`, import.meta.url).href;
	const world = (await import(url)) as WorldModule;
	for (const { file, find } of left)
		throw new Error(`plant ${variant}: ${fileURLToPath(SRC)}${file} was not loaded: ${find}`);
	return world;
}
