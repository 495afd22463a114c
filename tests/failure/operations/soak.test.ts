/** A soak under all faults; `npm run test:soak` for two hours of it, SOAK_MINUTES=… for as many minutes. */
import assert from "node:assert/strict";
import { fault } from "../fault.ts";
import { schedule, unleash } from "../harness/nemesis.ts";
import { standardPlans } from "../harness/plans.ts";
import { faultRun, type Scene } from "../harness/run.ts";
import { openDescriptors, residentMb } from "./rig.ts";

/** One round's history stays in memory until it is judged. */
const ROUND_MINUTES_MAX = 4;

fault(
	"G2",
	"hours of work under all faults end as promised, and the daemon does not grow",
	{ timeout: 86_400_000 },
	async (f) => {
		const minutes = Number(process.env["SOAK_MINUTES"] ?? (f.long ? 3 : 0.1));
		const rounds = Math.ceil(minutes / ROUND_MINUTES_MAX);
		const ms = (minutes / rounds) * 60_000;
		const grown: string[] = [];
		for (let round = 0; round < rounds; round += 1) {
			const seed = f.seed + round;
			await faultRun(
				{ seed, context: f.context, record: (figure) => rounds === 1 && f.record(figure) },
				{ title: `G2, round ${round}`, plans: standardPlans(), steps: (scene) => soak(scene, seed, ms) },
			);
			f.ran(1);
		}
		f.record(`${minutes} minutes; ${grown.slice(-1).join("")}`);

		/** A third under everything; then the same daemon under what it must survive, looked at in the middle and at the end. */
		async function soak({ subject, history }: Scene, seed: number, roundMs: number): Promise<void> {
			const pace = { minMs: 300, maxMs: 3_000 };
			const count = Math.max(2, Math.round(roundMs / 3 / 1_500));
			const everything = [
				"kill daemon",
				"stop daemon",
				"freeze daemon",
				"kill worker",
				"kill worker",
				"freeze worker",
			] as const;
			await unleash(schedule(seed, { count, ...pace, kinds: everything }), subject, history, f.context.signal);
			const survived = { count, ...pace, kinds: ["kill worker", "freeze worker", "freeze daemon"] as const };
			await unleash(schedule(seed + 1, survived), subject, history, f.context.signal);
			const { pid } = subject.daemon;
			const [fds, mb] = [openDescriptors(pid), residentMb(pid)];
			await unleash(schedule(seed + 2, survived), subject, history, f.context.signal);
			const [fdsAfter, mbAfter] = [openDescriptors(pid), residentMb(pid)];
			grown.push(`descriptors ${fds} to ${fdsAfter}, resident ${Math.round(mb)} to ${Math.round(mbAfter)} MB`);
			// Eight clients and a few workers more or less; a leak of one for each call would be thousands.
			assert.ok(fdsAfter <= fds + 40, `descriptors grew from ${fds} to ${fdsAfter}`);
			assert.ok(mbAfter <= mb * 1.5 + 50, `resident memory grew from ${mb} to ${mbAfter} MB`);
		}
	},
);
