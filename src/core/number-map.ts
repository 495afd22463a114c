/**
 * A map from whole numbers to objects, for what comes and goes thousands of times a second.
 *
 * A Map that is deleted from moves to a new table every hundred entries or so, and V8 lets the old table refer to the new one. Where one of them has
 * reached the old generation, it keeps every later table alive, with all that was in it, until the next full collection. At
 * 100 callers that was 13 MB to copy at each scavenge and three full collections a second. Nothing here refers to what
 * was deleted.
 *
 * Open addressing with linear probing, at most half full; a deletion moves what follows it back, so there are no marks
 * of deleted entries. Numbers are spread by Fibonacci hashing, because those of one lane may be any distance apart.
 */
const CAPACITY_MIN_BITS = 4;
/** Up to here it stays as large as it was: what comes and goes in groups would make it shrink and grow with each (3 % of the daemon). */
const KEPT_BITS = 10;
const GOLDEN = 0x9e37_79b1;

export class NumberMap<Value extends object> {
	#bits = CAPACITY_MIN_BITS;
	#keys = new Float64Array(1 << CAPACITY_MIN_BITS);
	#values: (Value | undefined)[] = empty(CAPACITY_MIN_BITS);
	#size = 0;

	get size(): number {
		return this.#size;
	}

	get(key: number): Value | undefined {
		return this.#values[this.#placeOf(key)];
	}

	set(key: number, value: Value): void {
		const place = this.#placeOf(key);
		if (this.#values[place] === undefined) {
			this.#size += 1;
			this.#keys[place] = key;
		}
		this.#values[place] = value;
		if (this.#size * 2 > this.#values.length) this.#resize(this.#bits + 1);
	}

	/** False where it was not there. */
	delete(key: number): boolean {
		const [keys, values] = [this.#keys, this.#values];
		const mask = values.length - 1;
		let hole = this.#placeOf(key);
		if (values[hole] === undefined) return false;
		for (let at = (hole + 1) & mask; values[at] !== undefined; at = (at + 1) & mask) {
			// It may move back to the hole, but not over the place where it is looked for first.
			const home = this.#home(keys[at] ?? 0);
			if (((at - home) & mask) < ((at - hole) & mask)) continue;
			keys[hole] = keys[at] ?? 0;
			values[hole] = values[at];
			hole = at;
		}
		values[hole] = undefined;
		this.#size -= 1;
		// What a burst has made large becomes small again.
		if (this.#size * 8 < values.length && this.#bits > KEPT_BITS) this.#resize(this.#bits - 1);
		return true;
	}

	clear(): void {
		this.#bits = CAPACITY_MIN_BITS;
		this.#keys = new Float64Array(1 << this.#bits);
		this.#values = empty(this.#bits);
		this.#size = 0;
	}

	/** By their numbers, from the lowest; a copy. */
	values(): Value[] {
		const found: [number, Value][] = [];
		this.#values.forEach((value, place) => {
			if (value !== undefined) found.push([this.#keys[place] ?? 0, value]);
		});
		return found.sort(([one], [other]) => one - other).map(([, value]) => value);
	}

	#home(key: number): number {
		return Math.imul(key, GOLDEN) >>> (32 - this.#bits);
	}

	/** Where it is, or where it would be put. */
	#placeOf(key: number): number {
		const mask = this.#values.length - 1;
		let place = this.#home(key);
		while (this.#values[place] !== undefined && this.#keys[place] !== key) place = (place + 1) & mask;
		return place;
	}

	#resize(bits: number): void {
		const [keys, values] = [this.#keys, this.#values];
		this.#bits = bits;
		this.#keys = new Float64Array(1 << bits);
		this.#values = empty(bits);
		values.forEach((value, from) => {
			if (value === undefined) return;
			const key = keys[from] ?? 0;
			const place = this.#placeOf(key);
			this.#keys[place] = key;
			this.#values[place] = value;
		});
	}
}

function empty<Value>(bits: number): (Value | undefined)[] {
	return Array.from({ length: 1 << bits }, () => undefined);
}
