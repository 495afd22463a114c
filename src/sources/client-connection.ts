/**
 * The client's one connection: opened when it is first needed, pipelined, opened again when it broke.
 *
 *   K1  a request that was not written survives a broken connection; one that was written is rejected, its outcome
 *       unknown, because writing it again could do it twice
 *   K2  all requests of one turn of the event loop leave in one write
 *   K3  nothing here keeps the process alive while no request is open
 *
 * This runs in the caller's process, which has no Environment: time is Node's own.
 */
import { createConnection, type Socket } from "node:net";
import { COMMANDS, FrameDecoder, FrameGatherer, PROTOCOL_VERSION, STATUS } from "../protocol/index.ts";
import { ClientError, refusalOf, unreachable } from "./client-error.ts";

/** A daemon that was there is probably restarting; one that never was is probably not running. */
const FIRST_CONNECT_MS = 300;
const RECONNECT_MS = 2_000;
/** A full backlog: the daemon is there and will accept, so it is worth more patience. */
const BUSY_CONNECT_MS = 10_000;
const BACKOFF_BASE_MS = 10;
const BACKOFF_CAP_MS = 250;
const NOT_THERE: readonly (string | undefined)[] = ["ECONNREFUSED", "ENOENT"];

interface Pending {
	readonly key: number;
	readonly command: number;
	readonly json: string;
	readonly body: Uint8Array | undefined;
	/** On the wire: its outcome is unknown until it is answered. */
	written: boolean;
	resolve(payload: Uint8Array): void;
	reject(error: unknown): void;
}

export interface ConnectionOptions {
	readonly path: string;
	readonly source: "socket" | "cli";
	/** Overrides how long connecting is tried. */
	readonly connectTimeoutMs: number | undefined;
}

export class ClientConnection {
	readonly #options: ConnectionOptions;
	readonly #pending = new Map<number, Pending>();
	#out = new FrameGatherer();
	#socket: Socket | undefined;
	#connecting = false;
	#flushing = false;
	#everConnected = false;
	#closed = false;
	#nextKey = 1;
	#retry: NodeJS.Timeout | undefined;

	constructor(options: ConnectionOptions) {
		this.#options = options;
	}

	/** True after `close`. */
	get closed(): boolean {
		return this.#closed;
	}

