/**
 * Fails on its first attempt and succeeds on the second, as a call to somebody else's API does:
 * `bunbase invoke flaky --async`, then `bunbase result ID --wait 10s`, and see both attempts with `bunbase result ID --json`.
 */
interface Context {
	/** 1 for the first attempt; rises with each. */
	readonly attempt: number;
	readonly log: { warn(message: string): void };
}

export const config = { retry: { maxAttempts: 3, baseMs: 200, jitter: false } };

export default async function handler(_req: Request, ctx: Context): Promise<Response> {
	if (ctx.attempt === 1) {
		ctx.log.warn("the other side does not answer, this attempt fails");
		throw new Error("connection refused by the payment provider");
	}
	return Response.json({ ok: true, attempt: ctx.attempt });
}
