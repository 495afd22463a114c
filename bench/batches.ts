/** Enqueue by batches of 1,000 over one socket, two in flight, raw frames; the same for floor and engine. */
import { once } from "node:events";
import { createConnection } from "node:net";
import { frame } from "./driver-frames.ts";

const CALL = 0x21;
const BATCH = 1000;
const IN_FLIGHT = 2;
const PREFIX_BYTES = 17;

/** Sends until `done` says so (asked before each batch). Returns how many were accepted and how long it took. */
export async function enqueueBatches(
	socketPath: string,
	functions: readonly string[],
	done: (sent: number) => boolean,
): Promise<{ readonly accepted: number; readonly tookMs: number }> {
	const socket = createConnection(socketPath);
	await once(socket, "connect");
	const frames = functions.map((name) => frame(CALL, batchJson(name)));
	const { promise, resolve, reject } = Promise.withResolvers<undefined>();
	let rest: Buffer | undefined;
	let [sent, accepted, open] = [0, 0, 0];
	const send = (): void => {
		while (open < IN_FLIGHT && !done(sent)) {
			socket.write(frames[(sent / BATCH) % frames.length] ?? Buffer.alloc(0));
			sent += BATCH;
			open += 1;
		}
		if (open === 0) resolve(undefined);
	};
	socket.on("error", reject);
	socket.on("data", (chunk: Buffer) => {
		let bytes = rest === undefined ? chunk : Buffer.concat([rest, chunk]);
		while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32LE(0)) {
			const end = 4 + bytes.readUInt32LE(0);
			const answer = bytes.toString("utf8", PREFIX_BYTES, end);
			const count = answer.split('"invocation_id":').length - 1;
			if (bytes.readUInt8(12) !== 0 || count !== BATCH) {
				reject(new Error(`a batch was not accepted: ${answer.slice(0, 500)}`));
				return;
			}
			accepted += count;
			open -= 1;
			bytes = bytes.subarray(end);
		}
		rest = bytes.length === 0 ? undefined : bytes;
		send();
	});
	const from = performance.now();
	send();
	try {
		await promise;
		return { accepted, tookMs: performance.now() - from };
	} finally {
		socket.destroy();
	}
}

function batchJson(name: string): string {
	const request = {
		function_id: name,
		method: "POST",
		path: "/",
		headers: { "content-type": "application/octet-stream" },
		query: {},
		body: Buffer.alloc(64, "x").toString("base64"),
	};
	return JSON.stringify({
		op: "invocations.enqueue_batch",
		params: { requests: Array.from({ length: BATCH }, () => request) },
	});
}
