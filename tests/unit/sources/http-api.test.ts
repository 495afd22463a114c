import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { OPERATIONS } from "../../../src/sources/operations.ts";
import { ROUTES } from "../../../src/sources/http-routes.ts";
import { echo, response } from "../../support/fake-engine.ts";
import { startHttp, until } from "../../support/http-harness.ts";
import type { Answer, Harness } from "../../support/http-harness.ts";

async function json(
	{ send }: Harness,
	method: string,
	path: string,
	body?: unknown,
): Promise<{ status: number; value: Record<string, unknown>; answer: Answer }> {
	const answer = await send(method, path, body === undefined ? {} : { body: JSON.stringify(body) });
	return { status: answer.status, value: answer.json(), answer };
}

function list(value: Record<string, unknown>, key: string): Record<string, unknown>[] {
	const items = value[key];
	assert.ok(Array.isArray(items), `${key} is a list`);
	return items as Record<string, unknown>[];
}

test("a function is registered, deployed, configured, rolled back and listed", async (t) => {
	const http = await startHttp(t);
	assert.equal((await json(http, "POST", "/v1/functions", { name: "hello" })).value["status"], "REGISTERED");
	for (const version of ["v1", "v2"]) {
		const deployed = await json(http, "POST", "/v1/functions/hello/deployments", { path: "/tmp/b.ts", version });
		assert.equal(deployed.status, 201);
		assert.equal(deployed.value["version"], version);
	}
	assert.equal(http.engine.deploys[0]?.build, true);
	assert.equal((await json(http, "GET", "/v1/functions/hello")).value["active_version"], "v2");
	const configured = await json(http, "PATCH", "/v1/functions/hello", { timeoutMs: 5 });
	assert.equal((configured.value["config"] as Record<string, unknown>)["timeoutMs"], 5);
	assert.equal((await json(http, "POST", "/v1/functions/hello/rollback")).value["version"], "v1");
	assert.equal((await json(http, "POST", "/v1/functions/hello/rollback", { version: "v2" })).value["version"], "v2");
	assert.equal(list((await json(http, "GET", "/v1/functions")).value, "functions").length, 1);
	assert.equal(list((await json(http, "GET", "/v1/functions/hello/versions")).value, "versions").length, 2);
	assert.equal(list((await json(http, "GET", "/v1/functions/hello/deployments")).value, "deployments").length, 4);
	const metrics = await json(http, "GET", "/v1/functions/hello/metrics?period=day");
	assert.equal(metrics.value["period"], "day");
});

test("variables are set and removed, and their values are never shown", async (t) => {
	const http = await startHttp(t);
	http.engine.define("hello", echo);
	await json(http, "PUT", "/v1/functions/hello/env", { API_KEY: "canary-value", MODE: "x", THIRD: "y" });
	const listed = await json(http, "GET", "/v1/functions/hello/env");
	assert.deepEqual(
		list(listed.value, "variables").map((variable) => variable["name"]),
		["API_KEY", "MODE", "THIRD"],
	);
	assert.ok(!listed.answer.text.includes("canary"));
	await json(http, "DELETE", "/v1/functions/hello/env?names=API_KEY,MODE");
	const rest = await json(http, "DELETE", "/v1/functions/hello/env/THIRD");
	assert.deepEqual(rest.value, { variables: [] });
});

test("schedules, lanes, workers and stats answer", async (t) => {
	const http = await startHttp(t);
	http.engine.define("hello", echo);
	const made = await json(http, "POST", "/v1/functions/hello/schedules", { cron: "* * * * *", name: "tick" });
	const id = String(made.value["schedule_id"]);
	assert.equal((await json(http, "POST", `/v1/schedules/${id}/pause`)).value["paused"], true);
	assert.equal((await json(http, "POST", `/v1/schedules/${id}/resume`)).value["paused"], false);
	assert.equal(list((await json(http, "GET", "/v1/schedules?function=hello")).value, "schedules").length, 1);
	assert.equal((await json(http, "DELETE", `/v1/schedules/${id}`)).value["deleted"], true);
	assert.equal((await json(http, "DELETE", `/v1/schedules/${id}`)).value["code"], "SCHEDULE_NOT_FOUND");
	assert.equal((await json(http, "POST", "/v1/lanes/hello/pause")).value["paused"], true);
	assert.equal((await json(http, "POST", "/v1/lanes/hello/resume")).value["paused"], false);
	assert.equal(list((await json(http, "GET", "/v1/lanes")).value, "lanes").length, 1);
	assert.equal(list((await json(http, "GET", "/v1/workers")).value, "workers").length, 1);
	assert.equal((await json(http, "GET", "/v1/stats")).value["functions"], 1);
});

