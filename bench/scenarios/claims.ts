/**
 * What a claim costs with a deep backlog over 100 lanes, against the same with a thousand queued. The queue alone, in
 * this process, one claim per commit; the two queues take turns.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { percentile, type Scenario } from "../context.ts";
import { fillQueue, openQueueRig, type QueueRig } from "../queue-rig.ts";

const LANES = 100;
const SHALLOW = 1_000;

export const claims: Scenario = {
	name: "claims",
	async run(context) {
		const folder = join(context.folder, "claims");
		mkdirSync(folder);
		using shallow = openQueueRig(join(folder, "shallow"), LANES);
		using deep = openQueueRig(join(folder, "deep"), LANES);
		await fillQueue(shallow, LANES, SHALLOW);
		await fillQueue(deep, LANES, context.backlog);
		const [of1k, ofMany]: [number[], number[]] = [[], []];
		const rounds = context.quick ? 20 : 200;
		for (let round = 0; round < rounds; round += 1) {
			await claimEach(shallow, of1k);
			await claimEach(deep, ofMany);
		}
		const queued = context.backlog.toLocaleString("en-US");
		return [
			{
				name: `claim p99, ${queued} queued over ${LANES} lanes`,
				unit: "ms",
				measured: percentile(ofMany, 0.99),
				base: { name: "1k queued", value: percentile(of1k, 0.99) },
				limit: { of: "ratio", atMost: 1.5 },
			},
			{
				name: `claim p50, ${queued} queued over ${LANES} lanes`,
				unit: "ms",
				measured: percentile(ofMany, 0.5),
				base: { name: "1k queued", value: percentile(of1k, 0.5) },
			},
		];
	},
};

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
