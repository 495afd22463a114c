/** The handler as a function of the engine. */
import { answerTo, type Payload } from "./contract.ts";

export default async function handler(req: Request): Promise<Response> {
	return Response.json(answerTo((await req.json()) as Payload));
}
