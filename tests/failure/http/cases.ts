/** The http cases of the fault catalogue: what is broken, how, and what must hold then. */
import type { FaultCase } from "../fault-case.ts";

export const HTTP: readonly FaultCase[] = [
	{
		id: "F1",
		what: "smuggling table: CL+TE, dup CL, TE variants, bare LF, space before colon, obs-fold, +5/0x5 CL, chunk overflow, NUL",
		injection: "raw sockets",
		holds: "stays so (regression)",
	},
	{
		id: "F2",
		what: "what Node lets through: two Host headers (200, first wins), `GET /x` without version, Host undefined (200), absolute-form target (`req.url` = `http://evil/x`), `Upgrade: h2c` ignored, raw `..`/`%00` in url",
		injection: "raw sockets; must be 400 by us",
		holds: "F1",
	},
	{
		id: "F3",
		what: "slowloris headers / body, 1,000 conns",
		injection: "",
		holds: "other requests p99 < 50 ms",
	},
	{
		id: "F4",
		what: "20 KB header (431), 2,001 headers, 100 MB body without length, gzip bomb, body after 413, pipelining 1,000",
		injection: "raw",
		holds: "bounded memory",
	},
	{
		id: "F5",
		what: "path traversal/odd names in function, bundle entry, event, lane, log file, static asset: `..`, `%2e%2e%2f`, `\\0`, absolute, `CON`, 300 chars, Unicode bidi, `__proto__`, `constructor`",
		injection: "property test on name validator `^[a-z][a-z0-9_-]{0,62}$` + static map",
		holds: "only the allow-list",
	},
	{
		id: "F6",
		what: "bundle archives (if any): zip/tar slip, symlink, hardlink, device, 10 GB sparse, 100k files, duplicate names, case clash",
		injection: "generated",
		holds: "rejected before write",
	},
	{
		id: "F7",
		what: "DNS rebinding: Host evil.com, 127.0.0.1.evil, [::1], localhost:port, no port",
		injection: "raw",
		holds: "421/403 unless in allowedHosts",
	},
	{
		id: "F8",
		what: "CSRF: cross-site form POST, text/plain JSON, `Sec-Fetch-Site: cross-site/same-site`, no header + bad Origin, null origin",
		injection: "raw + chromium",
		holds: "403 for unsafe methods",
	},
	{
		id: "F9",
		what: "CORS never `*` with credentials; preflight denied by default; SSE/WebSocket origin check",
		injection: "raw",
		holds: "F8",
	},
	{
		id: "F10",
		what: "auth: missing/bad/expired token, timing (crypto.timingSafeEqual on hashes), token in URL not logged, login throttle, session fixation, logout",
		injection: "tests",
		holds: "401/403",
	},
	{
		id: "F11",
		what: "XSS: function names, payloads, errors, logs with `<script>`, ANSI, CSV formula; CSP `default-src 'self'` without inline",
		injection: "playwright",
		holds: "no execution, CSP report empty",
	},
	{
		id: "F12",
		what: "secrets: canary values in env/secret store/payload redaction paths; grep every output, core dump setting, `/proc/<pid>/cmdline`, error messages, backups documented",
		injection: "canary scan",
		holds: "I15",
	},
	{
		id: "F13",
		what: "file modes: data dir 0700, db/log/socket 0600, secrets 0600, umask set before create; symlink in data dir; other uid connects",
		injection: "`setpriv --reuid` second user",
		holds: "EACCES",
	},
	{
		id: "F14",
		what: "webhook: bad signature, old/future timestamp, replayed id, altered raw body, multiple v1 signatures, wrong secret length",
		injection: "Standard Webhooks vectors",
		holds: "401, one invocation per webhook-id",
	},
	{
		id: "F15",
		what: "idempotency: same key same body (same id), same key other body (422), concurrent 100× (one id), after expiry, key length/charset",
		injection: "driver",
		holds: "I13",
	},
	{
		id: "F16",
		what: "ReDoS/complexity in our own parsers (cron, filters, globs, traceparent)",
		injection: "fuzz with 100 KB inputs",
		holds: "≤ 5 ms",
	},
	{
		id: "F17",
		what: "JSON: duplicate keys, `__proto__`, 1e999, lone surrogates, BOM, depth 100k, 1M keys",
		injection: "corpus",
		holds: "documented result",
	},
	{
		id: "F18",
		what: "CLI: terminal escape injection from function logs; `--` handling; broken pipe (`| head`) exits 0/141 quietly; NO_COLOR; not a TTY",
		injection: "scripts",
		holds: "clean",
	},
];
