import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { V8_FLAGS } from "../../src/daemon.ts";

test("this Node's V8 knows each flag that the daemon sets: it would ignore any other without a word", () => {
	const known = new Set(
		execFileSync(process.execPath, ["--v8-options"], { encoding: "utf8" })
			.split("\n")
			.map((line) => /^ +(--[\w-]+) \(/.exec(line)?.[1]),
	);
	assert.ok(known.has("--maglev"), "its list was read");
	assert.ok(V8_FLAGS.length > 0);
	for (const flag of V8_FLAGS) assert.ok(known.has(flag.split("=")[0]), `V8 has no ${flag}`);
});
