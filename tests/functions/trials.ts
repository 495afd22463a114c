/** One scene for each path, for the tests of the pool with real workers. */
import { existsSync } from "node:fs";

interface Context {
	readonly invocationId: string;
	readonly attempt: number;
	readonly signal: AbortSignal;
	readonly deadline: number;
	readonly log: { info(message: string, metadata?: unknown): void };
	waitUntil(work: unknown): void;
}

type Scene = (req: Request, ctx: Context, url: URL) => unknown;

export const config = { timeoutMs: 1234, retry: { maxAttempts: 2 } };

class Hostile extends Error {
	override get message(): string {
		throw new Error("no message for you");
	}
	override get stack(): string {
		throw new Error("no stack for you");
	}
}

class Titled extends Response {
	readonly title = "t".repeat(100);
	readonly #hidden = "h".repeat(100);
	get hidden(): string {
		return this.#hidden;
	}
}

function endless(): ReadableStream {
	return new ReadableStream({
		pull(controller) {
			controller.enqueue(new Uint8Array(65_536));
		},
	});
}

function pieces(): ReadableStream {
	const bytes = new TextEncoder().encode(words);
	return new ReadableStream({
		async pull(controller) {
			controller.enqueue(bytes.subarray(0, 3));
			await Bun.sleep(1);
			controller.enqueue(bytes.subarray(3));
			controller.close();
		},
	});
}

function properties(): object {
	return Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`property${i}`, `${i}`.repeat(20)]));
}

/** "größe 漢字" by every way that a Response takes it. */
const words = "größe 漢字";
const bodies: Record<string, () => Response> = {
	text: () => new Response(words),
	bytes: () => new Response(new TextEncoder().encode(words)),
	blob: () => new Response(new Blob([words])),
	json: () => Response.json(words),
	clone: () => new Response(words).clone(),
	titled: () => new Titled(words),
	properties: () => Object.assign(new Response(words), properties()),
	stream: () => new Response(new Blob([words]).stream()),
	touched() {
		const response = new Response(words);
		return response.body === null ? new Response("no body") : response;
	},
	pieces: () => new Response(pieces()),
	empty: () => new Response(""),
	none: () => new Response(null),
};

const hoard: Uint8Array[] = [];

