/**
 * The HTTP source: one node:http server on a loopback address.
 *
 * Owns the server's life and its limits. What a request is refused for before any route is in http-guard.ts, the hot
 * path in http-gateway.ts, the API in http-api.ts. Start and stop give their second caller the first one's promise.
 */
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { Server as NetServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import type { Engine, Source } from "../core/contracts.ts";
import type { Environment } from "../core/environment.ts";
import { EngineError, messageOf } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";
import { NumberMap } from "../core/number-map.ts";
import { createApi } from "./http-api.ts";
import type { Api } from "./http-api.ts";
import { Connections } from "./http-connection.ts";
import type { HttpContext } from "./http-context.ts";
import { GATEWAY_PREFIX, serveFunction } from "./http-gateway.ts";
import { createGuard, isLoopback } from "./http-guard.ts";
import { sendThrown } from "./http-problem.ts";
import type { PageLookup } from "./http-pages.ts";
import { createTokenCheck } from "./http-token.ts";

/** Node's own defaults are 60 s, 300 s, 30 s and no limit: kind to a client that sends one byte a minute. */
const HEADERS_MS_MAX = 10_000;
const REQUEST_MS_MAX = 60_000;
const KEEP_ALIVE_MS = 5000;
const CHECK_EVERY_MS = 1000;
const HEADER_BYTES_MAX = 16 * 1024;
const CONNECTIONS_MAX = 10_000;

export interface HttpSourceOptions {
	readonly environment: Environment;
	/** Loopback only, unless there are tokens; default 127.0.0.1. */
	readonly host?: string | undefined;
	/** 0 takes any free port. */
	readonly port: number;
	/** Every request but health must bring one of them; none: everybody may call. */
	readonly tokens?: readonly string[] | undefined;
	/** Further names in Host, e.g. that of a reverse proxy's site: `app.example.com` or `app.example.com:8443`. */
	readonly allowedHosts?: readonly string[] | undefined;
	/**
	 * `sandboxed` (default): a page that a function answers runs in an origin of its own, so that its scripts cannot call
	 * the API. `trusted`: in ours; for functions that never answer what a caller sent as HTML.
	 */
	readonly functionPages?: "sandboxed" | "trusted" | undefined;
	/** The dashboard's pages, by path; asked where no route of the API matches. */
	readonly dashboard?: PageLookup | undefined;
	/** How long a stop waits for requests in flight. */
	readonly stopMs?: number | undefined;
}

export interface HttpAddress {
	readonly host: string;
	readonly port: number;
	readonly url: string;
}

export interface HttpSource extends Source {
	/** Where it listens; throws before `start` has resolved. */
	address(): HttpAddress;
}

export function httpSource(options: HttpSourceOptions): HttpSource {
	const { environment, port } = options;
	const host = options.host ?? "127.0.0.1";
	const guard = createGuard(host, options.allowedHosts ?? []);
	const checkToken = createTokenCheck(options.tokens ?? []);
	const stopping = new AbortController();
	/** Answers that are not handed to their connection yet. */
	const inFlight = new NumberMap<ServerResponse>();
	let lastRequest = 0;
	const connections = new Connections();
	let server: Server | undefined;
	let starting: Promise<void> | undefined;
	let stopped: Promise<void> | undefined;

	async function listen(engine: Engine): Promise<void> {
		if (!isLoopback(host) && (options.tokens ?? []).length === 0) {
			throw new EngineError(
				"BAD_ENVIRONMENT",
				`without a token the HTTP API listens on loopback addresses only, not on ${JSON.stringify(host)}; ask for one ` +
					"(--http-token-file), or listen on 127.0.0.1 and put a reverse proxy with authentication before it (docs/http.md)",
			);
		}
		if (stopping.signal.aborted)
			throw new EngineError("SHUTTING_DOWN", "the HTTP source was stopped before it started");
		const context: HttpContext = {
			engine,
			environment,
			stopping: stopping.signal,
			trustFunctionPages: options.functionPages === "trusted",
		};
		const api = createApi(context, options.dashboard);
		const made = createServer({
			headersTimeout: HEADERS_MS_MAX,
			requestTimeout: REQUEST_MS_MAX,
			keepAliveTimeout: KEEP_ALIVE_MS,
			connectionsCheckingInterval: CHECK_EVERY_MS,
			maxHeaderSize: HEADER_BYTES_MAX,
			requireHostHeader: false, // the guard answers for it, with a problem body
		});
		made.maxConnections = CONNECTIONS_MAX;
		const onRequest = (req: IncomingMessage, res: ServerResponse): void => {
			connections.take(req, res, () => void serve(context, api, req, res));
		};
		made.on("request", onRequest);
		made.on("checkContinue", onRequest); // `100 Continue` is sent by who wants the body
		made.on("connection", (socket: Socket) => connections.add(socket));
		made.on("clientError", (error: NodeJS.ErrnoException, socket) => connections.broke(error, socket as Socket));
		server = made;
		await bind(made, host, port);
		made.on("error", (error) => environment.logger.error({ err: error }, "the HTTP server met an error"));
	}

	async function serve(context: HttpContext, api: Api, req: IncomingMessage, res: ServerResponse): Promise<void> {
		const number = ++lastRequest;
		inFlight.set(number, res);
		try {
			if (stopping.signal.aborted) res.shouldKeepAlive = false;
			passGuard(req, res);
			checkToken(req);
			if (stopping.signal.aborted) throw new EngineError("SHUTTING_DOWN", "the daemon is stopping; nothing was queued");
			if ((req.url ?? "").startsWith(GATEWAY_PREFIX)) await serveFunction(context, req, res);
			else await api(req, res);
		} catch (thrown) {
			sendThrown(req, res, thrown, environment);
		} finally {
			inFlight.delete(number);
		}
	}

	/** Whose form, name or origin is wrong is told once: what follows on such a connection may be read differently by others. */
	function passGuard(req: IncomingMessage, res: ServerResponse): void {
		try {
			guard(req);
		} catch (refused) {
			res.shouldKeepAlive = false;
			throw refused;
		}
	}

	async function close(): Promise<void> {
		for (const res of inFlight.values()) res.shouldKeepAlive = false;
		stopping.abort();
		await starting?.catch(() => undefined);
		const running = server;
		if (running === undefined || !running.listening) return;
		await new Promise<void>((resolve) => {
			const timer = environment.clock.setTimer(options.stopMs ?? LIMITS.drainMs, () => {
				environment.logger.warn({ port }, "HTTP requests were still in flight when the stop ran out; closing them");
				running.closeAllConnections();
			});
			// Not the http server's own close(): that one cuts answers which a slow client has not taken yet, and waits
			// for ever for connections that never sent a request, such as a browser's preconnects.
			NetServer.prototype.close.call(running, () => {
				timer.cancel();
				resolve();
			});
			const busy = new Set(inFlight.values().map((res) => res.req.socket));
			for (const socket of connections.sockets()) if (!busy.has(socket)) socket.destroySoon();
		});
		running.close(() => undefined); // only to end its timer of CHECK_EVERY_MS
	}

	return {
		kind: "http",
		start: (engine) => (starting ??= listen(engine)),
		stop: () => (stopped ??= close()),
		address: () => {
			const bound = server?.address() as AddressInfo | null | undefined;
			if (bound === null || bound === undefined)
				throw new Error("the HTTP source has no address before it has started");
			const shown = bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
			return { host: bound.address, port: bound.port, url: `http://${shown}:${bound.port}` };
		},
	};
}

async function bind(server: Server, host: string, port: number): Promise<void> {
	await new Promise<void>((resolve, reject) => {
		const refuse = (cause: NodeJS.ErrnoException): void => reject(bindError(cause, host, port));
		server.once("error", refuse);
		server.listen({ host: host.replace(/^\[|\]$/g, ""), port, backlog: LIMITS.socketBacklog }, () => {
			server.off("error", refuse);
			resolve();
		});
	});
}

function bindError(cause: NodeJS.ErrnoException, host: string, port: number): EngineError {
	const advice =
		cause.code === "EADDRINUSE"
			? "the port is in use, perhaps by another daemon; stop that one or choose another port (--http-port)"
			: cause.code === "EACCES"
				? "ports under 1024 need a privilege; choose a higher one (--http-port)"
				: messageOf(cause);
	return new EngineError("BAD_ENVIRONMENT", `cannot listen on ${host}:${port}: ${advice}`, { cause });
}