	/** Resolves with the payload of an OK answer; rejects with the daemon's refusal or DAEMON_UNREACHABLE. */
	request(command: number, json: string, body?: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
		if (this.#closed) return Promise.reject(unreachable("this client was closed; create another", false));
		if (signal?.aborted === true) return Promise.reject(abortReason(signal));
		const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
		const key = this.#nextKey++;
		const pending: Pending = { key, command, json, body, written: false, resolve, reject };
		this.#pending.set(key, pending);
		if (this.#socket === undefined) this.#connect();
		else this.#write(pending);
		this.#keepAlive();
		if (signal === undefined) return promise;
		const abort = (): void => {
			reject(abortReason(signal));
			this.#forget(key);
		};
		signal.addEventListener("abort", abort, { once: true });
		return promise.finally(() => signal.removeEventListener("abort", abort));
	}

	/** Rejects what is open and closes; nothing is connected again. */
	close(): void {
		if (this.#closed) return;
		this.#closed = true;
		clearTimeout(this.#retry);
		const socket = this.#socket;
		this.#socket = undefined;
		if (socket !== undefined) {
			this.#flushTo(socket);
			socket.end();
			socket.unref();
		}
		for (const pending of this.#pending.values()) {
			pending.reject(unreachable("the client was closed before the answer came", pending.written));
		}
		this.#pending.clear();
	}

	#write(pending: Pending): void {
		if (
			!this.#out.add(pending.key >>> 0, Math.floor(pending.key / 2 ** 32), pending.command, pending.json, pending.body)
		) {
			this.#forget(pending.key);
			pending.reject(new ClientError("BODY_TOO_LARGE", "the request does not fit a frame of 16 MiB; nothing was sent"));
			return;
		}
		pending.written = true;
		if (this.#flushing) return;
		this.#flushing = true;
		process.nextTick(() => {
			this.#flushing = false;
			if (this.#socket !== undefined) this.#flushTo(this.#socket);
		});
	}

	#flushTo(socket: Socket): void {
		const frames = this.#out.take();
		if (frames !== undefined && socket.writable) socket.write(frames);
	}

	#connect(): void {
		if (this.#connecting) return;
		this.#connecting = true;
		const from = performance.now();
		const patience = this.#options.connectTimeoutMs ?? (this.#everConnected ? RECONNECT_MS : FIRST_CONNECT_MS);
		let wait = BACKOFF_BASE_MS;
		const attempt = (): void => {
			if (this.#closed) return;
			const socket = createConnection(this.#options.path);
			socket.once("error", (error: NodeJS.ErrnoException) => {
				const allowed = error.code === "EAGAIN" ? Math.max(patience, BUSY_CONNECT_MS) : patience;
				const again = error.code === "EAGAIN" || NOT_THERE.includes(error.code);
				if (again && performance.now() - from + wait <= allowed) {
					this.#retry = setTimeout(attempt, wait);
					wait = Math.min(2 * wait, BACKOFF_CAP_MS);
					return;
				}
				this.#connecting = false;
				this.#rejectAll(
					unreachable(
						`no daemon answers on ${this.#options.path} (${error.code ?? error.message}); start it`,
						false,
						error,
					),
				);
			});
			socket.once("connect", () => {
				socket.removeAllListeners("error");
				this.#connecting = false;
				this.#opened(socket);
			});
		};
		attempt();
	}

	#opened(socket: Socket): void {
		if (this.#closed) {
			socket.destroy();
			return;
		}
		this.#everConnected = true;
		this.#socket = socket;
		this.#out = new FrameGatherer();
		const decoder = new FrameDecoder((idLow, idHigh, status, payload) => {
			this.#answer(idHigh * 2 ** 32 + idLow, status, payload);
		});
		let why: Error | undefined;
		socket.on("data", (chunk: Buffer) => {
			const fault = decoder.push(chunk);
			if (fault === undefined) return;
			socket.destroy(new Error(`the daemon sent a malformed frame: ${fault.message}`));
		});
		socket.on("error", (error) => (why = error));
		socket.once("close", () => this.#broken(socket, why));
		const hello = { protocol: PROTOCOL_VERSION, raw_bodies: true, source: this.#options.source };
		this.#write({
			key: 0,
			command: COMMANDS.HELLO,
			json: JSON.stringify(hello),
			body: undefined,
			written: false,
			resolve: () => undefined,
			reject: () => undefined,
		});
		for (const pending of this.#pending.values()) this.#write(pending);
		this.#keepAlive();
	}

	#answer(key: number, status: number, payload: Uint8Array): void {
		// The hello has the id 0: where it is refused, the daemon speaks another protocol, and nothing else can be said.
		if (key === 0) {
			if (status !== STATUS.OK) this.#rejectAll(refusalOf(parsed(payload)));
			return;
		}
		const pending = this.#pending.get(key);
		if (pending === undefined) return; // its caller has given up
		this.#forget(key);
		if (status === STATUS.OK) pending.resolve(payload);
		else pending.reject(refusalOf(parsed(payload)));
	}

	/** K1. */
	#broken(socket: Socket, cause: Error | undefined): void {
		if (this.#socket !== socket) return;
		this.#socket = undefined;
		let waiting = false;
		for (const pending of this.#pending.values()) {
			if (!pending.written) {
				waiting = true;
				continue;
			}
			this.#pending.delete(pending.key);
			pending.reject(
				unreachable(
					"the connection broke before the answer came: outcome unknown; retry with the same idempotency key",
					true,
					cause,
				),
			);
		}
		if (waiting) this.#connect();
	}

	#rejectAll(error: ClientError): void {
		const all = [...this.#pending.values()];
		this.#pending.clear();
		this.#keepAlive();
		for (const pending of all) pending.reject(error);
	}

	#forget(key: number): void {
		this.#pending.delete(key);
		this.#keepAlive();
	}

	/** K3. */
	#keepAlive(): void {
		if (this.#pending.size === 0) this.#socket?.unref();
		else this.#socket?.ref();
	}
}

/** The JSON of a payload; what is no JSON is undefined. */
function parsed(payload: Uint8Array): unknown {
	try {
		return JSON.parse(Buffer.from(payload).toString("utf8")) as unknown;
	} catch {
		return undefined;
	}
}

function abortReason(signal: AbortSignal): Error {
	return signal.reason instanceof Error ? signal.reason : new Error("aborted", { cause: signal.reason });
}
