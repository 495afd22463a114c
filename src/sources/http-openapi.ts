/** The OpenAPI 3.1 document, made from the tables that answer: http-routes.ts and the schemas of operations.ts. */
import { z } from "zod";
import { ROUTES } from "./http-routes.ts";
import type { Route } from "./http-routes.ts";
import { OPERATIONS } from "./operations.ts";
import type { Operation } from "./operations.ts";

type Json = Record<string, unknown>;

const PROBLEM = { $ref: "#/components/responses/Problem" };
const VERBS = ["get", "head", "post", "put", "patch", "delete", "options"] as const;

function parametersOf(route: Route): Json[] {
	const inPath = [...route.path.matchAll(/\{(\w+)\}/g)].map((match) => ({
		name: match[1],
		in: "path",
		required: true,
		schema: { type: "string" },
	}));
	const inQuery = Object.entries(route.query ?? {}).map(([name, kind]) => ({
		name,
		in: "query",
		schema: { type: kind === "integer" || kind === "boolean" ? kind : "string" },
	}));
	return [...inPath, ...inQuery];
}

/** The operation's parameters that neither path nor query gives. */
function bodySchemaOf(route: Route, operation: Operation): Json | undefined {
	if (route.special === "enqueue") return undefined;
	if (route.body === undefined && route.special !== "emit") return undefined;
	const schema = z.toJSONSchema(operation.params, { io: "input", unrepresentable: "any" }) as Json;
	const { $schema: _, ...whole } = schema;
	const properties = { ...(whole["properties"] as Json | undefined) };
	if (route.body !== undefined && route.body !== "fields") return (properties[route.body] as Json | undefined) ?? {};
	const given = new Set(parametersOf(route).map((parameter) => parameter["name"]));
	for (const name of Object.keys(properties)) if (given.has(name)) delete properties[name];
	const required = ((whole["required"] as string[] | undefined) ?? []).filter((name) => !given.has(name));
	return { ...whole, properties, ...(required.length === 0 ? { required: undefined } : { required }) };
}

function documentOf(route: Route): Json {
	const operation = OPERATIONS[route.operation] as unknown as Operation;
	const schema = bodySchemaOf(route, operation);
	const isAnyBody = route.special === "enqueue";
	const content = isAnyBody ? { "*/*": {} } : schema === undefined ? undefined : { "application/json": { schema } };
	return {
		summary: route.summary ?? operation.summary,
		operationId: `${route.method.toLowerCase()}${route.path.replace(/[^A-Za-z0-9]+([A-Za-z0-9]?)/g, (_, next: string) => next.toUpperCase())}`,
		parameters: parametersOf(route),
		...(content === undefined ? {} : { requestBody: { content } }),
		responses: {
			[String(route.status ?? 200)]: { description: "OK", content: { "application/json": {} } },
			default: PROBLEM,
		},
	};
}

export function openApiDocument(): Json {
	const paths: Record<string, Json> = {};
	for (const route of ROUTES) (paths[route.path] ??= {})[route.method.toLowerCase()] = documentOf(route);
	const invoke = {
		summary: "Invokes the function and answers with the handler's own status, headers and body.",
		parameters: [{ name: "name", in: "path", required: true, schema: { type: "string" } }],
		responses: { default: { description: "The handler's answer, or a problem", content: { "*/*": {} } } },
	};
	paths["/functions/{name}"] = Object.fromEntries(VERBS.map((verb) => [verb, invoke]));
	return {
		openapi: "3.1.0",
		info: { title: "BunBase Functions", version: "1", description: "A durable function engine for one machine." },
		paths,
		components: {
			responses: {
				Problem: {
					description: "What was refused or failed, and why (RFC 9457)",
					content: {
						"application/problem+json": {
							schema: {
								type: "object",
								required: ["type", "title", "status", "detail", "code"],
								properties: {
									type: { type: "string" },
									title: { type: "string" },
									status: { type: "integer" },
									detail: { type: "string" },
									code: { type: "string" },
									invocation_id: { type: "string" },
								},
							},
						},
					},
				},
			},
		},
	};
}
