import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import type { ServeFlags } from "../../../src/sources/cli-flags.ts";
import { withoutGroup } from "../../../src/sources/cli.ts";
import { socketSource } from "../../../src/sources/index.ts";
import type { Source } from "../../../src/core/contracts.ts";
import { capture, cli, type CliOptions, type Ran } from "../../support/cli-harness.ts";
import { echo, FakeEngine, realEnvironment, response, type FakeHandler } from "../../support/fake-engine.ts";

const json = (text: string): Record<string, unknown> => JSON.parse(text) as Record<string, unknown>;
let folder: string;
before(() => (folder = mkdtempSync(join(tmpdir(), "bunbase-cli-"))));
after(() => rmSync(folder, { recursive: true, force: true }));

describe("the command line", () => {
	it("`fn` is the default group, wherever global options stand", () => {
		assert.deepEqual(withoutGroup(["fn", "invoke", "fn"]), ["invoke", "fn"]);
		assert.deepEqual(withoutGroup(["--json", "--socket", "fn", "fn", "stats"]), ["--json", "--socket", "fn", "stats"]);
		assert.deepEqual(withoutGroup(["help", "fn", "invoke"]), ["help", "invoke"]);
		assert.deepEqual(withoutGroup(["invoke", "fn"]), ["invoke", "fn"]);
		assert.deepEqual(withoutGroup(["--", "fn"]), ["--", "fn"]);
	});

	it("what cannot be understood is exit 2, in three lines, with a suggestion", async () => {
		const ran = await cli(["fn", "invok", "hello"]);
		assert.equal(ran.code, 2);
		assert.equal(ran.out, "");
		assert.match(ran.err, /^error: unknown command 'invok' \(Did you mean invoke\?\)\n {2}why: .*\n {2}try: .*\n$/);
		const wrong: string[][] = [
			["invoke"],
			["invoke", "a", "{}", "b"],
			["invoke", "a", "{}", "--delay", "soon"],
			["invoke", "a", "{a:1}"],
			["invoke", "a", "@/no/such/file"],
			["invoke", "a", "--header", "x"],
			["invocations", "--state", "dead"],
			["logs", "--since", "yesterday"],
			["stats", "--colour"],
			["configure", "a", "concurrency"],
			["schedules", "put", "a", "* * * * *", "--misfire", "never"],
			["deploy", "/tmp/123.ts"],
		];
		for (const argv of wrong) assert.equal((await cli([...argv, "--socket", "/nowhere"])).code, 2, argv.join(" "));
	});

	it("with --json also a usage error is one object", async () => {
		const ran = await cli(["invoke", "--json"]);
		assert.equal(ran.code, 2);
		const error = json(ran.err)["error"] as Record<string, unknown>;
		assert.match(String(error["message"]), /missing required argument 'name'/);
		assert.equal(error["exit_code"], 2);
	});

	it("help and version go to stdout with exit 0; no command at all is help on stderr with exit 2", async () => {
		for (const argv of [["--help"], ["fn", "--help"], ["invoke", "--help"], ["help", "invoke"]]) {
			const ran = await cli(argv);
			assert.equal(ran.code, 0);
			assert.match(ran.out, /^Examples:\n {2}bunbase /);
			assert.match(ran.out, /\nUsage: bunbase/);
			assert.equal(ran.err, "");
		}
		assert.equal((await cli(["--version"])).out, "1.2.3\n");
		const none = await cli([]);
		assert.equal(none.code, 2);
		assert.equal(none.out, "");
		assert.match(none.err, /Usage: bunbase/);
	});

	it("every command has an example that is its own command line", async () => {
		const { EXAMPLES } = await import("../../../src/sources/cli-examples.ts");
		const help = (await cli(["--help"])).out;
		const commands = [...help.matchAll(/^ {2}([a-z]+)(?:\|[a-z]+)? (?:\[options\]|\[command\])/gm)].map(
			(match) => match[1] ?? "",
		);
		assert.ok(commands.length >= 20, commands.join(" "));
		for (const command of commands.filter((name) => name !== "help")) {
			assert.ok(
				EXAMPLES[command]?.some(([line]) => line.includes(`bunbase ${command}`)),
				command,
			);
		}
	});

	it("no daemon is exit 75, and says how to start one", async () => {
		const ran = await cli(["stats", "--socket", join(folder, "none.sock")]);
		assert.equal(ran.code, 75);
		assert.match(ran.err, /bunbase serve/);
		const silent = await cli(["version", "--json"], { env: { BUNBASE_SOCKET: join(folder, "none.sock") } });
		assert.equal(silent.code, 0);
		assert.equal(json(silent.out)["daemon"], null);
	});

	it("serve and dev get the flags that were typed and give their exit code", async () => {
		const seen: unknown[] = [];
		const options: CliOptions = {
			serve: (flags: ServeFlags) => {
				seen.push(flags);
				return Promise.resolve(69);
			},
			dev: (paths, flags) => {
				seen.push(paths, flags);
				return Promise.resolve(0);
			},
		};
		const argv = ["--socket", "/tmp/a.sock", "serve", "--data-dir", "d", "--http-port", "0", "--log-level", "warn"];
		assert.equal((await cli(argv, options)).code, 69);
		assert.equal((await cli(["fn", "dev", "a", "b", "--no-http"], options)).code, 0);
		assert.deepEqual(seen, [
			{ socket: "/tmp/a.sock", dataDir: "d", httpPort: "0", logLevel: "warn", http: true },
			["a", "b"],
			{ http: false },
		]);
	});
});

