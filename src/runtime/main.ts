/**
 * The Bun program inside a Worker: one channel on descriptor 3, one bundle, many calls at once.
 *
 * It ends when the channel closes, because then the daemon is gone. It is the only file here that uses more than
 * web standards. An error that no handler caught does not end the process: it is logged and reported as `tainted`,
 * and the pool replaces the worker when its calls are done.
 */
import { drainMicrotasks, estimateShallowMemoryUsageOf } from "bun:jsc";
import { AsyncLocalStorage } from "node:async_hooks";
import {
	ALLOCATOR_VARIABLES,
	CHANNEL_VERSION,
	FrameReader,
	type HostMessage,
	type InitMessage,
	type InvokeMessage,
	readHostMessage,
	type WorkerMessage,
} from "../protocol/index.ts";
import { Call, type CallDependencies } from "./call.ts";
import { captureConsole } from "./console.ts";
import { decoderDecode, firstOf, ownApply, OwnMap, ownMonotonic, OwnTextDecoder } from "./intrinsics.ts";
import { createLineSink, type LineSink } from "./lines.ts";
import { loadBundle } from "./loader.ts";
import { createOutbox, type Outbox } from "./outbox.ts";
import { describeThrown } from "./text.ts";
import { createReadWhole } from "./whole-body.ts";

const CHANNEL_FD = 3;
/** Variables that the pool sets for itself. */
const MARKER = /^BUNBASE_WORKER_/;

const exit = process.exit.bind(process);
const nextTick = process.nextTick.bind(process);
const { inspect, pathToFileURL, peek } = Bun;

const scope = new AsyncLocalStorage<Call>();
// Bound now, because user code has the class too.
const inScope = scope.run.bind(scope) as <Value>(call: Call, run: () => Value) => Value;
const callOf = scope.getStore.bind(scope);
const readWhole = createReadWhole({ sizeOf: estimateShallowMemoryUsageOf, peek });
const calls = new OwnMap<number, Call>();
const decoder = new OwnTextDecoder();
/** Work of `waitUntil` that is not done. */
let held = 0;
let stopping = false;
let outbox: Outbox;
let outside: LineSink;
let deps: CallDependencies | undefined;

function send(message: WorkerMessage): void {
	outbox.send(message);
}

function endIfDone(): void {
	if (stopping && held === 0 && calls.size === 0) outbox.whenEmpty(() => exit(0));
}

function invoke(message: InvokeMessage): void {
	if (deps === undefined) throw new Error("invoked before ready");
	const call = new Call(message, deps);
	calls.set(call.id, call);
	void finish(
		call,
		inScope(call, () => call.run()),
	);
	// A call that waits for nothing is over before the next one of this turn begins. Were all begun first, their Requests would
	// live at once: 18 µs in place of 14 of each call with a hundred callers, and the first answer waited for the last call.
	drainMicrotasks();
}

/** Awaited, not chained: `then` may be another by now. */
async function finish(call: Call, running: Promise<WorkerMessage>): Promise<void> {
	const answer = await running;
	calls.delete(call.id);
	send(answer);
	endIfDone();
}

async function init(message: InitMessage): Promise<void> {
	const { limits, functionName } = message;
	if (message.protocol !== CHANNEL_VERSION) {
		const text = `the daemon speaks channel version ${message.protocol}, this runtime ${CHANNEL_VERSION}; restart the daemon`;
		send({ type: "start_failed", message: text, stack: undefined });
		return;
	}
	outside = createLineSink({ call: undefined, limits, send });
	captureOutput();
	captureUncaught(limits.errorTextBytesMax);
	// What was printed before a process.exit() in user code still leaves.
	process.on("exit", () => outbox.flush());
	hideVariables();
	try {
		const url = pathToFileURL(message.bundlePath).href;
		const { handler, config } = await loadBundle(url, message.handler, limits.configBytesMax);
		const hold = (by: 1 | -1): void => {
			held += by;
			endIfDone();
		};
		deps = { handler, functionName, limits, readWhole, send, hold };
		send({ type: "ready", protocol: CHANNEL_VERSION, config });
	} catch (thrown) {
		const { name, message, stack } = describeThrown(thrown, limits.errorTextBytesMax);
		send({
			type: "start_failed",
			message: name === undefined || name === "Error" ? message : `${name}: ${message}`,
			stack,
		});
	}
}

