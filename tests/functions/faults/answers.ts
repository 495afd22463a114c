/** Answers that cannot be kept as they are, or only look as if they could not. One scene for each path. */
function stream(pieces: readonly unknown[], then: "close" | "throw" | "hang" = "close"): ReadableStream {
	let at = 0;
	return new ReadableStream({
		async pull(controller) {
			await Bun.sleep(1);
			if (at < pieces.length) controller.enqueue(pieces[at++]);
			else if (then === "close") controller.close();
			else if (then === "throw") throw new RangeError("the source failed half way");
			else await new Promise(() => undefined);
		},
	});
}

function deep(levels: number): unknown {
	let value: unknown = null;
	for (let level = 0; level < levels; level += 1) value = [value];
	return value;
}

/** A Response whose property says something else than its inside. */
function lying(property: string, value: unknown, body: BodyInit = "truth"): Response {
	return Object.defineProperty(new Response(body), property, { value });
}

const fakeHeaders = (...pairs: unknown[][]) => ({
	forEach(each: (value: unknown, name: unknown) => void) {
		for (const [name, value] of pairs) each(value, name);
	},
	[Symbol.iterator]: () => pairs[Symbol.iterator](),
});

const cycle: Record<string, unknown> = {};
cycle["self"] = cycle;

const bytes = (length: number): Uint8Array<ArrayBuffer> => new Uint8Array(length).fill(120);

