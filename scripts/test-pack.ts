/**
 * The package as a user gets it: packs it, installs the tarball in an empty folder with `node` from npm beside it (as the
 * README tells people whose Node is older), and deploys and invokes a function through it. Also: on a Node that is too
 * old, the bin says so in one sentence and exits 78.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { createInterface } from "node:readline";

const root = join(import.meta.dirname, "..");
const folder = mkdtempSync(join(tmpdir(), "bunbase pack "));
const { devDependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
	devDependencies: Record<string, string>;
};

function npm(args: readonly string[], cwd: string): string {
	return execFileSync("npm", args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
}

/** Node binaries on the PATH that are not the pinned one. */
function olderNodes(): string[] {
	const found = (process.env["PATH"] ?? "")
		.split(delimiter)
		.filter((path) => !path.includes("node_modules"))
		.map((path) => join(path, "node"))
		.map((path) => ({ path, version: spawnSync(path, ["--version"], { encoding: "utf8" }).stdout ?? "" }));
	return found.filter(({ version }) => /^v(1[89]|2[0-3])\./.test(version)).map(({ path }) => path);
}

try {
	npm(["pack", "--silent", "--pack-destination", folder], root);
	const tarball = readdirSync(folder).find((name) => name.endsWith(".tgz"));
	assert.ok(tarball !== undefined, "npm pack made a tarball");
	const app = join(folder, "app");
	mkdirSync(app);
	writeFileSync(join(app, "package.json"), '{ "private": true }\n');
	npm(["install", "--silent", "--no-audit", "--no-fund", join("..", tarball), `node@${devDependencies["node"]}`], app);
	const bin = join(app, "node_modules/.bin/bunbase");
	const env = { ...process.env, PATH: [join(app, "node_modules/.bin"), process.env["PATH"]].join(delimiter) };
	const bunbase = (...args: string[]): string => execFileSync(bin, args, { cwd: app, env, encoding: "utf8" });

	const main = join(app, "node_modules/bunbase-functions/dist/main.js");
	const old = olderNodes()[0];
	if (old === undefined) console.log("no Node older than 24 on this machine: the sentence for it was not tried");
	else {
		const { status, stderr } = spawnSync(old, [main, "--version"], { encoding: "utf8" });
		assert.equal(status, 78, stderr);
		assert.equal(stderr.trim().split("\n").length, 1, stderr);
		assert.match(stderr, /Node.* 24/);
		console.log(`ok: ${old} says: ${stderr.trim()}`);
	}

	const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
	assert.ok(bunbase("--version").includes(version));
	const socket = join(folder, "s.sock");
	writeFileSync(
		join(app, "greet.ts"),
		"export default async (req: Request): Promise<Response> => new Response(`hello ${await req.text()}`);\n",
	);
	const daemon = spawn(bin, ["serve", "--data-dir", join(app, "data"), "--socket", socket, "--http-port", "0"], {
		cwd: app,
		env,
		stdio: ["ignore", "ignore", "pipe"],
	});
	const lines: string[] = [];
	await new Promise<void>((resolve, reject) => {
		createInterface({ input: daemon.stderr }).on("line", (line) => {
			lines.push(line);
			if (line.includes('"msg":"ready"')) resolve();
		});
		daemon.once("exit", (code) => reject(new Error(`serve exited with ${code}:\n${lines.join("\n")}`)));
	});
	try {
		console.log(bunbase("deploy", "greet.ts", "--socket", socket).trim());
		assert.equal(bunbase("invoke", "greet", '"world"', "--socket", socket).trim(), 'hello "world"');
	} finally {
		daemon.kill("SIGTERM");
		await once(daemon, "exit");
	}
	assert.equal(daemon.exitCode, 0);
	writeFileSync(
		join(app, "library.mjs"),
		`import { createEngine } from "bunbase-functions";
import { createClient } from "bunbase-functions/client";
const engine = createEngine({ dataDir: "./data" });
await engine.start();
const answer = await engine.invoke({ function: "greet", source: "cli", method: "POST", path: "/", headers: [], query: [],
	body: new TextEncoder().encode("library"), waits: true });
console.log(new TextDecoder().decode(answer.result.body), typeof createClient);
await engine.stop();
`,
	);
	assert.equal(
		execFileSync("node", ["library.mjs"], { cwd: app, env, encoding: "utf8" }).trim(),
		"hello library function",
	);
	console.log("ok: the packed package deploys and invokes, as a command and as a library");
} finally {
	rmSync(folder, { recursive: true, force: true });
}
