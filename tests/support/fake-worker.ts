/**
 * Worker processes that are none: they speak real frames with the pool and do what a test says. By default one is
 * ready at once, answers pings, ends when it is told to stop and dies when it is killed.
 */
import type { Exit, SpawnWorker, WorkerLaunch, WorkerProcess, WorkerProcessEvents } from "../../src/pool/process.ts";
import {
	CHANNEL_VERSION,
	FrameReader,
	FrameWriter,
	type HostMessage,
	type InitMessage,
	type InvokeMessage,
	readHostMessage,
	type WorkerMessage,
} from "../../src/protocol/index.ts";

const SIGKILLED: Exit = { code: null, signal: "SIGKILL" };

export interface FakeHabits {
	/** Says ready when it gets init. */
	ready: boolean;
	/** Answers pings. */
	pongs: boolean;
	/** Exits when it is told to stop. */
	stops: boolean;
	/** Is gone after SIGKILL; otherwise the test says when. */
	dies: boolean;
	/** Answers every call at once with its own body. */
	echoes: boolean;
}

export class FakeWorker implements WorkerProcess {
	readonly pid: number;
	readonly launch: WorkerLaunch;
	readonly habits: FakeHabits;
	/** All that the pool sent, in order. */
	readonly got: HostMessage[] = [];
	killed = false;
	over = false;
	readonly #events: WorkerProcessEvents;
	readonly #reader: FrameReader;

	constructor(pid: number, launch: WorkerLaunch, events: WorkerProcessEvents, habits: FakeHabits) {
		this.pid = pid;
		this.launch = launch;
		this.habits = { ...habits };
		this.#events = events;
		this.#reader = new FrameReader((frame) => {
			const message = readHostMessage(frame);
			if (typeof message === "string") return message;
			this.got.push(message);
			this.#react(message);
			return undefined;
		});
	}

	get init(): InitMessage | undefined {
		return this.got.find((message) => message.type === "init");
	}

	/** Calls in the order they came. */
	get invokes(): InvokeMessage[] {
		return this.got.filter((message) => message.type === "invoke");
	}

	get aborts(): number[] {
		return this.got.flatMap((message) => (message.type === "abort" ? [message.call] : []));
	}

	callOf(invocationId: string): number {
		const invoke = this.invokes.findLast((message) => message.invocationId === invocationId);
		if (invoke === undefined) throw new Error(`worker ${this.pid} never got ${invocationId}`);
		return invoke.call;
	}

	send(chunks: readonly Uint8Array[]): void {
		if (this.over) return;
		for (const chunk of chunks) {
			const problem = this.#reader.push(chunk);
			if (problem !== undefined) throw new Error(`the pool sent ${problem}`);
		}
	}

	kill(): void {
		if (this.killed || this.over) return;
		this.killed = true;
		if (this.habits.dies) queueMicrotask(() => this.exit(SIGKILLED));
	}

	says(message: WorkerMessage): void {
		const writer = new FrameWriter();
		writer.worker(message);
		this.raw(...writer.take());
	}

	saysReady(config?: unknown): void {
		this.says({ type: "ready", protocol: CHANNEL_VERSION, config });
	}

	answers(invocationId: string, text = "ok"): void {
		const body = new TextEncoder().encode(text);
		this.says({ type: "response", call: this.callOf(invocationId), status: 200, headers: [], body });
	}

	fails(invocationId: string, message = "thrown"): void {
		const call = this.callOf(invocationId);
		this.says({ type: "failed", call, code: "HANDLER_ERROR", name: "Error", message, stack: undefined });
	}

	ends(invocationId: string): void {
		this.says({ type: "ended", call: this.callOf(invocationId) });
	}

	raw(...chunks: readonly Uint8Array[]): void {
		for (const chunk of chunks) this.#events.data(chunk);
	}

	prints(stream: "stdout" | "stderr", text: string): void {
		this.#events.output(stream, new TextEncoder().encode(text));
	}

	closesChannel(): void {
		this.#events.channelClosed();
	}

	exit(exit: Exit): void {
		if (this.over) return;
		this.over = true;
		this.#events.channelClosed();
		this.#events.gone(exit);
	}

	#react(message: HostMessage): void {
		queueMicrotask(() => {
			if (this.over || this.killed) return;
			if (message.type === "init" && this.habits.ready) this.saysReady();
			else if (message.type === "ping" && this.habits.pongs) this.says({ type: "pong" });
			else if (message.type === "stop" && this.habits.stops) this.exit({ code: 0, signal: null });
			else if (message.type === "invoke" && this.habits.echoes) {
				this.says({ type: "response", call: message.call, status: 200, headers: [], body: message.body });
			}
		});
	}
}

export interface FakeProcesses {
	readonly spawn: SpawnWorker;
	/** All that were ever started. */
	readonly all: FakeWorker[];
	/** Those that have not ended. */
	readonly living: FakeWorker[];
	/** What the next ones do. */
	readonly habits: FakeHabits;
}

export function createFakeProcesses(): FakeProcesses {
	const all: FakeWorker[] = [];
	const habits: FakeHabits = { ready: true, pongs: true, stops: true, dies: true, echoes: false };
	return {
		all,
		habits,
		get living() {
			return all.filter((worker) => !worker.over);
		},
		spawn(launch, events) {
			const worker = new FakeWorker(1000 + all.length, launch, events, habits);
			all.push(worker);
			return worker;
		},
	};
}
