/** F15: one key, one invocation: over HTTP and socket, at once, after a kill, after its time, and with odd keys. */
import assert from "node:assert/strict";
import { LIMITS } from "../../../src/core/limits.ts";
import { fault } from "../fault.ts";
import { queueOnFile } from "../../support/queue-on-file.ts";
import { seededRandom } from "../../support/seed.ts";
import { ClientError } from "../../../src/sources/client-error.ts";
import { CLOSE, HOST, scene, statuses } from "./scene.ts";

const s = scene();

interface Sent {
	readonly method?: string;
	readonly path?: string;
	readonly query?: string;
	readonly body?: string;
	readonly headers?: Record<string, string>;
	readonly function?: string;
}

interface Took {
	readonly status: number;
	readonly id: string | undefined;
	readonly replayed: boolean;
	readonly code: string | undefined;
}

async function byHttp(key: string, sent: Sent = {}): Promise<Took> {
	const { method = "POST", path = "/", query = "", body = "one", headers = {} } = sent;
	const answer = await s.call(method, `/functions/${sent.function ?? "web"}${path}${query}`, {
		headers: { "idempotency-key": key, prefer: "respond-async", ...headers },
		...(method === "GET" ? {} : { body }),
	});
	const { invocation_id: id, code } = JSON.parse(answer.text) as { invocation_id?: string; code?: string };
	return { status: answer.status, id, replayed: answer.headers.get("idempotent-replayed") === "true", code };
}

async function bySocket(key: string, sent: Sent = {}): Promise<Took> {
	const { method = "POST", path = "/", query = "", body = "one", headers = {} } = sent;
	try {
		const { invocationId, replayed } = await s.daemon.client.enqueue(sent.function ?? "web", {
			method,
			path,
			query: [...new URLSearchParams(query)],
			headers: Object.entries(headers),
			body: Buffer.from(body),
			idempotencyKey: key,
		});
		return { status: 202, id: invocationId, replayed, code: undefined };
	} catch (error) {
		assert.ok(error instanceof ClientError, String(error));
		return { status: 422, id: undefined, replayed: false, code: error.code };
	}
}

let last = 0;
const newKey = (): string => `key-${process.pid}-${last++}`;

/** What is sent a second time under the key, and whether it is the same request. */
const SECOND: readonly (readonly [title: string, sent: Sent, same: boolean])[] = [
	["the very same", {}, true],
	["other headers", { headers: { "x-try": "2", "content-type": "text/plain" } }, true],
	["another body", { body: "two" }, false],
	["an empty body", { body: "" }, false],
	["a body with one more byte", { body: "one\0" }, false],
	["another method", { method: "PUT" }, false],
	["another path", { path: "/other" }, false],
	["a path with a slash more", { path: "//" }, false],
	["a query", { query: "?a=1" }, false],
];

for (const [title, sent, same] of SECOND) {
	fault("F15", `${title} under a used key is ${same ? "the same invocation" : "422 and queues nothing"}`, async () => {
		for (const first of [byHttp, bySocket]) {
			for (const second of [byHttp, bySocket]) {
				const key = newKey();
				const made = await first(key);
				assert.deepEqual([made.status, made.replayed], [202, false]);
				const before = await s.accepted();
				const again = await second(key, sent);
				if (same) assert.deepEqual([again.id, again.replayed], [made.id, true]);
				else assert.equal(again.code, "IDEMPOTENCY_CONFLICT");
				assert.equal(await s.accepted(), before);
				// A refusal changes nothing: the first request is still what the key means.
				assert.equal((await second(key)).id, made.id);
			}
		}
	});
}

fault("F15", "a hundred at once over both faces are one invocation, and all hear its answer", async (f) => {
	for (let run = f.runs(3, 100); run > 0; run--) {
		const key = newKey();
		const before = await s.accepted();
		const all = await Promise.all(
			Array.from({ length: 100 }, async (_, index): Promise<string> => {
				if (index % 2 === 0) {
					const answer = await s.call("POST", "/functions/web/same", {
						headers: { "idempotency-key": key },
						body: "x",
					});
					assert.equal(answer.status, 200, answer.text);
					return answer.headers.get("x-invocation-id") ?? "";
				}
				const request = { method: "POST", path: "/same", body: Buffer.from("x"), idempotencyKey: key };
				if (index % 4 === 1) return (await s.daemon.client.invoke("web", request)).invocationId;
				return (await s.daemon.client.enqueue("web", request)).invocationId;
			}),
		);
		assert.equal(new Set(all).size, 1, [...new Set(all)].join(", "));
		assert.equal((await s.accepted()) - before, 1);
		const record = await s.daemon.client.call("invocations.get", { invocation_id: all[0] });
		assert.equal(record["attempt"], 1);
	}
});

