/**
 * Simulated time, and what happens next in it. Two lines of things to come: what the world does (clients, networks,
 * processes, faults), and the timers and turns of the daemon. Those of one instant come in an order drawn from the seed.
 *
 * Monotonic time only moves here, and only forward; the wall clock is that plus an offset, which jumps.
 */
import type { Clock, Timer } from "../../src/core/environment.ts";
import type { Chance } from "./random.ts";

export interface Happening {
	readonly at: number;
	/** Decides among those of one instant. */
	readonly order: number;
	readonly run: () => void;
	cancelled: boolean;
}

class Heap {
	readonly #items: Happening[] = [];

	get top(): Happening | undefined {
		while (this.#items[0]?.cancelled === true) this.pop();
		return this.#items[0];
	}

	push(item: Happening): void {
		const items = this.#items;
		let index = items.push(item) - 1;
		while (index > 0) {
			const parent = (index - 1) >> 1;
			if (!before(item, items[parent])) break;
			items[index] = items[parent] as Happening;
			index = parent;
		}
		items[index] = item;
	}

	pop(): Happening | undefined {
		const items = this.#items;
		const first = items[0];
		const last = items.pop();
		if (last === undefined || items.length === 0) return first;
		let index = 0;
		for (;;) {
			let child = 2 * index + 1;
			if (child >= items.length) break;
			if (before(items[child + 1], items[child] as Happening)) child += 1;
			if (!before(items[child], last)) break;
			items[index] = items[child] as Happening;
			index = child;
		}
		items[index] = last;
		return first;
	}

	clear(): void {
		this.#items.length = 0;
	}
}

function before(a: Happening | undefined, b: Happening | undefined): boolean {
	if (a === undefined || b === undefined) return a !== undefined;
	return a.at < b.at || (a.at === b.at && a.order < b.order);
}

export class Scheduler {
	readonly #chance: Chance;
	readonly #world = new Heap();
	readonly #timers = new Heap();
	#monotonic = 0;
	#wallOffset: number;
	/** Timers of the daemon that wait. */
	armed = 0;
	/** How late timers and turns of the daemon come, at most: a busy event loop. */
	latenessMs = 0;

	constructor(chance: Chance, startAt: number) {
		this.#chance = chance;
		this.#wallOffset = startAt;
	}

	get monotonic(): number {
		return this.#monotonic;
	}

	get wall(): number {
		return this.#monotonic + this.#wallOffset;
	}

	/** Moves the wall clock alone, as an administrator or NTP does. */
	jumpWall(ms: number): void {
		this.#wallOffset += ms;
	}

	/** Time passes and nobody runs: the whole machine stood still, or slept through an idle stretch. */
	stall(ms: number): void {
		this.#monotonic += ms;
	}

	after(delayMs: number, run: () => void): Happening {
		const happening: Happening = {
			at: this.#monotonic + Math.max(0, Math.ceil(delayMs)),
			order: this.#chance.next(),
			run,
			cancelled: false,
		};
		this.#world.push(happening);
		return happening;
	}

	/** The end of a turn of the daemon's event loop: behind what is there already. */
	turn(run: () => void): void {
		const late = this.#lateness();
		this.#timers.push({ at: this.#monotonic + late, order: this.#chance.next(), run, cancelled: false });
	}

	/** The clock of one daemon. Its timers die with it. */
	clockOf(alive: () => boolean): Clock {
		return {
			now: () => this.wall,
			monotonic: () => this.#monotonic,
			setTimer: (delayMs, fire) => this.#setTimer(delayMs, fire, alive),
		};
	}

	#setTimer(delayMs: number, fire: () => void, alive: () => boolean): Timer {
		if (!alive()) return { cancel: () => undefined };
		const happening: Happening = {
			at: this.#monotonic + Math.max(0, Math.ceil(delayMs)) + this.#lateness(),
			order: this.#chance.next(),
			run: () => {
				this.armed -= 1;
				happening.cancelled = true;
				fire();
			},
			cancelled: false,
		};
		this.armed += 1;
		this.#timers.push(happening);
		return {
			cancel: () => {
				if (happening.cancelled) return;
				happening.cancelled = true;
				if (alive()) this.armed -= 1;
			},
		};
	}

	#lateness(): number {
		return this.latenessMs === 0 ? 0 : this.#chance.between(0, this.latenessMs);
	}

	/** The daemon is dead: its timers and turns with it. */
	forgetDaemon(): void {
		this.#timers.clear();
		this.armed = 0;
	}

	/** When something of the world happens next, whatever the daemon's timers do. */
	get nextInWorld(): number {
		return this.#world.top?.at ?? Number.POSITIVE_INFINITY;
	}

	get nextTimer(): number {
		return this.#timers.top?.at ?? Number.POSITIVE_INFINITY;
	}

	/** Takes what comes next and moves time to it. */
	take(): (() => void) | undefined {
		const world = this.#world.top;
		const timer = this.#timers.top;
		const heap = before(timer, world) ? this.#timers : this.#world;
		const next = heap.pop();
		if (next === undefined) return undefined;
		this.#monotonic = Math.max(this.#monotonic, next.at);
		return next.run;
	}
}

/** Everything that was resolved so far runs to its end: microtasks, ticks, promise chains. */
export function turnOfLoop(): Promise<void> {
	return new Promise((resolve) => {
		setImmediate(resolve);
	});
}
