/** The parameters of an operation from an HTTP request: path, then query, then body. No source may say what another said. */
import { EngineError } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";
import { instantOf } from "./http-request.ts";
import type { Route, TextKind } from "./http-routes.ts";

const DURATION = /^([0-9]{1,12})(ms|s|m|h)?$/;
const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

function refuse(name: string, expected: string, got: string): never {
	throw new EngineError("BAD_REQUEST", `expected ${name} to be ${expected}, got ${JSON.stringify(got.slice(0, 80))}`);
}

/** `30s`, `500ms`, `2m`, `1h`; a bare number is in `bareUnit`. */
export function durationOf(name: string, text: string, bareUnit: "s" | "ms"): number {
	const match = DURATION.exec(text);
	const ms = match === null ? NaN : Number(match[1]) * (UNIT_MS[match[2] ?? bareUnit] ?? NaN);
	if (!(ms <= LIMITS.awaitMsMax)) refuse(name, "a duration such as 30s, 500ms or 2m, of at most 24 h", text);
	return ms;
}

function valueOf(name: string, kind: TextKind, text: string): unknown {
	switch (kind) {
		case "string":
			return text;
		case "integer":
			return /^-?[0-9]{1,16}$/.test(text) ? Number(text) : refuse(name, "a whole number", text);
		case "instant":
			return instantOf(name, text);
		case "duration":
			return durationOf(name, text, name.endsWith("_ms") ? "ms" : "s");
		case "boolean":
			if (text === "true" || text === "1" || text === "") return true;
			return text === "false" || text === "0" ? false : refuse(name, "true or false", text);
		case "list":
			return text.split(",").filter((item) => item !== "");
		default:
			return kind satisfies never;
	}
}

/** The query as parameters; unknown and repeated keys are refused, because a typo would widen what is asked for. */
export function queryParams(route: Route, query: string): Record<string, unknown> {
	const kinds = route.query ?? {};
	const params: Record<string, unknown> = {};
	for (const [name, text] of new URLSearchParams(query)) {
		const kind = Object.hasOwn(kinds, name) ? kinds[name] : undefined;
		if (kind === undefined) {
			const known = Object.keys(kinds).join(", ");
			refuse("the query", known === "" ? "empty" : `made of ${known}`, name);
		}
		if (Object.hasOwn(params, name)) refuse(name, "given once", text);
		params[name] = valueOf(name, kind, text);
	}
	return params;
}

export function pathParams(route: Route, segments: Readonly<Record<string, string>>): Record<string, unknown> {
	const params: Record<string, unknown> = {};
	for (const [name, text] of Object.entries(segments)) {
		params[name] = valueOf(name, route.segments?.[name] ?? "string", text);
	}
	return params;
}

/** Adds the body's part. A key that the path names already may repeat its value, and nothing else. */
export function withBody(route: Route, params: Record<string, unknown>, body: unknown): Record<string, unknown> {
	if (route.body === undefined || (route.body === "fields" && body === undefined)) return { ...params, ...route.fixed };
	if (route.body !== "fields") return { ...params, [route.body]: body ?? {} };
	if (typeof body !== "object" || body === null || Array.isArray(body)) {
		refuse("the body", "a JSON object", JSON.stringify(body));
	}
	for (const [name, value] of Object.entries(body)) {
		if (Object.hasOwn(params, name) && params[name] !== value) {
			refuse(name, `${JSON.stringify(params[name])}, as the path says`, JSON.stringify(value) ?? "");
		}
	}
	return { ...(body as Record<string, unknown>), ...params, ...route.fixed };
}
