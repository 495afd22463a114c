/**
 * What a claim costs with a deep backlog over 100 lanes, against the same with a thousand queued. The queue alone, in
 * this process, one claim per commit; the queues take turns.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { percentile, type Scenario } from "../context.ts";
import type { Figure } from "../figures.ts";
import { fillQueue, openQueueRig, type QueueRig } from "../queue-rig.ts";

const LANES = 100;
const SHALLOW = 1_000;

export const claims: Scenario = {
	name: "claims",
	async run(context) {
		const folder = join(context.folder, "claims");
		mkdirSync(folder);
		const depths = [SHALLOW, 10_000, 100_000, 1_000_000].filter((depth) => depth <= context.backlog);
		const runs = depths.map((depth) => ({
			depth,
			rig: openQueueRig(join(folder, String(depth)), LANES),
			tookMs: [] as number[],
		}));
		for (const { rig, depth } of runs) await fillQueue(rig, LANES, depth);
		const rounds = context.quick ? 20 : 200;
		for (let round = 0; round < rounds; round += 1) for (const { rig, tookMs } of runs) await claimEach(rig, tookMs);
		for (const { rig } of runs) rig[Symbol.dispose]();
		return [
			figureOf(runs, "claim p99", (tookMs) => percentile(tookMs, 0.99), { of: "ratio", atMost: 1.5 }),
			figureOf(runs, "claim p50", (tookMs) => percentile(tookMs, 0.5)),
		];
	},
};

function figureOf(
	runs: readonly { readonly depth: number; readonly tookMs: readonly number[] }[],
	name: string,
	of: (tookMs: readonly number[]) => number,
	limit?: Figure["limit"],
): Figure {
	const what = `queued over ${LANES} lanes`;
	const points = runs.map(({ depth, tookMs }) => [depth, of(tookMs)] as const);
	const [deepest = 0, measured = Number.NaN] = points.at(-1) ?? [];
	return {
		name: `${name}, ${deepest.toLocaleString("en-US")} ${what}`,
		unit: "ms",
		measured,
		base: { name: "1k queued", value: points[0]?.[1] ?? Number.NaN },
		curve: { of: what, name, points },
		...(limit === undefined ? {} : { limit }),
	};
}

/** One claim from each lane, timed alone; then all are settled and as many queued again, so that the depth stays. */
async function claimEach(rig: QueueRig, tookMs: number[]): Promise<void> {
	for (let index = 0; index < LANES; index += 1) {
		rig.slots = index + 1;
		rig.queue.consider(rig.lane(index));
		const from = performance.now();
		rig.turn();
		tookMs.push(performance.now() - from);
	}
	const claimed = rig.claims;
	if (claimed.length !== LANES) throw new Error(`expected ${LANES} claims, got ${claimed.length}`);
	rig.claims = [];
	rig.slots = 0;
	rig.settle(claimed);
	await fillQueue(rig, LANES, LANES);
}
