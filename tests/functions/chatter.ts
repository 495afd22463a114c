/** `/log`: prints `lines` lines of `bytes` each, as fast as it can. `/big`: answers with as many bytes. `/fail`: throws. */
export default async function handler(req: Request): Promise<Response> {
	const url = new URL(req.url);
	const bytes = Number(url.searchParams.get("bytes") ?? 100);
	switch (url.pathname) {
		case "/log": {
			const lines = Number(url.searchParams.get("lines") ?? 1);
			const text = "x".repeat(bytes);
			for (let line = 0; line < lines; line += 1) {
				console.log(`${line} ${text}`);
				// Lets the heartbeat and the channel have a turn, as any handler that awaits does.
				if (line % 5_000 === 4_999) await Bun.sleep(0);
			}
			return Response.json({ lines });
		}
		case "/big":
			return new Response("y".repeat(bytes));
		case "/fail":
			throw new Error(`failed on purpose: ${(await req.text()).slice(0, 100)}`);
		default:
			return new Response("ok");
	}
}
