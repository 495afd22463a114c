/**
 * A Clock that stands still until a test moves it. Timers fire in the order of their times, then of their
 * start; microtasks run between two timers, so promise chains settle as they would between two turns of a loop.
 */
import type { Clock, Timer } from "../../src/core/environment.ts";

interface Armed {
	readonly at: number;
	readonly order: number;
	readonly fire: () => void;
}

export interface FakeClock extends Clock {
	/** Moves both clocks on by `ms` and fires what is due on the way, each at its own time. */
	advance(ms: number): Promise<void>;
	/** Moves the wall clock alone, as an administrator or NTP does. */
	jumpWall(ms: number): void;
	/** Timers that wait. A test that leaves one behind leaks. */
	readonly pending: number;
}

/** Lets everything that was resolved so far run, promise chains included. */
export async function settled(): Promise<void> {
	await new Promise<void>((resolve) => setImmediate(resolve));
}

export function createFakeClock(startAt = 1_700_000_000_000): FakeClock {
	const armed = new Set<Armed>();
	let elapsed = 0;
	let wall = startAt;
	let order = 0;

	function earliest(until: number): Armed | undefined {
		let first: Armed | undefined;
		for (const timer of armed) {
			if (timer.at > until) continue;
			if (first === undefined || timer.at < first.at || (timer.at === first.at && timer.order < first.order))
				first = timer;
		}
		return first;
	}

	return {
		now: () => wall,
		monotonic: () => elapsed,
		setTimer(delayMs: number, fire: () => void): Timer {
			const timer: Armed = { at: elapsed + Math.max(0, delayMs), order: (order += 1), fire };
			armed.add(timer);
			return { cancel: () => void armed.delete(timer) };
		},
		async advance(ms: number): Promise<void> {
			const until = elapsed + ms;
			await settled();
			for (let timer = earliest(until); timer !== undefined; timer = earliest(until)) {
				armed.delete(timer);
				wall += timer.at - elapsed;
				elapsed = timer.at;
				timer.fire();
				await settled();
			}
			wall += until - elapsed;
			elapsed = until;
		},
		jumpWall(ms: number): void {
			wall += ms;
		},
		get pending(): number {
			return armed.size;
		},
	};
}
