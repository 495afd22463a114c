/**
 * graphile-worker on a PostgreSQL of this run's own, with the settings of the figures that its documentation gives:
 * 24 jobs at a time, a local queue of 500, completions in batches (https://worker.graphile.org/docs/performance). It
 * deletes a job that has succeeded and keeps no result, so the handler writes one to a table and notifies in the same
 * statement; the submitter listens. The answer is thus known one commit before the job is gone, in its favour.
 */
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import { Client, Pool } from "pg";
import {
	answerTo,
	chunksOf,
	drained,
	RECORDED_MAX,
	type AdapterContext,
	type Payload,
	type Recorded,
	type Running,
	type WorkerContext,
} from "../contract.ts";
import { postgresConnection, startPostgres } from "../servers.ts";

const LIVE = "live";
const BATCH = 1000;

interface Task {
	readonly key: string;
	readonly payload: Payload;
}

const logger = new Logger(() => (level, message) => {
	if (level === "error") console.error(message);
});

export async function start(context: AdapterContext): Promise<Running> {
	const { folder } = context;
	const postgres = await startPostgres(folder);
	const pool = new Pool({ ...postgresConnection(folder), max: 10 });
	const utils = await makeWorkerUtils({ pgPool: pool, logger });
	await utils.migrate();
	await pool.query("CREATE TABLE results (key text PRIMARY KEY, queue text, payload json, answer json)");
	const waiting = new Map<string, (answer: unknown) => void>();
	const listener = new Client(postgresConnection(folder));
	await listener.connect();
	listener.on("notification", ({ payload }) => {
		const { key, answer } = JSON.parse(payload ?? "{}") as { key: string; answer: unknown };
		waiting.get(key)?.(answer);
		waiting.delete(key);
	});
	await listener.query("LISTEN results");
	const worker = await context.startWorker();
	await worker.work(LIVE);
	let [filled, backlogs, keys] = [0, 0, 0];
	const taskOf = (payload: Payload): Task => {
		keys += 1;
		return { key: String(keys), payload };
	};
	return {
		async submit(payload) {
			const { promise, resolve } = Promise.withResolvers<unknown>();
			const task = taskOf(payload);
			waiting.set(task.key, resolve);
			await utils.addJob(LIVE, task);
			return promise;
		},
		async fill(count) {
			backlogs += 1;
			filled = count;
			for (const payloads of chunksOf(count, BATCH)) {
				await utils.addJobs(
					payloads.map((payload) => ({ identifier: `backlog-${backlogs}`, payload: taskOf(payload) })),
				);
			}
		},
		async drain() {
			const queue = `backlog-${backlogs}`;
			await worker.work(queue);
			await drained(async () => {
				const { rows } = await pool.query<{ done: number; left: number }>(
					`SELECT (SELECT count(*) FROM results WHERE queue = $1)::int AS done,
							(SELECT count(*) FROM graphile_worker.jobs WHERE task_identifier = $1)::int AS left`,
					[queue],
				);
				return rows[0]?.done === filled && rows[0].left === 0;
			}, 20);
		},
		async recorded() {
			const { rows } = await pool.query<Recorded>("SELECT payload, answer FROM results WHERE queue = $1 LIMIT $2", [
				`backlog-${backlogs}`,
				RECORDED_MAX,
			]);
			return rows;
		},
		async close() {
			await worker.end();
			await utils.release();
			await listener.end();
			await pool.end();
			await postgres.end();
		},
	};
}

export async function work({ folder }: WorkerContext, queue: string): Promise<void> {
	await run({
		pgPool: new Pool({ ...postgresConnection(folder), max: 25 }),
		logger,
		noHandleSignals: true,
		preset: {
			worker: { concurrentJobs: 24, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 },
		},
		taskList: {
			[queue]: async (task, helpers) => {
				const { key, payload } = task as Task;
				const answer = answerTo(payload);
				await helpers.query(
					`WITH made AS (INSERT INTO results (key, queue, payload, answer) VALUES ($1, $2, $3, $4))
						SELECT pg_notify('results', $5)`,
					[
						key,
						queue,
						JSON.stringify(payload),
						JSON.stringify(answer),
						queue === LIVE ? JSON.stringify({ key, answer }) : "{}",
					],
				);
			},
		},
	});
}