describe("commands against a daemon", () => {
	let engine: FakeEngine;
	let source: Source;
	const socket = (): string => join(folder, "functions.sock");
	const run = (argv: readonly string[], options: CliOptions = {}): Promise<Ran> =>
		cli(argv, { env: { BUNBASE_SOCKET: socket() }, ...options });
	const handlers: Record<string, FakeHandler> = {
		echo,
		binary: () => response(200, new Uint8Array([0xff, 0, 0xfe])),
		evil: () => response(200, "\x1b[2Jgone\n"),
		teapot: () => response(418, "no coffee"),
		fails: () => Promise.reject(new TypeError("x is \x1b[31mundefined")),
		never: (_request, { signal }) =>
			new Promise((_resolve, reject) => signal.addEventListener("abort", () => reject(new Error("stopped")))),
	};

	beforeEach(async () => {
		engine = new FakeEngine();
		for (const [name, handler] of Object.entries(handlers)) engine.define(name, handler);
		source = socketSource({ environment: realEnvironment(), path: socket() });
		await source.start(engine);
	});
	afterEach(async () => {
		await source.stop();
	});

	it("invoke prints the body as it is, and nothing else into a pipe", async () => {
		const ran = await run(["invoke", "echo", '{"name":"Ada"}']);
		assert.deepEqual(ran, { code: 0, out: '{"name":"Ada"}', err: "" });
		const request = engine.requests.at(-1);
		assert.equal(request?.method, "POST");
		assert.equal(request?.maxAttempts, 1);
		assert.deepEqual(request?.headers, [["content-type", "application/json"]]);
	});

	it("invoke says everything that a request can hold", async () => {
		const argv = [
			"invoke",
			"echo",
			"-",
			"-X",
			"put",
			"--path",
			"/a/b",
			"-H",
			"X-A: 1",
			"-H",
			"x-a: 2",
			"-q",
			"p=1",
			"-q",
			"p=2",
		];
		const more = [
			"--idempotency-key",
			"k",
			"--priority",
			"-5",
			"--deadline",
			"1h",
			"--max-attempts",
			"4",
			"--lane-key",
			"l",
		];
		const ran = await run([...argv, ...more, "--delay", "0", "--tag", "t", "--tag", "u"], {
			readStdin: () => Promise.resolve(Buffer.from("plain text")),
		});
		assert.equal(ran.out, "plain text");
		assert.deepEqual(
			{ ...engine.requests.at(-1), body: undefined, source: undefined },
			{
				function: "echo",
				source: undefined,
				method: "PUT",
				path: "/a/b",
				headers: [
					["x-a", "1"],
					["x-a", "2"],
					["content-type", "text/plain; charset=utf-8"],
				],
				query: [
					["p", "1"],
					["p", "2"],
				],
				body: undefined,
				waits: false,
				idempotencyKey: "k",
				delayMs: 0,
				priority: -5,
				deadlineMs: 3_600_000,
				maxAttempts: 4,
				laneKey: "l",
				tags: ["t", "u"],
			},
		);
	});

	it("@file sends a file's bytes", async () => {
		const path = join(folder, "body.bin");
		writeFileSync(path, new Uint8Array([1, 2, 0xff]));
		assert.equal((await run(["invoke", "echo", `@${path}`])).code, 0);
		assert.deepEqual(engine.requests.at(-1)?.headers, [["content-type", "application/octet-stream"]]);
		assert.deepEqual([...(engine.requests.at(-1)?.body ?? [])], [1, 2, 0xff]);
	});

	it("on a terminal escape sequences are gone, a line end is there, and status and id are on stderr", async () => {
		const stdout = capture({ isTTY: true });
		const stderr = capture({ isTTY: true });
		await run(["invoke", "evil"], { stdout, stderr });
		assert.equal(stdout.text, "gone\n");
		assert.match(stderr.text, /^200 {2}.*inv_[0-9a-v]{21}\n$/);
		assert.equal((await run(["invoke", "evil"])).out, "\x1b[2Jgone\n");
		const binary = capture({ isTTY: true });
		const told = await run(["invoke", "binary"], { stdout: binary });
		assert.equal(binary.text, "");
		assert.match(told.err, /3 bytes that are no text/);
	});

	it("a response with an error status is a success of the platform", async () => {
		const ran = await run(["invoke", "teapot", "-v"]);
		assert.equal(ran.code, 0);
		assert.equal(ran.out, "no coffee");
		assert.match(ran.err, /^418 /);
	});

	it("a function that did not succeed is exit 1, with what it threw", async () => {
		const ran = await run(["invoke", "fails"]);
		assert.equal(ran.code, 1);
		assert.equal(ran.out, "");
		assert.match(ran.err, /^error: fails failed: .*x is undefined\n/);
		assert.match(ran.err, /HANDLER_ERROR in attempt 1 of version v1/);
		assert.match(ran.err, /bunbase logs inv_/);
	});

	it("--json gives one document, whose body is text where it is text", async () => {
		const text = json((await run(["invoke", "echo", "[1]", "--json"])).out);
		assert.equal(text["state"], "succeeded");
		const result = text["result"] as Record<string, unknown>;
		assert.equal(result["body"], "[1]");
		assert.equal(result["body_encoding"], "utf8");
		const binary = json((await run(["--json", "invoke", "binary"])).out)["result"] as Record<string, unknown>;
		assert.equal(binary["body"], "/wD+");
		assert.equal(binary["body_encoding"], "base64");
		const failed = await run(["invoke", "fails", "--json"]);
		assert.equal(failed.code, 1);
		assert.equal(json(failed.out)["state"], "failed");
		assert.equal(failed.err, "");
	});

	it("--async prints the id alone; result, cancel and retry go on from there", async () => {
		const ran = await run(["invoke", "never", "--async"]);
		assert.match(ran.out, /^inv_[0-9a-v]{21}\n$/);
		assert.equal(engine.requests.at(-1)?.maxAttempts, undefined);
		const id = ran.out.trim();
		const early = await run(["result", id]);
		assert.equal(early.code, 4);
		assert.match(early.err, /NO_RESPONSE/);
		const ranOut = await run(["result", id, "--wait", "20ms"]);
		assert.equal(ranOut.code, 124);
		assert.match(ranOut.err, /WAIT_TIMEOUT/);
		const ranOutJson = await run(["result", id, "--wait", "20ms", "--json"]);
		assert.equal(ranOutJson.code, 124);
		assert.equal(json(ranOutJson.out)["timed_out_waiting"], true);
		assert.match((await run(["cancel", id])).out, /is cancelled/);
		assert.equal((await run(["result", id])).code, 1);
		assert.match((await run(["retry", id])).out, /^inv_/);
	});

	it("--wait that runs out is exit 124, and the invocation goes on", async () => {
		const ran = await run(["invoke", "never", "--wait", "20ms"]);
		assert.equal(ran.code, 124);
		assert.equal(engine.listInvocations({ state: "running" }).length, 1);
	});

	it("Ctrl-C while waiting is exit 130 and says how to come back", async () => {
		const interrupt = new AbortController();
		const running = run(["invoke", "never"], { interrupted: interrupt.signal });
		while (engine.waiters === 0) await new Promise(setImmediate);
		interrupt.abort("SIGINT");
		const ran = await running;
		assert.equal(ran.code, 130);
		assert.match(ran.err, /it goes on; come back to it with `bunbase result inv_[0-9a-v]{21} --wait 30s`/);
		assert.equal(engine.listInvocations({ state: "running" }).length, 1);
	});

	it("an unknown function is exit 3, before anything is queued", async () => {
		const ran = await run(["invoke", "nope"]);
		assert.equal(ran.code, 3);
		assert.match(ran.err, /FUNCTION_NOT_FOUND/);
		assert.equal(engine.requests.length, 0);
	});

	it("invocations are listed newest first, and filtered", async () => {
		await run(["invoke", "echo", "1"]);
		await run(["invoke", "fails"]);
		const lines = (await run(["invocations"])).out.trimEnd().split("\n");
		assert.equal(lines.length, 3);
		assert.match(lines[0] ?? "", /^ID +FUNCTION +STATE/);
		assert.match(lines[1] ?? "", /fails +failed/);
		const failed = json((await run(["invocations", "--state", "failed", "--json"])).out);
		assert.equal((failed["invocations"] as unknown[]).length, 1);
		const none = await run(["invocations", "--function", "echo", "--state", "lost"]);
		assert.deepEqual([none.code, none.out, none.err], [0, "", "no invocations\n"]);
	});

	it("deploy names the function by its file, sends the whole path, and builds unless told not to", async () => {
		const ran = await run(["deploy", "some/Hello World.ts", "--version", "v7"]);
		assert.match(ran.out, /^deployed hello-world v7 /);
		assert.deepEqual(engine.deploys.at(-1), {
			function: "hello-world",
			register: true,
			handler: "default",
			version: "v7",
			path: resolve("some/Hello World.ts"),
			build: true,
		});
		await run(["deploy", "dist/bundle.js", "--name", "api", "--no-build"]);
		assert.equal(engine.deploys.at(-1)?.build, false);
		assert.equal(engine.deploys.at(-1)?.function, "api");
	});

	it("functions are registered, configured, rolled back", async () => {
		assert.match((await run(["register", "fresh"])).out, /^fresh is REGISTERED as fn_/);
		assert.match((await run(["functions"])).out, /\nfresh +REGISTERED +-/);
		const configured = await run(["configure", "echo", "timeoutMs=2m", "retry.maxAttempts=7"]);
		assert.match(configured.out, /timeoutMs +120000 {2}\(override\)/);
		assert.match(configured.out, /retry\.maxAttempts +7 {2}\(override\)/);
		assert.match((await run(["configure", "echo"])).out, /concurrency +100\n/);
		assert.equal((await run(["configure", "echo", "timeoutMs=-1"])).code, 2);
		await run(["deploy", "echo.ts"]);
		assert.match((await run(["versions", "echo"])).out, /v2 +active/);
		assert.match((await run(["rollback", "echo"])).out, /^echo is at v1\n$/);
		assert.equal((await run(["rollback", "echo", "v9"])).code, 3);
	});

	it("values of variables go in, also by standard input, and only names come out", async () => {
		const readStdin = (): Promise<Uint8Array> => Promise.resolve(Buffer.from("secret\n"));
		const set = await run(["env", "set", "echo", "A=1=1", "KEY=-"], { readStdin });
		assert.equal(set.err, "set A, KEY of echo\n");
		const listed = await run(["env", "list", "echo"]);
		assert.match(listed.out, /^NAME +SET\nA +now\nKEY +now\n$/);
		assert.doesNotMatch(listed.out + set.out, /secret/);
		await run(["env", "unset", "echo", "A"]);
		assert.doesNotMatch((await run(["env", "list", "echo"])).out, /^A /m);
	});

	it("schedules and events", async () => {
		const put = await run([
			"schedules",
			"put",
			"echo",
			"0 9 * * 1-5",
			"--name",
			"daily",
			"--timezone",
			"Europe/Berlin",
		]);
		assert.equal(put.code, 0, put.err);
		const id = put.out.split(" ")[0] ?? "";
		assert.match((await run(["schedules", "list"])).out, /echo +daily +0 9 \* \* 1-5 +Europe\/Berlin/);
		assert.equal((await run(["schedules", "pause", id])).err, `paused ${id}\n`);
		assert.match((await run(["schedules", "list", "echo"])).out, /paused/);
		assert.equal((await run(["schedules", "resume", id])).code, 0);
		assert.equal((await run(["schedules", "delete", id])).code, 0);
		assert.equal((await run(["schedules", "list"])).out, "");
		assert.match((await run(["events", "emit", "order.created", '{"a":1}'])).err, /^evt_\w+: 0 invocations\n$/);
		assert.match((await run(["events", "list"])).out, /order\.created +now +0 +\{"a":1\}/);
	});

	it("lanes, workers, stats and version", async () => {
		assert.match((await run(["lanes", "pause", "echo"])).err, /^paused echo/);
		assert.match((await run(["lanes", "list"])).out, /echo +0 +100 +0 +0 +1000000 +paused/);
		assert.match((await run(["lanes", "resume", "echo"])).err, /^resumed echo/);
		assert.match((await run(["workers"])).out, /^WORKER +PID +FUNCTION/);
		assert.match((await run(["stats"])).out, /\ndata +\/nowhere\n/);
		assert.equal(json((await run(["stats", "--json"])).out)["data_dir"], "/nowhere");
		assert.match((await run(["version"])).out, /bunbase +1\.2\.3\ndaemon +0\.0\.0-fake\n/);
	});

	it("logs have names, levels and filters; with --json one object on each line", async () => {
		engine.log("echo", "first \x1b[2J");
		engine.log("teapot", "second", { level: "error", metadata: { a: 1 } });
		const all = await run(["logs"], { stdout: capture({ isTTY: true }) });
		assert.match(all.out, /info {3}echo {2}- {2}first\n.*error {2}teapot {2}- {2}second \{"a":1\}\n$/);
		assert.ok(!all.out.includes("\x1b"));
		assert.equal((await run(["logs", "echo"])).out.split("\n").length, 2);
		const lines = (await run(["logs", "--json", "--level", "error"])).out.trimEnd().split("\n");
		assert.deepEqual(
			lines.map((line) => json(line)["message"]),
			["second"],
		);
		assert.equal((await run(["logs", "--limit", "1", "--json"])).out.split("\n").length, 2);
	});

	it("logs --follow goes on until Ctrl-C, which is no failure", async () => {
		const interrupt = new AbortController();
		const stdout = capture();
		engine.log("echo", "before");
		const running = run(["logs", "--follow"], { stdout, interrupted: interrupt.signal });
		await stdout.until(/before\n/);
		engine.log("teapot", "while it waits");
		await stdout.until(/teapot {2}- {2}while it waits\n/);
		engine.define("late", echo);
		engine.log("late", "of a function that is new");
		await stdout.until(/late {2}- {2}of a function that is new\n/);
		interrupt.abort("SIGINT");
		assert.equal((await running).code, 0);
	});
});

