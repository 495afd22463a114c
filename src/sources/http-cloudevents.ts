/**
 * The event in a `POST /v1/events`: our own `{type, data}`, or a CloudEvent 1.0 in structured mode
 * (`application/cloudevents+json`) or binary mode (`ce-*` headers, the data as body).
 */
import type { IncomingMessage } from "node:http";
import { EngineError } from "../core/errors.ts";
import { objectOf, parseDocument } from "./wire-request.ts";

function text(value: unknown, name: string): string | undefined {
	if (value === undefined || value === null) return undefined;
	if (typeof value === "string" && value !== "") return value;
	throw new EngineError("BAD_REQUEST", `expected the CloudEvents attribute ${name} to be a string that is not empty`);
}

function checkVersion(value: unknown): void {
	if (value !== "1.0") throw new EngineError("BAD_REQUEST", 'expected specversion to be "1.0"');
}

/** `charset` and other parameters cut off; lower case. */
function mediaType(header: string | undefined): string {
	return (header ?? "").split(";", 1)[0]?.trim().toLowerCase() ?? "";
}

function isJson(type: string): boolean {
	return type === "" || type === "application/json" || type.endsWith("+json");
}

/** The parameters of `events.emit`. */
export function eventOf(req: IncomingMessage, body: Uint8Array): Record<string, unknown> {
	const type = mediaType(req.headers["content-type"]);
	if (type === "application/cloudevents+json") return structured(objectOf(parseDocument(body)));
	if (req.headers["ce-specversion"] !== undefined) return binary(req, type, body);
	if (type.startsWith("application/cloudevents")) {
		throw new EngineError("BAD_REQUEST", `CloudEvents are taken as application/cloudevents+json, not as ${type}`);
	}
	return { ...objectOf(parseDocument(body)) };
}

function structured(event: Readonly<Record<string, unknown>>): Record<string, unknown> {
	checkVersion(event["specversion"]);
	const { data } = event;
	const base64 = text(event["data_base64"], "data_base64");
	return attributes(event["type"], event["source"], event["id"], data ?? base64 ?? null);
}

function binary(req: IncomingMessage, type: string, body: Uint8Array): Record<string, unknown> {
	const { headers } = req;
	checkVersion(headers["ce-specversion"]);
	let data: unknown = null;
	if (body.byteLength > 0) {
		if (isJson(type)) data = parseDocument(body);
		else if (type.startsWith("text/")) data = Buffer.from(body).toString("utf8");
		else throw new EngineError("BAD_REQUEST", `event data is taken as JSON or text, not as ${type}`);
	}
	return attributes(headers["ce-type"], headers["ce-source"], headers["ce-id"], data);
}

function attributes(type: unknown, source: unknown, id: unknown, data: unknown): Record<string, unknown> {
	const params: Record<string, unknown> = { type: text(type, "type"), data };
	const from = text(source, "source");
	if (from !== undefined) params["source"] = from;
	const own = text(id, "id");
	if (own !== undefined) params["id"] = own;
	return params;
}
