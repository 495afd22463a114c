/** What one running HTTP source works with, and how its long waits end. */
import type { ServerResponse } from "node:http";
import type { Engine, InvocationRecord } from "../core/contracts.ts";
import type { Environment } from "../core/environment.ts";

export interface HttpContext {
	readonly engine: Engine;
	readonly environment: Environment;
	/** Aborts when the source stops: long polls and streams end, and answers close their connection. */
	readonly stopping: AbortSignal;
	/** Pages that functions answer get our origin, and with it the API. */
	readonly trustFunctionPages: boolean;
}

/** Runs `wait` with a signal that aborts when the source stops or the client leaves. */
export async function whileWanted<T>(
	context: HttpContext,
	res: ServerResponse,
	wait: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
	const controller = new AbortController();
	const abort = (): void => controller.abort();
	if (context.stopping.aborted || res.destroyed) abort();
	context.stopping.addEventListener("abort", abort, { once: true });
	res.once("close", abort);
	try {
		return await wait(controller.signal);
	} finally {
		context.stopping.removeEventListener("abort", abort);
		res.off("close", abort);
	}
}

/** The record as it is when the invocation ends, or when the time, the client or the source is over. */
export async function waitFor(
	context: HttpContext,
	res: ServerResponse,
	invocationId: string,
	timeoutMs: number,
): Promise<{ readonly record: InvocationRecord; readonly timedOutWaiting: boolean }> {
	return await whileWanted(context, res, (signal) =>
		context.engine.awaitInvocation(invocationId, { timeoutMs, signal }),
	);
}
