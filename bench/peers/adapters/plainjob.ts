/**
 * plainjob has no server and keeps no results: submitter and workers open one SQLite file, and the handler writes what
 * it answers to a table beside the jobs, before its job is marked as done. One worker process per core and one job at a
 * time in each, as its README says under "Multi-process Workers" (https://github.com/justplainstuff/plainjob). Its
 * workers poll; `pollIntervall` is 1 ms instead of its second, or every figure would be the second.
 */
import Database from "better-sqlite3";
import { better, defineQueue, defineWorker, JobStatus, type Queue } from "plainjob";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import {
	answerTo,
	chunksOf,
	drained,
	RECORDED_MAX,
	type AdapterContext,
	type Payload,
	type Running,
	type WorkerContext,
} from "../contract.ts";

const LIVE = "live";
const POLL_MS = 1;
const BATCH = 1000;

const QUIET = { error: console.error, warn: console.error, info: silent, debug: silent };

function silent(): void {}

function open({ folder, setting }: WorkerContext): { readonly db: Database.Database; readonly queue: Queue } {
	const db = new Database(join(folder, "plainjob.db"));
	const queue = defineQueue({ connection: better(db), logger: QUIET });
	if (setting === "full") db.pragma("synchronous = FULL");
	db.exec(
		"CREATE TABLE IF NOT EXISTS results (seq INTEGER PRIMARY KEY, type TEXT, job INTEGER, data TEXT, answer TEXT)",
	);
	return { db, queue };
}

export async function start(context: AdapterContext): Promise<Running> {
	const { db, queue } = open(context);
	const workers = await Promise.all(Array.from({ length: availableParallelism() }, () => context.startWorker()));
	await Promise.all(workers.map((worker) => worker.work(LIVE)));
	const waiting = new Map<number, (answer: unknown) => void>();
	const newer = db.prepare<[number], { seq: number; job: number; answer: string }>(
		`SELECT seq, job, answer FROM results WHERE seq > ? AND type = '${LIVE}' ORDER BY seq`,
	);
	let seen = 0;
	const poll = setInterval(() => {
		if (waiting.size === 0) return;
		for (const { seq, job, answer } of newer.all(seen)) {
			seen = seq;
			waiting.get(job)?.(JSON.parse(answer));
			waiting.delete(job);
		}
	}, POLL_MS);
	let [filled, backlogs] = [0, 0];
	const recordedCount = db.prepare<[string], number>("SELECT count(*) FROM results WHERE type = ?").pluck();
	return {
		submit(payload) {
			const { promise, resolve } = Promise.withResolvers<unknown>();
			waiting.set(queue.add(LIVE, payload).id, resolve);
			return promise;
		},
		fill(count) {
			backlogs += 1;
			filled = count;
			for (const payloads of chunksOf(count, BATCH)) {
				queue.addMany(`backlog-${backlogs}`, payloads);
			}
			return Promise.resolve();
		},
		async drain() {
			const type = `backlog-${backlogs}`;
			await Promise.all(workers.map((worker) => worker.work(type)));
			await drained(
				() => recordedCount.get(type) === filled && queue.countJobs({ type, status: JobStatus.Done }) === filled,
			);
		},
		recorded() {
			const rows = db
				.prepare<[string, number], { data: string; answer: string }>(
					"SELECT data, answer FROM results WHERE type = ? LIMIT ?",
				)
				.all(`backlog-${backlogs}`, RECORDED_MAX);
			return Promise.resolve(
				rows.map(({ data, answer }) => ({
					payload: JSON.parse(data) as Payload,
					answer: JSON.parse(answer) as unknown,
				})),
			);
		},
		async close() {
			clearInterval(poll);
			await Promise.all(workers.map((worker) => worker.end()));
			queue.close();
		},
	};
}

export function work(context: WorkerContext, type: string): Promise<void> {
	const { db, queue } = open(context);
	const record = db.prepare<[string, number, string, string]>(
		"INSERT INTO results (type, job, data, answer) VALUES (?, ?, ?, ?)",
	);
	const worker = defineWorker(
		type,
		({ id, data }) => {
			record.run(type, id, data, JSON.stringify(answerTo(JSON.parse(data) as Payload)));
		},
		{ queue, pollIntervall: POLL_MS, logger: QUIET },
	);
	void worker.start();
	return Promise.resolve();
}
