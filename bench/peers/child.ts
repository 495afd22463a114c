/**
 * Processes that are asked by lines of JSON on stdin and answer on stdout, one request at a time. Whatever else they
 * write is kept for the error that they may end with. A child whose stdin ends is orphaned and ends itself.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** Before each answer, so that a library that writes to stdout is not taken for one. */
const MARK = "@answer ";
const KEPT_LINES_MAX = 40;
const END_MS_MAX = 10_000;

type Handlers = Readonly<Record<string, (params: never) => Promise<unknown>>>;

/** None outlives this process, however it ends: each leads a group of its own, with the servers that it started. */
const children = new Set<ChildProcess>();
process.once("exit", () => {
	for (const child of children) killGroup(child);
});

function killGroup(child: ChildProcess): void {
	if (child.pid === undefined) return;
	try {
		process.kill(-child.pid, "SIGKILL");
	} catch {
		// The group is gone.
	}
}

export class Child {
	readonly #process: ChildProcess;
	readonly #lines: string[] = [];
	#waiting: PromiseWithResolvers<unknown> | undefined;

	constructor(command: string, args: readonly string[]) {
		const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], detached: true });
		children.add(child);
		this.#process = child;
		child.stdin.on("error", () => undefined);
		createInterface({ input: child.stdout }).on("line", (line) => {
			if (line.startsWith(MARK)) this.#answer(JSON.parse(line.slice(MARK.length)) as { error?: string });
			else this.#keep(line);
		});
		createInterface({ input: child.stderr }).on("line", (line) => this.#keep(line));
		child.once("error", (error) => this.#waiting?.reject(error));
		// "close" and not "exit": what it wrote last says why.
		child.once("close", (code, signal) => {
			children.delete(child);
			this.#waiting?.reject(new Error(`the process ended with ${code ?? signal}: ${this.#lines.join(" | ")}`));
			this.#waiting = undefined;
		});
	}

	async ask<T>(op: string, params: unknown = {}): Promise<T> {
		if (this.#process.exitCode !== null || this.#process.signalCode !== null) {
			throw new Error(`the process has ended: ${this.#lines.join(" | ")}`);
		}
		if (this.#waiting !== undefined) throw new Error("one request at a time");
		this.#waiting = Promise.withResolvers<unknown>();
		const { promise } = this.#waiting;
		this.#process.stdin?.write(`${JSON.stringify({ op, params })}\n`);
		return (await promise) as T;
	}

	/** Lets it close what it started, and kills what is left of its group after ten seconds. */
	async end(): Promise<void> {
		const child = this.#process;
		if (child.exitCode === null && child.signalCode === null) {
			const gone = once(child, "close");
			child.stdin?.end();
			const timer = setTimeout(() => killGroup(child), END_MS_MAX);
			await gone;
			clearTimeout(timer);
		}
		killGroup(child);
	}

	#answer({ error, value }: { readonly error?: string; readonly value?: unknown }): void {
		const waiting = this.#waiting;
		this.#waiting = undefined;
		if (error === undefined) waiting?.resolve(value);
		else waiting?.reject(new Error(error));
	}

	#keep(line: string): void {
		if (line.trim() === "") return;
		this.#lines.push(line.trim());
		if (this.#lines.length > KEPT_LINES_MAX) this.#lines.shift();
	}
}

/** The child's side. `close` is called once, when stdin ends. */
export function serve(handlers: Handlers, close: () => Promise<void>): void {
	const answer = (body: unknown): void => void process.stdout.write(`${MARK}${JSON.stringify(body)}\n`);
	const lines = createInterface({ input: process.stdin });
	lines.on("line", (line) => {
		const { op, params } = JSON.parse(line) as { op: string; params: never };
		const handler = handlers[op];
		const done = handler === undefined ? Promise.reject(new Error(`unknown: ${op}`)) : handler(params);
		done.then(
			(value) => answer({ value }),
			(error: unknown) => answer({ error: error instanceof Error ? error.message : String(error) }),
		);
	});
	lines.once("close", () => {
		close().then(
			() => process.exit(0),
			(error: unknown) => {
				process.stderr.write(`${String(error)}\n`);
				process.exit(1);
			},
		);
	});
}
