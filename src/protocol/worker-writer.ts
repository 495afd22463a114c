/** Messages of a worker's channel into frames. */
import { apply, encodeInto, max, OwnBuffer, OwnBytes, OwnNumbers, set, sizeOf, stringify } from "./intrinsics.ts";
import { FIXED_BYTES, INVOKE_NUMBERS, NOTHING, RESPONSE_NUMBERS, TWO_32, writeU32 } from "./worker-frames.ts";
import {
	HOST_TYPES,
	WORKER_TYPE_BASE,
	WORKER_TYPES,
	type ChannelPairs,
	type HostMessage,
	type InvokeMessage,
	type InvokeSource,
	type WorkerMessage,
} from "./worker-messages.ts";

/** Bodies up to here are copied beside their head, because one write of 20 KiB is cheaper than two. */
const BODY_COPY_BYTES_MAX = 16 * 1024;
/** Frames are written into one buffer after the other, over many turns, so that most turns allocate none. */
const BUFFER_BYTES = 32 * 1024;
const INVOKE_TYPE = HOST_TYPES.indexOf("invoke");
const RESPONSE_TYPE = WORKER_TYPE_BASE + WORKER_TYPES.indexOf("response");
const encoder = new TextEncoder();

/** Collects the frames that are written in one go, so that they leave in one write. */
export class FrameWriter {
	#chunks: Uint8Array[] = [];
	/** Of the head that is being written. */
	#numbers = new OwnNumbers(16);
	#memory = new ArrayBuffer(0);
	/** All of `#memory`. */
	#buffer = NOTHING;
	#size = 0;
	/** What was not taken yet is from `#start` to `#used`. */
	#start = 0;
	#used = 0;

	get empty(): boolean {
		return this.#used === this.#start && this.#chunks.length === 0;
	}

	host(message: Exclude<HostMessage, InvokeMessage>): void {
		this.#add(indexOf(HOST_TYPES, message.type), 0, stringify(message), NOTHING);
	}

	invoke(call: number, source: InvokeSource, deadline: number): void {
		const { invocationId, attempt, method, path, headersJson, queryJson } = source;
		const numbers = this.#numbers;
		numbers[0] = call;
		numbers[1] = attempt;
		numbers[2] = deadline % TWO_32;
		numbers[3] = deadline / TWO_32;
		numbers[4] = invocationId.length;
		numbers[5] = method.length;
		numbers[6] = path.length;
		numbers[7] = headersJson.length;
		numbers[8] = queryJson.length;
		this.#add(INVOKE_TYPE, INVOKE_NUMBERS, invocationId + method + path + headersJson + queryJson, source.body);
	}

	worker(message: WorkerMessage): void {
		if (message.type === "response") {
			const { call, status, headers, body } = message;
			const count = RESPONSE_NUMBERS + headers.length * 2;
			// An array would ask its prototype, which user code may have given setters.
			if (this.#numbers.length < count) this.#numbers = new OwnNumbers(count);
			const numbers = this.#numbers;
			numbers[0] = call;
			numbers[1] = status;
			numbers[2] = headers.length * 2;
			let texts = "";
			for (let i = 0, at = RESPONSE_NUMBERS; i < headers.length; i += 1, at += 2) {
				const pair = headers[i] as ChannelPairs[number];
				numbers[at] = pair[0].length;
				numbers[at + 1] = pair[1].length;
				texts += pair[0] + pair[1];
			}
			this.#add(RESPONSE_TYPE, count, texts, body);
		} else {
			const type = WORKER_TYPE_BASE + indexOf(WORKER_TYPES, message.type);
			this.#add(type, 0, stringify(bare(message)), NOTHING);
		}
	}

	/** What is to be written now, in order. The chunks belong to the caller. */
	take(): Uint8Array[] {
		this.#cut();
		const chunks = this.#chunks;
		this.#chunks = [];
		return chunks;
	}

	#cut(): void {
		if (this.#used === this.#start) return;
		this.#chunks[this.#chunks.length] = new OwnBytes(this.#memory, this.#start, this.#used - this.#start);
		this.#start = this.#used;
	}

	/** The head is so many of `#numbers`, then the text. */
	#add(type: number, numbers: number, text: string, body: Uint8Array): void {
		const bodyBytes = apply(sizeOf, body, []);
		const copied = bodyBytes <= BODY_COPY_BYTES_MAX ? bodyBytes : 0;
		// One UTF-16 unit becomes at most three bytes.
		const room = 4 + FIXED_BYTES + numbers * 4 + text.length * 3 + copied;
		if (this.#size - this.#used < room) {
			this.#cut();
			this.#size = max(room, BUFFER_BYTES);
			this.#memory = new OwnBuffer(this.#size);
			this.#buffer = new OwnBytes(this.#memory);
			this.#start = this.#used = 0;
		}
		const buffer = this.#buffer;
		const start = this.#used;
		const headAt = start + 4 + FIXED_BYTES;
		let at = headAt;
		for (let i = 0; i < numbers; i += 1) {
			writeU32(buffer, at, this.#numbers[i] ?? 0);
			at += 4;
		}
		if (text.length > 0) {
			const rest = new OwnBytes(this.#memory, at, this.#size - at);
			at += apply(encodeInto, encoder, [text, rest]).written;
		}
		writeU32(buffer, start, FIXED_BYTES + at - headAt + bodyBytes);
		buffer[start + 4] = type;
		writeU32(buffer, start + 5, at - headAt);
		this.#used = at;
		if (bodyBytes === 0) return;
		if (copied > 0) {
			apply(set, buffer, [body, this.#used]);
			this.#used += copied;
		} else {
			this.#cut();
			this.#chunks[this.#chunks.length] = body;
		}
	}
}

/** Without what `Object.prototype.toJSON` would make of it. */
function bare(message: WorkerMessage): object {
	return { ...message, toJSON: undefined };
}

function indexOf<Type>(types: readonly Type[], type: Type): number {
	let at = 0;
	while (types[at] !== type) at += 1;
	return at;
}
