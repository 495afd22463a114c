/**
 * What a worker prints to its stdout and stderr pipes, as lines. Pipes are always read on, so that a flood slows the
 * worker and never blocks it; memory stays bounded: lines are cut at 16 KiB, and what is over the pace is counted and dropped.
 */
import type { Clock } from "../core/environment.ts";
import { LIMITS } from "../core/limits.ts";

const CUT_MARK = " … [cut]";
/** Of a line that is cut; with the mark it is within the bound, or whoever stores it would cut the mark. */
const CUT_LINE_BYTES = LIMITS.logLineBytesMax - Buffer.byteLength(CUT_MARK);
/** The budget of a stream: as much as one attempt may log at once, and 64 KiB/s after that. */
const REFILL_BYTES_PER_MS = 64;
const LINE_FEED = 10;

export class OutputReader {
	readonly #clock: Clock;
	readonly #emit: (line: string) => void;
	#parts: Buffer[] = [];
	#bytes = 0;
	/** The rest of the line that was cut is skipped. */
	#skipping = false;
	#left: number = LIMITS.logBytesPerAttemptMax;
	#filledAt: number;
	#dropped = 0;

	constructor(clock: Clock, emit: (line: string) => void) {
		this.#clock = clock;
		this.#emit = emit;
		this.#filledAt = clock.monotonic();
	}

	/** False where nothing of it was kept: it came too fast, or is the rest of a line that was cut. */
	push(chunk: Uint8Array): boolean {
		const now = this.#clock.monotonic();
		this.#left = Math.min(LIMITS.logBytesPerAttemptMax, this.#left + (now - this.#filledAt) * REFILL_BYTES_PER_MS);
		this.#filledAt = now;
		if (this.#left < LIMITS.logLineBytesMax) {
			this.#dropped += chunk.byteLength + this.#bytes;
			this.#clear();
			return false;
		}
		this.#reportDropped();
		const buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
		let at = 0;
		let kept = false;
		while (at < buffer.byteLength && this.#left > 0) {
			const end = buffer.indexOf(LINE_FEED, at);
			if (this.#take(buffer.subarray(at, end < 0 ? buffer.byteLength : end))) kept = true;
			if (end < 0) return kept;
			this.#endLine();
			kept = true;
			at = end + 1;
		}
		this.#dropped += buffer.byteLength - at;
		return kept;
	}

	/** The stream is over: what was not ended by a line feed is a line too. */
	end(): void {
		if (this.#bytes > 0) this.#endLine();
		this.#reportDropped();
	}

	/** False where all of it is skipped. */
	#take(part: Buffer): boolean {
		if (this.#skipping || part.byteLength === 0) return false;
		const room = CUT_LINE_BYTES - this.#bytes;
		this.#parts.push(part.byteLength > room ? part.subarray(0, room) : part);
		this.#bytes += Math.min(part.byteLength, room);
		if (part.byteLength <= room) return true;
		this.#post(CUT_MARK);
		this.#skipping = true;
		return true;
	}

	#endLine(): void {
		if (!this.#skipping) this.#post("");
		this.#clear();
	}

	#post(mark: string): void {
		const text = Buffer.concat(this.#parts).toString("utf8");
		this.#left -= this.#bytes + 64;
		this.#clear();
		this.#emit((text.endsWith("\r") ? text.slice(0, -1) : text) + mark);
	}

	#clear(): void {
		this.#parts = [];
		this.#bytes = 0;
		this.#skipping = false;
	}

	#reportDropped(): void {
		if (this.#dropped === 0) return;
		this.#emit(`${this.#dropped} bytes of output were dropped: the worker printed faster than they are kept`);
		this.#dropped = 0;
	}
}
