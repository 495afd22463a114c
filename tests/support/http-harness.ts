/** A running HTTP source over a FakeEngine, and clients for it: fetch-like over node:http, and raw bytes. */
import { request as httpRequest } from "node:http";
import type { Agent, IncomingHttpHeaders, RequestOptions } from "node:http";
import { connect } from "node:net";
import type { TestContext } from "node:test";
import { httpSource } from "../../src/sources/http.ts";
import type { HttpSource, HttpSourceOptions } from "../../src/sources/http.ts";
import { FakeEngine, realEnvironment } from "./fake-engine.ts";

export interface Answer {
	readonly status: number;
	readonly headers: IncomingHttpHeaders;
	readonly rawHeaders: readonly string[];
	readonly body: Buffer;
	readonly text: string;
	readonly json: () => Record<string, unknown>;
}

export interface Harness {
	readonly engine: FakeEngine;
	readonly source: HttpSource;
	readonly port: number;
	/** One request on its own connection unless `agent` is set. `headers` is a flat list, so that names may repeat. */
	readonly send: (
		method: string,
		path: string,
		options?: { headers?: readonly string[]; body?: string | Uint8Array; agent?: Agent; signal?: AbortSignal },
	) => Promise<Answer>;
	/** Writes the bytes as they are; resolves with everything that came back when the server closed. */
	readonly raw: (bytes: string | Buffer) => Promise<string>;
}

export async function startHttp(t: TestContext, options: Partial<HttpSourceOptions> = {}): Promise<Harness> {
	const engine = new FakeEngine();
	const source = httpSource({ port: 0, environment: realEnvironment(), stopMs: 2000, ...options });
	await source.start(engine);
	t.after(() => source.stop());
	const { port } = source.address();

	async function send(
		method: string,
		path: string,
		given: { headers?: readonly string[]; body?: string | Uint8Array; agent?: Agent; signal?: AbortSignal } = {},
	): Promise<Answer> {
		return await new Promise<Answer>((resolve, reject) => {
			const headers = [...(given.headers ?? [])];
			const names = headers.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase());
			if (!names.includes("host")) headers.push("Host", `127.0.0.1:${port}`);
			if (given.body !== undefined && !names.includes("transfer-encoding")) {
				headers.push("Content-Length", String(Buffer.byteLength(given.body)));
			}
			const agent = given.agent ?? false;
			const wanted: RequestOptions = { host: "127.0.0.1", port, method, path, headers, agent };
			if (given.signal !== undefined) wanted.signal = given.signal;
			const req = httpRequest(wanted, (res) => {
				const chunks: Buffer[] = [];
				res.on("data", (chunk: Buffer) => chunks.push(chunk));
				res.on("error", reject);
				res.on("end", () => {
					const body = Buffer.concat(chunks);
					const text = body.toString("utf8");
					const { headers: got, rawHeaders } = res;
					const json = (): Record<string, unknown> => JSON.parse(text) as Record<string, unknown>;
					resolve({ status: res.statusCode ?? 0, headers: got, rawHeaders, body, text, json });
				});
			});
			req.on("error", reject);
			req.end(given.body);
		});
	}

	async function raw(bytes: string | Buffer): Promise<string> {
		return await new Promise<string>((resolve) => {
			const chunks: Buffer[] = [];
			const socket = connect(port, "127.0.0.1", () => socket.write(bytes));
			socket.on("data", (chunk) => chunks.push(chunk));
			socket.on("error", () => undefined);
			socket.on("close", () => resolve(Buffer.concat(chunks).toString("latin1")));
		});
	}

	return { engine, source, port, send, raw };
}

/** Resolves when `holds` answers true; the test's own time limit is the bound. */
export async function until(holds: () => boolean): Promise<void> {
	while (!holds()) await new Promise<void>((resolve) => setTimeout(resolve, 2));
}