test("enqueue takes the body as the request's body and answers where the invocation is", async (t) => {
	const http = await startHttp(t);
	http.engine.define("hello", echo);
	const answer = await http.send("POST", "/v1/functions/hello/invocations?a=1", {
		headers: ["Content-Type", "application/json", "X-BunBase-Priority", "7"],
		body: '{"n":1}',
	});
	assert.equal(answer.status, 202);
	const location = String(answer.headers["location"]);
	const seen = http.engine.requests[0];
	assert.deepEqual([seen?.method, seen?.path, seen?.priority, seen?.waits], ["POST", "/", 7, false]);
	assert.deepEqual(seen?.query, [["a", "1"]]);
	const record = await json(http, "GET", `${location}?wait=5s`);
	assert.equal(record.value["state"], "succeeded");
	assert.equal(record.value["timed_out_waiting"], false);
	const batch = { requests: [{ function_id: "hello", method: "POST", path: "/" }, { function_id: "none" }] };
	const results = list((await json(http, "POST", "/v1/invocations", batch)).value, "results");
	assert.match(String(results[0]?.["invocation_id"]), /^inv_/);
	assert.equal(results[1]?.["code"], "BAD_REQUEST");
});

test("a record names the encoding of its body: JSON, text or base64", async (t) => {
	const http = await startHttp(t);
	const answers = [
		[response(200, '{"a":[1]}', [["content-type", "application/json; charset=utf-8"]]), "json", { a: [1] }],
		[response(200, "{broken", [["content-type", "application/json"]]), "text", "{broken"],
		[response(200, "gr\u00fcn", [["content-type", "text/plain"]]), "text", "gr\u00fcn"],
		[response(200, "plain"), "text", "plain"],
		[response(200, new Uint8Array([255, 0]), [["content-type", "text/plain"]]), "base64", "/wA="],
		[response(200, "x", [["content-type", "image/png"]]), "base64", "eA=="],
	] as const;
	for (const [result, encoding, body] of answers) {
		http.engine.define("hello", () => result);
		const { headers } = await http.send("POST", "/functions/hello", { body: "x" });
		const path = `/v1/invocations/${String(headers["x-invocation-id"])}`;
		const shown = (await json(http, "GET", path)).value["result"] as Record<string, unknown>;
		assert.deepEqual([shown["encoding"], shown["body"]], [encoding, body]);
		assert.equal(shown["body_bytes"], result.body.byteLength);
		const brief = (await json(http, "GET", `${path}?body=false`)).value["result"] as Record<string, unknown>;
		assert.ok(!("body" in brief));
		const exact = await http.send("GET", `${path}/response`);
		assert.deepEqual(new Uint8Array(exact.body), new Uint8Array(result.body));
	}
});

test("…/response is the handler's answer as it was, or NO_RESPONSE", async (t) => {
	const http = await startHttp(t);
	http.engine.define("made", () => response(201, "made", [["x-mine", "1"]]));
	http.engine.define("thrown", () => {
		throw new Error("no");
	});
	const made = await http.send("POST", "/functions/made", { body: "x" });
	const again = await http.send("GET", `/v1/invocations/${String(made.headers["x-invocation-id"])}/response`);
	assert.deepEqual([again.status, again.text, again.headers["x-mine"]], [201, "made", "1"]);
	const thrown = await http.send("POST", "/functions/thrown", { body: "x" });
	const none = await http.send("GET", `/v1/invocations/${String(thrown.headers["x-invocation-id"])}/response`);
	assert.deepEqual([none.status, none.json()["code"]], [409, "NO_RESPONSE"]);
	const lost = await json(http, "GET", "/v1/invocations/inv_0000000000000000000zz");
	assert.deepEqual([lost.status, lost.value["code"]], [404, "INVOCATION_NOT_FOUND"]);
});

