/**
 * The floor: the barest program that does the same work as the engine, and imports nothing of it. Its figures are
 * what the machine gives; the engine is judged by its ratio to them.
 *
 * A unix-socket server speaking INVOKE (0x01, base64 JSON) and a bare batch enqueue (0x21); SQLite in WAL mode with
 * synchronous=FULL; one Bun worker that echoes bytes on file descriptor 3.
 *
 *   - One INSERT at acceptance with the request, one UPDATE at the result. Everything of one turn of the event loop
 *     shares one commit (setImmediate); the work is sent after the first commit, the answer after the second.
 *   - One write per turn and socket.
 *
 * It has no functions, lanes, limits, timeouts, fence, retries, HTTP or logs: that is the difference being measured.
 */
import { spawn } from "node:child_process";
import { createServer, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { join } from "node:path";
import Database from "better-sqlite3";

const INVOKE = 0x01;
const CALL = 0x21;
const PREFIX_BYTES = 17;

const [, , databasePath = "", socketPath = "", bunPath = "bun"] = process.argv;

const db = new Database(databasePath);
db.pragma("journal_mode = WAL");
// After WAL, because better-sqlite3 is compiled to drop to NORMAL when a database is opened in that mode.
db.pragma("synchronous = FULL");
db.exec(`CREATE TABLE IF NOT EXISTS invocation (seq INTEGER PRIMARY KEY, state INTEGER NOT NULL, created_at INTEGER NOT NULL,
	method TEXT NOT NULL, path TEXT NOT NULL, headers TEXT NOT NULL, body BLOB, status INTEGER, result_headers TEXT,
	result_body BLOB, finished_at INTEGER) STRICT`);
if (db.pragma("synchronous", { simple: true }) !== 2) throw new Error("the floor needs synchronous=FULL");

const begin = db.prepare("BEGIN IMMEDIATE");
const commit = db.prepare("COMMIT");
const insert = db.prepare(
	"INSERT INTO invocation (seq, state, created_at, method, path, headers, body) VALUES (?, ?, ?, ?, ?, ?, ?)",
);
const finish = db.prepare(
	"UPDATE invocation SET state = 2, status = 200, result_headers = ?, result_body = ?, finished_at = ? WHERE seq = ? AND state = 1",
);

interface Request {
	readonly method: string;
	readonly path: string;
	readonly headers: Record<string, string>;
	readonly body: string;
}

interface Client {
	readonly socket: Socket;
	out: Buffer[];
}

interface Job {
	readonly seq: number;
	readonly client: Client;
	/** The eight bytes of the request id. */
	readonly id: Buffer;
	readonly request: Request;
	readonly body: Buffer;
	readonly startedAt: number;
}

interface BatchJob {
	readonly client: Client;
	readonly id: Buffer;
	readonly requests: readonly Request[];
}

let nextSeq = 1;
let accepts: Job[] = [];
let batches: BatchJob[] = [];
let results: { job: Job; body: Buffer }[] = [];
const running = new Map<number, Job>();
let scheduled = false;

function schedule(): void {
	if (scheduled) return;
	scheduled = true;
	setImmediate(flush);
}

/** One transaction for what this turn gathered; then the answers and the work, one write per socket. */
function flush(): void {
	scheduled = false;
	const [ended, accepted, enqueued] = [results, accepts, batches];
	results = [];
	accepts = [];
	batches = [];
	const now = Date.now();
	const written: number[] = [];
	begin.run();
	for (const { job, body } of ended) finish.run("{}", body, now, job.seq);
	for (const { seq, request, body } of accepted)
		insert.run(seq, 1, now, request.method, request.path, JSON.stringify(request.headers), body);
	for (const { requests } of enqueued) {
		for (const { method, path, headers, body } of requests) {
			insert.run(nextSeq, 0, now, method, path, JSON.stringify(headers), Buffer.from(body, "base64"));
			nextSeq += 1;
		}
		written.push(nextSeq);
	}
	commit.run();

	const touched = new Set<Client>();
	for (const { job, body } of ended) {
		answer(job.client, job.id, {
			success: true,
			status: 200,
			headers: {},
			body: body.toString("base64"),
			execution_time_ms: now - job.startedAt,
			execution_id: String(job.seq),
		});
		touched.add(job.client);
	}
	enqueued.forEach(({ client, id, requests }, index) => {
		const last = written[index] ?? 0;
		answer(client, id, {
			results: requests.map((_, at) => ({
				invocation_id: String(last - requests.length + at),
				state: "queued",
				replayed: false,
			})),
		});
		touched.add(client);
	});
	for (const client of touched) {
		const { socket, out } = client;
		client.out = [];
		socket.write(Buffer.concat(out));
	}
	if (accepted.length > 0) channel.write(Buffer.concat(accepted.map(workFrame)));
}

function answer(client: Client, id: Buffer, json: object): void {
	const payload = Buffer.from(JSON.stringify(json));
	const frame = Buffer.allocUnsafe(PREFIX_BYTES + payload.length);
	frame.writeUInt32LE(PREFIX_BYTES - 4 + payload.length, 0);
	id.copy(frame, 4);
	frame.writeUInt8(0, 12);
	frame.writeUInt32LE(payload.length, 13);
	payload.copy(frame, PREFIX_BYTES);
	client.out.push(frame);
}

function workFrame(job: Job): Buffer {
	running.set(job.seq, job);
	const frame = Buffer.allocUnsafe(8 + job.body.length);
	frame.writeUInt32LE(4 + job.body.length, 0);
	frame.writeUInt32LE(job.seq, 4);
	job.body.copy(frame, 8);
	return frame;
}

/** Calls `frame` with each whole frame (its length field included) of a stream of u32-length frames. */
function frames(frame: (bytes: Buffer) => void): (chunk: Buffer) => void {
	let rest: Buffer | undefined;
	return (chunk) => {
		let bytes = rest === undefined ? chunk : Buffer.concat([rest, chunk]);
		while (bytes.length >= 4) {
			const end = 4 + bytes.readUInt32LE(0);
			if (bytes.length < end) break;
			frame(bytes.subarray(0, end));
			bytes = bytes.subarray(end);
		}
		rest = bytes.length === 0 ? undefined : bytes;
	};
}

const worker = spawn(bunPath, ["--no-orphans", join(import.meta.dirname, "worker.ts")], {
	stdio: ["ignore", "inherit", "inherit", "pipe"],
});
const channel = worker.stdio[3] as Duplex;
let ready = false;
channel.on(
	"data",
	frames((bytes) => {
		const seq = bytes.readUInt32LE(4);
		if (seq === 0) {
			ready = true;
			server.listen(socketPath, 4096, () => process.stdout.write("ready\n"));
			return;
		}
		const job = running.get(seq);
		if (job === undefined) throw new Error(`the worker answered ${seq}, which does not run`);
		running.delete(seq);
		results.push({ job, body: bytes.subarray(8) });
		schedule();
	}),
);
worker.on("exit", (code) => {
	if (!ready || !stopping) throw new Error(`the floor's worker ended with ${code}`);
});

const server = createServer((socket) => {
	const client: Client = { socket, out: [] };
	socket.on("error", () => undefined);
	socket.on(
		"data",
		frames((frame) => {
			const id = Buffer.from(frame.subarray(4, 12));
			const command = frame.readUInt8(12);
			const json = JSON.parse(frame.toString("utf8", PREFIX_BYTES)) as Request & { params: { requests: Request[] } };
			if (command === INVOKE) {
				const body = Buffer.from(json.body, "base64");
				accepts.push({ seq: nextSeq, client, id, request: json, body, startedAt: Date.now() });
				nextSeq += 1;
			} else if (command === CALL) {
				batches.push({ client, id, requests: json.params.requests });
			} else {
				throw new Error(`the floor knows no command ${command}`);
			}
			schedule();
		}),
	);
});

let stopping = false;
process.once("SIGTERM", () => {
	stopping = true;
	worker.kill("SIGKILL");
	db.close();
	process.exit(0);
});
