/** F7, F8, F9 and F11: what a web page in the user's browser can make the daemon do. Every request as a browser writes it. */
import assert from "node:assert/strict";
import { fault } from "../fault.ts";
import { seededRandom } from "../../support/seed.ts";
import { CLOSE, HOST, scene, statuses } from "./scene.ts";

const s = scene({ env: { BUNBASE_ALLOWED_HOSTS: "app.example.com,exact.example.com:8443" } });

/** Everything that answers, and whether it is an unsafe method somewhere. */
const SAFE = ["/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/stats", "/v1/logs", "/functions/web"];
const UNSAFE: readonly (readonly [method: string, path: string, body: string])[] = [
	["POST", "/functions/web", "x"],
	["PUT", "/functions/web", "x"],
	["PATCH", "/functions/web", "x"],
	["DELETE", "/functions/web", ""],
	["POST", "/v1/functions", '{"name":"made-by-a-page"}'],
	["PATCH", "/v1/functions/web", '{"memoryMb":1024}'],
	["PUT", "/v1/functions/web/env", '{"MADE":"by a page"}'],
	["POST", "/v1/functions/web/deployments", '{"path":"/tmp/x.ts"}'],
	["POST", "/v1/lanes/web/pause", ""],
	["POST", "/v1/events", '{"type":"made.by.a.page"}'],
	["POST", "/v1/functions/web/invocations", "x"],
];

function request(method: string, path: string, headers: string, body = ""): string {
	return `${method} ${path} HTTP/1.1\r\n${headers}${CLOSE}Content-Length: ${body.length}\r\n\r\n${body}`;
}

/** Nothing that an unsafe request of UNSAFE would have changed has changed. */
async function unchanged(accepted: number): Promise<void> {
	assert.equal(await s.accepted(), accepted);
	const { functions } = JSON.parse((await s.call("GET", "/v1/functions")).text) as {
		functions: { name: string; paused: boolean; config: { memoryMb: number } }[];
	};
	assert.deepEqual(
		functions.map(({ name, config }) => [name, config.memoryMb]),
		[["web", 256]],
	);
	assert.match((await s.call("GET", "/v1/functions/web/env")).text, /"variables":\[\]/);
	assert.match((await s.call("GET", "/v1/lanes")).text, /"paused":false/);
	assert.match((await s.call("GET", "/v1/events")).text, /"events":\[\]/);
}

for (const [host, served] of [
	["localhost", true],
	["LocalHost:1", true],
	["127.0.0.1", true],
	["127.0.0.1:8080", true],
	["[::1]:9", true],
	["app.example.com", true],
	["app.example.com:8443", true],
	["exact.example.com:8443", true],
	["exact.example.com", false],
	["evil.example", false],
	["evil.example:8080", false],
	["127.0.0.1.evil.example", false],
	["127.0.0.1.nip.io", false],
	["localhost.evil.example", false],
	["evil.example.localhost", false],
	["localhost@evil.example", false],
	["evil.example/localhost", false],
	["evil.example\\localhost", false],
	["localhost:", false],
	["localhost:80:80", false],
	["localhost.", false],
	["0.0.0.0", false],
	["0", false],
	["127.1", false],
	["0x7f000001", false],
	["2130706433", false],
	["[::]", false],
	["[::ffff:127.0.0.1]", false],
	["localhost, evil.example", false],
	["*", false],
	["__proto__", false],
	["constructor", false],
] as const) {
	fault(
		"F7",
		`a page whose name answers our address is ${served ? "served as" : "421, and changes nothing, as"} ${host}`,
		async () => {
			const accepted = await s.accepted();
			if (served) {
				for (const path of SAFE)
					assert.deepEqual(statuses(await s.raw(request("GET", path, `Host: ${host}\r\n`))), [200], path);
				return;
			}
			// To the browser of a rebound name everything is same-origin.
			const rebound = `Host: ${host}\r\nOrigin: http://${host}\r\nSec-Fetch-Site: same-origin\r\n`;
			for (const path of SAFE) assert.deepEqual(statuses(await s.raw(request("GET", path, rebound))), [421], path);
			for (const [method, path, body] of UNSAFE)
				assert.deepEqual(statuses(await s.raw(request(method, path, rebound, body))), [421], path);
			await unchanged(accepted);
		},
	);
}

