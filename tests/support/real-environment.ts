/** The Environment of a real machine, for tests that run real processes. */
import { silentLogger, silentProbe, type Environment } from "../../src/core/environment.ts";
import { systemClock, systemRandom } from "../../src/engine/index.ts";

export { systemClock as realClock } from "../../src/engine/index.ts";

export const realEnvironment: Environment = {
	clock: systemClock,
	random: systemRandom,
	probe: silentProbe,
	logger: silentLogger,
};
