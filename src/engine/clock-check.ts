/** Whether the wall clock can be right, as far as the data tells: asked at boot, said in the log, decides nothing. */
import type { Environment } from "../core/environment.ts";
import { LIMITS } from "../core/limits.ts";

/** A clock may be set back this much without a word: so much do the clocks of two boots differ without a time server. */
const BACK_MS = 60_000;

/** `newestAt`: when the newest invocation was accepted, UTC ms. */
export function checkClock(environment: Environment, newestAt: number | undefined): void {
	const now = environment.clock.now();
	const fields = { now: told(now), newest: newestAt === undefined ? null : told(newestAt) };
	if (now < LIMITS.clockFrom) {
		environment.logger.warn(fields, "the wall clock is not set; delayed work waits and no schedule fires until it is");
	} else if (newestAt !== undefined && newestAt > now + BACK_MS) {
		environment.logger.warn(
			fields,
			"the wall clock is behind the newest invocation: it was ahead then, or is behind now; what was delayed comes late",
		);
	} else if (newestAt !== undefined && newestAt < now - LIMITS.clockBackMsMax) {
		environment.logger.warn(
			fields,
			"the wall clock is more than a year ahead of the newest invocation: if it is wrong, what was delayed comes early and results pass retention",
		);
	}
}

function told(at: number): string {
	return new Date(at).toISOString();
}
