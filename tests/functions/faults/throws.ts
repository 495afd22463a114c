/** Throws, rejects and leaves things behind, by path. */
interface Context {
	readonly invocationId: string;
	readonly signal: AbortSignal;
	waitUntil(work: unknown): void;
}

class Hostile extends Error {
	override get name(): string {
		throw new Error("no name for you");
	}
	override get message(): string {
		throw new Error("no message for you");
	}
	override get stack(): string {
		throw new Error("no stack for you");
	}
}

const cyclic: Record<string, unknown> = { message: "cyclic" };
cyclic["cause"] = cyclic;

function deepStack(levels: number): never {
	if (levels === 0) throw new Error("from the depth");
	return deepStack(levels - 1);
}

const never = (): Promise<never> => new Promise<never>(() => undefined);

/* oxlint-disable typescript/only-throw-error, typescript/prefer-promise-reject-errors -- those are the scenes */
const throwers: Record<string, () => unknown> = {
	"/null"() {
		throw null;
	},
	"/undefined"() {
		throw undefined;
	},
	"/number"() {
		throw 42;
	},
	"/string"() {
		throw "a string, thrown";
	},
	"/symbol"() {
		throw Symbol("thrown");
	},
	"/bigint"() {
		throw 7n;
	},
	"/function"() {
		throw () => "thrown";
	},
	"/object"() {
		throw { message: "like an error", code: "E" };
	},
	"/array"() {
		throw [1, 2, 3];
	},
	"/response"() {
		throw new Response("thrown, not returned", { status: 404 });
	},
	"/hostile"() {
		throw new Hostile();
	},
	"/proxy"() {
		throw new Proxy(new Error("behind"), {
			get() {
				throw new Error("trap");
			},
			getPrototypeOf() {
				throw new Error("trap");
			},
			ownKeys() {
				throw new Error("trap");
			},
		});
	},
	"/revoked"() {
		const { proxy, revoke } = Proxy.revocable({}, {});
		revoke();
		throw proxy;
	},
	"/null-prototype"() {
		throw Object.create(null);
	},
	"/message-number"() {
		throw Object.assign(new Error("text"), { message: 42, name: {}, stack: [] });
	},
	"/huge"() {
		throw new Error("h".repeat(5 << 20));
	},
	"/huge-stack"() {
		Error.stackTraceLimit = 100_000;
		try {
			deepStack(5_000);
		} finally {
			Error.stackTraceLimit = 10;
		}
	},
	"/aggregate"() {
		throw new AggregateError([new Error("one"), new Error("two")], "both failed");
	},
	"/cause-cycle"() {
		throw Object.assign(new Error("round"), { cause: cyclic });
	},
	"/overflow"() {
		const down = (): number => 1 + down();
		return down();
	},
	"/surrogates"() {
		throw new Error("\ud800 half, \u0000 nul, \u001b[31m red");
	},
	"/rejects": () => Promise.reject(new TypeError("rejected")),
	"/rejects-null": () => Promise.reject(null),
	"/rejects-late": () => Bun.sleep(5).then(() => Promise.reject(new Error("rejected late"))),
	"/thenable": () => ({
		// oxlint-disable-next-line unicorn/no-thenable -- that is the scene
		then: (_resolve: unknown, reject: (why: unknown) => void) => reject("by a thenable"),
	}),
	"/abort-error": () => AbortSignal.abort().throwIfAborted(),
	"/dom"() {
		throw new DOMException("a DOMException", "QuotaExceededError");
	},
};

/** Each answers, and its error comes when `after` ms have passed. */
const later: Record<string, (after: number) => void> = {
	"/late-throw": (after) =>
		void setTimeout(() => {
			throw new Error("thrown in a timer");
		}, after),
	"/late-rejection": (after) => void setTimeout(() => void Promise.reject(new Error("nobody catches this")), after),
	"/late-null": (after) => void setTimeout(() => void Promise.reject(null), after),
	"/late-microtask": (after) =>
		void setTimeout(
			() =>
				queueMicrotask(() => {
					throw new Error("thrown in a microtask");
				}),
			after,
		),
	"/late-emitter": (after) =>
		void setTimeout(
			() => process.getBuiltinModule("node:events").EventEmitter.prototype.emit("error", new Error("an event")),
			after,
		),
	"/late-immediate": (after) =>
		void setTimeout(
			() =>
				setImmediate(() => {
					throw new Hostile();
				}),
			after,
		),
};

const kept: unknown[] = [];
const leftOvers: Record<string, (ctx: Context) => unknown> = {
	"/interval": () => setInterval(() => kept.length, 1),
	"/promise": () => never(),
	"/listeners"(ctx) {
		process.on("beforeExit", () => undefined);
		ctx.signal.addEventListener("abort", () => {
			throw new Error("from a listener of an ended call");
		});
		return undefined;
	},
	"/server": () => Bun.serve({ port: 0, fetch: () => new Response("from a server that was left") }),
	"/socket"() {
		const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
		return Bun.connect({ hostname: "127.0.0.1", port: server.port, socket: { data: () => undefined } });
	},
	"/child": () => Bun.spawn(["sleep", "600"]),
	"/output": () => setInterval(() => console.log("still here"), 5),
	"/wait-until"(ctx) {
		ctx.waitUntil(Bun.sleep(20));
		ctx.waitUntil(Promise.reject(new Error("the rest failed")));
		return undefined;
	},
	"/wait-for-ever"(ctx) {
		ctx.waitUntil(never());
		return undefined;
	},
};

export default async function handler(req: Request, ctx: Context): Promise<unknown> {
	const url = new URL(req.url);
	const thrower = throwers[url.pathname];
	if (thrower !== undefined) return thrower();
	const late = later[url.pathname];
	if (late !== undefined) late(Number(url.searchParams.get("after") ?? 5));
	const left = leftOvers[url.pathname];
	// Kept, so that nothing of it is collected; not awaited.
	if (left !== undefined) kept.push(left(ctx));
	await Bun.sleep(Number(url.searchParams.get("ms") ?? 0));
	return new Response(`${process.pid}`);
}
