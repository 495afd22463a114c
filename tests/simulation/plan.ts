/** What one world is made of: its functions, their limits, schedules and subscriptions, its start, its retention. */
import type { FunctionConfig, ResolvedConfig } from "../../src/core/function-config.ts";
import { resolveConfig } from "../../src/core/function-config.ts";
import type { Chance } from "./random.ts";

export interface FunctionPlan {
	/** Integer id in metadata.db, as its version's: the lane. */
	readonly id: number;
	readonly functionId: string;
	readonly name: string;
	readonly module: FunctionConfig;
	readonly config: ResolvedConfig;
	/** Lane keys of its requests. */
	readonly keys: readonly string[];
	/** How much of the traffic is for it. */
	readonly weight: number;
}

export interface WorldPlan {
	readonly startAt: number;
	readonly functions: readonly FunctionPlan[];
	readonly eventTypes: readonly string[];
	readonly retentionMs: number;
	readonly drainMs: number;
	readonly maxWorkersTotal: number;
	readonly spareWorkers: number;
}

const DAY = 86_400_000;
/** The day before clocks change somewhere: New York, Berlin, Santiago, Lord Howe, Troll. */
const CHANGES = ["2026-03-07", "2026-03-28", "2026-04-04", "2026-09-05", "2026-10-03", "2026-10-24", "2026-10-31"];
/** Fixed and wildcard hours, in zones that change at 2, at midnight, by half an hour, by two hours. */
const CRONS = [
	["*/15 * * * *", "UTC"],
	["0 * * * *", "Europe/Berlin"],
	["30 2 * * *", "America/New_York"],
	["*/20 1-2 * * *", "Europe/London"],
	["0 0 * * *", "America/Santiago"],
	["45 * * * *", "America/New_York"],
	["30 1 * * *", "Antarctica/Troll"],
	["15 12 * * *", "Australia/Lord_Howe"],
	["10 3 * * 1-5", "Africa/Casablanca"],
	["@hourly", "Asia/Kolkata"],
] as const;

export function planWorld(chance: Chance): WorldPlan {
	const base = chance.oneIn(2)
		? Date.parse(`${chance.pick(CHANGES)}T00:00:00Z`)
		: Date.UTC(2026, 0, 1) + chance.between(0, 700) * DAY;
	const eventTypes = ["order.created", "order.paid"];
	const crons = [...CRONS];
	const schedules = (count: number): NonNullable<FunctionConfig["schedules"]> =>
		Array.from({ length: count }, (_, index) => {
			const [cron, timezone] = crons.splice(chance.between(0, crons.length - 1), 1)[0] ?? CRONS[0];
			return {
				name: `s${index}`,
				cron,
				timezone,
				misfire: chance.pick(["once", "skip", "all"]),
				overlap: chance.pick(["allow", "skip", "queue"]),
			};
		});
	const quick = { timeoutMs: chance.magnitude(400, 5000), graceMs: chance.magnitude(20, 1000) };
	const idle = (): number => chance.magnitude(1_000, 60_000);
	const drafts: readonly (FunctionConfig & { keys?: readonly string[]; weight: number })[] = [
		{
			...quick,
			weight: 3,
			concurrency: 1,
			workerConcurrency: 1,
			idleTimeoutMs: idle(),
			retry: { maxAttempts: 3, baseMs: 1000, capMs: 60_000 },
		},
		{
			...quick,
			weight: 6,
			concurrency: chance.between(3, 12),
			workerConcurrency: chance.between(2, 5),
			maxWorkers: chance.between(1, 3),
			idleTimeoutMs: idle(),
			warmWorkers: chance.between(0, 1),
			retry: { maxAttempts: 5, baseMs: chance.magnitude(10, 2000), capMs: 20_000, retryOn: [503] },
		},
		{ ...quick, weight: 3, concurrency: chance.between(1, 3), delivery: "at-most-once", idleTimeoutMs: idle() },
		{
			...quick,
			weight: 4,
			concurrency: chance.between(2, 4),
			workerConcurrency: 8,
			maxWorkers: 1,
			idleTimeoutMs: idle(),
			maxInvocations: chance.pick([0, 7]),
			keys: ["", "red", "green", "blue"],
			retry: { maxAttempts: 4, baseMs: 0, jitter: false },
		},
		{
			...quick,
			weight: 2,
			concurrency: chance.between(1, 2),
			maxQueued: chance.between(3, 8),
			idleTimeoutMs: idle(),
			maxAgeMs: chance.pick([0, 10_000]),
			events: eventTypes.slice(0, 1),
			retry: { maxAttempts: 2, baseMs: 30_000, jitter: true },
		},
		{
			...quick,
			weight: 1,
			concurrency: 2,
			workerConcurrency: 2,
			events: eventTypes,
			idleTimeoutMs: idle(),
			schedules: schedules(2),
		},
		{
			...quick,
			weight: 1,
			concurrency: 1,
			delivery: "at-most-once",
			idleTimeoutMs: idle(),
			events: eventTypes.slice(1),
			schedules: schedules(2),
		},
	];
	const functions = drafts.map(({ keys = [""], weight, ...module }, index): FunctionPlan => ({
		id: index + 1,
		functionId: `fn_sim${index}`,
		name: `f${index}`,
		module,
		config: resolveConfig([{}, module, {}]),
		keys,
		weight,
	}));
	return {
		startAt: base + chance.between(0, DAY - 1),
		functions,
		eventTypes,
		retentionMs: chance.pick([3_600_000, 12 * 3_600_000, DAY, 2 * DAY]),
		drainMs: chance.pick([0, 500, 5_000]),
		maxWorkersTotal: chance.between(4, 12),
		spareWorkers: chance.between(0, 2),
	};
}
