/** Frames to the pool: those of one turn leave in one write, and what the kernel does not take waits for room. */
import { FrameWriter, type WorkerMessage } from "../protocol/index.ts";
import { ownQueueMicrotask } from "./intrinsics.ts";

export interface OutboxSocket {
	/** How many bytes were taken; negative where the socket is closed. */
	write(bytes: Uint8Array): number;
}

export interface Outbox {
	send(message: WorkerMessage): void;
	/** Writes what waits; called at the end of the turn and when the socket has room again. */
	flush(): void;
	/** Calls `done` when all that was sent so far is with the kernel. */
	whenEmpty(done: () => void): void;
}

export function createOutbox(socket: OutboxSocket, nextTick: (callback: () => void) => void): Outbox {
	const writer = new FrameWriter();
	let waiting: Uint8Array[] = [];
	let scheduled = false;
	let onEmpty: (() => void) | undefined;

	function flush(): void {
		scheduled = false;
		if (!writer.empty) waiting.push(...writer.take());
		let written = 0;
		for (const chunk of waiting) {
			const count = socket.write(chunk);
			if (count >= chunk.byteLength) {
				written += 1;
				continue;
			}
			if (count > 0) waiting[written] = chunk.subarray(count);
			break;
		}
		if (written > 0) waiting = waiting.slice(written);
		if (waiting.length === 0) onEmpty?.();
	}

	return {
		send(message) {
			writer.worker(message);
			if (scheduled) return;
			scheduled = true;
			// The tick queue runs when the microtasks are done: all calls that end in this turn share the write.
			ownQueueMicrotask(() => nextTick(flush));
		},
		flush,
		whenEmpty(done) {
			onEmpty = done;
			flush();
		},
	};
}
