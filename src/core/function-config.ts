/**
 * What may be configured about a function, and how four sources become one frozen answer:
 * override on the Function > the active version's exported `config` > daemon default > built-in,
 * key by key, nested keys included.
 */
import { z } from "zod";
import { EngineError } from "./errors.ts";
import { LIMITS } from "./limits.ts";

export const DELIVERY = ["at-least-once", "at-most-once"] as const;
export const MISFIRE = ["once", "skip", "all"] as const;
export const OVERLAP = ["allow", "skip", "queue"] as const;
export type Delivery = (typeof DELIVERY)[number];
export type Misfire = (typeof MISFIRE)[number];
export type Overlap = (typeof OVERLAP)[number];

const DAY_MS = 86_400_000;
const milliseconds = (min: number, max: number) => z.int().min(min).max(max);

export const scheduleConfigSchema = z.strictObject({
	/** Default: the expression and the zone. Keeps the schedule's identity when its expression changes. */
	name: z.string().optional(),
	cron: z.string(),
	timezone: z.string().optional(),
	misfire: z.enum(MISFIRE).optional(),
	overlap: z.enum(OVERLAP).optional(),
	/** Becomes the request's JSON body. */
	data: z.json().optional(),
});
export type ScheduleConfig = z.infer<typeof scheduleConfigSchema>;

const retrySchema = z.strictObject({
	maxAttempts: z.int().min(1).max(LIMITS.maxAttemptsMax).optional(),
	baseMs: milliseconds(0, DAY_MS).optional(),
	capMs: milliseconds(0, 30 * DAY_MS).optional(),
	jitter: z.boolean().optional(),
	/** Response statuses that count as a failed attempt while attempts remain. */
	retryOn: z.array(z.int().min(100).max(599)).max(100).optional(),
});

/** Limits of one function; the same keys in a module's `config`, in overrides and as daemon defaults. */
export const functionLimitsSchema = z.strictObject({
	/** One attempt. */
	timeoutMs: milliseconds(1, 7 * DAY_MS).optional(),
	/** From the abort signal to SIGKILL. */
	graceMs: milliseconds(0, 3_600_000).optional(),
	/** Lane limit: attempts at once over all workers. */
	concurrency: z.int().min(1).max(100_000).optional(),
	/** Attempts at once in one worker. */
	workerConcurrency: z.int().min(1).max(10_000).optional(),
	maxWorkers: z.int().min(1).max(1024).optional(),
	/** Kept alive when idle, and started before they are needed. */
	warmWorkers: z.int().min(0).max(1024).optional(),
	idleTimeoutMs: milliseconds(0, 30 * DAY_MS).optional(),
	/** A worker older than this is replaced; 0 is off. */
	maxAgeMs: milliseconds(0, 365 * DAY_MS).optional(),
	/** A worker that ran this many attempts is replaced; 0 is off. */
	maxInvocations: z.int().min(0).max(1_000_000_000).optional(),
	/** Resident memory of one worker at which it is killed. */
	memoryMb: z.int().min(64).max(1_048_576).optional(),
	delivery: z.enum(DELIVERY).optional(),
	/** Lane depth. */
	maxQueued: z.int().min(1).max(100_000_000).optional(),
	maxBodyBytes: z.int().min(0).max(LIMITS.bodyBytesMax).optional(),
	retry: retrySchema.optional(),
});
export type FunctionLimits = z.infer<typeof functionLimitsSchema>;

/** What a module may export as `config`: the limits, and its triggers. */
export const functionConfigSchema = functionLimitsSchema.extend({
	schedules: z.array(scheduleConfigSchema).max(100).optional(),
	events: z.array(z.string()).max(100).optional(),
});
export type FunctionConfig = z.infer<typeof functionConfigSchema>;

/** Complete and frozen: no optionals left. */
export interface ResolvedConfig {
	readonly timeoutMs: number;
	readonly graceMs: number;
	readonly concurrency: number;
	readonly workerConcurrency: number;
	readonly maxWorkers: number;
	readonly warmWorkers: number;
	readonly idleTimeoutMs: number;
	readonly maxAgeMs: number;
	readonly maxInvocations: number;
	readonly memoryMb: number;
	readonly delivery: Delivery;
	readonly maxQueued: number;
	readonly maxBodyBytes: number;
	readonly retry: {
		readonly maxAttempts: number;
		readonly baseMs: number;
		readonly capMs: number;
		readonly jitter: boolean;
		readonly retryOn: readonly number[];
	};
}

