/**
 * A daemon that kills itself (SIGKILL) at a named point: DIE_AT="settle.committed:3" is the third time it gets there.
 * With DIE_ARMED=1 it counts only from SIGUSR2 on, and says `armed` in its log then; without DIE_AT it goes on. Takes the
 * flags of `serve` that tests/support/daemon.ts passes.
 */
import { parseArgs } from "node:util";
import { LIMITS } from "../../src/core/limits.ts";
import { createEngine, httpSource, socketSource, systemEnvironment, systemLogger } from "../../src/index.ts";

const { values } = parseArgs({
	options: { "data-dir": { type: "string" }, socket: { type: "string" }, "http-port": { type: "string" } },
});
const [point, count] = (process.env["DIE_AT"] ?? "").split(":");
let left = Number(count ?? 1);
let armed = process.env["DIE_ARMED"] === undefined;

const system = systemEnvironment(systemLogger("info"));
// KEEPER_MS: how often the data folder is looked at, instead of once a second.
const keeperMs = Number(process.env["KEEPER_MS"] ?? LIMITS.keeperMs);
const environment = {
	...system,
	clock: {
		...system.clock,
		setTimer: (delayMs: number, fire: () => void) =>
			system.clock.setTimer(delayMs === LIMITS.keeperMs ? keeperMs : delayMs, fire),
	},
	probe: {
		hit(name: string): void {
			if (name !== point || !armed) return;
			left -= 1;
			if (left === 0) process.kill(process.pid, "SIGKILL");
		},
	},
};
process.once("SIGUSR2", () => {
	armed = true;
	environment.logger.info({}, "armed");
});
const http = httpSource({ port: 0, environment });
const socketPath = values.socket ?? "";
const engine = createEngine({
	dataDir: values["data-dir"] ?? "",
	durability: process.env["BUNBASE_DURABILITY"] === "process" ? "process" : "power",
	environment,
	socketPath,
	sources: [socketSource({ path: socketPath, environment }), http],
});
await engine.start();
environment.logger.info({ http: http.address().url }, "ready");
process.once("SIGTERM", () => {
	void engine.stop().then(() => process.exit(0));
});
