/** The real clock, chance and logger: the one file of the engine that touches Date, timers and Math.random. */
import { pino } from "pino";
import { silentProbe, type Clock, type Environment, type Logger, type Random } from "../core/environment.ts";

/** setTimeout fires at once for longer delays, so they are taken in steps. */
const TIMEOUT_MAX = 2 ** 31 - 1;

export const systemClock: Clock = {
	now: () => Date.now(),
	monotonic: () => performance.now(),
	setTimer(delayMs, fire) {
		const dueAt = performance.now() + delayMs;
		let handle: NodeJS.Timeout;
		// Node counts whole milliseconds and may fire a fraction early; so each timer asks whether it is time.
		const arm = (): void => {
			const left = dueAt - performance.now();
			if (left <= 0) fire();
			else handle = setTimeout(arm, Math.min(Math.ceil(left), TIMEOUT_MAX));
		};
		handle = setTimeout(arm, Math.min(Math.max(0, Math.ceil(delayMs)), TIMEOUT_MAX));
		return { cancel: () => clearTimeout(handle) };
	},
};

export const systemRandom: Random = { next: () => Math.random() };

/** Ends the process's turn: everything that arrived in it shares one commit. */
export function endOfTurn(act: () => void): void {
	setImmediate(act);
}

/** Structured log lines on stderr; synchronous, so that the last line before a crash is there. */
export function systemLogger(level: string): Logger {
	return pino(
		{ level, base: { pid: process.pid }, timestamp: pino.stdTimeFunctions.isoTime },
		pino.destination({ fd: 2, sync: true }),
	);
}

export function systemEnvironment(logger: Logger): Environment {
	return { clock: systemClock, random: systemRandom, probe: silentProbe, logger };
}
