/**
 * pg-boss on a PostgreSQL of this run's own. Workers are woken by NOTIFY (`useListenNotify`, the queue's `notify`:
 * https://pgboss.io/api/constructor, https://pgboss.io/api/queues), take 500 jobs at a time and settle each
 * (`batchSize`, `perJobResults`, `burstWhenBatchFull`: https://pgboss.io/api/workers). It has nothing that waits for a
 * result: the submitter asks for the state of all jobs that it waits for in one query, 2 ms after the answer before.
 */
import { Pool } from "pg";
import { PgBoss } from "pg-boss";
import { setTimeout as delay } from "node:timers/promises";
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
const POLL_MS = 2;
const BATCH = 500;

async function open(folder: string): Promise<PgBoss> {
	const boss = new PgBoss({ ...postgresConnection(folder), max: 10, useListenNotify: true });
	boss.on("error", (error) => console.error(error));
	await boss.start();
	return boss;
}

export async function start(context: AdapterContext): Promise<Running> {
	const { folder } = context;
	const postgres = await startPostgres(folder);
	const boss = await open(folder);
	const pool = new Pool({ ...postgresConnection(folder), max: 2 });
	await boss.createQueue(LIVE, { notify: true });
	const worker = await context.startWorker();
	await worker.work(LIVE);
	const waiting = new Map<string, PromiseWithResolvers<unknown>>();
	const closing = new AbortController();
	const polling = poll();

	async function poll(): Promise<void> {
		while (!closing.signal.aborted) {
			if (waiting.size > 0) {
				const { rows } = await pool.query<{ id: string; state: string; output: unknown }>({
					name: "settled",
					text: `SELECT id, state, output FROM pgboss.job
						WHERE name = $1 AND id = ANY($2) AND state IN ('completed', 'failed', 'cancelled')`,
					values: [LIVE, [...waiting.keys()]],
				});
				for (const { id, state, output } of rows) {
					const waiter = waiting.get(id);
					waiting.delete(id);
					if (state === "completed") waiter?.resolve(output);
					else waiter?.reject(new Error(`${id} is ${state}: ${JSON.stringify(output)}`));
				}
			}
			await delay(POLL_MS);
		}
	}

	let [filled, backlogs] = [0, 0];
	return {
		async submit(payload) {
			const id = await boss.send(LIVE, payload);
			if (id === null) throw new Error("not accepted");
			const waiter = Promise.withResolvers<unknown>();
			waiting.set(id, waiter);
			return waiter.promise;
		},
		async fill(count) {
			backlogs += 1;
			filled = count;
			await boss.createQueue(`backlog-${backlogs}`, { notify: true });
			for (const payloads of chunksOf(count, BATCH)) {
				await boss.insert(
					`backlog-${backlogs}`,
					payloads.map((data) => ({ data })),
				);
			}
		},
		async drain() {
			await worker.work(`backlog-${backlogs}`);
			await drained(async () => {
				const { rows } = await pool.query<{ done: number }>(
					"SELECT count(*)::int AS done FROM pgboss.job WHERE name = $1 AND state = 'completed'",
					[`backlog-${backlogs}`],
				);
				return rows[0]?.done === filled;
			}, 20);
		},
		async recorded() {
			const { rows } = await pool.query<Recorded>(
				"SELECT data AS payload, output AS answer FROM pgboss.job WHERE name = $1 LIMIT $2",
				[`backlog-${backlogs}`, RECORDED_MAX],
			);
			return rows;
		},
		async close() {
			closing.abort();
			await polling;
			await worker.end();
			await boss.stop({ graceful: false });
			await pool.end();
			await postgres.end();
		},
	};
}

let working: Promise<PgBoss> | undefined;

export async function work({ folder }: WorkerContext, queue: string): Promise<void> {
	working ??= open(folder);
	const boss = await working;
	const options = {
		batchSize: BATCH,
		perJobResults: true,
		burstWhenBatchFull: true,
		pollingIntervalSeconds: 0.5,
		notifyPollingIntervalSeconds: 0.5,
	} as const;
	await boss.work<Payload>(queue, options, (jobs) =>
		Promise.resolve(jobs.map((job) => ({ id: job.id, status: "completed" as const, output: answerTo(job.data) }))),
	);
}