fault("F7", "no name that is near an allowed one is taken", async (f) => {
	const random = seededRandom(f.seed);
	const pick = (text: string): string => text[Math.floor(random.next() * text.length)] ?? "";
	const good = ["localhost", "127.0.0.1", "[::1]", "app.example.com"];
	for (let run = f.runs(200, 5000); run > 0; run--) {
		const name = good[run % good.length] ?? "";
		const at = Math.floor(random.next() * (name.length + 1));
		const near = name.slice(0, at) + pick("abz019.:@/\\[]%-_ \t;,") + name.slice(at + Math.floor(random.next() * 2));
		const trimmed = near.trim().toLowerCase();
		const same = good.some((allowed) =>
			new RegExp(`^${allowed.replaceAll(/[.[\]]/g, String.raw`\$&`)}(:\\d{1,5})?$`).test(trimmed),
		);
		const [status = 0] = statuses(await s.raw(request("GET", "/v1/stats", `Host: ${near}\r\n`)));
		if (same) assert.equal(status, 200, JSON.stringify(near));
		else assert.ok(status === 421 || status === 400, `${JSON.stringify(near)}: ${status}`);
	}
});

/** What a browser sends with a request of a page elsewhere; ours answers at localhost:8080. */
const ORIGIN_RULES: readonly (readonly [headers: string, allowed: boolean])[] = [
	["", true],
	["Sec-Fetch-Site: same-origin\r\nOrigin: http://localhost\r\n", true],
	["Sec-Fetch-Site: none\r\n", true],
	["Origin: http://localhost\r\n", true],
	["Origin: https://localhost\r\n", true],
	["Sec-Fetch-Site: cross-site\r\nOrigin: https://evil.example\r\n", false],
	["Sec-Fetch-Site: same-site\r\nOrigin: http://localhost:3000\r\n", false],
	["Sec-Fetch-Site: cross-site\r\n", false],
	["Sec-Fetch-Site: cross-site\r\nOrigin: http://localhost\r\n", false],
	["Sec-Fetch-Site: cross-site\r\nOrigin: null\r\n", false],
	["Sec-Fetch-Site: \r\n", false],
	["Sec-Fetch-Site: SAME-ORIGIN\r\n", false],
	["Sec-Fetch-Site: same-origin, cross-site\r\n", false],
	["Origin: null\r\n", false],
	["Origin: \r\n", false],
	["Origin: http://localhost:3000\r\n", false],
	["Origin: http://localhost.evil.example\r\n", false],
	["Origin: http://evil.example/localhost\r\n", false],
	["Origin: http://localhost@evil.example\r\n", false],
	["Origin: file://\r\n", false],
	["Origin: chrome-extension://abcdefgh\r\n", false],
];

for (const [headers, allowed] of ORIGIN_RULES) {
	const title = headers.trim().replaceAll("\r\n", " and ") || "neither header";
	fault("F8", `${title}: unsafe methods are ${allowed ? "served" : "403 and change nothing"}`, async () => {
		const accepted = await s.accepted();
		if (allowed) {
			const answer = await s.raw(request("POST", "/functions/web", `${HOST}${headers}`, "x"));
			assert.deepEqual(statuses(answer), [200]);
			return;
		}
		for (const [method, path, body] of UNSAFE) {
			const answer = await s.raw(request(method, path, `${HOST}${headers}`, body));
			assert.deepEqual(statuses(answer), [403], `${method} ${path}: ${answer}`);
			assert.match(answer, /ORIGIN_NOT_ALLOWED/);
		}
		await unchanged(accepted);
	});
}

for (const [title, type, body] of [
	["an HTML form", "application/x-www-form-urlencoded", "name=made-by-a-page"],
	["a form that smuggles JSON", "text/plain", '{"name":"made-by-a-page","x":"=\r\n"}'],
	["a form with a file", "multipart/form-data; boundary=x", "--x\r\n\r\n{}\r\n--x--\r\n"],
	["a beacon", "application/json", '{"name":"made-by-a-page"}'],
] as const) {
	fault("F8", `${title} on another site posts nothing, whatever its type`, async () => {
		const accepted = await s.accepted();
		const headers = `${HOST}Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nContent-Type: ${type}\r\n`;
		for (const path of ["/v1/functions", "/v1/events", "/functions/web", "/v1/functions/web/deployments"])
			assert.deepEqual(statuses(await s.raw(request("POST", path, headers, body))), [403]);
		await unchanged(accepted);
	});
}

