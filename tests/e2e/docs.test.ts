/**
 * README.md and docs/ are true: every block of code in them runs here, or is listed with the reason why it cannot. A new
 * block that is neither fails. Shell lines need curl. What their tables say is in docs-tables.test.ts.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { describe, it } from "node:test";
import { resolveSettings } from "../../src/config.ts";
import { EXIT } from "../../src/core/errors.ts";
import { startDaemon } from "../support/daemon.ts";
import { blocksOf, commandsOf, documents, Reader, ROOT, statusOf, type Block, type Command } from "../support/docs.ts";
import { RawClient } from "../support/raw-client.ts";
import { tempFolder } from "../support/temp-folder.ts";

/** Shell lines that end only when they are told to, and what they say once they work. */
const ENDLESS: readonly (readonly [line: RegExp, says: RegExp, apart: boolean])[] = [
	[/^bunbase serve\b/, /"msg":"ready"/, true],
	[/^bunbase dev\b/, /hello v1/, true],
	[/^bunbase logs .*--follow/, /greeting/, false],
	[/^curl -N\b/, /greeting/, false],
];

/** Shell lines that are not run here, and why. */
const NOT_RUN: readonly (readonly [line: RegExp, reason: string])[] = [
	[/^npm install\b/, "needs the published package; scripts/test-pack.ts installs a packed one"],
	[/^(useradd|systemctl|journalctl|mkdir -p \/opt)\b/, "changes the machine"],
];

/** Blocks of other languages than sh and ts: how each is checked, or why it is not. */
const OTHER: Readonly<Record<string, string | ((block: Block, reader: Reader) => Promise<void> | void)>> = {
	"docs/configuration.md json 1": checkSettings,
	"docs/http.md json 1": checkProblem,
	"docs/http.md nginx 1": "there is no nginx here; tests/unit/sources/http-gateway.test.ts covers what it forwards",
	"docs/operations.md ini 1": checkUnit,
	"docs/operations.md plain 1": checkCrontab,
	"docs/protocol.md json 1": (block, reader) => checkHello(block, reader),
	"docs/protocol.md json 2": (block, reader) => checkHello(block, reader),
	"docs/protocol.md plain 1": checkBytes,
	"docs/protocol.md python 1": checkPython,
};

/** What a reader of the page has done before: functions with three versions, so that there is something to go back to. */
async function prepare(file: string, reader: Reader): Promise<void> {
	const hello = readFileSync(join(reader.folder, "hello.ts"), "utf8");
	await reader.deploy("hello", reader.write("hello.ts", hello));
	for (const change of ["one", "two"]) {
		await reader.deploy("hello", reader.write("hello.ts", `${hello}\nexport const change = "${change}";\n`));
	}
	reader.write("hello.ts", hello);
	reader.write("hello.js", `export default () => new Response("from a bundle");\n`);
	reader.write("bunbase.json", `{ "httpPort": 0 }`);
	const resize = blocksOf("README.md").find(({ text }) => text.startsWith("// resize.ts"));
	assert.ok(resize !== undefined, "README.md shows resize.ts");
	if (file !== "README.md") {
		await reader.deploy("resize", reader.write("resize.ts", `${resize.text}\nexport const change = "one";\n`));
		reader.write("resize.ts", resize.text);
	}
	const { invocationId } = await reader.daemon.client.enqueue("hello", { body: '{"name":"Ada"}' });
	const ended = await reader.daemon.client.waitForResult(invocationId);
	assert.equal(ended.state, "succeeded");
	reader.remember(invocationId);
}

async function runCommand(command: Command, reader: Reader): Promise<void> {
	const { text, comment } = command;
	const line = reader.here(text);
	const npm = line.split("&&").map((part) => part.trim());
	if (npm.every((part) => /^npm (ci|test|start|run [\w:]+)$/.test(part))) return checkScripts(npm);
	if (NOT_RUN.some(([known]) => known.test(text))) return;
	const endless = ENDLESS.find(([known]) => known.test(line));
	if (endless !== undefined) {
		const [, says, apart] = endless;
		const serves = /^bunbase (serve|dev)\b/.test(line);
		// A second daemon: its socket and port are its own.
		const ran = await reader.runUntil(serves ? `${line} --socket ./own.sock --http-port 0` : line, says, { apart });
		if (line.startsWith("bunbase")) assert.equal(ran.code, 0, ran.err);
		return;
	}
	// So that a page of logs need not be waited for.
	const ran = await reader.run(line.replace("wait_ms=30000", "wait_ms=100"));
	assert.equal(ran.code, 0, `exit ${ran.code}: ${ran.err}${ran.out}`);
	if (!line.startsWith("curl ")) return;
	const documented = /^(\d{3})\b|, (\d{3})$/.exec(comment);
	const status = statusOf(ran);
	if (documented === null) assert.ok(status >= 200 && status < 300, `${status}: ${ran.out}`);
	else assert.equal(status, Number(documented[1] ?? documented[2]), ran.out);
}

