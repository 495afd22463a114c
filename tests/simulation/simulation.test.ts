/** Some simulated days in every run of the tests; and whether the simulator would notice. Longer: npm run test:sim. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { seed } from "../support/seed.ts";
import { loadWorld, PLANTS, type PlantName } from "./plants.ts";
import type { Result } from "./world.ts";

function explain({ violation, last, seed: world, days }: Result): string {
	return `${last.join("\n")}\n${violation?.invariant}: ${violation?.what}\nagain: npm run test:sim -- --world ${world} --days ${days}`;
}

test(`a simulated day of traffic and faults breaks no invariant (seed ${seed})`, async () => {
	const { runWorld } = await loadWorld("true");
	const result = await runWorld({ seed, days: 1 });
	assert.equal(result.violation, undefined, explain(result));
	assert.ok(result.figures.invocations > 50 && result.figures.attempts > 50, JSON.stringify(result.figures));
});

test(`half a day with bounds so small that each is reached (seed ${seed})`, async () => {
	const { runWorld } = await loadWorld("tiny");
	const result = await runWorld({ seed, days: 0.5 });
	assert.equal(result.violation, undefined, `${explain(result)} --tiny`);
});

test(`one seed is one run, to the last step (seed ${seed})`, async () => {
	const { runWorld } = await loadWorld("true");
	const [first, second] = [await runWorld({ seed, days: 0.25 }), await runWorld({ seed, days: 0.25 })];
	assert.equal(first.digest, second.digest);
	assert.deepEqual(first.figures, second.figures);
	const other = await runWorld({ seed: seed + 1, days: 0.25 });
	assert.notEqual(other.digest, first.digest);
});

/** The world in which each planted bug was last caught soonest; where the engine has moved on since, some more are looked at. */
const SEEDS: Readonly<Record<PlantName, number>> = {
	"fence-removed": 2,
	"ack-before-commit": 8,
	"slot-freed-early": 11,
	"cron-slot-without-unique-key": 2,
	"recovery-after-first-claim": 9,
	"key-forgotten-early": 1,
	"retry-too-early": 9,
	"waiter-not-woken": 4,
	overtaking: 5,
	"late-answer-after-restart": 10,
	"turn-out-of-line": 7,
};
const WORLDS_MAX = 12;

for (const name of Object.keys(PLANTS) as PlantName[]) {
	test(`the planted bug ${name} is caught: ${PLANTS[name].story}`, async (t) => {
		const { runWorld } = await loadWorld(name);
		const caughtBy: readonly string[] = PLANTS[name].caughtBy;
		for (let world = SEEDS[name]; world < SEEDS[name] + WORLDS_MAX; world += 1) {
			const { violation } = await runWorld({ seed: world, days: 2 });
			if (violation === undefined) continue;
			t.diagnostic(`world ${world}: ${violation.invariant}`);
			assert.ok(caughtBy.includes(violation.invariant), JSON.stringify(violation));
			return;
		}
		assert.fail(`no world from ${SEEDS[name]} on has caught it`);
	});
}
