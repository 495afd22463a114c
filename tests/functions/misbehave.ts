/** Does what its path says. */
interface Context {
	readonly attempt: number;
	readonly signal: AbortSignal;
}

export const config = { timeoutMs: 500, graceMs: 200, retry: { maxAttempts: 1 } };

export default async function handler(req: Request, ctx: Context): Promise<Response> {
	switch (new URL(req.url).pathname) {
		case "/spin":
			for (;;) {
				// Never lets go.
			}
		case "/exit":
			return process.exit(3);
		case "/abort":
			return process.abort();
		case "/kill":
			process.kill(process.pid, "SIGKILL");
			return new Promise<Response>(() => undefined);
		case "/hang":
			return new Promise<Response>(() => undefined);
		case "/honour":
			return new Promise<Response>((_, reject) => {
				ctx.signal.addEventListener("abort", () => reject(new Error("stopped as asked")));
			});
		case "/throw":
			throw new TypeError("thrown on purpose");
		case "/string":
			return "no response" as unknown as Response;
		default:
			return new Response(`attempt ${ctx.attempt}`);
	}
}
