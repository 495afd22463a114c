import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { tempFolder } from "../../support/temp-folder.ts";
import { fault } from "../fault.ts";

const ROOT = join(import.meta.dirname, "../../..");

fault(
	"G7",
	"installed globally under an odd prefix, with a home that cannot be written",
	{ longOnly: true },
	async (f) => {
		using folder = tempFolder("bunbase ünïcode ");
		const npm = (...args: string[]): string =>
			execFileSync("npm", args, { cwd: ROOT, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
		npm("pack", "--silent", "--pack-destination", folder.path);
		const tarball = readdirSync(folder.path).find((name) => name.endsWith(".tgz")) ?? "";
		const prefix = join(folder.path, "préfix with spaces");
		npm("install", "--global", "--prefix", prefix, "--silent", "--no-audit", "--no-fund", join(folder.path, tarball));
		const home = join(folder.path, "home");
		mkdirSync(home, { mode: 0o500 });
		const app = join(folder.path, "mein projekt");
		mkdirSync(app);
		writeFileSync(join(app, "größe.ts"), "export default () => new Response('groß');\n");
		const env = {
			PATH: [join(prefix, "bin"), dirname(process.execPath), "/usr/bin", "/bin"].join(delimiter),
			HOME: home,
			BUNBASE_SOCKET: join(folder.path, "s.sock"),
		};
		const bunbase = (...args: string[]): string =>
			execFileSync("bunbase", args, { cwd: app, env, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
		const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as { version: string };
		assert.ok(bunbase("--version").includes(version));
		const daemon = spawn(
			"bunbase",
			["serve", "--data-dir", join(app, "dätä"), "--socket", env.BUNBASE_SOCKET, "--http-port", "0"],
			{
				cwd: app,
				env,
				stdio: ["ignore", "ignore", "pipe"],
			},
		);
		try {
			await new Promise<void>((resolve, reject) => {
				createInterface({ input: daemon.stderr }).on("line", (line) => line.includes('"msg":"ready"') && resolve());
				daemon.once("exit", (code) => reject(new Error(`serve exited with ${code}`)));
			});
			bunbase("deploy", "größe.ts", "--name", "size");
			assert.match(bunbase("invoke", "size"), /groß/);
			f.record("deployed and invoked");
		} finally {
			const gone = once(daemon, "exit");
			daemon.kill("SIGTERM");
			await gone;
			chmodSync(home, 0o700);
		}
		assert.equal(daemon.exitCode, 0);
	},
);
