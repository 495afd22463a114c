/** A restore that kills itself (SIGKILL) at a named point: DIE_AT="restore.copied:2" is the second time it gets there. */
import { silentLogger } from "../../src/core/environment.ts";
import { systemEnvironment } from "../../src/engine/index.ts";
import { restore } from "../../src/engine/upkeep.ts";

const [, , from = "", dataDir = ""] = process.argv;
const [point, count] = (process.env["DIE_AT"] ?? "").split(":");
let left = Number(count ?? 1);

await restore({
	from,
	dataDir,
	damaged: false,
	signal: new AbortController().signal,
	progress: () => undefined,
	environment: {
		...systemEnvironment(silentLogger),
		probe: {
			hit(name) {
				if (name !== point) return;
				left -= 1;
				if (left === 0) process.kill(process.pid, "SIGKILL");
			},
		},
	},
});
