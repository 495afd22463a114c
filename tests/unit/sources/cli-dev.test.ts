import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { EngineError } from "../../../src/core/errors.ts";
import { runDev } from "../../../src/sources/cli-dev.ts";
import { scanFunctions } from "../../../src/sources/cli-dev-scan.ts";
import { FakeEngine, realEnvironment } from "../../support/fake-engine.ts";
import { capture, type Captured } from "../../support/cli-harness.ts";

const HANDLER = "export default () => new Response('ok');\n";
let folder: string;

function save(path: string, text: string = HANDLER): string {
	const absolute = join(folder, path);
	mkdirSync(dirname(absolute), { recursive: true });
	writeFileSync(absolute, text);
	return absolute;
}

beforeEach(() => {
	folder = mkdtempSync(join(tmpdir(), "bunbase-dev-"));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

describe("which functions there are", () => {
	it("a file with a default export is one, a folder with an index file is one, helpers and tests are none", async () => {
		save("hello.ts");
		save("deep/orderCreated.js", "const handler = () => new Response();\nexport { handler as default };\n");
		save("invoice/index.ts");
		save("invoice/other.ts");
		save("helper.ts", "export const a = 1;\n");
		save("hello.test.ts");
		save("_draft.ts");
		save("types.d.ts", "export default interface A {}\n");
		save("node_modules/x/index.js");
		save(".hidden/x.ts");
		save("data.json", "{}");
		const { functions, problems } = await scanFunctions([folder]);
		assert.deepEqual(functions.map((found) => found.name).toSorted(), ["hello", "invoice", "order-created"]);
		assert.deepEqual(problems, []);
	});

	it("a path that was named itself is a function whatever it looks like", async () => {
		const path = save("_helper.ts", "export const handler = () => new Response();\n");
		assert.deepEqual(
			(await scanFunctions([path])).functions.map((found) => found.name),
			["helper"],
		);
	});

	it("two files of one name, and a path that is not there, are told and cost nobody else", async () => {
		save("a/hello.ts");
		save("b/hello.ts");
		save("other.ts");
		const { functions, problems } = await scanFunctions([folder, join(folder, "nowhere")]);
		assert.deepEqual(functions.map((found) => found.name).toSorted(), ["hello", "other"]);
		assert.equal(problems.length, 2);
		assert.match(problems.join("\n"), /nowhere does not exist/);
		assert.match(problems.join("\n"), /b\/hello\.ts would be the function hello as well/);
	});

	it("a fingerprint changes with the code and its imports, at any depth, and with nothing else", async () => {
		save("a.ts", `import { b } from "./lib/b.ts";\n${HANDLER}`);
		save("lib/b.ts", 'export { c as b } from "./c.js";\nimport "../a.ts";\n');
		save("lib/c.ts", "export const c = 1;\n");
		save("other.ts");
		const of = async (name: string): Promise<string> =>
			(await scanFunctions([folder])).functions.find((found) => found.name === name)?.fingerprint ?? "none";
		const [a, other] = [await of("a"), await of("other")];
		save("lib/unused.ts", "export const d = 1;\n");
		assert.equal(await of("a"), a);
		save("lib/c.ts", "export const c = 2;\n");
		assert.notEqual(await of("a"), a);
		assert.equal(await of("other"), other);
	});
});

describe("dev", () => {
	let engine: FakeEngine;
	let stdout: Captured;
	let stderr: Captured;
	let end: AbortController;
	let running: Promise<void>;
	const start = (paths: readonly string[] = [folder]): void => {
		const { clock } = realEnvironment();
		running = runDev({ engine, paths, clock, stdout, stderr, httpUrl: "http://127.0.0.1:1", signal: end.signal });
	};
	beforeEach(() => {
		engine = new FakeEngine();
		stdout = capture();
		stderr = capture();
		end = new AbortController();
	});
	afterEach(async () => {
		end.abort();
		await running;
		assert.equal(engine.waiters, 0);
	});

	it("deploys what is there, and again what was saved, and nothing else", async () => {
		const hello = save("hello.ts");
		save("other.ts");
		start();
		await stdout.until(/hello v1 .*\n/);
		await stdout.until(/other v1 .*\n/);
		assert.match(stdout.text, /http:\/\/127\.0\.0\.1:1\/functions\/hello/);
		// As editors do it: another file, moved over the old one.
		save("hello.ts.tmp", `${HANDLER}// 2\n`);
		renameSync(join(folder, "hello.ts.tmp"), hello);
		await stdout.until(/hello v2 .*\n/);
		save("new/third.ts");
		await stdout.until(/third v1 .*\n/);
		assert.deepEqual(engine.deploys.map((deploy) => deploy.function).toSorted(), ["hello", "hello", "other", "third"]);
		assert.ok(engine.deploys.every((deploy) => deploy.build === true && deploy.register === true));
	});

	it("a change in a helper redeploys its users, also where the helper lies outside of the paths", async () => {
		save("lib/helper.ts", "export const a = 1;\n");
		save("functions/user.ts", `import { a } from "../lib/helper.ts";\n${HANDLER}`);
		save("functions/loner.ts");
		start([join(folder, "functions")]);
		await stdout.until(/user v1/);
		await stdout.until(/loner v1/);
		save("lib/helper.ts", "export const a = 2;\n");
		await stdout.until(/user v2/);
		assert.equal(engine.deploys.filter((deploy) => deploy.function === "loner").length, 1);
	});

	it("a build that fails is shown, the old version stays, and the next save is tried", async () => {
		save("hello.ts");
		start();
		await stdout.until(/hello v1/);
		const deploy = engine.deploy.bind(engine);
		engine.deploy = () => Promise.reject(new EngineError("BUILD_FAILED", "hello.ts:1:1\nunexpected \x1b[2Jtoken"));
		save("hello.ts", `${HANDLER}(`);
		await stderr.until(/stays active/);
		assert.match(stderr.text, /✗ hello {2}BUILD_FAILED: hello\.ts:1:1\n {4}unexpected token\n {4}v1 stays active\n/);
		engine.deploy = deploy;
		save("hello.ts", `${HANDLER}// mended\n`);
		await stdout.until(/hello v2/);
	});

	it("shows what functions print from now on", async () => {
		save("hello.ts");
		engine.define("older", () => ({ status: 200, headers: [], body: new Uint8Array() }));
		engine.log("older", "before");
		start();
		await stdout.until(/hello v1/);
		engine.log("hello", "first line", { level: "warn" });
		await stdout.until(/warn {3}hello {2}- {2}first line/);
		assert.doesNotMatch(stdout.text, /before/);
	});

	it("without any function it says what to do, and waits for one", async () => {
		start();
		await stderr.until(/no functions under .* yet: save a file/);
		save("hello.ts");
		await stdout.until(/hello v1/);
	});

	it("a function that goes from disk stays deployed, and that is said", async () => {
		const path = save("hello.ts");
		start();
		await stdout.until(/hello v1/);
		rmSync(path);
		await stderr.until(/hello is no longer on disk; what was deployed of it stays active/);
	});
});
