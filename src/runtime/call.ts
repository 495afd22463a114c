/**
 * One call of the handler: the Request and the context it gets, and the message that tells how it ended.
 *
 * A call ends exactly once, by `response` or `failed` where no abort had reached it, else by `ended`.
 */
import type { AbortReason, ChannelLogLevel, InvokeMessage, RuntimeLimits, WorkerMessage } from "../protocol/index.ts";
import {
	bytesLength,
	controllerAbort,
	controllerSignal,
	headersAppend,
	headersSet,
	OwnAbortController,
	ownApply,
	OwnDOMException,
	ownEncodeURIComponent,
	OwnHeaders,
	OwnRequest,
	signalAborted,
} from "./intrinsics.ts";
import { createLineSink, type LineSink } from "./lines.ts";
import type { Handler } from "./loader.ts";
import { type Result, readResult } from "./result.ts";
import { describeThrown, textOf } from "./text.ts";
import type { ReadWhole } from "./whole-body.ts";

/** Anything but a string is shown as text. */
type Log = (message: unknown, metadata?: unknown) => void;

/** The handler's second argument. */
export interface HandlerContext {
	readonly invocationId: string;
	/** 1 for the first try. */
	readonly attempt: number;
	/** Aborted at the time limit and at a cancel; the same as `request.signal`. */
	readonly signal: AbortSignal;
	/** UTC milliseconds at which the signal aborts. */
	readonly deadline: number;
	readonly log: { readonly debug: Log; readonly info: Log; readonly warn: Log; readonly error: Log };
	/** Work that goes on after the answer. A worker that is to end gives it `graceMs`; its failure is logged. */
	waitUntil(work: unknown): void;
}

export interface CallDependencies {
	readonly handler: Handler;
	readonly functionName: string;
	readonly limits: RuntimeLimits;
	readonly readWhole: ReadWhole;
	readonly send: (message: WorkerMessage) => void;
	/** Counts work of `waitUntil` that is not done. */
	readonly hold: (by: 1 | -1) => void;
}

export class Call {
	readonly id: number;
	readonly #message: InvokeMessage;
	readonly #deps: CallDependencies;
	readonly #signal: AbortSignal;
	readonly #controller = new OwnAbortController();
	#sink: LineSink | undefined;
	#ended = false;

	constructor(message: InvokeMessage, deps: CallDependencies) {
		this.id = message.call;
		this.#message = message;
		this.#deps = deps;
		this.#signal = ownApply(controllerSignal, this.#controller, []);
	}

	/** Made for the first line, because most calls print none. */
	get sink(): LineSink {
		if (this.#sink !== undefined) return this.#sink;
		const { limits, send } = this.#deps;
		this.#sink = createLineSink({ call: this.id, limits, send });
		if (this.#ended) this.#sink.end();
		return this.#sink;
	}

	abort(reason: AbortReason): void {
		if (this.#aborted) return;
		const why =
			reason === "timeout"
				? new OwnDOMException("the attempt ran into its time limit", "TimeoutError")
				: new OwnDOMException("the invocation was cancelled", "AbortError");
		ownApply(controllerAbort, this.#controller, [why]);
	}

	get #aborted(): boolean {
		return ownApply(signalAborted, this.#signal, []);
	}

	/** Runs the handler to its end and returns the message for the pool. Never rejects. */
	async run(): Promise<WorkerMessage> {
		const { handler, limits, readWhole } = this.#deps;
		let answer: WorkerMessage;
		try {
			const given = await handler(this.#request(), this.#context());
			const result = readResult(given, { limits, readWhole, signal: this.#signal });
			answer = this.#answer("ok" in result ? result : await result);
		} catch (thrown) {
			const text = describeThrown(thrown, limits.errorTextBytesMax);
			answer = { type: "failed", call: this.id, code: "HANDLER_ERROR", ...text };
		}
		this.#ended = true;
		this.#sink?.end();
		return this.#aborted ? { type: "ended", call: this.id } : answer;
	}

	#answer(result: Result): WorkerMessage {
		const call = this.id;
		if (!result.ok) {
			const { code, message } = result;
			return { type: "failed", call, code, name: undefined, message, stack: undefined };
		}
		const { status, headers, body } = result;
		return { type: "response", call, status, headers, body };
	}

	#request(): Request {
		const { method, path, query, headers, body, invocationId } = this.#message;
		let url = `http://${this.#deps.functionName}.function.internal${path}`;
		let mark = "?";
		// No iterators, here and below: those of arrays may be replaced.
		for (let i = 0; i < query.length; i += 1) {
			const pair = query[i];
			if (pair === undefined) continue;
			url += `${mark}${ownEncodeURIComponent(pair[0])}=${ownEncodeURIComponent(pair[1])}`;
			mark = "&";
		}
		const all = new OwnHeaders();
		for (let i = 0; i < headers.length; i += 1) {
			const pair = headers[i];
			if (pair !== undefined) ownApply(headersAppend, all, [pair[0], pair[1]]);
		}
		ownApply(headersSet, all, ["x-invocation-id", invocationId]);
		// Without a prototype: a property that user code gave to all objects must not become an option.
		const init = { __proto__: null, method, headers: all, signal: this.#signal } as RequestInit;
		// Fetch forbids a body for these two, and a handler that tests `request.body` wants null for an empty one.
		if (ownApply(bytesLength, body, []) > 0 && method !== "GET" && method !== "HEAD")
			init.body = body as Uint8Array<ArrayBuffer>;
		return new OwnRequest(url, init);
	}

	#context(): HandlerContext {
		const { invocationId, attempt, deadline } = this.#message;
		const log =
			(level: ChannelLogLevel): Log =>
			(message, metadata) =>
				this.sink.line(level, typeof message === "string" ? message : textOf(message), metadata);
		return {
			invocationId,
			attempt,
			deadline,
			signal: this.#signal,
			log: { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") },
			waitUntil: (work) => void this.#outlast(work),
		};
	}

	async #outlast(work: unknown): Promise<void> {
		const { limits, hold } = this.#deps;
		hold(1);
		try {
			await work;
		} catch (thrown) {
			const { message, stack } = describeThrown(thrown, limits.errorTextBytesMax);
			this.sink.line("error", `work given to waitUntil failed: ${stack ?? message}`);
		} finally {
			hold(-1);
		}
	}
}
