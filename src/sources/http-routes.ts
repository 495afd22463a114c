/**
 * The table of /v1: which operation of operations.ts a method and path mean, and where its parameters come from.
 * A route without an operation is answered by the function of http-api.ts that `special` names.
 */
import type { OperationName } from "./operations.ts";
import type { RouteHead } from "./http-router.ts";

/** How the text of a query key or path segment becomes a parameter. */
export type TextKind = "string" | "integer" | "instant" | "duration" | "boolean" | "list";

export type Special = "enqueue" | "invocation" | "response" | "emit" | "logs";

export interface Route extends RouteHead {
	/** One line for documents, where it is not the operation's. */
	readonly summary?: string;
	readonly operation: OperationName;
	readonly special?: Special;
	/** Query keys, by the name of their parameter. Any other key is refused. */
	readonly query?: Readonly<Record<string, TextKind>>;
	/** Path parameters that are not plain strings. */
	readonly segments?: Readonly<Record<string, TextKind>>;
	/** `fields`: the body's keys are parameters. Otherwise the name of the one parameter that the whole body is. */
	readonly body?: "fields" | "overrides" | "values";
	/** Parameters that the path itself says. */
	readonly fixed?: Readonly<Record<string, unknown>>;
	/** Default 200. */
	readonly status?: number;
}

const FN = "/v1/functions/{function}";
const INV = "/v1/invocations/{invocation_id}";
const LOG_QUERY = {
	level: "string",
	since: "instant",
	until: "instant",
	after: "integer",
	offset: "integer",
	limit: "integer",
	tail: "boolean",
	wait_ms: "duration",
} as const satisfies Record<string, TextKind>;
const LIST_QUERY = { state: "string", limit: "integer", before: "string" } as const satisfies Record<string, TextKind>;

export const ROUTES: readonly Route[] = [
	{ method: "GET", path: "/v1/functions", operation: "functions.list" },
	{ method: "POST", path: "/v1/functions", operation: "functions.register", body: "fields" },
	{ method: "GET", path: FN, operation: "functions.get" },
	{ method: "PATCH", path: FN, operation: "functions.configure", body: "overrides" },
	{ method: "GET", path: `${FN}/versions`, operation: "functions.versions" },
	{ method: "GET", path: `${FN}/deployments`, operation: "functions.deployments" },
	{ method: "POST", path: `${FN}/deployments`, operation: "functions.deploy", body: "fields", status: 201 },
	{ method: "POST", path: `${FN}/rollback`, operation: "functions.rollback", body: "fields", status: 201 },
	{ method: "GET", path: `${FN}/env`, operation: "env.list" },
	{ method: "PUT", path: `${FN}/env`, operation: "env.set", body: "values" },
	{ method: "DELETE", path: `${FN}/env`, operation: "env.unset", query: { names: "list" } },
	{ method: "DELETE", path: `${FN}/env/{names}`, operation: "env.unset", segments: { names: "list" } },
	{ method: "GET", path: `${FN}/metrics`, operation: "metrics.get", query: { period: "string" } },
	{ method: "GET", path: `${FN}/logs`, operation: "logs.read", special: "logs", query: LOG_QUERY },
	{ method: "GET", path: `${FN}/schedules`, operation: "schedules.list" },
	{ method: "POST", path: `${FN}/schedules`, operation: "schedules.put", body: "fields" },
	{ method: "GET", path: `${FN}/invocations`, operation: "invocations.list", query: LIST_QUERY },
	{
		method: "POST",
		path: `${FN}/invocations`,
		summary: "Enqueues; the body is the request's body. Answers 202 with the invocation's id.",
		operation: "invocations.enqueue_batch",
		special: "enqueue",
		status: 202,
	},
	{
		method: "GET",
		path: "/v1/invocations",
		operation: "invocations.list",
		query: { function: "string", ...LIST_QUERY },
	},
	{ method: "POST", path: "/v1/invocations", operation: "invocations.enqueue_batch", body: "fields" },
	{
		method: "GET",
		path: INV,
		summary: "Everything known of one invocation; `wait` waits for its end.",
		operation: "invocations.await",
		special: "invocation",
		query: { wait: "duration", body: "boolean" },
	},
	{
		method: "GET",
		path: `${INV}/response`,
		summary: "The handler's response as it was: its status, headers and bytes.",
		operation: "invocations.get",
		special: "response",
	},
	{
		method: "GET",
		path: `${INV}/logs`,
		operation: "logs.read",
		special: "logs",
		query: LOG_QUERY,
	},
	{ method: "POST", path: `${INV}/cancel`, operation: "invocations.cancel", body: "fields" },
	{ method: "POST", path: `${INV}/retry`, operation: "invocations.retry", body: "fields", status: 202 },
	{ method: "GET", path: "/v1/schedules", operation: "schedules.list", query: { function: "string" } },
	{ method: "POST", path: "/v1/schedules", operation: "schedules.put", body: "fields" },
	{ method: "DELETE", path: "/v1/schedules/{schedule_id}", operation: "schedules.delete" },
	{
		method: "POST",
		path: "/v1/schedules/{schedule_id}/pause",
		operation: "schedules.pause",
		fixed: { paused: true },
	},
	{
		method: "POST",
		path: "/v1/schedules/{schedule_id}/resume",
		operation: "schedules.pause",
		fixed: { paused: false },
	},
	{ method: "GET", path: "/v1/events", operation: "events.list", query: { limit: "integer" } },
	{
		method: "POST",
		path: "/v1/events",
		summary: "Emits an event: `{type, data}`, or a CloudEvent (structured or binary).",
		operation: "events.emit",
		special: "emit",
		status: 202,
	},
	{ method: "GET", path: "/v1/lanes", operation: "lanes.list" },
	{ method: "POST", path: "/v1/lanes/{function}/pause", operation: "lanes.pause", fixed: { paused: true } },
	{ method: "POST", path: "/v1/lanes/{function}/resume", operation: "lanes.pause", fixed: { paused: false } },
	{ method: "GET", path: "/v1/workers", operation: "workers.list" },
	{
		method: "GET",
		path: "/v1/logs",
		operation: "logs.read",
		special: "logs",
		query: { function: "string", invocation_id: "string", ...LOG_QUERY },
	},
	{ method: "GET", path: "/v1/stats", operation: "stats.get" },
];
