/**
 * bunqueue as a server with a SQLite file, https://bunqueue.dev/guide/server/, by a loopback port: 2.9.5 knows a
 * `socketPath` and TCP_SOCKET_PATH, and its client connects to a port all the same. Submitter and worker in Bun, as the
 * client library needs. `durable: true` skips its write buffer; the pragma is synchronous=NORMAL all the
 * same (https://bunqueue.dev/architecture/persistence), so it is written and not synced. Workers ask by long poll
 * (`pollTimeout: 5000`), which its own comparison uses for latencies: https://bunqueue.dev/guide/bullmq-benchmark/.
 */
import { Queue, Worker } from "bunqueue/client";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer, type AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import {
	ANSWER_MS_MAX,
	answerTo,
	chunksOf,
	drained,
	RECORDED_MAX,
	type AdapterContext,
	type Payload,
	type Running,
	type WorkerContext,
} from "../contract.ts";
import { startServer } from "../servers.ts";

const HOST = "127.0.0.1";
const LIVE = "live";
const CONCURRENCY = 128;
const BATCH = 1000;

/** Where the port stands, for the worker process. */
const PORT_FILE = "port";

function connectionOf(folder: string): { host: string; port: number; commandTimeout: number } {
	const port = Number(readFileSync(join(folder, PORT_FILE), "utf8"));
	return { host: HOST, port, commandTimeout: ANSWER_MS_MAX };
}

/** The server takes no port 0. */
async function freePort(): Promise<number> {
	const server = createServer().listen(0, HOST);
	await once(server, "listening");
	const { port } = server.address() as AddressInfo;
	server.close();
	await once(server, "close");
	return port;
}

export async function start(context: AdapterContext): Promise<Running> {
	const { folder, bunPath } = context;
	const root = dirname(dirname(createRequire(import.meta.url).resolve("bunqueue")));
	const port = await freePort();
	writeFileSync(join(folder, PORT_FILE), String(port));
	const server = await startServer(
		bunPath,
		[
			join(root, "dist/cli/index.js"),
			"start",
			`--host=${HOST}`,
			`--tcp-port=${port}`,
			`--data-path=${join(folder, "queue.db")}`,
		],
		/Storage/,
		{ env: { HTTP_SOCKET_PATH: join(folder, "http.sock") } },
	);
	const connection = connectionOf(folder);
	const open = (name: string): Queue<Payload> =>
		new Queue<Payload>(name, { connection, defaultJobOptions: { durable: true } });
	const queue = open(LIVE);
	const worker = await context.startWorker();
	await worker.work(LIVE);
	let backlog: Queue<Payload> | undefined;
	let [filled, backlogs] = [0, 0];
	const current = (): Queue<Payload> => {
		if (backlog === undefined) throw new Error("nothing was filled");
		return backlog;
	};
	return {
		async submit(payload) {
			const job = await queue.add("answer", payload, { durable: true });
			return job.waitUntilFinished(undefined, ANSWER_MS_MAX);
		},
		async fill(count) {
			backlog?.close();
			backlogs += 1;
			filled = count;
			backlog = open(`backlog-${backlogs}`);
			for (const payloads of chunksOf(count, BATCH)) {
				await backlog.addBulk(payloads.map((data) => ({ name: "answer", data, opts: { durable: true } })));
			}
		},
		async drain() {
			await worker.work(current().name);
			await drained(async () => (await current().getCompletedCount()) === filled);
		},
		async recorded() {
			const jobs = await current().getCompletedAsync(0, RECORDED_MAX);
			return jobs.map((job: { data: Payload; returnvalue?: unknown }) => ({
				payload: job.data,
				answer: job.returnvalue,
			}));
		},
		async close() {
			await worker.end();
			queue.close();
			backlog?.close();
			await server.end();
		},
	};
}

export async function work({ folder }: WorkerContext, queue: string): Promise<void> {
	const worker = new Worker<Payload>(queue, (job: { data: Payload }) => Promise.resolve(answerTo(job.data)), {
		connection: connectionOf(folder),
		concurrency: CONCURRENCY,
		batchSize: CONCURRENCY,
		pollTimeout: 5000,
	});
	await worker.waitUntilReady();
}
