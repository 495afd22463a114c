import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { suite, test, type TestContext } from "node:test";
import * as fc from "fast-check";
import { BundleStore } from "../../../src/store/index.ts";
import { refusal, tempFolder } from "./support.ts";

const ONE = new TextEncoder().encode("export default () => new Response('one');\n");
const TWO = new TextEncoder().encode("export default () => new Response('two');\n");
const SHA_ONE = createHash("sha256").update(ONE).digest("hex");

function makeStore(t: TestContext): { store: BundleStore; bundles: string; tmp: string; reopen: () => BundleStore } {
	const root = tempFolder(t);
	const paths = { bundles: join(root, "bundles"), tmp: join(root, "tmp") };
	mkdirSync(paths.bundles, { recursive: true });
	mkdirSync(paths.tmp);
	return { ...paths, store: new BundleStore(paths), reopen: () => new BundleStore(paths) };
}

suite("a stored bundle", () => {
	test("is at its path with its bytes, its sourcemap and its hash, read-only", async (t) => {
		const { store, bundles, tmp } = makeStore(t);
		const stored = await store.store("fn_1", "v1", ONE, "{}");
		assert.deepEqual(stored, {
			path: join(bundles, "fn_1", "v1", "bundle.js"),
			sha256: SHA_ONE,
			bytes: ONE.byteLength,
		});
		assert.equal(store.path("fn_1", "v1"), stored.path);
		assert.deepEqual(new Uint8Array(readFileSync(stored.path)), ONE);
		assert.deepEqual(readdirSync(dirname(stored.path)), ["bundle.js", "bundle.js.map"]);
		for (const name of ["bundle.js", "bundle.js.map"]) {
			assert.equal(statSync(join(dirname(stored.path), name)).mode & 0o777, 0o400);
		}
		assert.equal(statSync(dirname(stored.path)).mode & 0o777, 0o700);
		await store.verify("fn_1", "v1", SHA_ONE);
		assert.deepEqual(readdirSync(tmp), []);
	});

	test("is immutable: the same bytes again change nothing, other bytes are refused", async (t) => {
		const { store, reopen } = makeStore(t);
		const first = await store.store("fn_1", "v1", ONE);
		const { mtimeMs } = statSync(first.path);
		assert.deepEqual(await reopen().store("fn_1", "v1", ONE), first);
		assert.equal(statSync(first.path).mtimeMs, mtimeMs);
		await assert.rejects(store.store("fn_1", "v1", TWO), refusal("VERSION_CONFLICT", "v1"));
		assert.deepEqual(new Uint8Array(readFileSync(first.path)), ONE);
		await store.store("fn_1", "v2", TWO);
		await store.store("fn_2", "v1", TWO);
	});

	test("of two that are stored at once is one of the two, whole", async (t) => {
		const { store, tmp } = makeStore(t);
		const same = await Promise.all([store.store("fn_1", "v1", ONE), store.store("fn_1", "v1", ONE)]);
		assert.deepEqual(same[0], same[1]);
		const [one, two] = await Promise.allSettled([store.store("fn_1", "v2", ONE), store.store("fn_1", "v2", TWO)]);
		const refused = [one, two].filter((result) => result.status === "rejected");
		assert.equal(refused.length, 1);
		refusal("VERSION_CONFLICT")(refused[0]?.reason);
		assert.deepEqual(readdirSync(tmp), []);
	});

	test("that is damaged or gone is found out", async (t) => {
		const { store } = makeStore(t);
		const { path } = await store.store("fn_1", "v1", ONE);
		chmodSync(path, 0o600);
		writeFileSync(path, TWO);
		await assert.rejects(store.verify("fn_1", "v1", SHA_ONE), refusal("DATA_CORRUPT", path, "damaged"));
		await assert.rejects(store.verify("fn_1", "v9", SHA_ONE), refusal("DATA_CORRUPT", "missing"));
	});

	test("over the limit is refused before anything is written", async (t) => {
		const { store, bundles } = makeStore(t);
		await assert.rejects(store.store("fn_1", "v1", new Uint8Array(64 * 1024 * 1024 + 1)), refusal("BAD_BUNDLE"));
		assert.deepEqual(readdirSync(bundles), []);
	});

	test("that was never committed can be taken back, and its version stored with other bytes", async (t) => {
		const { store, tmp } = makeStore(t);
		await store.store("fn_1", "v1", ONE, "{}");
		await store.discard("fn_1", "v1");
		await store.discard("fn_1", "v1");
		await store.store("fn_1", "v1", TWO);
		assert.deepEqual(readdirSync(tmp), []);
	});

	test("without a row is swept at boot, one with a row stays", async (t) => {
		const { store } = makeStore(t);
		await store.store("fn_1", "v1", ONE);
		await store.store("fn_1", "v2", TWO);
		await store.store("fn_2", "v1", TWO);
		assert.equal(await store.sweep((functionId, version) => functionId === "fn_1" && version === "v1"), 2);
		await store.verify("fn_1", "v1", SHA_ONE);
		assert.equal(existsSync(store.path("fn_1", "v2")), false);
		assert.equal(existsSync(store.path("fn_2", "v1")), false);
	});
});

suite("the bundle store", () => {
	test("makes no path outside its folder, whatever the names", (t) => {
		const { store, bundles } = makeStore(t);
		const name = fc.oneof(fc.string(), fc.constantFrom("..", ".", "", "a/b", "/etc", "a\0b", "..\\x", "a/../../../b"));
		fc.assert(
			fc.property(name, name, (functionId, version) => {
				let path: string;
				try {
					path = store.path(functionId, version);
				} catch {
					return;
				}
				assert.equal(path, `${bundles}/${functionId}/${version}/bundle.js`);
				assert.ok(!`${functionId}${version}`.includes("/"));
			}),
		);
	});
});
