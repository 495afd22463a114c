/**
 * The socket source: a unix socket that speaks docs/protocol.md.
 *
 * Owns the listening socket and the set of connections. What a path must be is in socket-path.ts, one client in
 * socket-connection.ts, the commands in socket-commands.ts. The file mode 0600 is the whole authentication: whoever
 * may open the socket may do everything. Start and stop give their second caller the first one's promise.
 */
import { createServer, type Server, type Socket } from "node:net";
import type { Engine, Source } from "../core/contracts.ts";
import type { Environment } from "../core/environment.ts";
import { EngineError, messageOf } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";
import { Connection } from "./socket-connection.ts";
import { freeSocketPath } from "./socket-path.ts";

/** Leaves rw for the owner on the socket file, from the moment it exists. */
const UMASK = 0o177;

export interface SocketSourceOptions {
	readonly environment: Environment;
	/** Where to listen; its folder must exist. */
	readonly path: string;
	/** How long a stop waits for requests in flight. */
	readonly stopMs?: number | undefined;
}

export interface SocketSource extends Source {
	/** Open connections, and clients that were disconnected because they did not read. */
	counts(): { readonly connections: number; readonly tooSlow: number };
}

export function socketSource(options: SocketSourceOptions): SocketSource {
	return new UnixSocketSource(options);
}

class UnixSocketSource implements SocketSource {
	readonly kind = "socket";
	readonly #options: SocketSourceOptions;
	readonly #connections = new Set<Connection>();
	#server: Server | undefined;
	#tooSlow = 0;
	#starting: Promise<void> | undefined;
	#stopping: Promise<void> | undefined;
	/** Set while a stop waits for the last connection. */
	#emptied: (() => void) | undefined;

	constructor(options: SocketSourceOptions) {
		this.#options = options;
	}

	start(engine: Engine): Promise<void> {
		this.#starting ??= this.#start(engine);
		return this.#starting;
	}

	stop(): Promise<void> {
		this.#stopping ??= this.#stop();
		return this.#stopping;
	}

	counts(): { readonly connections: number; readonly tooSlow: number } {
		return { connections: this.#connections.size, tooSlow: this.#tooSlow };
	}

	async #start(engine: Engine): Promise<void> {
		const { path, environment } = this.#options;
		await freeSocketPath(path, environment.clock);
		if (this.#stopping !== undefined) return;
		// Half-open, so that a client may end its side after its last request and still read the answers.
		const server = createServer({ allowHalfOpen: true }, (socket) => this.#accept(engine, socket));
		await listen(server, path);
		// EMFILE and the like: the socket stays, accepting goes on when there are descriptors again.
		server.on("error", (error) => {
			environment.logger.warn({ path, error: messageOf(error) }, "a connection could not be accepted");
		});
		this.#server = server;
	}

	#accept(engine: Engine, socket: Socket): void {
		const { environment, path } = this.#options;
		const connection: Connection = new Connection({
			socket,
			engine,
			environment,
			closed: () => {
				this.#connections.delete(connection);
				if (this.#connections.size === 0) this.#emptied?.();
			},
			tooSlow: () => {
				this.#tooSlow++;
				environment.logger.warn(
					{ path, bytes: LIMITS.socketOutputBytesMax, times: this.#tooSlow },
					"a client did not read its answers and was disconnected; its invocations go on",
				);
			},
		});
		this.#connections.add(connection);
		if (this.#stopping !== undefined) connection.finish();
	}

	async #stop(): Promise<void> {
		// A start that failed has told its own caller.
		await this.#starting?.catch(() => undefined);
		const server = this.#server;
		if (server === undefined) return;
		const closed = new Promise<void>((resolve) => server.close(() => resolve()));
		const { promise: emptied, resolve } = Promise.withResolvers<void>();
		this.#emptied = resolve;
		for (const connection of this.#connections) connection.finish();
		if (this.#connections.size > 0) {
			const timer = this.#options.environment.clock.setTimer(this.#options.stopMs ?? LIMITS.drainMs, () => {
				for (const connection of this.#connections) connection.destroy();
			});
			await emptied;
			timer.cancel();
		}
		await closed;
	}
}

/** Binds inside one synchronous call, so that the process-wide umask is ours for no longer than that. */
async function listen(server: Server, path: string): Promise<void> {
	const { promise, resolve, reject } = Promise.withResolvers<void>();
	server.once("listening", resolve);
	server.once("error", reject);
	const umask = process.umask(UMASK);
	try {
		server.listen({ path, backlog: LIMITS.socketBacklog });
	} finally {
		process.umask(umask);
	}
	try {
		await promise;
	} catch (error) {
		const taken = (error as NodeJS.ErrnoException).code === "EADDRINUSE";
		throw new EngineError(
			taken ? "SECOND_DAEMON" : "BAD_ENVIRONMENT",
			`cannot listen on ${JSON.stringify(path)}: ${taken ? "another daemon has just taken it" : messageOf(error)}`,
			{ cause: error },
		);
	} finally {
		server.removeListener("error", reject);
	}
}
