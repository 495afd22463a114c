import assert from "node:assert/strict";
import { chmodSync, mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { findBun } from "../../../src/pool/index.ts";
import { tempFolder } from "../../support/temp-folder.ts";

function place(path: string, bytes: number, mode = 0o755): string {
	mkdirSync(dirname(path), { recursive: true });
	writeFileSync(path, "");
	truncateSync(path, bytes);
	chmodSync(path, mode);
	return path;
}

/** As an npm install leaves it. */
function install(root: string, name: string): void {
	mkdirSync(join(root, "node_modules", name), { recursive: true });
	writeFileSync(join(root, "node_modules", name, "package.json"), "{}");
}

const linux = { platform: "linux", arch: "x64", searchPath: "" };

test("the path that was named wins, and nothing else is tried where it is wrong", () => {
	using folder = tempFolder();
	const named = place(join(folder.path, "mybun"), 10);
	assert.equal(findBun(named), named);
	assert.throws(() => findBun(join(folder.path, "none")), { code: "BAD_ENVIRONMENT" });
	assert.throws(() => findBun(place(join(folder.path, "data"), 10, 0o644)), { code: "BAD_ENVIRONMENT" });
});

test("the platform package is used where install scripts were skipped", () => {
	using folder = tempFolder();
	const from = join(folder.path, "index.js");
	install(folder.path, "bun");
	install(folder.path, "@oven/bun-linux-x64");
	place(join(folder.path, "node_modules/bun/bin/bun.exe"), 600);
	const real = place(join(folder.path, "node_modules/@oven/bun-linux-x64/bin/bun"), 2_000_000);
	assert.equal(findBun(undefined, { ...linux, from }), real);
});

test("the bun package is used where its install script has moved the executable there", () => {
	using folder = tempFolder();
	const from = join(folder.path, "index.js");
	install(folder.path, "bun");
	install(folder.path, "@oven/bun-linux-x64");
	const real = place(join(folder.path, "node_modules/bun/bin/bun.exe"), 2_000_000);
	assert.equal(findBun(undefined, { ...linux, from }), real);
});

test("PATH is the last resort, and without it the error says what to install", () => {
	using folder = tempFolder();
	const from = join(folder.path, "index.js");
	assert.throws(() => findBun(undefined, { ...linux, from }), /npm install bun/);
	const onPath = place(join(folder.path, "bin", "bun"), 500);
	assert.equal(findBun(undefined, { ...linux, from, searchPath: `relative:${join(folder.path, "bin")}` }), onPath);
});