describe("the process", () => {
	const main = resolve(import.meta.dirname, "../../../src/main.ts");
	const start = (argv: readonly string[], env: Record<string, string> = {}) => {
		const child = spawn(process.execPath, [main, ...argv], { env: { PATH: process.env["PATH"], ...env } });
		let out = "";
		let err = "";
		child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
		child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
		const ended = new Promise<Ran>((resolve) => child.on("close", (code) => resolve({ code: code ?? -1, out, err })));
		return { child, ended };
	};

	it("ends with the exit code, and loads no engine for a client's command", async () => {
		const unreachable = await start(["fn", "stats", "--socket", join(folder, "none.sock")]).ended;
		assert.equal(unreachable.code, 75);
		assert.equal((await start(["fn", "nonsense"]).ended).code, 2);
		const version = await start(["--version"]).ended;
		assert.equal(version.code, 0);
		assert.match(version.out, /^\d+\.\d+\.\d+/);
	});

	it("bad configuration of the daemon is 78, all of it told before anything is made", async () => {
		const ran = await start(["serve", "--http-port", "x", "--data-dir", join(folder, "d")], {
			BUNBASE_LOG_LEVEL: "loud",
		}).ended;
		assert.equal(ran.code, 78);
		assert.match(ran.err, /--http-port: .*BUNBASE_LOG_LEVEL: /s);
	});

	it("a reader that goes away ends it quietly with 0", async () => {
		const { child, ended } = start(["--help"]);
		child.stdout.destroy();
		const ran = await ended;
		assert.deepEqual([ran.code, ran.err], [0, ""]);
	});

	it("colour is for terminals, unless it is forced", async () => {
		const plain = await start(["--help"]).ended;
		assert.ok(!plain.out.includes("\x1b"));
	});
});
