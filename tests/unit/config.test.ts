import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, describe, it } from "node:test";
import { resolveSettings } from "../../src/config.ts";
import { EngineError } from "../../src/core/errors.ts";

describe("the daemon's configuration", () => {
	let folder: string;
	before(() => (folder = mkdtempSync(join(tmpdir(), "bunbase-config-"))));
	after(() => rmSync(folder, { recursive: true, force: true }));
	const file = (content: unknown): string => {
		const path = join(folder, "bunbase.json");
		writeFileSync(path, typeof content === "string" ? content : JSON.stringify(content));
		return path;
	};
	const problemsOf = (act: () => unknown): string => {
		try {
			act();
		} catch (error) {
			assert.ok(error instanceof EngineError && error.code === "BAD_CONFIG", String(error));
			return error.message;
		}
		return assert.fail("nothing was refused");
	};

	it("says nothing: the defaults, complete and frozen", () => {
		const settings = resolveSettings({}, {});
		assert.deepEqual(settings, {
			engine: { dataDir: resolve("data") },
			socket: "/tmp/functions.sock",
			http: { host: "127.0.0.1", port: 8080, allowedHosts: [], functionPages: "sandboxed", tokens: [] },
			logLevel: "info",
			warnings: [],
		});
		assert.ok(Object.isFrozen(settings) && Object.isFrozen(settings.engine));
		assert.equal(resolveSettings({}, {}, { dataDir: "./.bunbase" }).engine.dataDir, resolve(".bunbase"));
	});

	it("flag beats variable beats file beats default, key by key", () => {
		const config = file({ socket: "/tmp/file.sock", httpPort: 1, logLevel: "warn", drainMs: 5, durability: "process" });
		const env = { BUNBASE_CONFIG: config, BUNBASE_HTTP_PORT: "2", BUNBASE_LOG_LEVEL: "error", BUNBASE_BUN: "/opt/bun" };
		const settings = resolveSettings({ httpPort: "3" }, env);
		assert.equal(settings.http?.port, 3);
		assert.equal(settings.logLevel, "error");
		assert.equal(settings.socket, "/tmp/file.sock");
		assert.deepEqual(settings.engine, {
			drainMs: 5,
			durability: "process",
			bunPath: "/opt/bun",
			dataDir: resolve("data"),
		});
		const other = file({ httpPort: 9 });
		assert.equal(resolveSettings({ config: other }, {}).http?.port, 9);
	});

	it("an empty variable is an unset one", () => {
		assert.equal(resolveSettings({}, { BUNBASE_SOCKET: "", BUNBASE_CONFIG: "" }).socket, "/tmp/functions.sock");
	});

	it("variables have durations, lists and off", () => {
		const env = { BUNBASE_DRAIN: "5s", BUNBASE_RESULT_RETENTION: "1d", BUNBASE_ALLOWED_HOSTS: "a.example, b.example" };
		const settings = resolveSettings({}, env);
		assert.equal(settings.engine.drainMs, 5000);
		assert.equal(settings.engine.resultRetentionMs, 86_400_000);
		assert.deepEqual(settings.http?.allowedHosts, ["a.example", "b.example"]);
		assert.equal(resolveSettings({}, { BUNBASE_HTTP_PORT: "off" }).http, undefined);
		assert.equal(resolveSettings({ http: false }, { BUNBASE_HTTP_PORT: "80" }).http, undefined);
		assert.equal(resolveSettings({ http: true }, {}).http?.port, 8080);
	});

	it("all problems are told together, each with the place it came from", () => {
		const config = file({ httpPrt: 80, defaults: { timeoutMs: 0, retry: { maxAttempts: "many" } } });
		const message = problemsOf(() =>
			resolveSettings({ httpPort: "eighty", config }, { BUNBASE_LOG_LEVEL: "loud", BUNBASE_DRAIN: "soon" }),
		);
		for (const part of [
			/--http-port: expected a port/,
			/BUNBASE_LOG_LEVEL: /,
			/BUNBASE_DRAIN: /,
			/bunbase\.json: httpPrt: no such key; known are dataDir/,
			/bunbase\.json: defaults\.timeoutMs: /,
			/bunbase\.json: defaults\.retry\.maxAttempts: /,
		]) {
			assert.match(message, part);
		}
	});

	it("a variable that is none of ours is told and changes nothing", () => {
		const settings = resolveSettings({}, { BUNBASE_HTTP_PRT: "80", BUNBASE_SOCKET: "/tmp/x.sock" });
		assert.equal(settings.http?.port, 8080);
		assert.equal(settings.warnings.length, 1);
		assert.match(settings.warnings[0] ?? "", /BUNBASE_HTTP_PRT/);
	});

	it("a file that is missing, no JSON or no object is refused by its name", () => {
		assert.match(
			problemsOf(() => resolveSettings({ config: join(folder, "none.json") }, {})),
			/cannot read .*none\.json/,
		);
		assert.match(
			problemsOf(() => resolveSettings({ config: file("{") }, {})),
			/bunbase\.json is not JSON/,
		);
		assert.match(
			problemsOf(() => resolveSettings({ config: file([]) }, {})),
			/bunbase\.json/,
		);
	});

	it("a socket path that no unix socket can have is refused before the start", () => {
		assert.match(
			problemsOf(() => resolveSettings({ socket: `/tmp/${"x".repeat(120)}` }, {})),
			/--socket: .*107 bytes/,
		);
	});
});
