/** Answers with the bytes it was sent: the engine's share of a round trip, with as little of a handler as there can be. */
export default async function handler(req: Request): Promise<Response> {
	return new Response(await req.arrayBuffer());
}
