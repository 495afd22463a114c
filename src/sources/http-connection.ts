/**
 * What is open on one connection: requests that have no whole answer yet, and what becomes of bytes that are no HTTP.
 *
 *   C1  an answer stands for the request that it follows: a refusal of broken bytes waits for the answers of the whole
 *       requests before them. (Node writes its 400 at once: a pipelining client took it for the answer to a request that
 *       was queued and ran.)
 *   C2  behind an answer that says `Connection: close` no request is served, also where it was read already (RFC 9112 §9.6):
 *       it would run, and nobody would be told
 *   C3  one request at a time: the next is begun when the answer before it was taken. Node parses every request of a chunk
 *       at once; 1,000 pipelined calls of a client that never reads would each run and keep their answer (10 connections
 *       with 100 answers of 4 MB each took 3.9 GB)
 *   C4  at most `UNANSWERED_MAX` requests wait; then we stop reading. Measured without: a client that sent 100,000 requests
 *       and read nothing cost 530 MB
 */
import { STATUS_CODES, type IncomingMessage, type ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** What one read holds beyond it (64 KiB, some 1,500 requests of the smallest kind) is still taken. */
const UNANSWERED_MAX = 256;

export class Connections {
	readonly #open = new Map<Socket, Connection>();

	add(socket: Socket): void {
		const connection = new Connection(socket);
		this.#open.set(socket, connection);
		socket.once("close", () => this.#open.delete(socket));
	}

	/** Every request comes by here; `begin` is called in its turn, or never. */
	take(req: IncomingMessage, res: ServerResponse, begin: () => void): void {
		this.#open.get(req.socket)?.take(res, begin);
	}

	/** The server's `clientError`: bytes that are no request, or a request that did not come in time. */
	broke(error: NodeJS.ErrnoException, socket: Socket): void {
		const connection = this.#open.get(socket);
		if (connection === undefined) socket.destroy();
		else connection.broke(refusalOf(error.code));
	}

	sockets(): Iterable<Socket> {
		return this.#open.keys();
	}
}

/** A request that has no whole answer yet, with what begins it. */
interface Unanswered {
	readonly res: ServerResponse;
	readonly begin: () => void;
}

class Connection {
	readonly #socket: Socket;
	/**
	 * In the order of their requests; the first has begun. A list, because a Map that is emptied again and again keeps answers
	 * alive for the collector (core/number-map.ts).
	 */
	#unanswered: Unanswered[] = [];
	#pausing = false;
	#last: ServerResponse | undefined;
	#refusal: string | undefined;

	constructor(socket: Socket) {
		this.#socket = socket;
	}

	take(res: ServerResponse, begin: () => void): void {
		if (this.#refusal !== undefined || this.#last?.shouldKeepAlive === false) return; // C2
		this.#last = res;
		this.#unanswered.push({ res, begin });
		res.once("close", () => this.#answered(res));
		if (this.#unanswered.length === 1) begin();
		else if (this.#unanswered.length >= UNANSWERED_MAX && !this.#pausing) this.#pauseSoon(); // C4
	}

	/** Node resumes the socket at the end of each message, in the next tick: ours is the one after. */
	#pauseSoon(): void {
		this.#pausing = true;
		process.nextTick(() =>
			process.nextTick(() => {
				this.#pausing = false;
				if (this.#unanswered.length >= UNANSWERED_MAX) this.#socket.pause();
			}),
		);
	}

	broke(refusal: string): void {
		this.#refusal ??= refusal;
		this.#socket.pause();
		this.#refuse();
	}

	#answered(res: ServerResponse): void {
		const place = this.#unanswered.findIndex((each) => each.res === res);
		if (place >= 0) this.#unanswered.splice(place, 1);
		if (this.#socket.destroyed || !res.shouldKeepAlive) {
			this.#unanswered = []; // C2
			return;
		}
		if (this.#refusal !== undefined) this.#refuse();
		else if (this.#unanswered.length < UNANSWERED_MAX && this.#socket.isPaused()) this.#socket.resume();
		this.#unanswered[0]?.begin(); // C3
	}

	/** C1: the request that broke is itself unanswered and never whole; it is the last one. */
	#refuse(): void {
		const before = this.#unanswered.filter(({ res }) => res.req.complete);
		if (before.length > 0 || this.#refusal === undefined) return;
		const started = this.#unanswered.some(({ res }) => res.headersSent);
		if (this.#socket.writable && !started) this.#socket.write(this.#refusal);
		this.#socket.destroySoon();
	}
}

/** The statuses that Node answers with. */
function refusalOf(code: string | undefined): string {
	const status =
		code === "HPE_HEADER_OVERFLOW"
			? 431
			: code === "HPE_CHUNK_EXTENSIONS_OVERFLOW"
				? 413
				: code === "ERR_HTTP_REQUEST_TIMEOUT"
					? 408
					: 400;
	return `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`;
}