const scenes: Record<string, () => unknown> = {
	// Not JSON.
	"/cycle": () => Response.json(cycle),
	"/bigint": () => Response.json({ n: 1n }),
	"/deep": () => Response.json(deep(100_000)),
	"/json-function": () => Response.json(() => 1),
	"/json-symbol": () => Response.json(Symbol("s")),
	"/json-undefined": () => Response.json(undefined),
	"/json-throws": () =>
		Response.json({
			toJSON() {
				throw new TypeError("not as JSON");
			},
		}),
	// JSON that surprises.
	"/nan": () => Response.json({ nan: NaN, infinite: Infinity, gone: undefined }),
	"/proto": () => new Response('{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}'),
	"/deep-text": () => new Response(`${"[".repeat(100_000)}${"]".repeat(100_000)}`),
	"/lone-surrogate": () => Response.json("\ud800 alone"),
	"/nul": () => new Response("a\0b"),
	// No Response.
	"/undefined": () => undefined,
	"/null": () => null,
	"/number": () => NaN,
	"/bigint-value": () => 10n,
	"/symbol": () => Symbol("answer"),
	"/function": () => () => new Response("not called"),
	"/class": () => Response,
	"/request": () => new Request("http://there/"),
	"/array": () => [new Response("in an array")],
	"/same-shape": () => ({ status: 200, headers: new Headers(), body: null, bodyUsed: false }),
	"/inherits": () => Object.create(new Response("prototype")) as unknown,
	"/hollow": () => Object.create(Response.prototype) as unknown,
	"/proxy": () => new Proxy(new Response("behind a proxy"), {}),
	"/revoked"() {
		const { proxy, revoke } = Proxy.revocable(new Response("gone"), {});
		revoke();
		return proxy;
	},
	"/thenable-throws": () => ({
		// oxlint-disable-next-line unicorn/no-thenable -- that is the scene
		then() {
			throw new TypeError("then threw");
		},
	}),
	"/error-value": () => new Error("returned, not thrown"),
	// Statuses.
	"/status-error": () => Response.error(),
	"/status-99": () => new Response("x", { status: 99 }),
	"/status-999": () => new Response("x", { status: 999 }),
	"/status-101": () => new Response(null, { status: 101 }),
	"/status-599": () => new Response("x", { status: 599 }),
	"/status-204-body": () => new Response("body after 204", { status: 204 }),
	"/status-304-body": () => new Response("body after 304", { status: 304 }),
	"/lies-status-99": () => lying("status", 99),
	"/lies-status-fraction": () => lying("status", 200.5),
	"/lies-status-nan": () => lying("status", NaN),
	"/lies-status-text": () => lying("status", "200"),
	"/lies-status-object": () => lying("status", { valueOf: () => 200, toString: () => "}" }),
	// Headers.
	"/header-newline": () => new Response("x", { headers: { "x-a": "one\r\nset-cookie: two" } }),
	"/header-name": () => new Response("x", { headers: { "x a": "1" } }),
	"/header-latin": () => new Response("x", { headers: { "x-a": "gr\u00fc\u00dfe" } }),
	"/headers-large": () => new Response("x", { headers: { "x-a": "h".repeat(70_000) } }),
	"/headers-many": () => new Response("x", { headers: Array.from({ length: 9_000 }, (_, i) => [`x-${i}`, "1"]) }),
	"/lies-headers-numbers": () => lying("headers", fakeHeaders(["x-a", 1])),
	"/lies-headers-newline": () => lying("headers", fakeHeaders(["x-a", "one\r\nset-cookie: two"])),
	"/lies-headers-none": () => lying("headers", undefined),
	"/hop-headers": () =>
		new Response("x", {
			headers: { "content-length": "1000000", "transfer-encoding": "chunked", connection: "upgrade", upgrade: "x" },
		}),
	// Bodies.
	"/large": () => new Response(bytes((6 << 20) + 1)),
	"/exactly": () => new Response(bytes(6 << 20)),
	"/large-stream": () => new Response(stream(Array.from({ length: 7 }, () => bytes(1 << 20)))),
	"/stream-throws": () => new Response(stream([bytes(10)], "throw")),
	"/stream-hangs": () => new Response(stream([bytes(10)], "hang")),
	"/stream-text": () => new Response(stream(["text", "s"])),
	"/stream-numbers": () => new Response(stream([1, 2, 3])),
	"/stream-objects": () => new Response(stream([bytes(1), { a: 1 }])),
	"/stream-null": () => new Response(stream([null])),
	"/stream-buffer": () => new Response(stream([new ArrayBuffer(3), bytes(2)])),
	"/stream-views": () => new Response(stream([new Uint16Array(2), bytes(2)])),
	"/stream-empty": () => new Response(stream([bytes(0), bytes(0), bytes(1)])),
	"/stream-many": () => new Response(stream(Array.from({ length: 300 }, () => bytes(1)))),
	"/stream-error-now": () => new Response(new ReadableStream({ start: (c) => c.error(new Error("dead on arrival")) })),
	"/generator": () =>
		new Response(
			(async function* () {
				yield "one ";
				yield "two";
			})() as unknown as BodyInit,
		),
	"/generator-throws": () =>
		new Response(
			(async function* () {
				yield "one ";
				throw new RangeError("the source failed half way");
			})() as unknown as BodyInit,
		),
	async "/used"() {
		const response = new Response("x");
		await response.text();
		return response;
	},
	"/locked"() {
		const response = new Response("x");
		response.body?.getReader();
		return response;
	},
	"/locked-stream"() {
		const response = new Response(stream([bytes(1)]));
		response.body?.getReader();
		return response;
	},
	async "/cancelled"() {
		const response = new Response(stream([bytes(1)]));
		await response.body?.cancel();
		return response;
	},
	"/lies-body-used": () => lying("bodyUsed", false),
	"/lies-body": () => lying("body", stream(["other"])),
	"/lies-bytes": () => lying("bytes", () => Promise.resolve(bytes(3))),
	"/form"() {
		const form = new FormData();
		form.set("a", "1");
		return new Response(form);
	},
	"/params": () => new Response(new URLSearchParams({ a: "1" })),
	"/file": () => new Response(Bun.file(import.meta.path)),
	"/file-missing": () => new Response(Bun.file("/no/such/file")),
	/** Says at once that it has more than it gives. */
	"/dev-zero": () => new Response(Bun.file("/dev/zero")),
	"/redirect": () => Response.redirect("/elsewhere", 302),
};

/** Answers made once, given twice. */
const shared = new Response("only once");

export default function handler(req: Request): unknown {
	const { pathname } = new URL(req.url);
	if (pathname === "/pid") return new Response(`${process.pid}`);
	if (pathname === "/shared") return shared;
	const scene = scenes[pathname];
	if (scene === undefined) throw new Error(`no scene ${pathname}`);
	return scene();
}