/** What the pool has set is none of the function's. */
function hideVariables(): void {
	for (const name of Object.keys(process.env)) if (MARKER.test(name)) delete process.env[name];
	for (const [name, value] of Object.entries(ALLOCATOR_VARIABLES))
		if (process.env[name] === value) delete process.env[name];
}

function captureOutput(): void {
	const sink = (): LineSink => callOf()?.sink ?? outside;
	captureConsole(console, sink, {
		inspect: (value, options) => inspect(value, { colors: false, ...options }),
		table: (rows, columns) => inspect.table(rows as object, columns, { colors: false }).trimEnd(),
	});
	for (const [name, fd, level] of [
		["stdout", 1, "info"],
		["stderr", 2, "error"],
	] as const) {
		let stream: object | undefined;
		const make = (): object => {
			// Loaded only where it is used: node:stream costs about 3 MB and 4 ms.
			const { Writable } = process.getBuiltinModule("node:stream");
			const made = new Writable({
				decodeStrings: false,
				write(chunk: string | Uint8Array, _encoding, done) {
					sink().write(level, typeof chunk === "string" ? chunk : ownApply(decoderDecode, decoder, [chunk]));
					done();
				},
			});
			return Object.assign(made, { fd, isTTY: false });
		};
		// Bun makes the real stream, with all that it needs, for whoever looks at it or defines it anew: 12 ms of each start. A
		// plain assignment it takes without.
		process[name] = undefined as never;
		Object.defineProperty(process, name, { configurable: true, enumerable: true, get: () => (stream ??= make()) });
	}
}

function captureUncaught(errorTextBytesMax: number): void {
	const report = (kind: string) => (thrown: unknown) => {
		const { message, stack } = describeThrown(thrown, errorTextBytesMax);
		// Bun gives no async context to a rejection; where one call is aboard, it is that one's.
		const only = calls.size === 1 ? firstOf(calls) : undefined;
		const call = callOf() ?? only;
		(call?.sink ?? outside).line("error", `${kind}: ${stack ?? message}`);
		send({ type: "tainted", message: `${kind}: ${message}` });
	};
	process.on("uncaughtException", report("uncaught exception"));
	process.on("unhandledRejection", report("unhandled rejection"));
}

function receive(message: HostMessage): void {
	switch (message.type) {
		case "init":
			void init(message);
			break;
		case "invoke":
			invoke(message);
			break;
		case "abort":
			calls.get(message.call)?.abort(message.reason);
			break;
		case "ping":
			send({ type: "pong" });
			break;
		case "limits":
			if (deps !== undefined) deps = { ...deps, limits: message.limits };
			break;
		case "stop":
			stopping = true;
			endIfDone();
			break;
	}
}

const reader = new FrameReader((frame) => {
	const message = readHostMessage(frame);
	if (typeof message === "string") return message;
	receive(message);
	return undefined;
});

const options = {
	fd: CHANNEL_FD,
	socket: {
		open(socket: Bun.Socket) {
			outbox = createOutbox(socket, { nextTick, now: ownMonotonic });
		},
		data(_socket: Bun.Socket, bytes: Uint8Array) {
			if (outbox.turn(() => reader.push(bytes)) !== undefined) exit(70);
		},
		drain() {
			outbox.flush();
		},
		close() {
			exit(0);
		},
		error() {
			exit(0);
		},
	},
};
// Bun 1.4.5 takes a descriptor here (net.Socket({ fd: 3 }) ends the process); its types do not know it yet.
await Bun.connect(options as unknown as Bun.UnixSocketOptions<undefined>);
