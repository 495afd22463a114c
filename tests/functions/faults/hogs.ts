/** Takes memory, descriptors, processes and output without end, by path. */
import { appendFileSync, openSync, writeSync } from "node:fs";

const kept: unknown[] = [];
const MiB = 1 << 20;

/** Eight megabytes at a time, as they are asked for. */
const pieces: Record<string, () => unknown> = {
	heap: () => Array.from({ length: 100_000 }, (_, i) => ({ i, next: null })),
	buffers: () => Buffer.alloc(8 * MiB, 1),
	strings: () => Buffer.alloc(8 * MiB, 97).toString("latin1"),
	maps: () => new Map(Array.from({ length: 100_000 }, (_, i) => [i, `${i}`])),
};

/** Tells once when it is over `mb`, to a file. */
function tellOver(url: URL): () => void {
	const [path, mb] = [url.searchParams.get("over"), Number(url.searchParams.get("mb"))];
	let told = path === null;
	return () => {
		if (told || process.memoryUsage.rss() <= mb * MiB) return;
		told = true;
		appendFileSync(path ?? "", `${Date.now()}\n`);
	};
}

/** Writes all of it, however slowly the other end reads. */
async function flood(fd: number, bytes: number, chunk: Uint8Array): Promise<void> {
	for (let left = bytes; left > 0;) {
		try {
			left -= writeSync(fd, chunk);
		} catch {
			// The pipe is full: whoever reads it will make room.
			await Bun.sleep(1);
		}
	}
}

const text = (line: string): Uint8Array => Buffer.from(line.repeat(Math.ceil(65_536 / line.length)));
const floods: Record<string, Uint8Array> = {
	"/no-newline": text("z"),
	"/lines": text("a line of output\n"),
	"/empty-lines": text("\n"),
	"/ansi": text("\u001b[31mred\u001b[0m \u001b]0;title\u0007\u001b[2J\n"),
	"/binary": crypto.getRandomValues(new Uint8Array(65_536)),
	"/nul": new Uint8Array(65_536),
	"/carriage-returns": text("50 %\r"),
	"/broken-utf8": Buffer.from(Array.from({ length: 65_536 }, (_, i) => (i % 7 === 0 ? 10 : 0xc3))),
};

export default async function handler(req: Request): Promise<Response> {
	const url = new URL(req.url);
	const number = (name: string): number => Number(url.searchParams.get(name) ?? 0);
	const over = tellOver(url);
	const piece = pieces[url.pathname.slice(1)];
	if (piece !== undefined) {
		for (;;) {
			kept.push(piece());
			over();
			if (url.searchParams.has("sync")) Bun.sleepSync(5);
			else await Bun.sleep(5);
		}
	}
	const output = floods[url.pathname];
	if (output !== undefined) {
		await flood(number("fd"), number("mb") * MiB, output);
		return new Response("flooded");
	}
	switch (url.pathname) {
		case "/hold":
			kept.push(Buffer.alloc(number("mb") * MiB, 1));
			await Bun.sleep(number("ms"));
			kept.pop();
			return new Response("held");
		case "/leak":
			kept.push(Buffer.alloc(number("bytes"), 1));
			await Bun.sleep(1);
			return new Response(`${process.pid}`);
		case "/fds":
			for (;;) kept.push(openSync("/dev/null", "r"));
		case "/sockets": {
			const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data: () => undefined } });
			for (let left = number("count"); left > 0; left -= 100) {
				kept.push(
					...(await Promise.all(
						Array.from({ length: Math.min(100, left) }, () =>
							Bun.connect({ hostname: "127.0.0.1", port: server.port, socket: { data: () => undefined } }),
						),
					)),
				);
			}
			return new Response(`${kept.length}`);
		}
		case "/fork-bomb":
			Bun.spawn(["sh", "-c", "bomb() { (bomb) & (bomb) & sleep 100; }; bomb"], {
				stdio: ["ignore", "ignore", "ignore"],
			});
			await Bun.sleep(60_000);
			return new Response("survived");
		case "/console":
			for (let left = number("mb") * MiB; left > 0; left -= 1_024) console.log("c".repeat(1_024));
			return new Response("flooded");
		case "/console-huge":
			for (let left = number("mb"); left > 0; left -= 8) console.log("h".repeat(8 * MiB));
			return new Response("flooded");
		case "/stream":
			for (let left = number("mb") * MiB; left > 0; left -= 65_536) process.stdout.write("s".repeat(65_536));
			return new Response("flooded");
		case "/child": {
			const child = Bun.spawn(["head", "-c", `${number("mb") * MiB}`, "/dev/zero"], {
				stdout: "inherit",
				stderr: "inherit",
			});
			await child.exited;
			return new Response("flooded");
		}
		default:
			await Bun.sleep(number("ms"));
			return new Response(`${process.pid}`);
	}
}