/** `npm test` is this run itself, `npm run demo` and `npm start` are tests below: here they must exist. */
function checkScripts(lines: readonly string[]): void {
	const scripts = scriptsOf();
	for (const line of lines) {
		if (line === "npm ci" || line === "npm test") continue;
		const name = line.replace(/^npm (run )?/, "");
		const script = scripts[name];
		assert.ok(script !== undefined, `package.json has no script ${name}`);
		for (const [path] of script.matchAll(/\b\w[\w/-]*\.ts\b/g)) assert.ok(existsSync(join(ROOT, path)), path);
	}
}

function scriptsOf(): Record<string, string> {
	const text = readFileSync(join(ROOT, "package.json"), "utf8");
	return (JSON.parse(text) as { scripts: Record<string, string> }).scripts;
}

async function runCode(block: Block, reader: Reader): Promise<void> {
	const { text, line, file } = block;
	const name = /^\/\/ ([\w-]+)\.ts$/m.exec(text)?.[1] ?? `${basename(file, ".md").toLowerCase()}-${line}`;
	if (text.includes('from "bunbase-functions')) {
		const ran = await reader.runProgram(name, text);
		assert.equal(ran.code, 0, ran.err);
		return;
	}
	const whole = text.includes("export default") ? text : `${text}\nexport default () => new Response("ok");\n`;
	await reader.deploy(name, reader.write(`${name}.ts`, whole));
	const answer = await reader.daemon.client.invoke(name, { body: '{"name":"cat.png"}' });
	assert.equal(answer.status, 200, answer.error?.message);
}

function checkSettings({ text }: Block, reader: Reader): void {
	const settings = resolveSettings({ config: reader.write("documented.json", text) }, {});
	assert.deepEqual(settings.warnings, []);
	assert.deepEqual(settings.engine.defaults, (JSON.parse(text) as { defaults: unknown }).defaults);
}

/** The same failure gives a document with the same keys and, apart from the id, the same values. */
async function checkProblem({ text }: Block, reader: Reader): Promise<void> {
	const documented = JSON.parse(text) as Record<string, unknown>;
	const throws = `export default () => { throw new Error(${JSON.stringify(documented["detail"])}); };\n`;
	await reader.deploy("orders", reader.write("orders.ts", throws));
	const answer = await fetch(`${reader.daemon.httpUrl}/functions/orders`);
	assert.equal(answer.headers.get("content-type"), "application/problem+json");
	assert.equal(answer.headers.get("x-bunbase-error"), "function");
	const real = (await answer.json()) as Record<string, unknown>;
	const { invocation_id: id, ...rest } = documented;
	assert.match(String(id), /^inv_/);
	assert.deepEqual(real, { ...rest, invocation_id: real["invocation_id"] });
	assert.equal(answer.status, documented["status"]);
}

async function checkUnit({ text }: Block, reader: Reader): Promise<void> {
	const command = /^ExecStart=\S+\/(bunbase serve.*)$/m.exec(text)?.[1];
	assert.ok(command !== undefined, "the unit starts the daemon");
	const here = command.replaceAll("/var/lib/", "./").replaceAll("/run/bunbase/", "./");
	const ran = await reader.runUntil(`${here} --http-port 0`, /"msg":"ready"/, { apart: true });
	assert.equal(ran.code, 0, ran.err);
	const prevented = /^RestartPreventExitStatus=(.*)$/m.exec(text)?.[1]?.split(" ").map(Number);
	assert.deepEqual(prevented, [EXIT.badData, EXIT.secondDaemon, EXIT.config]);
}

/** What cron gives to the shell: everything behind the five fields, without the backslashes before `%`. */
async function checkCrontab({ text }: Block, reader: Reader): Promise<void> {
	const [, command = ""] = /^(?:\S+ ){5}(.*)$/.exec(text) ?? [];
	mkdirSync(join(reader.folder, "backups"));
	const here = command
		.replaceAll("\\%", "%")
		.replaceAll("/backup ", "./backups ")
		.replaceAll(/\/opt\/\S*\/bunbase /g, "bunbase ")
		.replaceAll("/run/bunbase/functions.sock", reader.daemon.socketPath);
	const ran = await reader.run(here);
	assert.equal(ran.code, 0, ran.err);
	const [made = ""] = readdirSync(join(reader.folder, "backups"));
	assert.match(made, /^bunbase-\d{4}-\d\d-\d\d$/);
	assert.ok(existsSync(join(reader.folder, "backups", made, "manifest.json")));
}

/** The first block is what a client says, the second what it is answered. */
async function checkHello(block: Block, reader: Reader): Promise<void> {
	const [said, answered] = blocksOf(block.file).filter(({ lang }) => lang === "json");
	await using client = await RawClient.connect(reader.daemon.socketPath);
	const { status, json } = await client.ask(1n, 0x20, JSON.parse(said?.text ?? ""));
	assert.equal(status, 0);
	assert.deepEqual(json, JSON.parse(answered?.text ?? ""));
}

