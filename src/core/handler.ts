/** What a function module is to its author: the types of its default export. No code; functions need nothing of ours at run time. */

/** Anything but a string is shown as text. */
type Log = (message: unknown, metadata?: unknown) => void;

/** The second argument of a handler. */
export interface Context {
	/** Stable over all attempts: use it to recognise work that was begun before. */
	readonly invocationId: string;
	/** 1 for the first try. */
	readonly attempt: number;
	/** Aborted at the time limit and at a cancel; the same as `request.signal`. */
	readonly signal: AbortSignal;
	/** UTC milliseconds at which the signal aborts. */
	readonly deadline: number;
	/** Lines of this invocation's log. */
	readonly log: { readonly debug: Log; readonly info: Log; readonly warn: Log; readonly error: Log };
	/** Work that goes on after the answer; the worker is not ended before it settles. */
	waitUntil(work: unknown): void;
}

export type Handler = (request: Request, context: Context) => Response | Promise<Response>;
