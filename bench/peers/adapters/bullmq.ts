/**
 * BullMQ on a Redis of this run's own, by a unix socket. Append-only file, as
 * https://docs.bullmq.io/guide/going-to-production asks for; the two settings are how often it is synced. Concurrency
 * as https://docs.bullmq.io/guide/workers/concurrency says for handlers that wait; the result by
 * waitUntilFinished with QueueEvents, https://docs.bullmq.io/guide/returning-job-data.
 */
import { Queue, QueueEvents, Worker } from "bullmq";
import {
	ANSWER_MS_MAX,
	answerTo,
	chunksOf,
	drained,
	RECORDED_MAX,
	type Answer,
	type AdapterContext,
	type Payload,
	type Running,
	type WorkerContext,
} from "../contract.ts";
import { redisSocket, startRedis } from "../servers.ts";

const LIVE = "live";
const CONCURRENCY = 128;
const BATCH = 1000;

export async function start(context: AdapterContext): Promise<Running> {
	const { folder, setting } = context;
	const redis = await startRedis(folder, setting);
	const connection = { path: redisSocket(folder) };
	const queue = new Queue<Payload, Answer>(LIVE, { connection });
	const events = new QueueEvents(LIVE, { connection });
	// A listener per caller.
	events.setMaxListeners(0);
	await Promise.all([queue.waitUntilReady(), events.waitUntilReady()]);
	const worker = await context.startWorker();
	await worker.work(LIVE);
	let backlog: Queue<Payload, Answer> | undefined;
	let [filled, backlogs] = [0, 0];
	const current = (): Queue<Payload, Answer> => {
		if (backlog === undefined) throw new Error("nothing was filled");
		return backlog;
	};
	return {
		async submit(payload) {
			const job = await queue.add("answer", payload);
			return job.waitUntilFinished(events, ANSWER_MS_MAX);
		},
		async fill(count) {
			await backlog?.close();
			backlogs += 1;
			filled = count;
			backlog = new Queue<Payload, Answer>(`backlog-${backlogs}`, { connection });
			for (const payloads of chunksOf(count, BATCH)) {
				await backlog.addBulk(payloads.map((data) => ({ name: "answer", data })));
			}
		},
		async drain() {
			await worker.work(current().name);
			await drained(async () => (await current().getCompletedCount()) === filled);
		},
		async recorded() {
			const jobs = await current().getCompleted(0, RECORDED_MAX - 1);
			return jobs.map((job) => ({ payload: job.data, answer: job.returnvalue }));
		},
		async close() {
			await worker.end();
			await Promise.all([events.close(), queue.close(), backlog?.close()]);
			await redis.end();
		},
	};
}

export async function work({ folder }: WorkerContext, queue: string): Promise<void> {
	const worker = new Worker<Payload, Answer>(queue, (job) => Promise.resolve(answerTo(job.data)), {
		// Blocking connections must not give up: https://docs.bullmq.io/guide/going-to-production
		connection: { path: redisSocket(folder), maxRetriesPerRequest: null },
		concurrency: CONCURRENCY,
	});
	await worker.waitUntilReady();
}