const scenes: Record<string, Scene> = {
	async "/echo"(req, ctx, url) {
		const headers = new Headers({ "x-url": url.href, "x-method": req.method, "x-same-signal": "no" });
		headers.append("set-cookie", "a=1; Path=/");
		headers.append("set-cookie", "b=2");
		headers.set("x-invocation", req.headers.get("x-invocation-id") ?? "none");
		headers.set("x-attempt", `${ctx.attempt}`);
		headers.set("x-many", req.headers.get("x-many") ?? "none");
		headers.set("x-body", req.body === null ? "null" : "some");
		return new Response(await req.arrayBuffer(), { status: 201, headers });
	},
	"/environment": () =>
		Response.json({ env: process.env, cwd: process.cwd(), left: ctxFree(), argv: process.argv.length }),
	async "/sleep"(_req, _ctx, url) {
		await Bun.sleep(Number(url.searchParams.get("ms")));
		return new Response("slept");
	},
	"/spin"() {
		for (;;) {
			// Never lets go.
		}
	},
	"/hang": () => new Promise(() => undefined),
	"/honour": (_req, ctx) =>
		new Promise((_resolve, reject) => ctx.signal.addEventListener("abort", () => reject(ctx.signal.reason))),
	"/late-answer": (req) =>
		new Promise((resolve) => req.signal.addEventListener("abort", () => resolve(new Response("too late")))),
	"/exit"(_req, _ctx, url) {
		console.error("about to exit");
		process.exit(Number(url.searchParams.get("code")));
	},
	"/pid": () => new Response(`${process.pid}`),
	async "/log"(_req, ctx, url) {
		const id = url.searchParams.get("id") ?? "";
		for (let i = 0; i < 3; i += 1) {
			console.log("line %d of %s", i, id, { id });
			await Bun.sleep(1);
			process.stdout.write(`raw ${i} of ${id}\n`);
		}
		console.table([{ id }]);
		ctx.log.info("with metadata", { id });
		setTimeout(() => console.log(`after the answer of ${id}`), 20);
		return new Response("logged");
	},
	"/chatter"() {
		for (let i = 0; i < 100_000; i += 1) console.log(`${i} ${"x".repeat(50)}`);
		console.log("y".repeat(100_000));
		return new Response("said all");
	},
	async "/flood"() {
		const fs = await import("node:fs");
		const chunk = Buffer.alloc(1 << 20, "z");
		for (let left = 64 << 20; left > 0;) {
			try {
				left -= fs.writeSync(left % 2 === 0 ? 1 : 2, chunk);
			} catch {
				// The pipe is full: whoever reads it will make room.
				await Bun.sleep(1);
			}
		}
		return new Response("flooded");
	},
	async "/hog"() {
		for (;;) {
			hoard.push(new Uint8Array(8 << 20).fill(1));
			await Bun.sleep(5);
		}
	},
	"/throw"() {
		throw new TypeError("thrown on purpose", { cause: new Error("the reason") });
	},
	"/throw-null"() {
		// oxlint-disable-next-line typescript/only-throw-error -- that is the scene
		throw null;
	},
	"/throw-hostile"() {
		throw new Hostile();
	},
	"/throw-huge"() {
		throw new Error("h".repeat(1 << 20));
	},
	"/late-rejection"() {
		setTimeout(() => void Promise.reject(new Error("nobody catches this")), 5);
		return new Response("answered before");
	},
	"/late-throw"() {
		setTimeout(() => {
			throw new Error("thrown in a timer");
		}, 5);
		return new Response("answered before");
	},
	"/throw-in-microtask"() {
		queueMicrotask(() => {
			throw new Error("thrown in a microtask");
		});
		return new Response("answered before");
	},
	"/throw-in-tick"() {
		process.nextTick(() => {
			throw new Error("thrown in a tick");
		});
		return new Response("answered before");
	},
	"/reject"() {
		void Promise.reject(new Error("nobody awaits this"));
		return new Response("answered before");
	},
	/** Holds up everything in its process for `ms`, and until a file is there. */
	"/busy"(_req, _ctx, url) {
		const until = Date.now() + Number(url.searchParams.get("ms") ?? 0);
		const file = url.searchParams.get("file") ?? ".";
		while (Date.now() < until || !existsSync(file));
		return new Response("was busy");
	},
	"/wait-until"(_req, ctx) {
		ctx.waitUntil(Bun.sleep(50).then(() => console.log("the rest is done")));
		ctx.waitUntil(Promise.reject(new Error("the rest failed")));
		return new Response("answered before");
	},
	"/string": () => "no response",
	"/object": () => ({ a: 1, b: 2 }),
	"/nothing": () => undefined,
	async "/used"() {
		const response = new Response("x");
		await response.text();
		return response;
	},
	"/endless": () => new Response(endless()),
	"/endless-titled": () => new Response(endless(), { statusText: "so it is ".repeat(20) }),
	"/endless-with-properties": () => Object.assign(new Response(endless()), properties()),
	"/endless-subclass": () => new Titled(endless()),
	"/large": () => new Response("x".repeat((6 << 20) + 1)),
	"/body": (_req, _ctx, url) => bodies[url.searchParams.get("of") ?? ""]?.(),
	"/broken-stream": () =>
		new Response(
			new ReadableStream({
				pull() {
					throw new Error("the source failed");
				},
			}),
		),
	async "/tamper"() {
		const fs = await import("node:fs");
		fs.writeSync(3, "this is no frame");
		return new Promise(() => undefined);
	},
	"/vandal"() {
		const broken = (): never => {
			throw new Error("replaced by user code");
		};
		Object.assign(globalThis, { Promise: broken, Response: broken, Map: broken, setTimeout: broken });
		JSON.stringify = broken;
		JSON.parse = broken;
		Date.now = broken;
		return "still a sentence";
	},
};

/** What the pool keeps to itself must not be seen here. */
function ctxFree(): string[] {
	return Object.keys(process.env).filter((name) => name.startsWith("BUNBASE_WORKER"));
}

export default function handler(req: Request, ctx: Context): unknown {
	const url = new URL(req.url);
	const scene = scenes[url.pathname];
	return scene === undefined ? new Response("no such scene", { status: 404 }) : scene(req, ctx, url);
}

export const other = { fetch: () => new Response("from fetch") };
