/** A NumberMap says what a Map says, whatever numbers come and go; and it holds nothing that is gone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import * as fc from "fast-check";
import { NumberMap } from "../../../src/core/number-map.ts";
import { seed, seeded } from "../../support/seed.ts";

interface Box {
	readonly n: number;
}

/** Numbers in a row, far apart, at equal distances that are powers of two, and past 2 ** 32: what collides and what does not. */
const keys = fc.oneof(
	fc.nat(40),
	fc.nat(40).map((n) => n * 1024),
	fc.nat(40).map((n) => n * 2 ** 32),
	fc.nat(40).map((n) => Number.MAX_SAFE_INTEGER - n),
);
const steps = fc.array(fc.tuple(fc.constantFrom("set", "set", "delete", "get"), keys), { maxLength: 400 });

test(`whatever is done to both, a NumberMap and a Map say the same, seed ${seed}`, () => {
	fc.assert(
		fc.property(steps, (acts) => {
			const [map, model] = [new NumberMap<Box>(), new Map<number, Box>()];
			acts.forEach(([act, key], n) => {
				if (act === "set") {
					map.set(key, { n });
					model.set(key, { n });
				} else if (act === "delete") assert.equal(map.delete(key), model.delete(key));
				else assert.deepEqual(map.get(key), model.get(key));
				assert.equal(map.size, model.size);
			});
			for (const [key, box] of model) assert.deepEqual(map.get(key), box);
			const inOrder = [...model].sort(([one], [other]) => one - other).map(([, box]) => box);
			assert.deepEqual(map.values(), inOrder);
			map.clear();
			assert.deepEqual([map.size, map.values(), map.get(1)], [0, [], undefined]);
		}),
		seeded(500),
	);
});

test("a window that moves over a million numbers, and a burst in it, leave as much as is in the window", () => {
	const map = new NumberMap<Box>();
	for (let n = 0; n < 1_000_000; n += 1) {
		map.set(n, { n });
		if (n >= 100) assert.ok(map.delete(n - 100));
		if (n === 500_000) {
			for (let more = 0; more < 50_000; more += 1) map.set(10_000_000 + more, { n: more });
			assert.equal(map.size, 50_100);
			for (let more = 0; more < 50_000; more += 1) assert.ok(map.delete(10_000_000 + more));
		}
	}
	assert.equal(map.size, 100);
	assert.deepEqual(
		map.values().map(({ n }) => n),
		Array.from({ length: 100 }, (_, i) => 999_900 + i),
	);
});

test("what was deleted can be collected, though the map has grown old with it", async () => {
	setFlagsFromString("--expose-gc");
	const gc = runInNewContext("gc") as () => void;
	const map = new NumberMap<Box>();
	const gone: WeakRef<Box>[] = [];
	for (let n = 0; n < 10_000; n += 1) {
		const box = { n };
		map.set(n, box);
		if (n % 100 === 0) gone.push(new WeakRef(box));
		map.delete(n - 50);
	}
	for (let n = 0; n < 10_000; n += 1) map.delete(n);
	assert.equal(map.size, 0);
	await new Promise((resolve) => setImmediate(resolve));
	gc();
	assert.equal(gone.filter((ref) => ref.deref() !== undefined).length, 0);
});
