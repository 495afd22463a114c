/** A client of the socket written from the protocol's description alone, so that it shares no mistake with our code. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";

export interface RawFrame {
	readonly id: bigint;
	readonly status: number;
	readonly payload: Buffer;
	/** The payload as JSON; undefined where it is none. */
	readonly json: Record<string, unknown>;
}

export class RawClient implements AsyncDisposable {
	readonly socket: Socket;
	readonly frames: RawFrame[] = [];
	/** True when the daemon has ended its side. */
	ended = false;
	#bytes: Buffer = Buffer.alloc(0);
	#wake: (() => void)[] = [];

	private constructor(socket: Socket) {
		this.socket = socket;
		socket.on("data", (chunk: Buffer) => {
			this.#bytes = Buffer.concat([this.#bytes, chunk]);
			this.#read();
		});
		socket.on("error", () => undefined);
		for (const event of ["end", "close"]) {
			socket.on(event, () => {
				this.ended = true;
				this.#notify();
			});
		}
	}

	static async connect(path: string, options: { allowHalfOpen?: boolean } = {}): Promise<RawClient> {
		const socket = connect({ path, ...options });
		await once(socket, "connect");
		return new RawClient(socket);
	}

	/** Over a connection that is there. */
	static of(socket: Socket): RawClient {
		return new RawClient(socket);
	}

	/** A request frame. */
	static frame(id: bigint, command: number, payload: string | Buffer): Buffer {
		const body = Buffer.from(payload);
		const frame = Buffer.alloc(17 + body.length);
		frame.writeUInt32LE(13 + body.length, 0);
		frame.writeBigUInt64LE(id, 4);
		frame.writeUInt8(command, 12);
		frame.writeUInt32LE(body.length, 13);
		body.copy(frame, 17);
		return frame;
	}

	send(id: bigint, command: number, payload: unknown): void {
		this.socket.write(RawClient.frame(id, command, JSON.stringify(payload)));
	}

	/** Sends and waits for the answer with the same id. */
	async ask(id: bigint, command: number, payload: unknown): Promise<RawFrame> {
		this.send(id, command, payload);
		return this.answer(id);
	}

	async answer(id: bigint): Promise<RawFrame> {
		for (;;) {
			const found = this.frames.find((frame) => frame.id === id);
			if (found !== undefined) return found;
			if (this.ended) throw new Error(`the connection ended before the answer to ${id}`);
			await new Promise<void>((resolve) => this.#wake.push(resolve));
		}
	}

	async end(): Promise<void> {
		while (!this.ended) await new Promise<void>((resolve) => this.#wake.push(resolve));
	}

	async [Symbol.asyncDispose](): Promise<void> {
		if (this.socket.closed) return;
		this.socket.destroy();
		await once(this.socket, "close");
	}

	#read(): void {
		while (this.#bytes.length >= 4 && this.#bytes.length >= 4 + this.#bytes.readUInt32LE(0)) {
			const whole = 4 + this.#bytes.readUInt32LE(0);
			const payload = this.#bytes.subarray(17, 17 + this.#bytes.readUInt32LE(13));
			this.frames.push({
				id: this.#bytes.readBigUInt64LE(4),
				status: this.#bytes.readUInt8(12),
				payload,
				json: jsonOf(payload),
			});
			this.#bytes = this.#bytes.subarray(whole);
		}
		this.#notify();
	}

	#notify(): void {
		const wake = this.#wake;
		this.#wake = [];
		for (const resolve of wake) resolve();
	}
}

function jsonOf(payload: Buffer): Record<string, unknown> {
	try {
		return JSON.parse(payload.toString()) as Record<string, unknown>;
	} catch {
		return {};
	}
}
