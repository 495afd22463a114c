/** The source's own life: where it listens, how it starts and stops. */
import assert from "node:assert/strict";
import { connect, createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { EngineError } from "../../../src/core/errors.ts";
import { httpSource } from "../../../src/sources/http.ts";
import { echo, FakeEngine, realEnvironment, response } from "../../support/fake-engine.ts";
import { startHttp, until } from "../../support/http-harness.ts";

const environment = realEnvironment();

for (const host of ["0.0.0.0", "::", "192.168.1.5", "example.com", "127.0.0.1.evil.example", ""]) {
	test(`it does not listen on ${JSON.stringify(host)}, because nobody would be asked who they are`, async () => {
		const source = httpSource({ host, port: 0, environment });
		await assert.rejects(source.start(new FakeEngine()), { code: "BAD_ENVIRONMENT", message: /reverse proxy/ });
		await source.stop();
	});
}

test("a port in use is refused with what to do", async (t) => {
	const other = createServer();
	await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
	t.after(() => other.close());
	const source = httpSource({ port: (other.address() as AddressInfo).port, environment });
	await assert.rejects(source.start(new FakeEngine()), { code: "BAD_ENVIRONMENT", message: /in use.*--http-port/ });
	await source.stop();
});

test("start and stop may be called twice, stop before start too", async () => {
	const source = httpSource({ port: 0, environment });
	assert.throws(() => source.address(), /no address/);
	const engine = new FakeEngine();
	const starting = source.start(engine);
	assert.equal(source.start(engine), starting);
	await starting;
	assert.match(source.address().url, /^http:\/\/127\.0\.0\.1:\d+$/);
	const stopping = source.stop();
	assert.equal(source.stop(), stopping);
	await stopping;
	const never = httpSource({ port: 0, environment });
	await never.stop();
	await assert.rejects(never.start(engine), EngineError);
	const both = httpSource({ port: 0, environment });
	await Promise.allSettled([both.start(engine), both.stop()]);
	assert.throws(() => both.address(), /no address/);
});

test("it listens on IPv6 loopback and serves that host", async (t) => {
	const source = httpSource({ host: "::1", port: 0, environment });
	try {
		await source.start(new FakeEngine());
	} catch {
		t.skip("no IPv6 here");
		return;
	}
	const answer = await fetch(`${source.address().url}/healthz`);
	assert.equal(await answer.text(), "alive\n");
	await source.stop();
});

test("a stop answers what is in flight, closes its connections, and takes nothing new", async (t) => {
	const { engine, source, port, send } = await startHttp(t);
	const release: (() => void)[] = [];
	engine.define("slow", async () => {
		await new Promise<void>((resolve) => release.push(resolve));
		return response(200, "answered");
	});
	engine.define("hello", echo);
	const idle = connect(port, "127.0.0.1");
	idle.on("error", () => undefined);
	let isIdleClosed = false;
	idle.on("close", () => (isIdleClosed = true));
	idle.resume();
	const waiting = send("POST", "/functions/slow", { body: "x" });
	const polling = send("POST", "/functions/slow", { headers: ["Prefer", "wait=600"], body: "y" });
	await until(() => engine.requests.length === 2 && engine.waiters === 1);
	const stopping = source.stop();
	assert.equal((await polling).status, 202);
	await until(() => isIdleClosed);
	await assert.rejects(send("GET", "/healthz"));
	for (const resolve of release) resolve();
	const answer = await waiting;
	assert.deepEqual([answer.status, answer.text, answer.headers["connection"]], [200, "answered", "close"]);
	await stopping;
});

test("a stop lets a slow client have the whole of an answer that has begun", async (t) => {
	const { engine, source, port } = await startHttp(t);
	const size = 8 * 1024 * 1024;
	engine.define("large", () => response(200, new Uint8Array(size).fill(65)));
	const socket = connect(port, "127.0.0.1", () => {
		socket.pause();
		socket.write("GET /functions/large HTTP/1.1\r\nHost: localhost\r\n\r\n");
	});
	let bytes = 0;
	let isClosed = false;
	socket.on("data", (chunk) => (bytes += chunk.length));
	socket.on("close", () => (isClosed = true));
	await until(() => engine.listInvocations({}).some((made) => made.state === "succeeded"));
	await new Promise((resolve) => setImmediate(resolve));
	const stopping = source.stop();
	socket.resume();
	await stopping;
	await until(() => isClosed);
	assert.ok(bytes > size, `${bytes} bytes`);
});

test("a stop is bounded: what does not end loses its connection", async (t) => {
	const { engine, source, send } = await startHttp(t, { stopMs: 20 });
	engine.define("stuck", async () => await new Promise(() => undefined));
	const waiting = send("POST", "/functions/stuck", { body: "x" });
	const refused = assert.rejects(waiting, { code: "ECONNRESET" });
	await until(() => engine.requests.length === 1);
	await source.stop();
	await refused;
});

test("two hundred clients that stop in the middle of their heads do not hold up others", async (t) => {
	const { port, send } = await startHttp(t);
	const sockets = Array.from({ length: 200 }, () => {
		const socket = connect(port, "127.0.0.1", () => socket.write("GET / HTTP/1.1\r\nHost: loc"));
		socket.on("error", () => undefined);
		return socket;
	});
	assert.equal((await send("GET", "/healthz")).status, 200);
	for (const socket of sockets) socket.destroy();
});

test("pages of the dashboard are served beside the API with headers that keep them harmless", async (t) => {
	const page = { contentType: "text/html; charset=utf-8", body: "<p>hi</p>", etag: '"1"' };
	const { send } = await startHttp(t, { dashboard: (path) => (path === "/" || path === "/app" ? page : undefined) });
	const answer = await send("GET", "/");
	assert.deepEqual([answer.status, answer.text], [200, "<p>hi</p>"]);
	assert.match(String(answer.headers["content-security-policy"]), /default-src 'self'.*frame-ancestors 'none'/);
	assert.equal(answer.headers["x-content-type-options"], "nosniff");
	assert.equal((await send("GET", "/app", { headers: ["If-None-Match", '"1"'] })).status, 304);
	assert.equal((await send("GET", "/other")).status, 404);
	assert.equal((await send("POST", "/app")).status, 405);
	assert.equal((await send("GET", "/healthz")).text, "alive\n");
});
