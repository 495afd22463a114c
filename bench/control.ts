/** What a scenario asks of the daemon beside the measured load, pipelined on one socket. Raw frames, as the driver's. */
import { once } from "node:events";
import { createConnection, type Socket } from "node:net";
import { frame } from "./driver-frames.ts";

export type Json = Readonly<Record<string, unknown>>;

const COMMANDS = { INVOKE: 0x01, ENQUEUE: 0x10, CALL: 0x21 } as const;
const PREFIX_BYTES = 17;

export class Control {
	readonly #socket: Socket;
	readonly #open = new Map<number, { resolve: (json: Json) => void; reject: (error: Error) => void }>();
	#nextId = 1;
	#rest: Buffer | undefined;

	constructor(socket: Socket) {
		this.#socket = socket;
		socket.on("data", (chunk: Buffer) => this.#data(chunk));
		socket.on("error", () => undefined);
		socket.on("close", () => {
			for (const { reject } of this.#open.values()) reject(new Error("the daemon closed the connection"));
			this.#open.clear();
		});
	}

	/** An operation of the administration table. Rejects with the daemon's words. */
	call(op: string, params: Json = {}): Promise<Json> {
		return this.#send(COMMANDS.CALL, { op, params });
	}

	/** Resolves when the invocation has succeeded; everything else is a rejection. */
	async invoke(functionId: string, query: Readonly<Record<string, string>> = {}): Promise<Json> {
		const answer = await this.#send(COMMANDS.INVOKE, request(functionId, query));
		if (answer["success"] !== true) throw new Error(`${functionId} did not succeed: ${JSON.stringify(answer)}`);
		return answer;
	}

	enqueue(functionId: string, query: Readonly<Record<string, string>> = {}): Promise<Json> {
		return this.#send(COMMANDS.ENQUEUE, request(functionId, query));
	}

	close(): void {
		this.#socket.destroy();
	}

	#send(command: number, payload: Json): Promise<Json> {
		const { promise, resolve, reject } = Promise.withResolvers<Json>();
		const id = this.#nextId;
		this.#nextId += 1;
		this.#open.set(id, { resolve, reject });
		this.#socket.write(frame(command, JSON.stringify(payload), id));
		return promise;
	}

	#data(chunk: Buffer): void {
		let bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
		while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32LE(0)) {
			const end = 4 + bytes.readUInt32LE(0);
			const id = bytes.readUInt32LE(4);
			const json = JSON.parse(bytes.toString("utf8", PREFIX_BYTES, end)) as Json;
			const waiting = this.#open.get(id);
			this.#open.delete(id);
			if (bytes.readUInt8(12) === 0) waiting?.resolve(json);
			else waiting?.reject(new Error(`the daemon refused: ${JSON.stringify(json)}`));
			bytes = bytes.subarray(end);
		}
		this.#rest = bytes.length === 0 ? undefined : bytes;
	}
}

export async function connectControl(socketPath: string): Promise<Control> {
	const socket = createConnection(socketPath);
	await once(socket, "connect");
	return new Control(socket);
}

function request(functionId: string, query: Readonly<Record<string, string>>): Json {
	return { function_id: functionId, method: "POST", path: "/", headers: {}, query, body: "eA==" };
}
