/** kill -9 of the daemon at any moment, under eight clients, again and again. */
import { cpus, loadavg } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { fault } from "../fault.ts";
import { schedule } from "../harness/nemesis.ts";
import { standardPlans } from "../harness/plans.ts";
import { faultRun } from "../harness/run.ts";

/** Promised on a machine that is not busy with other things; a busy one is given as much more as it is busy. */
const BOOT_MS_MAX = 3_000;

function checkBoots(bootsMs: readonly number[]): void {
	const busy = Math.max(1, (loadavg()[0] ?? 0) / cpus().length);
	const slowest = Math.max(...bootsMs);
	if (slowest <= BOOT_MS_MAX * busy) return;
	throw new Error(
		`a start took ${Math.round(slowest)} ms, promised are 3 s (the machine is ${busy.toFixed(1)} times busy)`,
	);
}

fault(
	"A1",
	"kill -9 of the daemon at random moments: nothing acknowledged is lost, nothing is there twice",
	{ timeout: 1_500_000 },
	async (f) => {
		const count = f.runs(4, 200);
		const steps = schedule(f.seed, { count, minMs: 50, maxMs: 2_000, kinds: ["kill daemon"] });
		const { bootsMs } = await faultRun(f, { title: "A1", plans: standardPlans(), steps });
		checkBoots(bootsMs);
	},
);

fault(
	"A1",
	"kill -9 of the daemon every second under load for minutes: each acknowledged invocation succeeds exactly once",
	{ longOnly: true, timeout: 1_500_000 },
	async (f) => {
		// From outside: nothing is known of the daemon's inside but its API. What may end otherwise by design is left out:
		// at-most-once, and handlers that throw.
		const plans = standardPlans().filter(({ name }) => !["once", "flaky"].includes(name));
		const kills = f.runs(5, 90);
		const { bootsMs, verdict } = await faultRun(f, {
			title: "A1 from outside",
			plans,
			steps: async ({ subject, history }) => {
				for (let left = kills; left > 0; left -= 1) {
					await sleep(1_000);
					f.context.signal.throwIfAborted();
					history.fault(`kill -9 of the daemon ${subject.daemon.pid}`);
					await subject.daemon.kill();
					await subject.start();
				}
			},
		});
		checkBoots(bootsMs);
		const states = Object.keys(verdict.ends);
		if (states.join() !== "succeeded") throw new Error(`all succeed, got ${JSON.stringify(verdict.ends)}`);
	},
);
