/** How long a charged attempt waits before the next. */
import type { Random } from "./environment.ts";
import type { ResolvedConfig } from "./function-config.ts";

/**
 * Exponential: base × 2^(charged − 1), capped. With jitter the delay is uniform in [half, whole] of that,
 * so that a thousand invocations that failed together do not come back together, and none comes back at once.
 */
export function retryDelayMs(retry: ResolvedConfig["retry"], charged: number, random: Random): number {
	const whole = Math.min(retry.capMs, retry.baseMs * 2 ** Math.min(charged - 1, 40));
	if (!retry.jitter) return whole;
	return Math.round(whole / 2 + (whole / 2) * random.next());
}
