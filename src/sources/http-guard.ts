/**
 * Which requests are looked at at all: the wire's form, then Host, then Origin. Runs before any route.
 *
 *   G1  exactly one Host, HTTP/1.1, a target that is a path: what is left open here, two parsers read differently
 *   G2  Host is a name we serve. A page on evil.example whose DNS answers 127.0.0.1 (rebinding) sends its own name
 *   G3  a browser on another site changes nothing: Sec-Fetch-Site decides where the browser sends it (the rule of
 *       Go's CrossOriginProtection), else Origin; a client that sends neither is no browser
 *
 * Measured on Node 24: two Host headers (first wins), `GET /x` without a version, and absolute-form targets all get
 * through its parser; everything else in tests/unit/sources/http-wire.test.ts it refuses itself.
 */
import type { IncomingMessage } from "node:http";
import { EngineError } from "../core/errors.ts";

const AUTHORITY = /^(\[[0-9a-f:.]+\]|[^:[\]/\\@\s]+)(?::([0-9]{1,5}))?$/;
const ORIGIN = /^https?:\/\/([^/\\@\s]+)$/;
const LOOPBACK_NAMES = ["localhost", "127.0.0.1", "[::1]"];

/** As it stands in a Host header: lower case, IPv6 in brackets. */
function hostText(host: string): string {
	const lower = host.toLowerCase();
	return lower.includes(":") && !lower.startsWith("[") && lower.split(":").length > 2 ? `[${lower}]` : lower;
}

export function isLoopback(host: string): boolean {
	const text = hostText(host);
	return text === "localhost" || text === "[::1]" || /^127(\.\d{1,3}){3}$/.test(text);
}

/** Safe methods change nothing by definition (RFC 9110 §9.2.1). */
function isSafe(method: string | undefined): boolean {
	return method === "GET" || method === "HEAD" || method === "OPTIONS";
}

/** Returns the check that every request passes first; it throws what the request is refused with. */
export function createGuard(host: string, allowedHosts: readonly string[]): (req: IncomingMessage) => void {
	const allowed = new Set([...LOOPBACK_NAMES, host, ...allowedHosts].map(hostText));
	/** Nearly every request names the same host as the one before. */
	let lastGood = "";

	function isServed(value: string): boolean {
		if (value === lastGood) return true;
		const lower = value.toLowerCase();
		const match = AUTHORITY.exec(lower);
		if (match === null || !(allowed.has(match[1] ?? "") || allowed.has(lower))) return false;
		lastGood = value;
		return true;
	}

	return (req) => {
		// G1
		if (req.httpVersionMajor !== 1 || req.httpVersionMinor !== 1) {
			throw new EngineError(
				"BAD_REQUEST",
				`expected HTTP/1.1, got HTTP/${req.httpVersion}; a proxy may need to be told, e.g. nginx by "proxy_http_version 1.1"`,
			);
		}
		const target = req.url ?? "";
		if (target.charCodeAt(0) !== 47 || target.includes("#")) {
			throw new EngineError("BAD_REQUEST", 'expected a request target that is a path and starts with "/"');
		}
		let hosts = 0;
		const raw = req.rawHeaders;
		for (let index = 0; index < raw.length; index += 2) {
			const name = raw[index] ?? "";
			if (name.length === 4 && name.toLowerCase() === "host") hosts++;
		}
		const hostHeader = req.headers.host;
		if (hosts !== 1 || hostHeader === undefined || hostHeader === "") {
			throw new EngineError(
				"BAD_REQUEST",
				`expected exactly one Host header, got ${hosts === 1 ? "an empty one" : hosts}`,
			);
		}
		// G2
		if (!isServed(hostHeader)) {
			throw new EngineError(
				"HOST_NOT_ALLOWED",
				`this daemon does not serve the host ${JSON.stringify(hostHeader.slice(0, 80))}; use localhost, or name it in allowedHosts`,
			);
		}
		// G3
		if (isSafe(req.method)) return;
		const site = req.headers["sec-fetch-site"];
		if (site === "same-origin" || site === "none") return;
		const origin = req.headers.origin;
		if (site === undefined) {
			if (origin === undefined) return;
			const match = ORIGIN.exec(origin.toLowerCase());
			if (match !== null && match[1] === hostHeader.toLowerCase()) return;
		}
		throw new EngineError(
			"ORIGIN_NOT_ALLOWED",
			`a page on another site (${JSON.stringify((origin ?? String(site)).slice(0, 80))}) may not send ${req.method ?? "this"} here`,
		);
	};
}
