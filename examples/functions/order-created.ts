/**
 * Runs for each `order.created` event: `bunbase events emit order.created '{"orderId":"A-17","totalCents":29900}'`.
 *
 * An event may be delivered again after a crash, so the work is keyed by the event's id (`ce-id`).
 */
interface Order {
	readonly orderId: string;
	readonly totalCents: number;
}

interface Context {
	readonly log: { info(message: string, metadata?: object): void };
}

export const config = { events: ["order.created"], retry: { maxAttempts: 10 } };

export default async function handler(req: Request, ctx: Context): Promise<Response> {
	const order = (await req.json()) as Order;
	const eventId = req.headers.get("ce-id") ?? "unknown";
	ctx.log.info(`order ${order.orderId} over ${(order.totalCents / 100).toFixed(2)}`, { eventId });
	return Response.json({ confirmed: order.orderId, eventId });
}
