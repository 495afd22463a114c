/**
 * What the HTTP cases share: one real daemon for a file of tests, with the function `web` deployed, and clients for it
 * that write what no polite client would.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { after, before } from "node:test";
import { startDaemon, type Daemon, type DaemonOptions } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";

export const FUNCTIONS = join(import.meta.dirname, "../../functions");
export const HOST = "Host: localhost\r\n";
export const CLOSE = "Connection: close\r\n";

export interface Answered {
	readonly status: number;
	readonly headers: Headers;
	readonly text: string;
}

export interface Scene {
	readonly daemon: Daemon;
	readonly folder: string;
	readonly dataDir: string;
	readonly port: number;
	/** A request of a client that behaves. */
	call(method: string, path: string, options?: { headers?: Record<string, string>; body?: unknown }): Promise<Answered>;
	/** Writes the bytes as they are; resolves with all that came back when the daemon closed the connection. */
	raw(bytes: string | Buffer): Promise<string>;
	/** An open connection that collects what it is sent. */
	open(): Promise<Line>;
	/** Invocations accepted since the start. */
	accepted(): Promise<number>;
	/** Stops the daemon, which must end with 0, and starts it again. */
	restart(): Promise<void>;
	/** kill -9, and starts it again. */
	kill(): Promise<void>;
}

/** Starts the daemon before the file's tests and stops it after them; it must end with 0. */
export function scene(options: DaemonOptions = {}): Scene {
	const folder = tempFolder();
	const dataDir = join(folder.path, "data");
	let daemon: Daemon;
	before(async () => {
		daemon = await startDaemon(dataDir, options);
		await daemon.client.call("functions.deploy", {
			function: "web",
			path: join(FUNCTIONS, "web.ts"),
			build: true,
			register: true,
		});
	});
	after(async () => {
		assert.equal(await daemon.stop(), 0);
		folder[Symbol.dispose]();
	});
	return {
		get daemon() {
			return daemon;
		},
		folder: folder.path,
		dataDir,
		get port() {
			return Number(new URL(daemon.httpUrl).port);
		},
		call: (method, path, { headers = {}, body } = {}) => call(daemon, method, path, headers, body),
		raw(bytes) {
			return raw(this.port, bytes);
		},
		open() {
			return Line.open(this.port);
		},
		async restart() {
			assert.equal(await daemon.stop(), 0);
			daemon = await startDaemon(dataDir, options);
		},
		async kill() {
			await daemon.kill();
			daemon = await startDaemon(dataDir, options);
		},
		async accepted() {
			return Number((await daemon.client.call("stats.get", {}))["accepted"]);
		},
	};
}

async function call(
	daemon: Daemon,
	method: string,
	path: string,
	headers: Record<string, string>,
	body: unknown,
): Promise<Answered> {
	const init: RequestInit = { method, headers };
	if (body !== undefined) {
		const isBytes = typeof body === "string" || body instanceof Uint8Array;
		init.body = isBytes ? (body as string) : JSON.stringify(body);
	}
	const answer = await fetch(`${daemon.httpUrl}${path}`, init);
	return { status: answer.status, headers: answer.headers, text: await answer.text() };
}

async function raw(port: number, bytes: string | Buffer): Promise<string> {
	await using line = await Line.open(port);
	line.write(bytes);
	await line.closed;
	return line.text;
}

/** One TCP connection in our hands. */
export class Line implements AsyncDisposable {
	readonly socket: Socket;
	/** When the daemon's side or ours is closed. */
	readonly closed: Promise<void>;
	readonly #chunks: Buffer[] = [];
	#heard: (() => void)[] = [];

	private constructor(socket: Socket) {
		this.socket = socket;
		socket.on("data", (chunk: Buffer) => {
			this.#chunks.push(chunk);
			this.#tell();
		});
		socket.on("error", () => undefined);
		this.closed = new Promise((resolve) => socket.once("close", () => resolve()));
		socket.once("close", () => this.#tell());
	}

	static async open(port: number): Promise<Line> {
		const socket = connect(port, "127.0.0.1");
		const line = new Line(socket);
		await new Promise<void>((resolve, reject) => {
			socket.once("connect", resolve);
			socket.once("error", reject);
		});
		return line;
	}

	get text(): string {
		return Buffer.concat(this.#chunks).toString("latin1");
	}

	write(bytes: string | Buffer): void {
		this.socket.write(typeof bytes === "string" ? Buffer.from(bytes, "latin1") : bytes);
	}

	/** Resolves when what came matches, or rejects when the connection closed without it. */
	async until(pattern: RegExp): Promise<void> {
		while (!pattern.test(this.text)) {
			if (this.socket.closed) throw new Error(`closed before ${pattern}: ${this.text.slice(0, 300)}`);
			await new Promise<void>((resolve) => this.#heard.push(resolve));
		}
	}

	async [Symbol.asyncDispose](): Promise<void> {
		this.socket.destroy();
		await this.closed;
	}

	#tell(): void {
		for (const resolve of this.#heard.splice(0)) resolve();
	}
}

/** The statuses of all answers in what a connection was sent. */
export function statuses(answer: string): number[] {
	return [...answer.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((match) => Number(match[1]));
}

/** Resident MiB of a process now, and the most it ever was. */
export function memoryOf(pid: number): { readonly now: number; readonly most: number } {
	const text = readFileSync(`/proc/${pid}/status`, "latin1");
	const mib = (key: string): number => Number(new RegExp(`${key}:\\s+(\\d+)`).exec(text)?.[1] ?? NaN) / 1024;
	return { now: mib("VmRSS"), most: mib("VmHWM") };
}