fault("F15", "a hundred different requests race for one key: one is taken, the others are refused", async (f) => {
	for (let run = f.runs(2, 50); run > 0; run--) {
		const key = newKey();
		const before = await s.accepted();
		const all = await Promise.all(
			Array.from({ length: 100 }, (_, index) => (index % 2 === 0 ? byHttp : bySocket)(key, { body: String(index) })),
		);
		const taken = all.filter(({ id }) => id !== undefined);
		assert.equal(taken.length, 1);
		assert.ok(all.every(({ id, code }) => id !== undefined || code === "IDEMPOTENCY_CONFLICT"));
		assert.equal((await s.accepted()) - before, 1);
	}
});

fault("F15", "a key of one function says nothing about another's", async () => {
	const key = newKey();
	const deploy = {
		function: "twin",
		path: `${import.meta.dirname}/../../functions/web.ts`,
		build: true,
		register: true,
	};
	await s.daemon.client.call("functions.deploy", deploy);
	const [one, two] = [await byHttp(key), await byHttp(key, { function: "twin" })];
	assert.deepEqual([one.replayed, two.replayed], [false, false]);
	assert.notEqual(one.id, two.id);
});

fault("F15", "a refused request leaves its key free", async () => {
	const key = newKey();
	assert.equal((await byHttp(key, { headers: { "x-bunbase-priority": "5000" } })).status, 400);
	assert.equal((await byHttp(key, { function: "nobody" })).code, "FUNCTION_NOT_FOUND");
	const taken = await byHttp(key, { body: "now" });
	assert.deepEqual([taken.status, taken.replayed], [202, false]);
});

fault("F15", "a failed invocation is told again under its key, not run again", async () => {
	const key = newKey();
	const call = () => s.call("POST", "/functions/web/throw", { headers: { "idempotency-key": key }, body: "x" });
	const [first, second] = [await call(), await call()];
	assert.deepEqual([first.status, second.status], [500, 500]);
	assert.equal(second.headers.get("x-invocation-id"), first.headers.get("x-invocation-id"));
});

fault("F15", "after kill -9 a key still means its invocation", async (f) => {
	const keys = Array.from({ length: f.runs(20, 200) }, newKey);
	const before = await Promise.all(keys.map((key) => byHttp(key)));
	await s.kill();
	for (const [index, key] of keys.entries()) {
		const after = await (index % 2 === 0 ? byHttp : bySocket)(key);
		assert.deepEqual([after.id, after.replayed], [before[index]?.id, true]);
	}
});

fault(
	"F15",
	"a key holds for 24 h to the millisecond, whatever became of its invocation, and then means a new one",
	(f) => {
		const random = seededRandom(f.seed);
		for (let run = f.runs(4, 60); run > 0; run--) {
			using q = queueOnFile({ lanes: [{}] });
			const request = { idempotencyKey: "k", body: Buffer.from("x") };
			const id = q.id(q.submission(0, request));
			if (random.next() < 0.5) for (const claim of q.sent) q.settle(claim);
			q.turn();
			const early = 1 + Math.floor(random.next() * (LIMITS.idempotencyTtlMs - 2));
			q.clock.jumpWall(early);
			assert.equal(q.id(q.submission(0, request)), id);
			q.reopen();
			q.clock.jumpWall(LIMITS.idempotencyTtlMs - 1 - early);
			assert.equal(q.id(q.submission(0, request)), id);
			q.clock.jumpWall(1);
			assert.notEqual(q.id(q.submission(0, { ...request, body: Buffer.from("another") })), id);
		}
	},
);

for (const [title, value, status] of [
	["one character", "k", 202],
	["255 characters", "k".repeat(255), 202],
	["every visible ASCII character", Array.from({ length: 94 }, (_, at) => String.fromCharCode(33 + at)).join(""), 202],
	["a quoted string, as the draft writes it", '"8e03978e-40d5-43dd-bc93-6894a57f9324"', 202],
	["__proto__", "__proto__", 202],
	["SQL", "';DROP/**/TABLE/**/idempotency;--", 202],
	["256 characters", "k".repeat(256), 400],
	["nothing", "", 400],
	["a space inside", "a b", 400],
	["a tab inside", "a\tb", 400],
	["a byte over ASCII", "caf\xe9", 400],
	["DEL", "a\x7f", 400],
] as const) {
	fault("F15", `a key of ${title} is answered ${status}`, async () => {
		const head = `POST /functions/web HTTP/1.1\r\n${HOST}${CLOSE}Prefer: respond-async\r\nContent-Length: 0\r\n`;
		const before = await s.accepted();
		assert.deepEqual(statuses(await s.raw(`${head}Idempotency-Key: ${value}\r\n\r\n`)), [status]);
		assert.equal((await s.accepted()) - before, status === 202 ? 1 : 0);
		// Two of them are none of them, also where they agree.
		assert.deepEqual(
			statuses(await s.raw(`${head}Idempotency-Key: ${value}\r\nidempotency-key: ${value}\r\n\r\n`)),
			[400],
		);
	});
}
