/**
 * Frames to the pool: those of one turn leave in one write, and what the kernel does not take waits for room. A turn that
 * goes on for long writes in between: what is sent a millisecond after its last write leaves at once, with all that waits.
 */
import { FrameWriter, type WorkerMessage } from "../protocol/index.ts";
import { bytesBuffer, bytesLength, bytesOffset, ownApply, ownQueueMicrotask, OwnUint8Array } from "./intrinsics.ts";

export interface OutboxSocket {
	/** How many bytes were taken; negative where the socket is closed. */
	write(bytes: Uint8Array): number;
}

/** Within a turn, how long after its last write the next frame waits no more: a hundred short calls take as long. */
const TURN_WRITES_MS = 1;

export interface OutboxOptions {
	readonly nextTick: (callback: () => void) => void;
	/** Monotonic milliseconds. */
	readonly now: () => number;
}

export interface Outbox {
	send(message: WorkerMessage): void;
	/** What `work` sends, also from microtasks and ticks that run within it, leaves in one write at its end. */
	turn<Result>(work: () => Result): Result;
	/** Writes what waits; called at the end of the turn and when the socket has room again. */
	flush(): void;
	/** Calls `done` when all that was sent so far is with the kernel. */
	whenEmpty(done: () => void): void;
}

export function createOutbox(socket: OutboxSocket, { nextTick, now }: OutboxOptions): Outbox {
	const writer = new FrameWriter();
	let waiting: Uint8Array[] = [];
	let scheduled = false;
	let inTurn = false;
	/** In this turn; its beginning counts. */
	let wroteAt = 0;
	let onEmpty: (() => void) | undefined;

	function flush(): void {
		scheduled = false;
		if (!writer.empty) waiting = joined(waiting, writer.take());
		let written = 0;
		for (; written < waiting.length; written += 1) {
			const chunk = waiting[written];
			if (chunk === undefined) continue;
			const count = socket.write(chunk);
			if (count >= ownApply(bytesLength, chunk, [])) continue;
			if (count > 0) waiting[written] = restOf(chunk, count);
			break;
		}
		if (written > 0) waiting = joined(waiting, [], written);
		if (waiting.length === 0) onEmpty?.();
	}

	return {
		send(message) {
			writer.worker(message);
			if (inTurn) {
				if (now() - wroteAt < TURN_WRITES_MS) return;
				flush();
				wroteAt = now();
				return;
			}
			if (scheduled) return;
			scheduled = true;
			// The tick queue runs when the microtasks are done: all calls that end in this turn share the write.
			ownQueueMicrotask(() => nextTick(flush));
		},
		turn(work) {
			inTurn = true;
			wroteAt = now();
			try {
				return work();
			} finally {
				inTurn = false;
				if (!writer.empty) flush();
			}
		},
		flush,
		whenEmpty(done) {
			onEmpty = done;
			flush();
		},
	};
}

/** `first` from `from` on, then `second`; without the iterators that user code may have replaced. */
function joined(first: readonly Uint8Array[], second: readonly Uint8Array[], from = 0): Uint8Array[] {
	const all: Uint8Array[] = [];
	for (let i = from; i < first.length; i += 1) all[all.length] = first[i] as Uint8Array;
	for (let i = 0; i < second.length; i += 1) all[all.length] = second[i] as Uint8Array;
	return all;
}

function restOf(chunk: Uint8Array, from: number): Uint8Array {
	const size = ownApply(bytesLength, chunk, []);
	return new OwnUint8Array(ownApply(bytesBuffer, chunk, []), ownApply(bytesOffset, chunk, []) + from, size - from);
}
