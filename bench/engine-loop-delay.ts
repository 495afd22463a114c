/**
 * The engine as a library in a process that also watches its own event loop. Takes the daemon's flags, logs its ready
 * line, and on an IPC message `reset` or `report` starts over or answers with the delay's percentiles.
 */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { parseArgs } from "node:util";
import { createEngine, httpSource, socketSource, systemEnvironment, systemLogger } from "../src/index.ts";

const { values } = parseArgs({
	options: { "data-dir": { type: "string" }, socket: { type: "string" }, "http-port": { type: "string" } },
});
const environment = systemEnvironment(systemLogger("warn"));
const socketPath = values.socket ?? "";
const http = httpSource({ environment, host: "127.0.0.1", port: Number(values["http-port"] ?? 0) });
const engine = createEngine({
	dataDir: values["data-dir"] ?? "",
	socketPath,
	environment,
	sources: [socketSource({ environment, path: socketPath }), http],
});
await engine.start();

/** It fires every millisecond; what it records is the whole interval, so this is taken off again. */
const RESOLUTION_MS = 1;
const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
delay.enable();
process.on("message", (message) => {
	if (message === "reset") delay.reset();
	const ms = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS);
	process.send?.({ p50: ms(delay.percentile(50)), p99: ms(delay.percentile(99)), max: ms(delay.max) });
});
process.once("SIGTERM", () => void engine.stop().then(() => process.exit(0)));
process.stderr.write(`${JSON.stringify({ msg: "ready", http: http.address().url })}\n`);
