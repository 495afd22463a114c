/**
 * One client connection: frames in, commands, frames out.
 *
 *   C1  every frame gets one answer with its id, in whatever order they are ready
 *   C2  all answers of one turn of the event loop leave in one write
 *   C3  what a client does wrong, or too slowly, ends this connection and nothing else
 *   C4  a client that goes away ends its waits; what it submitted goes on
 *   C5  commands that read are served one by one, as their answers leave: a single write of a client may hold 900 of
 *       them, and each answer may have 16 MiB (measured without: 64 KB of GETs took 5.6 GB, or ended the daemon)
 */
import type { Socket } from "node:net";
import type { Engine } from "../core/contracts.ts";
import type { Environment, Timer } from "../core/environment.ts";
import { EngineError, messageOf } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";
import {
	commandName,
	COMMANDS,
	FRAME_BYTES_MAX,
	FrameDecoder,
	FrameGatherer,
	STATUS,
	type FrameFault,
} from "../protocol/index.ts";
import type { Answer } from "./socket-answers.ts";
import { CommandSession } from "./socket-commands.ts";
import { wireRefusal } from "./wire.ts";

/** Unanswered frames of one connection; past it reading pauses until half of them are answered. */
const IN_FLIGHT_MAX = 65_536;
/**
 * How long a connection that broke the framing may wait for answers in flight, and how long a closed one is still
 * drained, so that the client reads our last frame instead of a reset.
 */
const LINGER_MS = 1_000;
/** Answers that wait to leave, past which nothing more is read for the client: as much as one largest frame. */
const OUTPUT_HIGH_BYTES = FRAME_BYTES_MAX;
/** While frames are held their answers gather up to here, so that a hundred small ones are one write. */
const GATHERED_BYTES_MAX = 256 * 1024;
/** How long one connection's reading commands may hold up the loop before everybody else has a turn. */
const SLICE_MS = 10;
/** What costs next to nothing before its answer: everything else reads first. */
const SUBMITS: ReadonlySet<number> = new Set([
	COMMANDS.INVOKE,
	COMMANDS.ENQUEUE,
	COMMANDS.INVOKE_RAW,
	COMMANDS.ENQUEUE_RAW,
	COMMANDS.HELLO,
]);

/** A frame that has arrived and is not served yet. */
interface Held {
	readonly idLow: number;
	readonly idHigh: number;
	readonly command: number;
	readonly payload: Uint8Array;
}

export interface ConnectionOptions {
	readonly socket: Socket;
	readonly engine: Engine;
	readonly environment: Environment;
	/** Called once, when nothing of the connection is left. */
	readonly closed: () => void;
	/** The client let more than LIMITS.socketOutputBytesMax pile up. */
	readonly tooSlow: () => void;
}

export class Connection {
	readonly #options: ConnectionOptions;
	readonly #socket: Socket;
	readonly #session: CommandSession;
	readonly #decoder: FrameDecoder;
	readonly #out = new FrameGatherer();
	#flushing = false;
	#inFlight = 0;
	/** The client sends no more, or nothing more that could be read: answer what is in flight, then end. */
	#inputEnded = false;
	/** The daemon stops: new frames are refused. */
	#stopping = false;
	/** Our side is ended; what still arrives is thrown away. */
	#ended = false;
	#linger: Timer | undefined;
	/** Frames behind a command that reads (C5), at most those of one chunk: 64 KiB. */
	#held: Held[] = [];
	/** A command that reads was served, and what follows waits for its turn. */
	#readsInTurn = false;
	/** When this turn's first reading command was served; monotonic. */
	#sliceFrom: number | undefined;

