/** The catalogue is whole: no case without a test in its group's folder, and FAULTS.md has a row for each. */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { CASES, GROUPS } from "./catalogue.ts";

test("105 cases, each with an id of its own", () => {
	assert.equal(CASES.length, 105);
	assert.equal(new Set(CASES.map(({ id }) => id)).size, 105);
});

for (const [folder, { cases }] of Object.entries(GROUPS)) {
	test(`every case of ${folder} has a test`, () => {
		const text = globSync(join(import.meta.dirname, folder, "*.test.ts"))
			.map((file) => readFileSync(file, "utf8"))
			.join("\n");
		const tested = new Set([...text.matchAll(/fault\(\s*"([A-G]\d+)"/g)].map(([, id]) => id));
		const without = cases.map(({ id }) => id).filter((id) => !tested.has(id));
		assert.deepEqual(without, []);
	});
}

test("FAULTS.md has a row for each case", () => {
	const page = readFileSync(join(import.meta.dirname, "../../FAULTS.md"), "utf8");
	const rows = [...page.matchAll(/^\| ([A-G]\d+) \|/gm)].map(([, id]) => id);
	assert.deepEqual(
		rows,
		CASES.map(({ id }) => id),
	);
});
