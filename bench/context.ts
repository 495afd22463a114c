/** What every scenario is given, and the small arithmetic that they share. */
import { setTimeout as delay } from "node:timers/promises";
import type { Figure } from "./figures.ts";

export interface Context {
	/** A folder of this run, on the disk that is measured; removed at the end. */
	readonly folder: string;
	readonly bunPath: string;
	/** The daemon's main file. */
	readonly main: string;
	/** Everything once and shortly: shows that nothing rots, says little about speed. */
	readonly quick: boolean;
	/** Floor and engine take turns this often; medians are reported. */
	readonly rounds: number;
	/** How long each subject serves 100 callers before the first round (warm-up.ts). */
	readonly compileMs: number;
	/** Before each measurement. */
	readonly warmupMs: number;
	readonly measureMs: number;
	/** Queued invocations of the backlog scenarios. */
	readonly backlog: number;
	/** Repetitions of a start. */
	readonly starts: number;
	/** Progress, on stderr. */
	note(line: string): void;
}

export interface Scenario {
	readonly name: string;
	run(context: Context): Promise<readonly Figure[]>;
}

export function median(values: readonly number[]): number {
	const sorted = [...values].sort((a, b) => a - b);
	const middle = sorted.length >> 1;
	const upper = sorted[middle] ?? Number.NaN;
	return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
}

export function percentile(values: readonly number[], part: number): number {
	const sorted = [...values].sort((a, b) => a - b);
	return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

/** Looks every few milliseconds until `look` finds something; rejects with `what` after a minute, or `withinMs`. */
export async function until<T>(
	what: string,
	look: () => Promise<T | undefined>,
	{ everyMs = 5, withinMs = 60_000 } = {},
): Promise<T> {
	const giveUpAt = performance.now() + withinMs;
	for (;;) {
		const found = await look();
		if (found !== undefined) return found;
		if (performance.now() > giveUpAt) throw new Error(`waited ${withinMs / 1000} s in vain for ${what}`);
		await delay(everyMs);
	}
}
