/** Run by spawnHolder: opens the data folder named first, and holds it until it is killed. */
import { EngineError } from "../../../src/core/errors.ts";
import { openDataFolder } from "../../../src/store/index.ts";
import { realEnvironment } from "../../support/real-environment.ts";

const [, , dataDir = "", dieAt = ""] = process.argv;

try {
	const folder = openDataFolder({
		dataDir,
		durability: "power",
		environment: {
			...realEnvironment,
			probe: {
				hit: (point, id) => {
					if (dieAt === point || dieAt === `${point}:${id}`) process.kill(process.pid, "SIGKILL");
				},
			},
		},
	});
	folder.writeHolder({ pid: process.pid, socketPath: "/run/test.sock", startedAt: Date.now(), version: "1.2.3" });
	process.stdout.write("open\n");
	// Holds the folder, and its lock with it, for as long as the process lives.
	setInterval(() => folder.instanceId, 60_000);
} catch (error) {
	process.stdout.write(`refused ${error instanceof EngineError ? error.code : String(error)}\n`);
}