async function checkBytes({ text }: Block, reader: Reader): Promise<void> {
	const frame = Buffer.from(text.replaceAll(/\s/g, ""), "hex");
	await using client = await RawClient.connect(reader.daemon.socketPath);
	client.socket.write(frame);
	const { status, json } = await client.answer(1n);
	assert.equal(status, 0);
	assert.equal(json["name"], "hello");
}

async function checkPython({ text }: Block, reader: Reader): Promise<void> {
	if (spawnSync("python3", ["--version"]).status !== 0) return;
	const ran = await reader.run(`python3 '${reader.write("documented.py", reader.here(text))}'`);
	assert.equal(ran.code, 0, ran.err);
	const answers = ran.out.trim().split("\n");
	assert.ok(answers.length === 2 && answers.every((answer) => answer.startsWith("(0, {")), ran.out);
	assert.match(ran.out, /'success': True/);
}

describe("what a reader does works", { concurrency: 3 }, () => {
	for (const file of documents()) {
		const blocks = blocksOf(file);
		if (blocks.length === 0) continue;
		it(`every block of code in ${file} runs`, async (t) => {
			await using reader = await Reader.start();
			await prepare(file, reader);
			for (const block of blocks) {
				const scene = `${file}:${block.line}`;
				if (block.lang === "sh") {
					for (const command of commandsOf(block)) {
						await runCommand(command, reader).catch((cause: unknown) => {
							throw new Error(`${file}:${command.line}: ${command.text}`, { cause });
						});
					}
				} else if (block.lang === "ts") {
					await runCode(block, reader).catch((cause: unknown) => {
						throw new Error(`${scene}: this code does not run`, { cause });
					});
				} else {
					const how = OTHER[block.key];
					assert.ok(how !== undefined, `${scene}: run this block, or list "${block.key}" with the reason`);
					if (typeof how === "string") t.diagnostic(`${scene} is not run: ${how}`);
					else await how(block, reader);
				}
			}
		});
	}

	it("a copy of the folder of a stopped daemon is a backup", async () => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		const first = await startDaemon(dataDir);
		const path = join(ROOT, "examples/functions/hello.ts");
		await first.client.call("functions.deploy", { function: "hello", register: true, build: true, path });
		const { invocationId } = await first.client.invoke("hello", { body: '{"name":"Ada"}' });
		assert.equal(await first.stop(), 0);
		const copy = join(folder.path, "copy");
		cpSync(dataDir, copy, { recursive: true, preserveTimestamps: true });
		const second = await startDaemon(copy);
		try {
			const result = await second.client.getResult(invocationId);
			assert.deepEqual(result.response?.json(), { message: "Hello, Ada!" });
			assert.equal((await second.client.invoke("hello", { body: "{}" })).status, 200);
		} finally {
			await second.stop();
		}
	});

	it("npm start deploys every function of examples/, and Ctrl-C ends it in order", async () => {
		await using reader = await Reader.start();
		// It may stand behind a variable.
		const line = (scriptsOf()["start"] ?? "").replace(/^\w+=\S+ /, "");
		const [script, ...args] = line.split(" ");
		assert.equal(script, "node");
		const started = [process.execPath, join(ROOT, args[0] ?? ""), "dev", join(ROOT, "examples")].join(" ");
		const flags = "--data-dir ./own --socket ./own.sock --http-port 0";
		const names = readdirSync(join(ROOT, "examples/functions")).map((name) => basename(name, ".ts"));
		const all = new RegExp(names.map((name) => `(?=[\\s\\S]*${name} v1 )`).join(""));
		const ran = await reader.runUntil(`${started} ${flags}`, all, { apart: true });
		assert.equal(ran.code, 0, ran.err);
		assert.deepEqual(args.slice(1), ["dev", "examples"]);
	});

	it("npm run demo works, on a machine that has only this checkout", async () => {
		await using reader = await Reader.start();
		const ran = await reader.run(`'${process.execPath}' '${join(ROOT, "examples/demo.ts")}'`);
		assert.equal(ran.code, 0, ran.out + ran.err);
		assert.match(ran.out, /no process is left/);
	});
});

describe("what is listed", () => {
	it("names only blocks and lines that exist", () => {
		const blocks = documents().flatMap(blocksOf);
		const keys = blocks.map(({ key }) => key);
		assert.deepEqual(
			Object.keys(OTHER).filter((key) => !keys.includes(key)),
			[],
		);
		const lines = blocks
			.filter(({ lang }) => lang === "sh")
			.flatMap((block) => commandsOf(block).map(({ text }) => text));
		for (const [known] of [...NOT_RUN, ...ENDLESS])
			assert.ok(
				lines.some((line) => known.test(line)),
				String(known),
			);
	});
});
