/** Says in the file LEDGER when it starts and when it finishes; takes `ms` milliseconds in between. */
import { appendFileSync } from "node:fs";

interface Context {
	readonly invocationId: string;
	readonly attempt: number;
}

function tell(what: string, ctx: Context): void {
	const path = process.env["LEDGER"];
	if (path === undefined) return;
	appendFileSync(path, `${JSON.stringify({ what, id: ctx.invocationId, attempt: ctx.attempt, pid: process.pid })}\n`);
}

export default async function handler(req: Request, ctx: Context): Promise<Response> {
	const { ms = 0, echo = null } = (await req.json()) as { ms?: number; echo?: unknown };
	tell("start", ctx);
	if (ms > 0) await Bun.sleep(ms);
	tell("finish", ctx);
	return Response.json({ echo, attempt: ctx.attempt });
}
