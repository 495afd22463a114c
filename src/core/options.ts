/** Options of the engine: one schema for the library, the daemon's flags and its config file. */
import { z } from "zod";
import { EngineError } from "./errors.ts";
import { describeProblems, functionLimitsSchema, type FunctionLimits } from "./function-config.ts";
import { LIMITS } from "./limits.ts";

export const engineOptionsSchema = z.strictObject({
	/** Folder of all data; made if absent. Default ./data. */
	dataDir: z.string().min(1).optional(),
	/** `power`: acknowledged work survives a power cut (synced before it is told). `process`: it survives kill -9 only. */
	durability: z.enum(["power", "process"]).optional(),
	/** Goes on without acknowledged work that a database has lost (DATA_ROLLED_BACK). For one start. */
	acceptRollback: z.boolean().optional(),
	/** With less free space on the disk new work is refused. Default: 1 % of it, from 64 MiB to 1 GiB. */
	freeBytesMin: z.int().min(0).optional(),
	maxWorkersTotal: z.int().min(1).max(4096).optional(),
	/** Worker processes kept ready for whichever function needs one next. */
	spareWorkers: z.int().min(0).max(16).optional(),
	resultRetentionMs: z.int().min(1000).optional(),
	logRetentionMs: z.int().min(1000).optional(),
	/** How long a stop waits for running attempts. */
	drainMs: z.int().min(0).optional(),
	/** Limits for every function that says nothing else. */
	defaults: functionLimitsSchema.optional(),
	/** The Bun executable; default: the `bun` package beside ours, then PATH. */
	bunPath: z.string().min(1).optional(),
});
export type EngineOptions = z.infer<typeof engineOptionsSchema>;

export interface ResolvedOptions {
	readonly dataDir: string;
	readonly durability: "power" | "process";
	readonly acceptRollback: boolean;
	readonly freeBytesMin: number | undefined;
	readonly maxWorkersTotal: number;
	readonly spareWorkers: number;
	readonly resultRetentionMs: number;
	readonly logRetentionMs: number;
	readonly drainMs: number;
	readonly defaults: FunctionLimits;
	readonly bunPath: string | undefined;
}

/** Complete and frozen; all problems are reported together. */
export function resolveOptions(options: unknown): ResolvedOptions {
	const parsed = engineOptionsSchema.safeParse(options);
	if (!parsed.success) throw new EngineError("BAD_CONFIG", describeProblems("options", parsed.error));
	const given = parsed.data;
	return Object.freeze({
		dataDir: given.dataDir ?? "./data",
		durability: given.durability ?? "power",
		acceptRollback: given.acceptRollback ?? false,
		freeBytesMin: given.freeBytesMin,
		maxWorkersTotal: given.maxWorkersTotal ?? LIMITS.workersTotalDefault,
		spareWorkers: given.spareWorkers ?? LIMITS.spareWorkersDefault,
		resultRetentionMs: given.resultRetentionMs ?? LIMITS.resultRetentionMs,
		logRetentionMs: given.logRetentionMs ?? LIMITS.logRetentionMs,
		drainMs: given.drainMs ?? LIMITS.drainMs,
		defaults: Object.freeze(given.defaults ?? {}),
		bunPath: given.bunPath,
	});
}
