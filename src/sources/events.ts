/**
 * The events source: an emitted event becomes one InvokeRequest for each subscribed function. The engine commits the
 * event and all of them in one transaction; this file only says what a subscriber sees: the event's data as the
 * body, and its attributes as CloudEvents 1.0 headers (binary mode).
 */
import type { EmittedEvent, Engine, Source } from "../core/contracts.ts";
import type { InvokeRequest } from "../core/request.ts";

const encoder = new TextEncoder();

export function eventsSource(): Source {
	return {
		kind: "events",
		async start(engine: Engine) {
			engine.translateEvents(requestOf);
		},
		async stop() {
			// Holds nothing: what was emitted is committed.
		},
	};
}

function requestOf(event: EmittedEvent, functionId: string): InvokeRequest {
	return {
		function: functionId,
		source: "event",
		method: "POST",
		path: "/",
		headers: [
			["x-bunbase-source", "event"],
			["ce-specversion", "1.0"],
			["ce-id", event.eventId],
			["ce-type", event.type],
			["ce-source", event.source],
			["ce-time", new Date(event.at).toISOString()],
			["content-type", "application/json"],
		],
		query: [],
		body: encoder.encode(event.dataJson),
		waits: false,
	};
}
