/** Answers after the milliseconds in its query (`?ms=1000`): an invocation that awaits something. */
export default async function handler(req: Request): Promise<Response> {
	const ms = Number(new URL(req.url).searchParams.get("ms") ?? "1000");
	await new Promise<void>((resolve) => setTimeout(resolve, ms));
	return new Response("waited");
}
