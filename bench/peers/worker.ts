/** Runs handlers of one adapter, apart from the submitter: `node bench/peers/worker.ts '{"adapter":"bullmq",…}'`. */
import type { Adapter, WorkerContext } from "./contract.ts";
import { serve } from "./child.ts";

const plan = JSON.parse(process.argv[2] ?? "{}") as { readonly adapter: string; readonly context: WorkerContext };
// By a path that types do not follow: the packages of the peers need not be installed for the project's own checks.
const adapter = (await import(`./adapters/${plan.adapter}.ts`)) as Adapter;

serve(
	{
		work: async ({ queue }: { readonly queue: string }) => {
			if (adapter.work === undefined) throw new Error(`${plan.adapter} has no worker processes`);
			await adapter.work(plan.context, queue);
		},
	},
	// Killed work is a backlog that nobody looks at any more.
	() => Promise.resolve(),
);
