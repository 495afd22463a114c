/** One seed for a run: printed with each property, replayed with SEED=… npm test. */
import fc from "fast-check";

const given = process.env["SEED"];

export const seed = given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);

/** How many histories a property looks at; RUNS=… for a longer run. */
export function runs(usual: number): number {
	const asked = process.env["RUNS"];
	return asked === undefined ? usual : Number(asked);
}

/** Parameters for fc.assert. */
export function seeded(usual: number): { seed: number; numRuns: number; endOnFailure: boolean } {
	return { seed, numRuns: runs(usual), endOnFailure: false };
}

/** A small generator of numbers for code that takes a Random. */
export function seededRandom(from: number): { next(): number } {
	let state = from >>> 0;
	return {
		next() {
			// mulberry32
			state = (state + 0x6d2b79f5) >>> 0;
			let t = state;
			t = Math.imul(t ^ (t >>> 15), t | 1);
			t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
			return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
		},
	};
}

export { fc };
