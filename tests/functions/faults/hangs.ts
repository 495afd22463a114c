/** Every way not to come back, by path; and how a test sees that a slot was freed too early. */
import { existsSync, readFileSync } from "node:fs";

interface Context {
	readonly attempt: number;
	readonly signal: AbortSignal;
}

const never = (): Promise<never> => new Promise<never>(() => undefined);

const ways: Record<string, (ctx: Context, url: URL) => unknown> = {
	"/loop"() {
		for (;;) {
			// Never lets go.
		}
	},
	"/microtasks"() {
		const again = (): Promise<void> => Promise.resolve().then(again);
		return again().then(() => new Response());
	},
	/** About 2^40 steps. */
	"/regex": () => new Response(`${/^(a+)+$/.test(`${"a".repeat(40)}b`)}`),
	"/atomics": () => new Response(Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)),
	"/sleep-sync"() {
		Bun.sleepSync(60_000);
		return new Response("slept");
	},
	"/read-sync"() {
		// A pipe that nobody writes: a blocked system call.
		Bun.spawnSync(["sleep", "60"]);
		return new Response("read");
	},
	"/await": never,
	"/ignores-term"() {
		process.on("SIGTERM", () => undefined);
		for (;;) {
			// Nor does it listen.
		}
	},
	"/honours": (ctx) =>
		new Promise((_resolve, reject) =>
			ctx.signal.addEventListener("abort", () => reject(new Error("stopped as asked"))),
		),
	"/honours-late": (ctx) =>
		new Promise((_resolve, reject) =>
			ctx.signal.addEventListener("abort", () => setTimeout(() => reject(new Error("stopped")), 100)),
		),
	async "/sleep"(_ctx, url) {
		await Bun.sleep(Number(url.searchParams.get("ms")));
		return new Response("slept");
	},
	"/is-gone": (_ctx, url) => {
		const path = `/proc/${url.searchParams.get("pid")}/stat`;
		if (!existsSync(path)) return new Response("gone");
		const stat = readFileSync(path, "latin1");
		return new Response(stat[stat.lastIndexOf(")") + 2] === "Z" ? "gone" : "lives");
	},
};

export default function handler(req: Request, ctx: Context): unknown {
	const url = new URL(req.url);
	return ways[url.pathname]?.(ctx, url) ?? new Response(`${process.pid}`);
}
