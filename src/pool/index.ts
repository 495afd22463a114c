/** The pool's door: warm Bun processes, kept like connections in a database pool, and everything that runs Bun. */
export { findBun, type FindBunOptions } from "./bun-path.ts";
export type {
	AttemptSpec,
	Pool,
	PoolEvents,
	ReadyReport,
	Slot,
	SlotNeed,
	WorkerLogLine,
	WorkerSpec,
} from "./contract.ts";
export { sweepOrphans } from "./orphans.ts";
export { createPool, type PoolDependencies } from "./pool.ts";
export { runBun, type RunOptions, type RunResult } from "./process.ts";
