/** INVOKE over raw frames for many callers of one socket. The request id is the caller's number. */
import type { Call } from "./drive.ts";

export interface Loop {
	/** The first requests of all callers. */
	start(): Buffer;
	/** Answers came; returns the callers' next requests as one buffer. */
	data(chunk: Buffer): Buffer | undefined;
}

const PREFIX_BYTES = 17;
const INVOKE = 0x01;
const SUCCESS = Buffer.from('"success":true');

/** One INVOKE frame with request id 0. */
export function invokeFrame({ functionId, bodyBytes }: Call): Buffer {
	return frame(
		INVOKE,
		JSON.stringify({
			function_id: functionId,
			method: "POST",
			path: "/",
			headers: { "content-type": "application/octet-stream" },
			query: {},
			body: Buffer.alloc(bodyBytes, "x").toString("base64"),
		}),
	);
}

export function frame(command: number, json: string, id = 0): Buffer {
	const payload = Buffer.from(json);
	const bytes = Buffer.alloc(PREFIX_BYTES + payload.length);
	bytes.writeUInt32LE(PREFIX_BYTES - 4 + payload.length, 0);
	bytes.writeUInt32LE(id, 4);
	bytes.writeUInt8(command, 12);
	bytes.writeUInt32LE(payload.length, 13);
	payload.copy(bytes, PREFIX_BYTES);
	return bytes;
}

/** `answered` says whether the caller goes on. */
export function frameLoop(
	requests: readonly Buffer[],
	callers: readonly number[],
	answered: (caller: number) => boolean,
): Loop {
	const next = (going: readonly number[]): Buffer => gather(requests, going);
	const answers = answerReader();
	return {
		start: () => next(callers),
		data(chunk) {
			const going = answers(chunk).filter(answered);
			return going.length === 0 ? undefined : next(going);
		},
	};
}

/** The requests of these callers, each with its caller's number as its id. */
export function gather(requests: readonly Buffer[], callers: readonly number[]): Buffer {
	const frames = callers.map((caller) => requests[caller % requests.length] ?? Buffer.alloc(0));
	const out = Buffer.allocUnsafe(frames.reduce((bytes, request) => bytes + request.length, 0));
	let at = 0;
	frames.forEach((request, index) => {
		request.copy(out, at);
		out.writeUInt32LE(callers[index] ?? 0, at + 4);
		at += request.length;
	});
	return out;
}

/** Reads whose answers a chunk completes. Every answer is checked to be a success; anything else ends the run. */
export function answerReader(): (chunk: Buffer) => number[] {
	let held: Buffer[] = [];
	let heldBytes = 0;
	/** Of the frame that is not whole yet; 0 where not even its length is there. */
	let wanted = 0;
	return (chunk) => {
		held.push(chunk);
		heldBytes += chunk.length;
		// A large answer comes in many chunks, which are put together once.
		if (heldBytes < wanted) return [];
		const bytes = held.length === 1 ? chunk : Buffer.concat(held);
		const whose: number[] = [];
		let at = 0;
		wanted = 0;
		while (bytes.length - at >= 4) {
			const end = at + 4 + bytes.readUInt32LE(at);
			if (bytes.length < end) {
				wanted = end - at;
				break;
			}
			const status = bytes.readUInt8(at + 12);
			const success = bytes.indexOf(SUCCESS, at + PREFIX_BYTES);
			if (status !== 0 || success < 0 || success >= end) {
				throw new Error(
					`an invocation did not succeed: ${bytes.toString("utf8", at + PREFIX_BYTES, end).slice(0, 2000)}`,
				);
			}
			whose.push(bytes.readUInt32LE(at + 4));
			at = end;
		}
		heldBytes = bytes.length - at;
		held = heldBytes === 0 ? [] : [bytes.subarray(at)];
		return whose;
	};
}
