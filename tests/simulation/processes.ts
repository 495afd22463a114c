/**
 * Simulated worker processes: they speak real frames with the real pool, and run handlers that behave as the seed
 * says. A process that is killed goes on for a moment, and is told to be gone a moment after it is.
 *
 * What really runs is booked here, at the process, not where the engine believes it: a handler counts from its first
 * instruction to its last, or to the true end of its process.
 */
import type { Exit, WorkerProcess, WorkerProcessEvents } from "../../src/pool/process.ts";
import {
	CHANNEL_VERSION,
	FrameReader,
	FrameWriter,
	readHostMessage,
	type HostMessage,
	type InvokeMessage,
	type WorkerMessage,
} from "../../src/protocol/index.ts";
import type { Coverage, Fault } from "./coverage.ts";
import { resultOf, type Execution, type Ledger } from "./ledger.ts";
import type { History } from "./history.ts";
import type { Chance } from "./random.ts";
import type { Scheduler } from "./scheduler.ts";

const encoder = new TextEncoder();
const MiB = 1_048_576;

/** What a handler does, and how often. */
const HABITS = {
	quick: 46,
	slow: 18,
	throws: 8,
	answers503: 4,
	waitsForAbort: 2,
	hangs: 1.5,
	spins: 1,
	crashes: 3,
	exitsAfterAnswer: 1,
	answersTwice: 0.4,
	garbage: 0.3,
	leaks: 0.5,
} as const;
type Habit = keyof typeof HABITS;

export interface Machinery {
	readonly scheduler: Scheduler;
	readonly chance: Chance;
	readonly ledger: Ledger;
	readonly history: History;
	readonly coverage: Coverage;
	/** No faults any more. */
	readonly calm: () => boolean;
	/** Where the process belongs; what it says to a dead daemon is heard by nobody. */
	readonly daemonAlive: () => boolean;
	/** The process is truly gone. */
	readonly gone: (process: SimProcess) => void;
}

interface Call {
	readonly message: InvokeMessage;
	readonly execution: Execution;
	readonly timeoutAt: number;
	habit: Habit;
	aborted: boolean;
}

export class SimProcess implements WorkerProcess {
	readonly pid: number;
	readonly #machinery: Machinery;
	readonly #events: WorkerProcessEvents;
	readonly #reader: FrameReader;
	readonly #writer = new FrameWriter();
	readonly #calls = new Map<number, Call>();
	/** Nothing of it runs any more. */
	dead = false;
	#killed = false;
	/** Its loop is blocked: it reads nothing and answers nothing. */
	#spinning = false;
	#unread: HostMessage[] = [];
	/** When the pool will abort a call; monotonic. By the clock as it was when the call was sent: it may jump meanwhile. */
	readonly #timeoutAt = new Map<number, number>();
	#heardUntil = 0;
	memory = 40 * MiB;