	constructor(options: ConnectionOptions) {
		this.#options = options;
		this.#socket = options.socket;
		this.#session = new CommandSession(options.engine, options.environment.clock);
		this.#decoder = new FrameDecoder((idLow, idHigh, command, payload) => {
			if (this.#ended) return;
			if (this.#mustHold) this.#held.push({ idLow, idHigh, command, payload });
			else this.#take({ idLow, idHigh, command, payload });
		});
		this.#socket.on("data", (chunk: Buffer) => this.#read(chunk));
		this.#socket.on("end", () => this.#inputEnd());
		this.#socket.on("drain", () => this.#takeHeld());
		this.#socket.on("error", (error) => {
			options.environment.logger.debug({ error: messageOf(error) }, "a socket client broke its connection");
		});
		this.#socket.once("close", () => this.#close());
	}

	/** Refuses new frames, ends waits, answers what is in flight, then closes. */
	finish(): void {
		this.#stopping = true;
		this.#session.endWaits();
		this.#endIfIdle();
	}

	destroy(): void {
		this.#ended = true;
		this.#socket.destroy();
	}

	#read(chunk: Buffer): void {
		if (this.#ended || this.#inputEnded) return;
		const fault = this.#decoder.push(chunk);
		if (fault !== undefined) this.#malformed(fault);
		else if (this.#inFlight > IN_FLIGHT_MAX || this.#held.length > 0) this.#socket.pause();
	}

	get #mustHold(): boolean {
		return this.#readsInTurn || this.#held.length > 0 || this.#outputBytes > OUTPUT_HIGH_BYTES;
	}

	get #outputBytes(): number {
		return this.#out.bytes + this.#socket.writableLength;
	}

	#take({ idLow, idHigh, command, payload }: Held): void {
		void this.#serve(idLow, idHigh, command, payload);
		if (SUBMITS.has(command)) return;
		// Its answer is there when all microtasks have run, which a tick that is asked for in one of them comes behind.
		this.#readsInTurn = true;
		const { clock } = this.#options.environment;
		this.#sliceFrom ??= clock.monotonic();
		const next = (): void => {
			this.#readsInTurn = false;
			this.#takeHeld();
		};
		if (clock.monotonic() - this.#sliceFrom < SLICE_MS) queueMicrotask(() => process.nextTick(next));
		else {
			this.#sliceFrom = undefined;
			this.#flush();
			setImmediate(next);
		}
	}

	/** Goes on where C5 made it stop. */
	#takeHeld(): void {
		if (this.#ended) this.#held = [];
		while (!this.#readsInTurn && this.#outputBytes <= OUTPUT_HIGH_BYTES) {
			const frame = this.#held.shift();
			if (frame === undefined) break;
			this.#take(frame);
		}
		if (this.#held.length > 0) return;
		// Behind the answer of the last of them, where that is there at once.
		queueMicrotask(() => this.#flushSoon());
		if (!this.#readsInTurn) this.#sliceFrom = undefined;
		if (this.#inFlight <= IN_FLIGHT_MAX / 2 && this.#socket.isPaused() && !this.#inputEnded) this.#socket.resume();
		this.#endIfIdle();
	}

	async #serve(idLow: number, idHigh: number, command: number, payload: Uint8Array): Promise<void> {
		this.#inFlight++;
		try {
			if (this.#stopping) {
				throw new EngineError("SHUTTING_DOWN", "the daemon is stopping; nothing was queued", { retryAfterSeconds: 1 });
			}
			const answer = await this.#session.run(command, payload);
			if (!this.#send(idLow, idHigh, STATUS.OK, answer)) {
				throw new EngineError("BAD_REQUEST", "the answer does not fit a frame of 16 MiB; ask for less with `limit`");
			}
		} catch (error) {
			this.#send(idLow, idHigh, STATUS.ERROR, JSON.stringify(wireRefusal(this.#refusal(command, error))));
		}
		this.#inFlight--;
		if (this.#inFlight === IN_FLIGHT_MAX / 2 && this.#held.length === 0 && this.#socket.isPaused())
			this.#socket.resume();
		this.#endIfIdle();
	}

	/** What is no EngineError is a defect of ours: the log has it whole, the client learns that it is not its fault. */
	#refusal(command: number, error: unknown): EngineError {
		if (error instanceof EngineError) return error;
		this.#options.environment.logger.error(
			{ command: commandName(command), error: messageOf(error), stack: error instanceof Error ? error.stack : null },
			"a socket command failed for no reason of its client",
		);
		return new EngineError("INTERNAL", "a defect in the engine; the daemon's log has the details", { cause: error });
	}

	/** False where it does not fit a frame. Where nobody reads any more, it is dropped. */
	#send(idLow: number, idHigh: number, status: number, answer: Answer): boolean {
		if (this.#ended) return true;
		const fits =
			typeof answer === "string"
				? this.#out.add(idLow, idHigh, status, answer)
				: this.#out.add(idLow, idHigh, status, answer.json, answer.body);
		if (!fits) return false;
		if (this.#outputBytes > LIMITS.socketOutputBytesMax) {
			this.#options.tooSlow();
			this.destroy();
		} else if (this.#held.length === 0 || this.#out.bytes > GATHERED_BYTES_MAX) this.#flushSoon();
		return true;
	}

	/** C2: a tick runs after all microtasks, so every answer that one commit makes ready is in this write. */
	#flushSoon(): void {
		if (this.#flushing) return;
		this.#flushing = true;
		process.nextTick(() => this.#flush());
	}

	#flush(): void {
		this.#flushing = false;
		const frames = this.#out.take();
		if (frames !== undefined && this.#socket.writable) this.#socket.write(frames);
		if (this.#held.length > 0) this.#takeHeld();
	}

	/** The stream has no next frame boundary: say why, if the request is known, and close. What came before is answered. */
	#malformed(fault: FrameFault): void {
		this.#linger ??= this.#options.environment.clock.setTimer(LINGER_MS, () => this.#end());
		if (fault.idMayCome) return;
		if (fault.id !== undefined) {
			const refusal = wireRefusal(new EngineError("BAD_FRAME", `${fault.message}; the connection is closed`));
			this.#send(fault.id.idLow, fault.id.idHigh, STATUS.ERROR, JSON.stringify(refusal));
		}
		this.#inputEnd();
	}

	/** Half-closed or gone, which look the same: waits end, the rest is answered if anybody is there to read it. */
	#inputEnd(): void {
		this.#inputEnded = true;
		this.#session.endWaits();
		this.#endIfIdle();
	}

	#endIfIdle(): void {
		if (this.#inFlight === 0 && this.#held.length === 0 && (this.#inputEnded || this.#stopping)) this.#end();
	}

	#end(): void {
		if (this.#ended) return;
		this.#flush();
		this.#ended = true;
		this.#session.endWaits();
		this.#socket.end();
		this.#socket.resume();
		this.#linger?.cancel();
		this.#linger = this.#options.environment.clock.setTimer(LINGER_MS, () => this.#socket.destroy());
	}

	#close(): void {
		this.#ended = true;
		this.#linger?.cancel();
		this.#session.endWaits();
		this.#options.closed();
	}
}
