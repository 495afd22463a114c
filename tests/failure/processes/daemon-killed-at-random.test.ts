/** kill -9 of the daemon at any moment, under eight clients, again and again. */
import { fault } from "../fault.ts";
import { schedule } from "../harness/nemesis.ts";
import { standardPlans } from "../harness/plans.ts";
import { faultRun } from "../harness/run.ts";

fault(
	"A1",
	"kill -9 of the daemon at random moments: nothing acknowledged is lost, nothing is there twice",
	async (f) => {
		const count = f.runs(6, 200);
		const steps = schedule(f.seed, { count, minMs: 50, maxMs: 2_000, kinds: ["kill daemon"] });
		const { bootsMs } = await faultRun(f, { title: "A1", plans: standardPlans(), steps });
		const slowest = Math.max(...bootsMs);
		if (slowest > 3_000) throw new Error(`a start took ${Math.round(slowest)} ms, promised are 3 s`);
	},
);
