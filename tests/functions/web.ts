/** Answers as its query asks: what a browser, a slow client or a curious one may meet. */
interface Context {
	readonly signal: AbortSignal;
	readonly log: { info(message: string, metadata?: object): void };
}

export const config = { timeoutMs: 60_000, retry: { maxAttempts: 1 }, maxBodyBytes: 6 * 1024 * 1024 };

export default async function handler(req: Request, ctx: Context): Promise<Response> {
	const url = new URL(req.url);
	const asked = url.searchParams;
	switch (url.pathname) {
		case "/page": // any content type, any bytes: what a careless function hands on from its caller
			return new Response(asked.get("body"), { headers: { "content-type": asked.get("type") ?? "text/html" } });
		case "/headers":
			return new Response("", { headers: [[asked.get("name") ?? "x-a", asked.get("value") ?? ""]] });
		case "/hold": {
			const { promise, resolve } = Promise.withResolvers<void>();
			ctx.signal.addEventListener("abort", () => resolve());
			setTimeout(() => resolve(), Number(asked.get("ms") ?? 600_000));
			await promise;
			return new Response("held");
		}
		case "/throw":
			throw new Error(asked.get("message") ?? "thrown on purpose");
		case "/log":
			console.log(asked.get("message"));
			ctx.log.info(asked.get("message") ?? "", { message: asked.get("message") });
			return new Response("logged");
		default: {
			const bytes = (await req.arrayBuffer()).byteLength;
			const search = [...asked];
			return Response.json({ method: req.method, path: url.pathname, search, bytes, headers: [...req.headers] });
		}
	}
}
