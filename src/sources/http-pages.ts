/** Static pages beside the API: how the dashboard hands them over, and the headers that keep them harmless. */
import type { ServerResponse } from "node:http";
import { send } from "./http-answer.ts";

export interface Page {
	readonly contentType: string;
	readonly body: Uint8Array | string;
	/** Quoted; a request that names it in If-None-Match is answered 304. */
	readonly etag?: string | undefined;
}

/** The page at a path, from a fixed map: a path is never turned into a file name. */
export type PageLookup = (path: string) => Page | undefined;

/** Scripts and styles from our own files only, no frames, no forms to elsewhere, no name of ours in a Referer. */
const PAGE_HEADERS = [
	"content-security-policy",
	"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
	"referrer-policy",
	"no-referrer",
	"cross-origin-opener-policy",
	"same-origin",
	"cache-control",
	"no-cache",
] as const;

export function sendPage(res: ServerResponse, page: Page): void {
	const headers: string[] = ["content-type", page.contentType, ...PAGE_HEADERS];
	if (page.etag !== undefined) {
		headers.push("etag", page.etag);
		if (res.req.headers["if-none-match"] === page.etag) {
			send(res, 304, headers);
			return;
		}
	}
	send(res, 200, headers, page.body);
}
