/** The Environment of a real machine, for tests that run real processes. */
import type { Clock, Environment } from "../../src/core/environment.ts";
import { silentLogger, silentProbe } from "../../src/core/environment.ts";

const LONGEST_MS = 2 ** 31 - 1;

export const realClock: Clock = {
	now: () => Date.now(),
	monotonic: () => performance.now(),
	setTimer(delayMs, fire) {
		const dueAt = performance.now() + delayMs;
		let handle: NodeJS.Timeout;
		// Node's timers count whole milliseconds and may fire a fraction early, so each asks whether it is time.
		const arm = (): void => {
			const left = dueAt - performance.now();
			if (left <= 0) fire();
			else handle = setTimeout(arm, Math.min(Math.ceil(left), LONGEST_MS));
		};
		handle = setTimeout(arm, Math.min(Math.max(0, Math.ceil(delayMs)), LONGEST_MS));
		return { cancel: () => clearTimeout(handle) };
	},
};

export const realEnvironment: Environment = {
	clock: realClock,
	random: { next: () => Math.random() },
	probe: silentProbe,
	logger: silentLogger,
};
