/** What is refused before any route: the form of the wire, Host, Origin, and bodies. Raw sockets, because clients are polite. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { EngineError } from "../../../src/core/errors.ts";
import { createGuard } from "../../../src/sources/http-guard.ts";
import { echo } from "../../support/fake-engine.ts";
import { startHttp, until } from "../../support/http-harness.ts";

function statuses(answer: string): number[] {
	return [...answer.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((match) => Number(match[1]));
}

const HOST = "Host: localhost\r\n";
const CLOSE = "Connection: close\r\n";
const POST = `POST /functions/hello HTTP/1.1\r\n${HOST}`;

const SMUGGLING: Readonly<Record<string, string>> = {
	"Content-Length beside Transfer-Encoding": `${POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
	"two Content-Lengths that differ": `${POST}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!`,
	"two Content-Lengths that agree": `${POST}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello`,
	"a list as Content-Length": `${POST}Content-Length: 5, 5\r\n\r\nhello`,
	"Transfer-Encoding: xchunked": `${POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
	"Transfer-Encoding: chunked, identity": `${POST}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`,
	"Transfer-Encoding with a space before the colon": `${POST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`,
	"a line that ends in LF only": `POST /functions/hello HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n`,
	"a folded header line": `${POST}X-A: 1\r\n  2\r\nContent-Length: 0\r\n\r\n`,
	"Content-Length: +5": `${POST}Content-Length: +5\r\n\r\nhello`,
	"Content-Length: 0x5": `${POST}Content-Length: 0x5\r\n\r\nhello`,
	"Content-Length: -1": `${POST}Content-Length: -1\r\n\r\n`,
	"a chunk size that overflows": `${POST}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx\r\n0\r\n\r\n`,
	"a chunk size that is no number": `${POST}Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n`,
	"NUL in a header": `${POST}X-A: a\0b\r\nContent-Length: 0\r\n\r\n`,
	"NUL in the target": `GET /functions/hello\0 HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
	"%00 in the path": `GET /functions/hello/a%00b HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
	"two Host headers": `GET /functions/hello HTTP/1.1\r\n${HOST}Host: localhost\r\n${CLOSE}\r\n`,
	"two Host headers, the second in another case": `GET /functions/hello HTTP/1.1\r\n${HOST}hOsT: evil.example\r\n${CLOSE}\r\n`,
	"no Host header": `GET /functions/hello HTTP/1.1\r\n${CLOSE}\r\n`,
	"an empty Host header": `GET /functions/hello HTTP/1.1\r\nHost:\r\n${CLOSE}\r\n`,
	"no version": `GET /functions/hello\r\n\r\n`,
	"HTTP/1.0": `GET /functions/hello HTTP/1.0\r\n${HOST}${CLOSE}\r\n`,
	"HTTP/1.0 with keep-alive": `GET /functions/hello HTTP/1.0\r\n${HOST}\r\n`,
	"an absolute target": `GET http://localhost/functions/hello HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
	"an absolute target of another site": `GET http://evil.example/functions/hello HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
	"an asterisk target": `OPTIONS * HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
	"a fragment": `GET /functions/hello#x HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
	"a body with GET": `GET /functions/hello HTTP/1.1\r\n${HOST}${CLOSE}Content-Length: 1\r\n\r\nx`,
	"a chunked body with GET": `GET /functions/hello HTTP/1.1\r\n${HOST}${CLOSE}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n`,
	"a body with HEAD": `HEAD /functions/hello HTTP/1.1\r\n${HOST}${CLOSE}Content-Length: 1\r\n\r\nx`,
};

for (const [title, bytes] of Object.entries(SMUGGLING)) {
	test(`refused with 400, and nothing is queued: ${title}`, async (t) => {
		const { engine, raw } = await startHttp(t);
		engine.define("hello", echo);
		assert.deepEqual(statuses(await raw(bytes)), [400]);
		assert.equal(engine.requests.length, 0);
	});
}

test("a request hidden behind another's declared body is body, not a request", async (t) => {
	const { engine, raw } = await startHttp(t);
	engine.define("hello", echo);
	const hidden = `GET /functions/hello/hidden HTTP/1.1\r\n${HOST}\r\n`;
	const answer = await raw(`${POST}${CLOSE}Content-Length: ${hidden.length}\r\n\r\n${hidden}`);
	assert.deepEqual(statuses(answer).slice(0, 1), [200]);
	assert.deepEqual(
		engine.requests.map((request) => request.path),
		["/"],
	);
});

for (const upgrade of ["h2c", "websocket"]) {
	test(`an Upgrade to ${upgrade} is ignored`, async (t) => {
		const { engine, raw } = await startHttp(t);
		engine.define("hello", echo);
		const bytes = `GET /functions/hello HTTP/1.1\r\n${HOST}Connection: close, Upgrade\r\nUpgrade: ${upgrade}\r\n\r\n`;
		assert.deepEqual(statuses(await raw(bytes)), [200]);
	});
}

test("CONNECT gets no tunnel", async (t) => {
	const { raw } = await startHttp(t);
	assert.equal(await raw(`CONNECT 10.0.0.1:22 HTTP/1.1\r\n${HOST}\r\n`), "");
});

test("a head over 16 KiB is 431", async (t) => {
	const { raw } = await startHttp(t);
	assert.deepEqual(statuses(await raw(`GET / HTTP/1.1\r\n${HOST}X-A: ${"a".repeat(20_000)}\r\n\r\n`)), [431]);
});

test("a thousand pipelined requests get a thousand answers in order", async (t) => {
	const { engine, raw } = await startHttp(t);
	engine.define("hello", echo);
	const one = (index: number, close: string): string =>
		`POST /functions/hello HTTP/1.1\r\n${HOST}${close}Content-Length: 6\r\n\r\n#${String(index).padStart(5, "0")}`;
	const answer = await raw(Array.from({ length: 1000 }, (_, index) => one(index, index === 999 ? CLOSE : "")).join(""));
	assert.equal(statuses(answer).length, 1000);
	const order = [...answer.matchAll(/#(\d{5})/g)].map((match) => Number(match[1]));
	assert.deepEqual(
		order,
		Array.from({ length: 1000 }, (_, index) => index),
	);
});

// DNS rebinding
for (const [host, status] of [
	["localhost", 200],
	["LOCALHOST:1", 200],
	["127.0.0.1", 200],
	["127.0.0.1:8080", 200],
	["[::1]", 200],
	["[::1]:9", 200],
	["app.example.com", 200],
	["app.example.com:8443", 200],
	["exact.example.com:8443", 200],
	["exact.example.com", 421],
	["evil.example", 421],
	["127.0.0.1.evil.example", 421],
	["localhost.evil.example", 421],
	["evil.example:80", 421],
	["localhost@evil.example", 421],
	["evil.example/localhost", 421],
	["localhost:", 421],
	["localhost:80:80", 421],
	["localhost.", 421],
	["0.0.0.0", 421],
	["127.0.0.2", 421],
	["2130706433", 421],
	["[::]", 421],
	["__proto__", 421],
] as const) {
	test(`Host ${host} is answered ${status}`, async (t) => {
		const { raw } = await startHttp(t, { allowedHosts: ["app.example.com", "exact.example.com:8443"] });
		for (const path of ["/healthz", "/v1/stats"]) {
			assert.deepEqual(statuses(await raw(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${CLOSE}\r\n`)), [status]);
		}
	});
}

// Cross-site requests of browsers
for (const [headers, status] of [
	[[], 200],
	[["Sec-Fetch-Site", "same-origin"], 200],
	[["Sec-Fetch-Site", "none"], 200],
	[["Sec-Fetch-Site", "same-origin", "Origin", "http://localhost:81"], 200],
	[["Sec-Fetch-Site", "cross-site"], 403],
	[["Sec-Fetch-Site", "same-site"], 403],
	[["Sec-Fetch-Site", "cross-site", "Origin", "http://localhost:80"], 403],
	[["Sec-Fetch-Site", ""], 403],
	[["Origin", "http://localhost:80"], 200],
	[["Origin", "https://localhost:80"], 200],
	[["Origin", "http://localhost:81"], 403],
	[["Origin", "http://evil.example"], 403],
	[["Origin", "null"], 403],
	[["Origin", "file://"], 403],
	[["Origin", "http://localhost:80.evil.example"], 403],
	[["Origin", "http://localhost:80", "Origin", "http://evil.example"], 403],
	[["Origin", "http://evil.example", "Content-Type", "text/plain"], 403],
] as const) {
	test(`an unsafe method with ${headers.join(" ") || "neither header"} is answered ${status}`, async (t) => {
		const { engine, send } = await startHttp(t);
		engine.define("hello", echo);
		for (const [method, path] of [
			["POST", "/functions/hello"],
			["DELETE", "/functions/hello"],
			["POST", "/v1/lanes/hello/pause"],
		] as const) {
			const answer = await send(method, path, { headers: ["Host", "localhost:80", ...headers] });
			assert.equal(answer.status, status, `${method} ${path}`);
			if (status === 403) assert.equal(answer.json()["code"], "ORIGIN_NOT_ALLOWED");
			await send("POST", "/v1/lanes/hello/resume");
		}
		const read = await send("GET", "/v1/stats", { headers: ["Host", "localhost:80", ...headers] });
		assert.equal(read.status, 200);
		assert.equal(read.headers["access-control-allow-origin"], undefined);
	});
}

test("the guard throws EngineErrors only, whatever it is given", () => {
	const guard = createGuard("127.0.0.1", []);
	for (const host of ["", "a".repeat(10_000), "[".repeat(10_000), "\u00e4", ":".repeat(5000)]) {
		const req = { httpVersionMajor: 1, httpVersionMinor: 1, url: "/", rawHeaders: ["Host", host], headers: { host } };
		assert.throws(() => guard({ ...req, method: "GET" } as never), EngineError);
	}
});

// Odd names and traversal
for (const path of [
	"/functions/../v1/stats",
	"/functions/%2e%2e/v1/stats",
	"/functions/..%2fv1/stats",
	"/functions/__proto__",
	"/functions/constructor%00",
	"/functions/hello%2Fworld",
	"/functions/Hello",
	"/functions/%68ello",
	"/functions//hello",
	"/functions/",
	"/functions/a%E2%80%AEb",
	`/functions/${"a".repeat(300)}`,
	"/v1/../healthz",
	"/v1//functions",
	"/v1/functions/",
	"//evil.example/",
	"/functions",
	"/etc/passwd",
	"/__proto__",
	"/constructor",
]) {
	test(`no function and no route: ${path.slice(0, 60)}`, async (t) => {
		const { engine, raw } = await startHttp(t);
		engine.define("hello", echo);
		const answer = await raw(`GET ${path} HTTP/1.1\r\n${HOST}${CLOSE}\r\n`);
		assert.ok([400, 404].includes(statuses(answer)[0] ?? 0), answer);
		assert.equal(engine.requests.length, 0);
	});
}

test("dot segments never leave their function", async (t) => {
	const { engine, raw } = await startHttp(t);
	engine.define("hello", echo);
	engine.define("other", echo);
	await raw(`GET /functions/hello/../other/%2e%2e/x HTTP/1.1\r\n${HOST}${CLOSE}\r\n`);
	assert.deepEqual(
		engine.requests.map((request) => [request.function, request.path]),
		[["hello", "/../other/%2e%2e/x"]],
	);
});

// Bodies
test("a declared body over the function's limit is refused before it is read, and the connection closes", async (t) => {
	const { engine, raw } = await startHttp(t);
	engine.define("hello", echo);
	engine.configureFunction("hello", { maxBodyBytes: 10 });
	const small = await raw(`${POST}${CLOSE}Content-Length: 10\r\n\r\n0123456789`);
	assert.deepEqual(statuses(small), [200]);
	const large = await raw(`${POST}Content-Length: 100000000\r\n\r\n`);
	assert.deepEqual(statuses(large), [413]);
	assert.match(large, /connection: close/i);
	assert.match(large, /"code":"BODY_TOO_LARGE"/);
	assert.equal(engine.requests.length, 1);
});

test("a small body over the limit is answered and the connection lives on", async (t) => {
	const { engine, raw } = await startHttp(t);
	engine.define("hello", echo);
	engine.configureFunction("hello", { maxBodyBytes: 3 });
	const answer = await raw(`${POST}Content-Length: 4\r\n\r\n1234${POST}${CLOSE}Content-Length: 2\r\n\r\n12`);
	assert.deepEqual(statuses(answer), [413, 200]);
});

test("a chunked body is counted, and a client that keeps sending still gets its 413", async (t) => {
	const { engine, port } = await startHttp(t);
	engine.define("hello", echo);
	engine.configureFunction("hello", { maxBodyBytes: 100_000 });
	const chunk = `${(50_000).toString(16)}\r\n${"x".repeat(50_000)}\r\n`;
	const answer = await new Promise<string>((resolve) => {
		let got = "";
		const socket = connect(port, "127.0.0.1", () => {
			socket.write(`${POST}Transfer-Encoding: chunked\r\n\r\n`);
			for (let index = 0; index < 40; index++) socket.write(chunk);
			socket.write("0\r\n\r\n");
		});
		socket.setEncoding("latin1");
		socket.on("data", (text: string) => (got += text));
		socket.on("error", () => undefined);
		socket.on("close", () => resolve(got));
	});
	assert.deepEqual(statuses(answer), [413]);
	assert.equal(engine.requests.length, 0);
});

test("100 Continue is sent only where the body is wanted", async (t) => {
	const { engine, port } = await startHttp(t);
	engine.define("hello", echo);
	async function expecting(length: number): Promise<string> {
		return await new Promise<string>((resolve) => {
			let got = "";
			const head = `${POST}${CLOSE}Expect: 100-continue\r\nContent-Length: ${length}\r\n\r\n`;
			const socket = connect(port, "127.0.0.1", () => socket.write(head));
			socket.setEncoding("latin1");
			socket.on("data", (text: string) => {
				if (text.startsWith("HTTP/1.1 100 ")) socket.write("x".repeat(length));
				got += text;
				if (got.includes(" 413 ")) socket.end();
			});
			socket.on("error", () => undefined);
			socket.on("close", () => resolve(got));
		});
	}
	assert.deepEqual(statuses(await expecting(5)), [100, 200]);
	assert.deepEqual(statuses(await expecting(50_000_000)), [413]);
});

test("a body that breaks off has asked for nothing", async (t) => {
	const { engine, port, send } = await startHttp(t);
	engine.define("hello", echo);
	const socket = connect(port, "127.0.0.1", () => {
		socket.write(`${POST}Content-Length: 100\r\n\r\nhalf`);
		setImmediate(() => socket.destroy());
	});
	let isClosed = false;
	socket.on("close", () => (isClosed = true));
	await until(() => isClosed);
	assert.equal((await send("POST", "/functions/hello", { body: "x" })).status, 200);
	assert.equal(engine.requests.length, 1);
});
