/** Takes `ms` milliseconds, by a timer or by keeping the CPU; heeds its signal or does not; or calls itself. */
import { appendFileSync } from "node:fs";

interface Context {
	readonly invocationId: string;
	readonly attempt: number;
	readonly signal: AbortSignal;
}

function keepCpu(ms: number): void {
	const until = performance.now() + ms;
	while (performance.now() < until);
}

/** A line for each start and end, to a file that is not the engine's. */
function tell(what: string, ctx: Context): void {
	const path = process.env["LEDGER"];
	if (path === undefined) return;
	appendFileSync(path, `${JSON.stringify({ what, id: ctx.invocationId, attempt: ctx.attempt, pid: process.pid })}\n`);
}

export default async function handler(req: Request, ctx: Context): Promise<Response> {
	const { pathname, searchParams } = new URL(req.url);
	const ms = Number(searchParams.get("ms") ?? 0);
	tell("start", ctx);
	switch (pathname) {
		case "/spin":
			keepCpu(ms);
			break;
		case "/heeds": {
			const { promise, resolve, reject } = Promise.withResolvers<void>();
			const timer = setTimeout(() => resolve(), ms);
			ctx.signal.addEventListener("abort", () => {
				clearTimeout(timer);
				reject(ctx.signal.reason as Error);
			});
			await promise;
			break;
		}
		case "/recurse": {
			const depth = Number(searchParams.get("depth"));
			if (depth === 0) break;
			const answer = await fetch(`${process.env["SELF"]}/functions/races/recurse?depth=${depth - 1}`, {
				method: "POST",
			});
			return new Response(`${await answer.text()} < ${depth}`, { status: answer.status });
		}
		default:
			await Bun.sleep(ms);
	}
	tell("finish", ctx);
	return new Response(searchParams.get("name") ?? "done");
}