	constructor(pid: number, machinery: Machinery, events: WorkerProcessEvents) {
		this.pid = pid;
		this.#machinery = machinery;
		this.#events = events;
		this.#reader = new FrameReader((frame) => {
			const message = readHostMessage(frame);
			if (typeof message === "string") return message;
			this.#arrives(message);
			return undefined;
		});
		machinery.history.add(`process ${pid} is spawned`);
	}

	// --- what the pool does to it ------------------------------------------------------------------------------------
	send(chunks: readonly Uint8Array[]): void {
		if (this.dead || !this.#machinery.daemonAlive()) return;
		for (const chunk of chunks) {
			const problem = this.#reader.push(chunk);
			if (problem !== undefined) throw new Error(`the pool sent ${problem}`);
		}
	}

	kill(): void {
		if (this.#killed || this.dead) return;
		this.#killed = true;
		const { chance, calm, coverage } = this.#machinery;
		const late = !calm() && chance.oneIn(6);
		if (late) coverage.fault("worker:gone-late");
		this.#dies(late ? chance.magnitude(50, 3000) : chance.between(0, 4), { code: null, signal: "SIGKILL" });
	}

	/** From outside: the kernel's out-of-memory killer, an operator, the end of its daemon. */
	struck(delayMs: number): void {
		if (this.#killed || this.dead) return;
		this.#killed = true;
		this.#dies(delayMs, { code: null, signal: "SIGKILL" });
	}

	get busy(): number {
		return this.#calls.size;
	}

	runs(invocationId: string): boolean {
		return [...this.#calls.values()].some(({ message }) => message.invocationId === invocationId);
	}

	#dies(delayMs: number, exit: Exit): void {
		const { scheduler } = this.#machinery;
		scheduler.after(delayMs, () => this.#end(exit));
	}

	/** The true end: from here on nothing of it runs. The daemon sees it a little later. */
	#end(exit: Exit): void {
		if (this.dead) return;
		this.dead = true;
		const { scheduler, ledger, history, chance, calm, daemonAlive, gone } = this.#machinery;
		for (const { execution } of this.#calls.values()) ledger.stops(execution, "gone");
		this.#calls.clear();
		history.add(`process ${this.pid} is gone`);
		gone(this);
		const notice = !calm() && chance.oneIn(20) ? chance.magnitude(20, 2000) : chance.between(0, 3);
		// What it said before is in the pipe, and is read first.
		scheduler.after(Math.max(notice, this.#heardUntil - scheduler.monotonic + 1), () => {
			if (!daemonAlive()) return;
			this.#events.channelClosed();
			this.#events.gone(exit);
		});
	}

	// --- what it says ------------------------------------------------------------------------------------------------
	#says(message: WorkerMessage): void {
		this.#writer.worker(message);
		this.#writes(this.#writer.take());
	}

	#writes(chunks: readonly Uint8Array[]): void {
		const { scheduler, chance, daemonAlive } = this.#machinery;
		const copies = chunks.map((chunk) => Uint8Array.from(chunk));
		// A pipe keeps its order.
		this.#heardUntil = Math.max(this.#heardUntil, scheduler.monotonic + chance.between(0, 2));
		scheduler.after(this.#heardUntil - scheduler.monotonic, () => {
			if (!daemonAlive()) return;
			for (const chunk of copies) this.#events.data(chunk);
		});
	}

	// --- what it hears -----------------------------------------------------------------------------------------------
	#arrives(message: HostMessage): void {
		const { scheduler, chance } = this.#machinery;
		if (message.type === "invoke")
			this.#timeoutAt.set(message.call, scheduler.monotonic + message.deadline - scheduler.wall);
		if (message.type === "ping") {
			// Most of all frames; answered in one event.
			if (!this.#spinning && this.#unread.length === 0) this.#says({ type: "pong" });
			else this.#unread.push(message);
			return;
		}
		scheduler.after(chance.between(0, 1), () => this.#hears(message));
	}

	#hears(message: HostMessage): void {
		if (this.dead) return;
		if (this.#spinning) {
			this.#unread.push(message);
			return;
		}
		switch (message.type) {
			case "init":
				this.#starts();
				return;
			case "invoke":
				this.#begins(message);
				return;
			case "abort":
				this.#aborted(message.call, message.reason === "timeout");
				return;
			case "ping":
				this.#says({ type: "pong" });
				return;
			case "stop":
				this.#killed = true;
				this.#dies(this.#machinery.chance.between(0, 5), { code: 0, signal: null });
				return;
			case "limits":
				return;
		}
	}

	#starts(): void {
		const { chance, calm } = this.#machinery;
		const fate = calm() ? "ready" : chance.weighted({ ready: 94, slow: 3, dies: 1.5, refuses: 1, hangs: 0.5 });
		const ready = (): void => {
			if (!this.dead) this.#says({ type: "ready", protocol: CHANNEL_VERSION, config: {} });
		};
		const { scheduler } = this.#machinery;
		switch (fate) {
			case "ready":
				scheduler.after(chance.between(20, 80), ready);
				return;
			case "slow":
				scheduler.after(chance.between(200, 4000), ready);
				return;
			case "dies":
				this.#fault("worker:died-starting");
				this.#dies(chance.between(1, 60), { code: 1, signal: null });
				return;
			case "refuses":
				this.#fault("worker:start-failed");
				scheduler.after(chance.between(10, 60), () => {
					if (!this.dead) this.#says({ type: "start_failed", message: "out of luck", stack: undefined });
				});
				return;
			case "hangs":
				this.#fault("worker:start-hung");
				return;
		}
	}

	#begins(message: InvokeMessage): void {
		const { scheduler, chance, ledger, calm } = this.#machinery;
		const execution = ledger.starts(message.invocationId, message.attempt, this.pid);
		if (execution === undefined) return;
		const habit = calm() ? "quick" : chance.weighted(HABITS);
		const timeoutAt = this.#timeoutAt.get(message.call) ?? 0;
		this.#timeoutAt.delete(message.call);
		const call: Call = { message, execution, timeoutAt, habit, aborted: false };
		this.#calls.set(message.call, call);
		const ms = habit === "slow" ? chance.magnitude(200, 6000) : chance.magnitude(1, 400);
		scheduler.after(ms, () => this.#acts(call));
	}

	/** The moment at which a handler does what its habit says. */
	#acts(call: Call): void {
		if (this.dead || this.#calls.get(call.message.call) !== call) return;
		if (this.#spinning) {
			this.#machinery.scheduler.after(50, () => this.#acts(call));
			return;
		}
		const { chance } = this.#machinery;
		switch (call.habit) {
			case "quick":
			case "slow":
				this.#answers(call, chance.oneIn(300) ? 5_000 : 0);
				return;
			case "answers503":
				this.#answers(call, 0, 503);
				return;
			case "throws":
				this.#throws(call);
				return;
			case "waitsForAbort":
				return;
			case "hangs":
				this.#fault("worker:hung");
				return;
			case "spins":
				this.#fault("worker:spins");
				this.#spinning = true;
				return;
			case "crashes":
				this.#fault(this.#calls.size > 1 ? "worker:crashed-shared" : "worker:crashed-alone");
				this.#killed = true;
				this.#end({ code: null, signal: "SIGSEGV" });
				return;
			case "exitsAfterAnswer":
				this.#fault("worker:exit-after-answer");
				this.#answers(call, 0);
				this.#killed = true;
				this.#end({ code: 0, signal: null });
				return;
			case "answersTwice":
				this.#fault("worker:answers-twice");
				this.#answers(call, 0);
				this.#response(call, 0, 200);
				return;
			case "garbage":
				this.#fault("worker:garbage");
				this.#writes([Uint8Array.from([5, 0, 0, 0, 250, 1, 2, 3, 4])]);
				return;
			case "leaks":
				this.#fault("worker:memory");
				this.memory = 4096 * MiB;
				return;
		}
	}

	#answers(call: Call, padding: number, status = 200): void {
		this.#leaves(call, "ok");
		// After an abort reached it the runtime says only that it ended.
		if (call.aborted) {
			this.#fault("worker:answers-late");
			this.#says({ type: "ended", call: call.message.call });
		} else this.#response(call, padding, status);
	}

	#response({ message }: Call, padding: number, status: number): void {
		const text = `${resultOf(message.path, message.body)}${" ".repeat(padding)}`;
		this.#says({ type: "response", call: message.call, status, headers: [["x", "y"]], body: encoder.encode(text) });
	}

	#throws(call: Call): void {
		this.#leaves(call, "failed");
		if (call.aborted) this.#says({ type: "ended", call: call.message.call });
		else {
			const { call: number } = call.message;
			this.#says({
				type: "failed",
				call: number,
				code: "HANDLER_ERROR",
				name: "Error",
				message: "thrown",
				stack: undefined,
			});
		}
	}

	#leaves(call: Call, how: "ok" | "failed"): void {
		this.#calls.delete(call.message.call);
		this.#machinery.ledger.stops(call.execution, how);
	}

	#aborted(number: number, timeout: boolean): void {
		const call = this.#calls.get(number);
		if (call === undefined || call.aborted) return;
		const { scheduler, chance, ledger, calm } = this.#machinery;
		if (timeout && scheduler.monotonic < call.timeoutAt - 2) {
			ledger.violate("T", `row ${call.execution.seq} timed out ${call.timeoutAt - scheduler.monotonic} ms early`);
		}
		call.aborted = true;
		const obeys = call.habit === "waitsForAbort" || ((calm() || chance.oneIn(2)) && call.habit !== "hangs");
		if (!obeys) return;
		scheduler.after(chance.between(0, 30), () => {
			if (this.dead || this.#spinning || this.#calls.get(number) !== call) return;
			this.#throws(call);
		});
	}

	#fault(name: Fault): void {
		this.#machinery.coverage.fault(name);
		this.#machinery.history.add(`process ${this.pid}: ${name}`);
	}
}
