/**
 * Works in steps and stops between two of them when it is told to, so that a timeout or `bunbase cancel ID` leaves
 * nothing half done: `bunbase invoke slow '{"seconds":20}'`, then Ctrl-C, then `bunbase cancel ID`.
 */
interface Context {
	/** Aborts at the time limit and at a cancel. */
	readonly signal: AbortSignal;
	readonly log: { info(message: string): void };
}

export const config = { timeoutMs: 60_000, graceMs: 2_000, concurrency: 4 };

export default async function handler(req: Request, ctx: Context): Promise<Response> {
	const body = req.method === "GET" ? "" : await req.text();
	const { seconds = 3 } = (body === "" ? {} : JSON.parse(body)) as { seconds?: number };
	for (let step = 1; step <= seconds; step += 1) {
		await pause(1000, ctx.signal);
		ctx.log.info(`step ${step} of ${seconds}`);
	}
	return Response.json({ steps: seconds });
}

/** Resolves after `ms`, or rejects as soon as the signal aborts. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
	return new Promise((resolve, reject) => {
		const stop = (): void => {
			clearTimeout(timer);
			reject(signal.reason instanceof Error ? signal.reason : new Error("stopped"));
		};
		const timer = setTimeout(() => {
			signal.removeEventListener("abort", stop);
			resolve();
		}, ms);
		if (signal.aborted) stop();
		else signal.addEventListener("abort", stop, { once: true });
	});
}
