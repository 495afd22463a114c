/** INVOKE over raw frames for many callers of one socket. The request id is the caller's number. */
import type { SocketDrive } from "./drive.ts";

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
export function invokeFrame(drive: SocketDrive): Buffer {
	return frame(
		INVOKE,
		JSON.stringify({
			function_id: drive.functionId,
			method: "POST",
			path: "/",
			headers: { "content-type": "application/octet-stream" },
			query: {},
			body: Buffer.alloc(drive.bodyBytes, "x").toString("base64"),
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

/** `answered` says whether the caller goes on. Every answer is checked to be a success; anything else ends the run. */
export function frameLoop(request: Buffer, callers: readonly number[], answered: (caller: number) => boolean): Loop {
	let rest: Buffer | undefined;
	const next = (going: readonly number[]): Buffer => {
		const out = Buffer.allocUnsafe(request.length * going.length);
		going.forEach((caller, index) => {
			request.copy(out, index * request.length);
			out.writeUInt32LE(caller, index * request.length + 4);
		});
		return out;
	};
	return {
		start: () => next(callers),
		data(chunk) {
			const bytes = rest === undefined ? chunk : Buffer.concat([rest, chunk]);
			const going: number[] = [];
			let at = 0;
			while (bytes.length - at >= 4) {
				const end = at + 4 + bytes.readUInt32LE(at);
				if (bytes.length < end) break;
				const status = bytes.readUInt8(at + 12);
				const success = bytes.indexOf(SUCCESS, at + PREFIX_BYTES);
				if (status !== 0 || success < 0 || success >= end) {
					throw new Error(`an invocation did not succeed: ${bytes.toString("utf8", at + PREFIX_BYTES, end)}`);
				}
				const caller = bytes.readUInt32LE(at + 4);
				if (answered(caller)) going.push(caller);
				at = end;
			}
			rest = at === bytes.length ? undefined : bytes.subarray(at);
			return going.length === 0 ? undefined : next(going);
		},
	};
}
