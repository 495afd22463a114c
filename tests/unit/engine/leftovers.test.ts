import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { removeLeftovers } from "../../../src/engine/leftovers.ts";
import { realEnvironment } from "../../support/real-environment.ts";
import { tempFolder } from "../../support/temp-folder.ts";

test("what earlier runs left is removed: workers' folders, builds, half a bundle, and what functions put there", async () => {
	using folder = tempFolder();
	for (const name of ["worker-x1y2z3", "build-x1y2z3", "bundle-x1y2z3"]) {
		mkdirSync(join(folder.path, name, "deeper"), { recursive: true });
		writeFileSync(join(folder.path, name, "deeper", "file"), "half");
		chmodSync(join(folder.path, name, "deeper", "file"), 0o400);
	}
	writeFileSync(join(folder.path, "loose"), "");
	await removeLeftovers(folder.path, realEnvironment);
	assert.deepEqual(readdirSync(folder.path), []);
});