test("a long poll ends with the invocation, with its time, or with its client, and leaves no waiter", async (t) => {
	const http = await startHttp(t);
	const { engine, port } = http;
	let release = (): void => undefined;
	engine.define("slow", async () => {
		await new Promise<void>((resolve) => (release = resolve));
		return response(200, "done");
	});
	const accepted = await http.send("POST", "/functions/slow", { headers: ["Prefer", "respond-async"], body: "x" });
	const path = String(accepted.headers["location"]);
	const early = await json(http, "GET", `${path}?wait=1ms`);
	assert.deepEqual([early.value["state"], early.value["timed_out_waiting"]], ["running", true]);
	const socket = connect(port, "127.0.0.1", () => {
		socket.write(`GET ${path}?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n`);
	});
	await until(() => engine.waiters === 1);
	socket.destroy();
	await until(() => engine.waiters === 0);
	const waiting = json(http, "GET", `${path}?wait=60s`);
	await until(() => engine.waiters === 1);
	release();
	assert.equal((await waiting).value["state"], "succeeded");
	assert.equal(engine.waiters, 0);
	for (const wait of ["soon", "-1", "25h", "1e3", ""]) {
		assert.equal((await json(http, "GET", `${path}?wait=${wait}`)).value["code"], "BAD_REQUEST", wait);
	}
});

test("cancel and retry say what became of it", async (t) => {
	const http = await startHttp(t);
	http.engine.define("slow", async () => await new Promise(() => undefined));
	const accepted = await http.send("POST", "/functions/slow", { headers: ["Prefer", "respond-async"], body: "x" });
	const path = String(accepted.headers["location"]);
	assert.equal((await json(http, "POST", `${path}/retry`)).status, 400);
	assert.equal((await json(http, "POST", `${path}/cancel`)).value["state"], "cancelled");
	assert.equal((await json(http, "POST", `${path}/cancel`)).value["code"], "ALREADY_FINISHED");
	const retried = await json(http, "POST", `${path}/retry`);
	assert.equal(retried.status, 202);
	assert.equal(retried.answer.headers["location"], `/v1/invocations/${String(retried.value["invocation_id"])}`);
	await json(http, "POST", `/v1/invocations/${String(retried.value["invocation_id"])}/cancel`);
});

test("lists go on where the page before ended", async (t) => {
	const http = await startHttp(t);
	http.engine.define("hello", echo);
	for (let index = 0; index < 5; index++) await http.send("POST", "/functions/hello", { body: "x" });
	const seen: unknown[] = [];
	let before = "";
	for (;;) {
		const { value } = await json(http, "GET", `/v1/functions/hello/invocations?limit=2&state=succeeded${before}`);
		seen.push(...list(value, "invocations").map((made) => made["invocation_id"]));
		const next = value["next_before"];
		if (typeof next !== "string") break;
		before = `&before=${next}`;
	}
	assert.equal(new Set(seen).size, 5);
	assert.equal(seen.length, 5);
});

test("an event is taken plain, as a structured and as a binary CloudEvent", async (t) => {
	const http = await startHttp(t);
	const plain = await json(http, "POST", "/v1/events", { type: "order.created", data: { n: 1 } });
	assert.equal(plain.status, 202);
	const structured = await http.send("POST", "/v1/events", {
		headers: ["Content-Type", "application/cloudevents+json; charset=utf-8"],
		body: JSON.stringify({ specversion: "1.0", type: "order.paid", source: "/shop", id: "7", data: { n: 2 } }),
	});
	assert.equal(structured.status, 202);
	const binary = await http.send("POST", "/v1/events", {
		headers: ["Content-Type", "application/json", "ce-specversion", "1.0", "ce-type", "order.sent", "ce-id", "8"],
		body: '{"n":3}',
	});
	assert.equal(binary.status, 202);
	const events = list((await json(http, "GET", "/v1/events?limit=10")).value, "events");
	assert.deepEqual(
		events.map((event) => [event["type"], event["data"]]),
		[
			["order.sent", { n: 3 }],
			["order.paid", { n: 2 }],
			["order.created", { n: 1 }],
		],
	);
	for (const [headers, body] of [
		[["Content-Type", "application/cloudevents+json"], '{"type":"a"}'],
		[["Content-Type", "application/cloudevents+json"], '{"specversion":"1.0","source":"/x"}'],
		[["Content-Type", "application/cloudevents-batch+json"], "[]"],
		[["ce-specversion", "0.3", "ce-type", "a"], "{}"],
		[["ce-specversion", "1.0", "ce-type", "a", "Content-Type", "image/png"], "x"],
		[[], "[]"],
		[[], '{"type":5}'],
	] as const) {
		assert.equal((await http.send("POST", "/v1/events", { headers, body })).json()["code"], "BAD_REQUEST", body);
	}
});