export const BUILT_IN: ResolvedConfig = Object.freeze({
	timeoutMs: 30_000,
	graceMs: 1_000,
	concurrency: 100,
	workerConcurrency: 32,
	maxWorkers: 4,
	warmWorkers: 0,
	idleTimeoutMs: 300_000,
	maxAgeMs: 0,
	maxInvocations: 0,
	memoryMb: 256,
	delivery: "at-least-once",
	maxQueued: 1_000_000,
	maxBodyBytes: 6 * 1024 * 1024,
	retry: Object.freeze({ maxAttempts: 3, baseMs: 1_000, capMs: 300_000, jitter: true, retryOn: Object.freeze([]) }),
});

/** Problems of one value that are told, and characters of each: what was sent is not sent back whole. */
const PROBLEMS_MAX = 20;
const PROBLEM_CHARS_MAX = 200;

/** All problems of a value at once, as sentences: `config.timeoutMs: expected …`. */
export function describeProblems(where: string, error: z.ZodError): string {
	const told = error.issues.slice(0, PROBLEMS_MAX).map((issue) => {
		const place = [where, ...issue.path.map(String)].join(".");
		return `${clipped(place)}: ${clipped(issue.message)}`;
	});
	const more = error.issues.length - told.length;
	return `${told.join("; ")}${more > 0 ? `; and ${more} more` : ""}`;
}

function clipped(text: string): string {
	return text.length > PROBLEM_CHARS_MAX ? `${text.slice(0, PROBLEM_CHARS_MAX)}…` : text;
}

export function parseFunctionConfig(where: string, value: unknown): FunctionConfig {
	const parsed = functionConfigSchema.safeParse(value);
	if (!parsed.success) throw new EngineError("BAD_CONFIG", describeProblems(where, parsed.error));
	return parsed.data;
}

export function parseFunctionLimits(where: string, value: unknown): FunctionLimits {
	const parsed = functionLimitsSchema.safeParse(value);
	if (!parsed.success) throw new EngineError("BAD_CONFIG", describeProblems(where, parsed.error));
	return parsed.data;
}

/**
 * First of `layers` that names a key wins. At-most-once lowers the default of `maxAttempts` and forces
 * `workerConcurrency` to 1; asking for more attempts beside it is refused.
 */
export function resolveConfig(layers: readonly FunctionLimits[]): ResolvedConfig {
	const pick = <K extends Exclude<keyof FunctionLimits, "retry">>(key: K): ResolvedConfig[K] => {
		for (const layer of layers) if (layer[key] !== undefined) return layer[key] as ResolvedConfig[K];
		return BUILT_IN[key];
	};
	const asked = <K extends keyof ResolvedConfig["retry"]>(key: K): ResolvedConfig["retry"][K] | undefined => {
		for (const layer of layers) {
			const value = layer.retry?.[key];
			if (value !== undefined) return value as ResolvedConfig["retry"][K];
		}
		return undefined;
	};
	const delivery = pick("delivery");
	const atMostOnce = delivery === "at-most-once";
	const attemptsAsked = asked("maxAttempts");
	if (atMostOnce && attemptsAsked !== undefined && attemptsAsked > 1) {
		throw new EngineError(
			"BAD_CONFIG",
			`retry.maxAttempts ${attemptsAsked} contradicts delivery "at-most-once"; remove one of the two`,
		);
	}
	return Object.freeze({
		timeoutMs: pick("timeoutMs"),
		graceMs: pick("graceMs"),
		concurrency: pick("concurrency"),
		workerConcurrency: atMostOnce ? 1 : pick("workerConcurrency"),
		maxWorkers: pick("maxWorkers"),
		warmWorkers: Math.min(pick("warmWorkers"), pick("maxWorkers")),
		idleTimeoutMs: pick("idleTimeoutMs"),
		maxAgeMs: pick("maxAgeMs"),
		maxInvocations: pick("maxInvocations"),
		memoryMb: pick("memoryMb"),
		delivery,
		maxQueued: pick("maxQueued"),
		maxBodyBytes: pick("maxBodyBytes"),
		retry: Object.freeze({
			maxAttempts: atMostOnce ? 1 : (attemptsAsked ?? BUILT_IN.retry.maxAttempts),
			baseMs: asked("baseMs") ?? BUILT_IN.retry.baseMs,
			capMs: asked("capMs") ?? BUILT_IN.retry.capMs,
			jitter: asked("jitter") ?? BUILT_IN.retry.jitter,
			retryOn: Object.freeze([...(asked("retryOn") ?? [])]),
		}),
	});
}
