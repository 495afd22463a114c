/**
 * Which route a path names. Paths are compared segment by segment as they came; only a segment that a route takes as
 * a parameter is decoded, so that `%2F` and `..` inside it are characters of a name and never structure.
 */
import { EngineError } from "../core/errors.ts";
import { HttpError } from "./http-problem.ts";

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

export interface RouteHead {
	readonly method: Method;
	/** Literal segments and `{parameter}` segments. */
	readonly path: string;
}

export interface Match<T> {
	readonly route: T;
	readonly params: Readonly<Record<string, string>>;
}

interface Compiled<T> {
	readonly route: T;
	readonly segments: readonly { readonly literal: string | undefined; readonly name: string }[];
}

function decodeSegment(text: string): string {
	let decoded: string;
	try {
		decoded = decodeURIComponent(text);
	} catch (cause) {
		throw new EngineError("BAD_REQUEST", `expected percent-encoded UTF-8 in the path, got ${JSON.stringify(text)}`, {
			cause,
		});
	}
	if (decoded.includes("\0")) throw new EngineError("BAD_REQUEST", "expected a path without NUL (%00)");
	return decoded;
}

/** HEAD is answered as GET (Node leaves the body out). Returns undefined where no route has the path. */
export function createRouter<T extends RouteHead>(
	routes: readonly T[],
): (method: string, path: string) => Match<T> | undefined {
	const bySize = new Map<number, Compiled<T>[]>();
	for (const route of routes) {
		const segments = route.path.split("/").map((segment) => {
			const isParameter = segment.startsWith("{");
			return { literal: isParameter ? undefined : segment, name: segment.slice(1, -1) };
		});
		const same = bySize.get(segments.length);
		if (same === undefined) bySize.set(segments.length, [{ route, segments }]);
		else same.push({ route, segments });
	}
	return (given, path) => {
		const method = given === "HEAD" ? "GET" : given;
		const parts = path.split("/");
		const fits = (bySize.get(parts.length) ?? []).filter(({ segments }) =>
			segments.every(({ literal }, index) => (literal === undefined ? parts[index] !== "" : literal === parts[index])),
		);
		if (fits.length === 0) return undefined;
		const found = fits.find(({ route }) => route.method === method);
		if (found === undefined) {
			const methods = new Set<string>(fits.map(({ route }) => route.method));
			if (methods.has("GET")) methods.add("HEAD");
			const allow = [...methods].join(", ");
			throw new HttpError("METHOD_NOT_ALLOWED", `${path} takes ${allow}, not ${given}`, ["allow", allow]);
		}
		const params: Record<string, string> = {};
		found.segments.forEach(({ literal, name }, index) => {
			if (literal === undefined) params[name] = decodeSegment(parts[index] ?? "");
		});
		return { route: found.route, params };
	};
}