test("logs come as pages, filtered", async (t) => {
	const http = await startHttp(t);
	http.engine.define("hello", echo);
	http.engine.define("other", echo);
	for (let index = 0; index < 5; index++) http.engine.log("hello", `line ${index}`);
	http.engine.log("other", "elsewhere", { level: "error" });
	const page = await json(http, "GET", "/v1/functions/hello/logs?limit=2&tail=true");
	assert.deepEqual(
		list(page.value, "logs").map((line) => line["message"]),
		["line 3", "line 4"],
	);
	assert.equal(list((await json(http, "GET", "/v1/logs?level=error&since=0")).value, "logs").length, 1);
	assert.equal((await json(http, "GET", "/v1/logs?levle=error")).value["code"], "BAD_REQUEST");
	assert.equal((await json(http, "GET", "/v1/logs?level=loud")).value["code"], "BAD_REQUEST");
});

/** A stream's events, as they come. */
async function follow(
	port: number,
	path: string,
	headers = "",
): Promise<{ text(): string; ids(): number[]; close(): void; isClosed(): boolean }> {
	let got = "";
	let isClosed = false;
	const socket = connect(port, "127.0.0.1", () => {
		socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n${headers}\r\n`);
	});
	socket.setEncoding("utf8");
	socket.on("data", (text: string) => (got += text));
	socket.on("error", () => undefined);
	socket.on("close", () => (isClosed = true));
	await until(() => got.includes("\r\n\r\n") || isClosed);
	return {
		text: () => got,
		ids: () => [...got.matchAll(/^id: (\d+)$/gm)].map((match) => Number(match[1])),
		close: () => socket.destroy(),
		isClosed: () => isClosed,
	};
}

test("a log stream begins with the newest lines, goes on, and resumes after Last-Event-ID", async (t) => {
	const { engine, port } = await startHttp(t);
	engine.define("hello", echo);
	engine.define("loud", echo);
	for (let index = 0; index < 3; index++) engine.log("hello", `line ${index}`);
	const stream = await follow(port, "/v1/functions/hello/logs?limit=2");
	assert.match(stream.text(), /content-type: text\/event-stream/i);
	await until(() => stream.ids().length === 2);
	engine.log("loud", "not for this stream");
	engine.log("hello", "live\nline");
	await until(() => stream.ids().length === 3);
	assert.deepEqual(stream.ids(), [2, 3, 5]);
	assert.match(stream.text(), /data: \{[^\n]*"message":"live\\nline"/);
	stream.close();
	await until(() => engine.waiters === 0);
	const resumed = await follow(port, "/v1/logs", "Last-Event-ID: 3\r\n");
	await until(() => resumed.ids().length === 2);
	assert.deepEqual(resumed.ids(), [4, 5]);
	resumed.close();
	await until(() => engine.waiters === 0);
	const refused = await follow(port, "/v1/logs?level=loud", "Connection: close\r\n");
	await until(() => refused.isClosed());
	assert.match(refused.text(), /^HTTP\/1\.1 400 /);
});

test("a stream whose client reads nothing holds one page, and ends when the source stops", async (t) => {
	const { engine, port, source } = await startHttp(t);
	engine.define("hello", echo);
	let reads = 0;
	const readLogs = engine.readLogs.bind(engine);
	engine.readLogs = (filter) => {
		reads++;
		return readLogs(filter);
	};
	for (let index = 0; index < 20_000; index++) engine.log("hello", "x".repeat(1000));
	const socket = connect(port, "127.0.0.1", () => {
		socket.pause();
		socket.write("GET /v1/logs?after=0 HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n");
	});
	socket.on("error", () => undefined);
	t.after(() => socket.destroy());
	await until(() => reads > 2);
	let before = 0;
	await until(() => {
		const isStill = reads === before;
		before = reads;
		return isStill;
	});
	// 20,000 lines are 79 pages; what a paused socket takes (both kernels' buffers) is far less.
	assert.ok(reads < 100, `${reads} reads`);
	await source.stop();
});

test("health says alive, readiness says whether work would be taken, metrics are Prometheus text", async (t) => {
	const { engine, send } = await startHttp(t);
	assert.equal((await send("GET", "/healthz")).status, 200);
	assert.equal((await send("GET", "/readyz")).status, 200);
	engine.ready = false;
	assert.equal((await send("GET", "/healthz")).status, 200);
	assert.equal((await send("GET", "/readyz")).status, 503);
	const metrics = await send("GET", "/metrics");
	assert.match(String(metrics.headers["content-type"]), /^text\/plain; version=0\.0\.4/);
	assert.equal(metrics.text, engine.metricsText);
	assert.match((await send("GET", "/")).text, /\/functions\/\{name\}/);
	const head = await send("HEAD", "/v1/stats");
	assert.deepEqual([head.status, head.body.length], [200, 0]);
});

test("a path that no route has is 404, a method that it does not take is 405 with those that it takes", async (t) => {
	const { send } = await startHttp(t);
	const lost = await send("GET", "/v2/functions");
	assert.deepEqual([lost.status, lost.json()["code"]], [404, "ROUTE_NOT_FOUND"]);
	for (const [method, path, allow] of [
		["DELETE", "/v1/functions", "GET, POST, HEAD"],
		["POST", "/v1/stats", "GET, HEAD"],
		["GET", "/v1/lanes/x/pause", "POST"],
		["POST", "/healthz", "GET, HEAD"],
		["POST", "/", "GET, HEAD"],
		["OPTIONS", "/v1/functions", "GET, POST, HEAD"],
	] as const) {
		const answer = await send(method, path);
		assert.equal(answer.status, 405, path);
		assert.equal(answer.headers["allow"], allow);
	}
});

test("a body that is not JSON, not an object, too large or at odds with the path changes nothing", async (t) => {
	const { engine, send } = await startHttp(t);
	engine.define("hello", echo);
	for (const [path, body, code] of [
		["/v1/functions", "{", "BAD_JSON"],
		["/v1/functions", new Uint8Array([0x22, 0xff, 0x22]), "BAD_JSON"],
		["/v1/functions", "[]", "BAD_REQUEST"],
		["/v1/functions", '"x"', "BAD_REQUEST"],
		["/v1/functions", '{"name":"a","nmae":"b"}', "BAD_REQUEST"],
		["/v1/functions", "", "BAD_REQUEST"],
		["/v1/functions", '{"name":"../x"}', "BAD_NAME"],
		["/v1/functions", '{"__proto__":{"name":"a"}}', "BAD_REQUEST"],
		["/v1/functions", `{"name":"${"x".repeat(1024 * 1024)}"}`, "BODY_TOO_LARGE"],
		["/v1/functions/hello/deployments", '{"function":"other","path":"/x"}', "BAD_REQUEST"],
		["/v1/functions/hello/deployments", '{"path":"relative.js"}', "BAD_REQUEST"],
		["/v1/functions/hel%ZZ/rollback", "{}", "BAD_REQUEST"],
		["/v1/functions/..%2f..%2fetc/rollback", "{}", "FUNCTION_NOT_FOUND"],
	] as const) {
		assert.equal((await send("POST", path, { body })).json()["code"], code, `${path} ${String(body).slice(0, 60)}`);
	}
	assert.deepEqual(
		engine.listFunctions().map((fn) => fn.name),
		["hello"],
	);
	assert.equal(engine.deploys.length, 0);
});

test("JSON that is nested too deep is refused before anybody must walk it; brackets in strings are text", async (t) => {
	const { engine, send } = await startHttp(t);
	const nested = (depth: number): string => `{"type":"a","data":${"[".repeat(depth)}${"]".repeat(depth)}}`;
	assert.equal((await send("POST", "/v1/events", { body: nested(255) })).status, 202);
	for (const depth of [256, 300_000]) {
		assert.equal((await send("POST", "/v1/events", { body: nested(depth) })).json()["code"], "BAD_JSON");
	}
	const text = JSON.stringify({ type: "a", data: `\\"${"[{".repeat(1000)}\\` });
	assert.equal((await send("POST", "/v1/events", { body: text })).status, 202);
	assert.equal(engine.listEvents().length, 2);
});

test("every operation but those of the socket's own has a route, and the OpenAPI document names them all", async (t) => {
	const { send } = await startHttp(t);
	const routed = new Set<string>(ROUTES.map((route) => route.operation));
	// /readyz; and what writes where the caller says is for who may use the socket, not for all who reach a port.
	const elsewhere = ["health.get", "backup.create", "backup.progress"];
	assert.deepEqual(
		Object.keys(OPERATIONS).filter((name) => !routed.has(name) && !elsewhere.includes(name)),
		[],
	);
	for (const route of ROUTES) {
		if (OPERATIONS[route.operation].readOnly) assert.equal(route.method, "GET", route.path);
		else assert.notEqual(route.method, "GET", route.path);
	}
	const document = (await send("GET", "/openapi.json")).json();
	const paths = document["paths"] as Record<string, Record<string, unknown>>;
	const ids = new Set<unknown>();
	for (const route of ROUTES) {
		const described = paths[route.path]?.[route.method.toLowerCase()] as Record<string, unknown> | undefined;
		assert.ok(described, route.path);
		ids.add(described["operationId"]);
	}
	assert.equal(ids.size, ROUTES.length);
});
