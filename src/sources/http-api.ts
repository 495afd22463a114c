/**
 * Everything over HTTP that is not a function's own answer: /v1, health, metrics, the OpenAPI document and the pages.
 * Routes are data (http-routes.ts), what they do is operations.ts; this file answers the few that HTTP does its own way.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { EngineError } from "../core/errors.ts";
import { isTerminal } from "../core/invocation.ts";
import { send } from "./http-answer.ts";
import { JSON_BODY_BYTES_MAX, readBody, readJson } from "./http-body.ts";
import { eventOf } from "./http-cloudevents.ts";
import { waitFor, whileWanted } from "./http-context.ts";
import type { HttpContext } from "./http-context.ts";
import { readFunctionBody, sendAccepted, sendEnd } from "./http-gateway.ts";
import { shownInvocation } from "./http-invocation.ts";
import { streamLogs, wantsStream } from "./http-logs.ts";
import { openApiDocument } from "./http-openapi.ts";
import { sendPage } from "./http-pages.ts";
import type { PageLookup } from "./http-pages.ts";
import { pathParams, queryParams, withBody } from "./http-params.ts";
import { HttpError } from "./http-problem.ts";
import { checkFunctionSegment, invokeRequestOf } from "./http-request.ts";
import { createRouter } from "./http-router.ts";
import { ROUTES } from "./http-routes.ts";
import type { Route } from "./http-routes.ts";
import { callOperation } from "./operations.ts";

interface Call {
	readonly context: HttpContext;
	readonly req: IncomingMessage;
	readonly res: ServerResponse;
	readonly route: Route;
	/** From path and query; the body is not read yet. */
	readonly params: Record<string, unknown>;
	readonly query: string;
}

export type Api = (req: IncomingMessage, res: ServerResponse) => Promise<void>;

const INDEX = `BunBase Functions

  ANY  /functions/{name}[/path]   invoke a function
       /v1/…                      administration; see /openapi.json
  GET  /healthz                   alive
  GET  /readyz                    takes new work
  GET  /metrics                   Prometheus
`;

function sendJson(res: ServerResponse, status: number, value: unknown, headers: string[] = []): void {
	headers.push("content-type", "application/json", "cache-control", "no-store");
	send(res, status, headers, JSON.stringify(value));
}

function sendText(res: ServerResponse, status: number, text: string, headers: string[] = []): void {
	headers.push("content-type", "text/plain; charset=utf-8", "cache-control", "no-store");
	send(res, status, headers, text);
}

export function createApi(context: HttpContext, pages: PageLookup | undefined): Api {
	const match = createRouter(ROUTES);
	const system = systemRoutes(context);
	return async (req, res) => {
		const target = req.url ?? "";
		const mark = target.indexOf("?");
		const path = mark === -1 ? target : target.slice(0, mark);
		const method = req.method ?? "";
		const found = match(method, path);
		if (found !== undefined) {
			const query = mark === -1 ? "" : target.slice(mark + 1);
			const { route } = found;
			const fromPath = pathParams(route, found.params);
			const params = route.special === "enqueue" ? fromPath : { ...queryParams(route, query), ...fromPath };
			await answer({ context, req, res, route, params, query });
			return;
		}
		const fixed = system.get(path);
		const page = fixed === undefined ? pages?.(path) : undefined;
		if (fixed === undefined && page === undefined && path !== "/") {
			throw new EngineError(
				"ROUTE_NOT_FOUND",
				`no route has the path ${JSON.stringify(path.slice(0, 200))}; GET / lists them`,
			);
		}
		if (method !== "GET" && method !== "HEAD") {
			throw new HttpError("METHOD_NOT_ALLOWED", `${path} takes GET, HEAD, not ${method}`, ["allow", "GET, HEAD"]);
		}
		if (fixed !== undefined) fixed(res);
		else if (page !== undefined) sendPage(res, page);
		else sendText(res, 200, INDEX);
	};
}

function systemRoutes({ engine }: HttpContext): ReadonlyMap<string, (res: ServerResponse) => void> {
	let document: string | undefined;
	return new Map<string, (res: ServerResponse) => void>([
		["/healthz", (res) => sendText(res, 200, "alive\n")],
		[
			"/readyz",
			(res) => (engine.ready ? sendText(res, 200, "ready\n") : sendText(res, 503, "not ready\n", ["retry-after", "1"])),
		],
		[
			"/metrics",
			(res) => send(res, 200, ["content-type", "text/plain; version=0.0.4; charset=utf-8"], engine.renderMetrics()),
		],
		[
			"/openapi.json",
			(res) => {
				document ??= JSON.stringify(openApiDocument());
				send(res, 200, ["content-type", "application/json"], document);
			},
		],
	]);
}

async function answer(call: Call): Promise<void> {
	switch (call.route.special) {
		case undefined:
			await answerOperation(call, await bodyOf(call));
			return;
		case "emit":
			await answerOperation(call, eventOf(call.req, await readBody(call.req, call.res, JSON_BODY_BYTES_MAX)));
			return;
		case "enqueue":
			await answerEnqueue(call);
			return;
		case "invocation":
			await answerInvocation(call);
			return;
		case "response":
			answerResponse(call);
			return;
		case "logs":
			if (wantsStream(call.req)) await streamLogs(call.context, call.req, call.res, call.params);
			else await answerOperation(call, call.params);
	}
}

async function bodyOf({ req, res, route, params }: Call): Promise<Record<string, unknown>> {
	return withBody(route, params, route.body === undefined ? undefined : await readJson(req, res));
}

async function answerOperation({ context, res, route }: Call, params: Record<string, unknown>): Promise<void> {
	const { engine, environment } = context;
	const result = await whileWanted(context, res, (signal) =>
		callOperation(engine, route.operation, params, { source: "http", signal, clock: environment.clock }),
	);
	const made = route.operation === "invocations.retry" ? result["invocation_id"] : undefined;
	const headers = typeof made === "string" ? ["location", `/v1/invocations/${made}`, "x-invocation-id", made] : [];
	sendJson(res, route.status ?? 200, result, headers);
}

/** As `POST /functions/{function}` with `Prefer: respond-async`, for callers that never want the handler's answer. */
async function answerEnqueue({ context, req, res, params, query }: Call): Promise<void> {
	const segment = checkFunctionSegment(String(params["function"]));
	const body = await readFunctionBody(context.engine, req, res, segment);
	const request = invokeRequestOf(req, { segment, path: "/", query }, body, false);
	sendAccepted(res, await context.engine.enqueue(request), undefined);
}

async function answerInvocation({ context, res, params }: Call): Promise<void> {
	const id = String(params["invocation_id"]);
	const wait = params["wait"] as number | undefined;
	const withBody = params["body"] !== false;
	if (wait === undefined) {
		sendJson(res, 200, shownInvocation(context.engine.getInvocation(id), withBody));
		return;
	}
	const { record, timedOutWaiting } = await waitFor(context, res, id, wait);
	sendJson(res, 200, { ...shownInvocation(record, withBody), timed_out_waiting: timedOutWaiting });
}

function answerResponse({ context, res, params }: Call): void {
	const record = context.engine.getInvocation(String(params["invocation_id"]));
	if (record.result === undefined) {
		const why = isTerminal(record.state)
			? `it ended ${record.state}${record.error === undefined ? "" : ` (${record.error.code})`}`
			: `it is ${record.state}; wait for it at /v1/invocations/${record.invocationId}?wait=30s`;
		throw new EngineError("NO_RESPONSE", `the invocation has no response: ${why}`, {
			invocationId: record.invocationId,
		});
	}
	sendEnd(context, res, record);
}
