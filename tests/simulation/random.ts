/** Chance of a simulated world: every choice comes from its seed, through streams that do not disturb each other. */
import { crc32 } from "node:zlib";
import type { Random } from "../../src/core/environment.ts";
import { seededRandom } from "../support/seed.ts";

export class Chance implements Random {
	readonly #seed: number;
	readonly #random: Random;

	constructor(seed: number) {
		this.#seed = seed >>> 0;
		this.#random = seededRandom(this.#seed);
	}

	/** A stream of its own: what is drawn from it moves no other. */
	stream(name: string): Chance {
		return new Chance(crc32(name, this.#seed) ^ Math.imul(this.#seed, 0x9e3779b1));
	}

	next(): number {
		return this.#random.next();
	}

	/** True once in `n` times. */
	oneIn(n: number): boolean {
		return this.next() * n < 1;
	}

	/** A whole number, both ends included. */
	between(min: number, max: number): number {
		return min + Math.floor(this.next() * (max - min + 1));
	}

	/** A whole number from a range of magnitudes: small ones are as likely as large ones. */
	magnitude(min: number, max: number): number {
		return Math.round(min * (max / min) ** this.next());
	}

	pick<T>(from: readonly T[]): T {
		const picked = from[Math.floor(this.next() * from.length)];
		if (picked === undefined) throw new Error("nothing to pick from");
		return picked;
	}

	/** A key, by its weight. */
	weighted<Key extends string>(weights: Readonly<Record<Key, number>>): Key {
		const entries = Object.entries(weights) as [Key, number][];
		let left = this.next() * entries.reduce((sum, [, weight]) => sum + weight, 0);
		for (const [key, weight] of entries) {
			left -= weight;
			if (left < 0) return key;
		}
		return this.pick(entries)[0];
	}
}
