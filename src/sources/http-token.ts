/**
 * Who may call where tokens are asked for: a request that brings one of them, in `Authorization: Bearer` or, where that
 * header is the function's own, in `X-BunBase-Token`.
 *
 *   K1  compared as digests in constant time, with every token, so that the time tells nothing
 *   K2  the token that let a request in is taken out of it: no handler sees it and no row keeps it
 *   K3  health and readiness are open: a monitor needs no secret, and they tell none
 */
import { hash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { HttpError } from "./http-problem.ts";

const OPEN: ReadonlySet<string> = new Set(["/healthz", "/readyz"]);
const BEARER = /^bearer +([\x21-\x7e]+)$/i;
const OWN_HEADER = "x-bunbase-token";

/** Throws UNAUTHORIZED. Without tokens everybody may call. */
export function createTokenCheck(tokens: readonly string[]): (req: IncomingMessage) => void {
	if (tokens.length === 0) return () => undefined;
	const digests = tokens.map(digestOf);
	const isKnown = (given: string): boolean => {
		const digest = digestOf(given);
		let known = false;
		for (const one of digests) known = timingSafeEqual(one, digest) || known; // K1
		return known;
	};
	return (req) => {
		const { authorization } = req.headers;
		const own = req.headers[OWN_HEADER];
		const bearer = authorization === undefined ? undefined : BEARER.exec(authorization)?.[1];
		if (typeof own === "string" && isKnown(own)) return take(req, OWN_HEADER);
		if (own === undefined && bearer !== undefined && isKnown(bearer)) return take(req, "authorization");
		if (OPEN.has(req.url ?? "")) return; // K3
		throw new HttpError(
			"UNAUTHORIZED",
			"expected a token of this daemon, as Authorization: Bearer TOKEN or X-BunBase-Token: TOKEN",
			["www-authenticate", 'Bearer realm="bunbase"'],
		);
	};
}

function digestOf(token: string): Buffer {
	return hash("sha256", token, "buffer");
}

/** K2. Every header of the name goes: a second one would be the same token, or one that nobody has checked. */
function take(req: IncomingMessage, name: string): void {
	delete req.headers[name];
	const raw = req.rawHeaders;
	for (let index = raw.length - 2; index >= 0; index -= 2) {
		if (raw[index]?.toLowerCase() === name) raw.splice(index, 2);
	}
}
