/**
 * The driver, in its own process so that its work is not on the daemon's thread. In a closed loop N callers each send
 * their next request when their answer is there; the open loop is driver-open.ts. Speaks raw frames (or raw HTTP/1.1),
 * the same code for floor and engine, so that the client's own cost is the same on both sides of a ratio.
 *
 *     node bench/driver.ts '{"kind":"socket","path":"/tmp/x.sock","callers":100,…}'   → one JSON line on stdout
 */
import { createConnection, type Socket } from "node:net";
import type { Drive, Driven, HttpDrive, SocketDrive } from "./drive.ts";
import { frameLoop, invokeFrame, type Loop } from "./driver-frames.ts";
import { httpLoop, httpRequest } from "./driver-http.ts";
import { openLoop } from "./driver-open.ts";

/** Latencies that are kept: 60 s at 50,000/s. */
const SAMPLES_MAX = 3_000_000;

const drive = JSON.parse(process.argv[2] ?? "{}") as Drive;
const driven = drive.kind === "open" ? await openLoop(drive, connect, fail) : await run(drive);
process.stdout.write(`${JSON.stringify(driven)}\n`);
process.exit(0);

async function run(drive: SocketDrive | HttpDrive): Promise<Driven> {
	const samples = new Float64Array(SAMPLES_MAX);
	let count = 0;
	let measuring = false;
	const startedAt = new Float64Array(drive.callers);
	const perSocket = Math.ceil(drive.callers / drive.sockets);
	const sockets = await Promise.all(Array.from({ length: drive.sockets }, () => connect(drive)));
	let stopping = false;
	let open = drive.callers;
	const { promise: drained, resolve: allAnswered } = Promise.withResolvers<undefined>();

	sockets.forEach((socket, index) => {
		const callers: number[] = [];
		for (let caller = index * perSocket; caller < Math.min((index + 1) * perSocket, drive.callers); caller += 1)
			callers.push(caller);
		const loop = loopOf(drive, callers, (caller) => {
			const now = performance.now();
			if (measuring && count < SAMPLES_MAX) {
				samples[count] = now - (startedAt[caller] ?? now);
				count += 1;
			}
			startedAt[caller] = now;
			if (!stopping) return true;
			open -= 1;
			if (open === 0) allAnswered(undefined);
			return false;
		});
		socket.on("data", (chunk) => {
			const next = loop.data(chunk);
			if (next !== undefined) socket.write(next);
		});
		socket.on("close", () => {
			if (!stopping) fail(new Error("the server closed a connection in the middle of a run"));
		});
		startedAt.fill(performance.now());
		socket.write(loop.start());
	});

	await sleep(drive.warmupMs);
	measuring = true;
	const from = performance.now();
	await sleep(drive.measureMs);
	measuring = false;
	const tookMs = performance.now() - from;
	stopping = true;
	await drained;
	for (const socket of sockets) socket.destroy();
	const sorted = samples.subarray(0, count).sort();
	const at = (part: number): number => sorted[Math.min(count - 1, Math.floor(count * part))] ?? Number.NaN;
	return { perSecond: (count / tookMs) * 1000, p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1), count };
}

function loopOf(
	drive: SocketDrive | HttpDrive,
	callers: readonly number[],
	answered: (caller: number) => boolean,
): Loop {
	if (drive.kind === "socket") return frameLoop(drive.calls.map(invokeFrame), callers, answered);
	const caller = callers[0] ?? 0;
	const call = drive.calls[caller % drive.calls.length];
	if (call === undefined) throw new Error("nothing to send");
	return httpLoop(httpRequest(drive, call), caller, answered);
}

async function connect(drive: Drive): Promise<Socket> {
	const socket = drive.kind === "http" ? createConnection(drive.port, drive.host) : createConnection(drive.path);
	socket.setNoDelay(true);
	socket.on("error", fail);
	await new Promise((resolve) => socket.once("connect", () => resolve(undefined)));
	return socket;
}

function sleep(ms: number): Promise<unknown> {
	return new Promise((resolve) => setTimeout(resolve, ms, undefined));
}

function fail(error: Error): void {
	process.stderr.write(`driver: ${error.message}\n`);
	process.exit(1);
}
