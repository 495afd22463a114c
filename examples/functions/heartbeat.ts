/** Runs every ten seconds by its own schedule (six fields: the first is seconds); see `bunbase schedules list`. */
interface Context {
	readonly log: { info(message: string): void };
}

export const config = {
	timeoutMs: 5_000,
	schedules: [{ name: "every-ten-seconds", cron: "*/10 * * * * *", misfire: "skip", overlap: "skip" }],
};

export default async function handler(req: Request, ctx: Context): Promise<Response> {
	const due = req.headers.get("x-bunbase-scheduled-at") ?? "now";
	ctx.log.info(`alive, due at ${due}`);
	return Response.json({ alive: true, due });
}
