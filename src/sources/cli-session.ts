/**
 * One run of one command: the client it opens when it first needs it, and the one way to print.
 * What a command answers goes to stdout as text or, with --json, as one document; all talk goes to stderr.
 */
import type { OperationName } from "./operations.ts";
import { createClient, type Client } from "./client.ts";
import { Interrupted } from "./cli-errors.ts";
import type { CliHost } from "./cli-host.ts";
import { jsonText, plain } from "./cli-output.ts";

export interface GlobalOptions {
	readonly socket?: string;
	readonly json?: boolean;
	readonly verbose?: boolean;
}

export const DEFAULT_SOCKET = "/tmp/functions.sock";

/** A JSON object as it came over the wire: keys in snake_case, `*_at` in UTC milliseconds. */
export type Wire = Readonly<Record<string, unknown>>;

export class Session {
	readonly host: CliHost;
	readonly json: boolean;
	readonly verbose: boolean;
	/** What it talks to: flag, environment, default. */
	readonly socketPath: string;
	/** Only what was typed, wherever on the line. */
	readonly socketFlag: { readonly socket?: string };
	#client: Client | undefined;

	constructor(host: CliHost, options: GlobalOptions) {
		this.host = host;
		this.json = options.json === true;
		this.verbose = options.verbose === true;
		this.socketFlag = options.socket === undefined ? {} : { socket: options.socket };
		this.socketPath = options.socket ?? (host.env["BUNBASE_SOCKET"] || DEFAULT_SOCKET);
	}

	get client(): Client {
		this.#client ??= createClient(this.socketPath, { source: "cli" });
		return this.#client;
	}

	/** Asks the daemon. A Ctrl-C ends the waiting with `advice`; the daemon goes on with what it has accepted. */
	async call(operation: OperationName, params: Wire, advice?: string): Promise<Wire> {
		return this.untilInterrupted(this.client.call(operation, params), advice);
	}

	/** The wire's answer to ENQUEUE: the invocation is durable. */
	async enqueue(functionRef: string, request: Parameters<Client["enqueue"]>[1]): Promise<Wire> {
		const { invocationId, state, replayed } = await this.untilInterrupted(this.client.enqueue(functionRef, request));
		return { invocation_id: invocationId, state, replayed };
	}

	async list(operation: OperationName, key: string, params: Wire = {}): Promise<readonly Wire[]> {
		const answer = await this.call(operation, params);
		return (answer[key] ?? []) as readonly Wire[];
	}

	async untilInterrupted<T>(work: Promise<T>, advice?: string): Promise<T> {
		const { interrupted } = this.host;
		const { promise, reject } = Promise.withResolvers<never>();
		const stop = (): void => reject(new Interrupted(advice));
		if (interrupted.aborted) stop();
		interrupted.addEventListener("abort", stop, { once: true });
		try {
			return await Promise.race([work, promise]);
		} finally {
			interrupted.removeEventListener("abort", stop);
			work.catch(() => undefined);
			promise.catch(() => undefined);
		}
	}

	/** The answer of a command: `document` with --json, `text` otherwise. */
	async print(document: unknown, text: string | (() => string)): Promise<void> {
		if (this.json) await this.host.stdout.write(`${jsonText(document, "\t")}\n`);
		else await this.host.stdout.write(typeof text === "string" ? text : text());
	}

	/** Talk; nothing a script would read. Silent with --json. */
	async tell(text: string): Promise<void> {
		if (!this.json) await this.host.stderr.write(text);
	}

	/** Text that a function wrote: made harmless for a terminal, untouched for a pipe. */
	safe(text: string): string {
		return this.host.stdout.isTTY && !this.json ? plain(text) : text;
	}

	now(): number {
		return this.host.clock.now();
	}

	/** Resolves after `ms`, or rejects at Ctrl-C. */
	async pause(ms: number, advice?: string): Promise<void> {
		const { promise, resolve } = Promise.withResolvers<void>();
		const timer = this.host.clock.setTimer(ms, resolve);
		try {
			await this.untilInterrupted(promise, advice);
		} finally {
			timer.cancel();
		}
	}

	close(): void {
		this.#client?.close();
		this.#client = undefined;
	}
}

export function text(value: unknown): string {
	return typeof value === "string" ? value : "";
}

export function number(value: unknown): number | undefined {
	return typeof value === "number" ? value : undefined;
}

export function object(value: unknown): Wire {
	return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Wire) : {};
}

export function array(value: unknown): readonly unknown[] {
	return Array.isArray(value) ? (value as readonly unknown[]) : [];
}
