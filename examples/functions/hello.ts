/** Greets whoever the JSON body names: `bunbase invoke hello '{"name":"Ada"}'`. */
interface Context {
	readonly invocationId: string;
	readonly log: { info(message: string, metadata?: object): void };
}

export default async function handler(req: Request, ctx: Context): Promise<Response> {
	const body = req.method === "GET" ? "" : await req.text();
	const { name = "world" } = (body === "" ? {} : JSON.parse(body)) as { name?: string };
	ctx.log.info(`greeting ${name}`, { invocationId: ctx.invocationId });
	return Response.json({ message: `Hello, ${name}!` });
}