fault(
	"F8",
	"no method but GET, HEAD and OPTIONS is taken for safe, and a header does not change the method",
	async () => {
		const accepted = await s.accepted();
		const cross = `${HOST}Sec-Fetch-Site: cross-site\r\n`;
		for (const method of ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "LOCK", "TRACE", "QUERY"]) {
			const [status = 0] = statuses(await s.raw(request(method, "/functions/web", cross)));
			assert.ok([403, 400].includes(status), `${method}: ${status}`);
		}
		const disguised = `${cross}X-HTTP-Method-Override: DELETE\r\nX-Method: POST\r\n_method: PUT\r\n`;
		for (const [, path] of UNSAFE) {
			const [status = 0] = statuses(await s.raw(request("GET", path, disguised)));
			assert.ok([200, 404, 405].includes(status), `${path}: ${status}`);
		}
		const [, ...later] = UNSAFE;
		assert.ok(later.length > 0);
		// GET /functions/web is an invocation; nothing else came of it.
		await unchanged(accepted + 4);
	},
);

fault("F9", "no answer of ours allows another site to read it, preflights are refused", async () => {
	const origin = `${HOST}Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: cors\r\n`;
	const asks =
		"Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: content-type\r\nAccess-Control-Request-Private-Network: true\r\n";
	for (const path of SAFE.filter((path) => !path.startsWith("/functions/"))) {
		for (const [method, headers] of [
			["GET", origin],
			["OPTIONS", origin + asks],
		] as const) {
			const answer = await s.raw(request(method, path, headers));
			assert.doesNotMatch(answer, /access-control-/i, `${method} ${path}`);
			if (method === "OPTIONS") assert.deepEqual(statuses(answer), [405], path);
		}
	}
	for (const [method, path, body] of UNSAFE)
		assert.doesNotMatch(await s.raw(request(method, path, origin, body)), /access-control-/i);
});

fault(
	"F9",
	"a log stream for another site carries no permission to read it, and there is no WebSocket to open",
	async () => {
		await using line = await s.open();
		line.write(
			`GET /v1/logs HTTP/1.1\r\n${HOST}Origin: https://evil.example\r\nSec-Fetch-Site: cross-site\r\nAccept: text/event-stream\r\n\r\n`,
		);
		await line.until(/text\/event-stream[^]*\r\n\r\n/i);
		assert.doesNotMatch(line.text, /access-control-/i);
		assert.match(line.text, /nosniff/);
		const upgrade = `${HOST}Origin: https://evil.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n`;
		for (const path of ["/v1/logs", "/functions/web"]) {
			await using socket = await s.open();
			socket.write(`GET ${path} HTTP/1.1\r\n${upgrade}\r\n`);
			await socket.until(/HTTP\/1\.1 \d{3} /);
			assert.doesNotMatch(socket.text, / 101 /);
		}
	},
);

fault("F9", "a function may allow other sites itself: its own headers are sent, and never added to", async () => {
	const name = "access-control-allow-origin";
	const answer = await s.call("GET", `/functions/web/headers?name=${name}&value=https://app.example`);
	assert.equal(answer.headers.get(name), "https://app.example");
	assert.equal((await s.call("GET", "/functions/web")).headers.get(name), null);
});

/** Types that a browser shows as a page, or might. */
const PAGES = [
	"text/html",
	"text/html; charset=utf-8",
	"TEXT/HTML",
	"application/xhtml+xml",
	"image/svg+xml",
	"text/xml",
	"application/xml",
	"application/rss+xml",
	"application/mathml+xml",
	"multipart/x-mixed-replace; boundary=x",
	"text/plain, text/html",
	"text/plainx",
	"application/unknown",
	"x",
];
const SCRIPT = "<script>fetch('/v1/functions',{method:'POST',body:'{\"name\":\"pwned\"}'})</script>";

for (const type of PAGES) {
	fault("F11", `what a function answers as ${type} is no page of our origin`, async () => {
		const query = `type=${encodeURIComponent(type)}&body=${encodeURIComponent(SCRIPT)}`;
		const answer = await s.call("GET", `/functions/web/page?${query}`);
		assert.equal(answer.text, SCRIPT);
		assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
		const policy = answer.headers.get("content-security-policy") ?? "";
		assert.match(policy, /^sandbox /);
		assert.doesNotMatch(policy, /allow-same-origin|allow-top-navigation|popups-to-escape/);
		// Also where the answer is shown later, on the API's own path.
		const stored = await s.call("GET", `/v1/invocations/${answer.headers.get("x-invocation-id") ?? ""}/response`);
		assert.match(stored.headers.get("content-security-policy") ?? "", /^sandbox /);
	});
}

