/**
 * The submitter: one product, in a process of its own, in the runtime that the product asks for. Closed loop, as the
 * project's other driver: N callers, each of which submits again when it has its answer, and checks every answer.
 */
import { join } from "node:path";
import { percentile } from "../context.ts";
import { Child, serve } from "./child.ts";
import { checkAnswer, payloadOf, RECORDED_MAX, type Adapter, type Running, type WorkerContext } from "./contract.ts";

export interface Plan {
	readonly adapter: string;
	readonly context: WorkerContext;
}

export interface Load {
	readonly callers: number;
	readonly warmupMs: number;
	readonly measureMs: number;
}

/** Latencies in milliseconds. */
export interface Loaded {
	readonly perSecond: number;
	readonly p50: number;
	readonly p99: number;
	readonly count: number;
}

export interface Drained {
	readonly perSecond: number;
	readonly tookMs: number;
}

const WORKER = join(import.meta.dirname, "worker.ts");

const plan = JSON.parse(process.argv[2] ?? "{}") as Plan;
let running: Running | undefined;
let submitted = 0;

serve(
	{
		start: async () => {
			const adapter = (await import(`./adapters/${plan.adapter}.ts`)) as Adapter;
			running = await adapter.start({ ...plan.context, startWorker });
		},
		load: (wanted: Load) => load(started(), wanted),
		drain: ({ count }: { readonly count: number }) => drain(started(), count),
	},
	async () => running?.close(),
);

function started(): Running {
	if (running === undefined) throw new Error("not started");
	return running;
}

function startWorker(): Promise<{ work(queue: string): Promise<void>; end(): Promise<void> }> {
	const child = new Child(process.execPath, [WORKER, JSON.stringify(plan)]);
	return Promise.resolve({
		work: (queue: string) => child.ask<void>("work", { queue }),
		end: () => child.end(),
	});
}

/** A slow product is measured for longer, until as many answers are counted as there are callers. */
async function load(product: Running, { callers, warmupMs, measureMs }: Load): Promise<Loaded> {
	const samples: number[] = [];
	const from = performance.now() + warmupMs;
	let endedAt: number | undefined;
	const caller = async (): Promise<void> => {
		while (endedAt === undefined) {
			const payload = payloadOf(submitted);
			submitted += 1;
			const at = performance.now();
			const answer = await product.submit(payload);
			const now = performance.now();
			checkAnswer(payload, answer);
			if (now < from || endedAt !== undefined) continue;
			samples.push(now - at);
			if (now >= from + measureMs && samples.length >= callers) endedAt = now;
		}
	};
	await Promise.all(Array.from({ length: callers }, caller));
	return {
		perSecond: (samples.length / ((endedAt ?? performance.now()) - from)) * 1000,
		p50: percentile(samples, 0.5),
		p99: percentile(samples, 0.99),
		count: samples.length,
	};
}

async function drain(product: Running, count: number): Promise<Drained> {
	await product.fill(count);
	const from = performance.now();
	await product.drain();
	const tookMs = performance.now() - from;
	const records = await product.recorded();
	const seen = new Set(records.map(({ payload }) => payload.n));
	if (seen.size !== Math.min(count, RECORDED_MAX)) throw new Error(`${seen.size} different records of ${count}`);
	for (const { payload, answer } of records) checkAnswer(payload, answer);
	return { perSecond: (count / tookMs) * 1000, tookMs };
}