fault("F11", "the requests of a sandboxed page's scripts are those of another site: 403", async () => {
	// As browsers send them from an opaque origin.
	const headers = `${HOST}Origin: null\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: no-cors\r\nContent-Type: text/plain\r\n`;
	const accepted = await s.accepted();
	for (const [method, path, body] of UNSAFE)
		assert.deepEqual(statuses(await s.raw(request(method, path, headers, body))), [403], path);
	await unchanged(accepted);
});

fault("F11", "a handler cannot take the sandbox away, and its own policy stays beside it", async () => {
	for (const [name, value] of [
		["content-security-policy", "default-src 'self'"],
		["Content-Security-Policy", "script-src *"],
		["x-content-type-options", "sniff"],
	] as const) {
		const query = `name=${name}&value=${encodeURIComponent(value)}`;
		const answer = await s.call("GET", `/functions/web/headers?${query}`);
		assert.match(answer.headers.get("content-security-policy") ?? "", /sandbox /, name);
		assert.match(answer.headers.get(name) ?? "", new RegExp(value.replaceAll("*", String.raw`\*`)));
	}
});

for (const type of [
	"application/json",
	"text/plain; charset=utf-8",
	"text/csv",
	"image/png",
	"application/octet-stream",
]) {
	fault("F11", `${type} needs no sandbox: no browser runs it, because nosniff is said`, async () => {
		const answer = await s.call("GET", `/functions/web/page?type=${encodeURIComponent(type)}&body=x`);
		assert.equal(answer.headers.get("content-security-policy"), null);
		assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
	});
}

fault("F11", "every answer of ours that repeats what was sent is JSON or text that may load nothing", async () => {
	const bad = "<script>alert(1)</script>";
	const path = encodeURIComponent(bad);
	const answers = [
		await s.call("GET", "/"),
		await s.call("GET", "/metrics"),
		await s.call("GET", "/openapi.json"),
		await s.call("GET", "/healthz"),
		await s.call("GET", `/${path}`),
		await s.call("GET", `/functions/${path}`),
		await s.call("GET", `/v1/functions/${path}`),
		await s.call("GET", `/v1/invocations/${path}`),
		await s.call("GET", `/v1/logs?${path}=1`),
		await s.call("POST", "/v1/functions", { body: { name: bad } }),
		await s.call("POST", "/v1/functions", { body: `{${bad}` }),
		await s.call("POST", "/v1/events", { body: { type: "a", [bad]: 1 } }),
		await s.call("PATCH", "/v1/functions/web", { body: { [bad]: 1 } }),
		await s.call("POST", "/v1/functions/web/schedules", { body: { cron: bad, timezone: bad } }),
		await s.call("GET", `/functions/web/throw?message=${path}`),
		await s.call("GET", `/functions/web?x`, { headers: { "x-bunbase-priority": bad } }),
		await s
			.call("GET", `/functions/web/log?message=${path}`)
			.then(() => s.call("GET", "/v1/logs?function=web&tail=true")),
	];
	for (const { status, headers, text } of answers) {
		const type = headers.get("content-type") ?? "";
		assert.match(type, /^(?:application\/(?:json|problem\+json)|text\/plain)/, `${status} ${text.slice(0, 100)}`);
		assert.equal(headers.get("x-content-type-options"), "nosniff");
		assert.match(headers.get("content-security-policy") ?? "", /^default-src 'none'; frame-ancestors 'none'$/);
	}
	assert.ok(
		answers.some(({ text }) => text.includes(bad)),
		"nothing of it was repeated, so nothing was tested",
	);
});

fault("F11", "a handler's text breaks no header and adds none", async () => {
	for (const value of ["a\r\nSet-Cookie: x=1", "a\nX: 1", "a\0b", "\u{1f600}", "\x1b[2J"]) {
		const answer = await s.call("GET", `/functions/web/headers?name=x-said&value=${encodeURIComponent(value)}`);
		assert.ok([200, 500].includes(answer.status));
		assert.equal(answer.headers.get("set-cookie"), null);
		assert.doesNotMatch(answer.headers.get("x-said") ?? "", /[^\x20-\x7e]/);
	}
});
