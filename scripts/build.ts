/**
 * Makes dist/ out of src/: JavaScript and declarations for Node, JavaScript for the Bun program, and every file that is
 * no TypeScript (the dashboard's pages, the schema's SQL) copied as it is. Same tree, so that paths relative to a
 * module hold in both.
 */
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "..");
const dist = join(root, "dist");

/** What must be there for the package to work; a build without one of them is no build. */
const PROMISED = [
	"main.js",
	"index.js",
	"index.d.ts",
	"sources/client.js",
	"sources/client.d.ts",
	"protocol/index.js",
	"runtime/main.js",
];

function compile(project: string): void {
	const tsc = join(root, "node_modules/typescript/bin/tsc");
	const { status } = spawnSync(process.execPath, [tsc, "-p", join(root, project)], { stdio: "inherit", cwd: root });
	if (status !== 0) process.exit(status ?? 1);
}

rmSync(dist, { recursive: true, force: true });
compile("tsconfig.build.json");
compile("tsconfig.build.runtime.json");
cpSync(join(root, "src"), dist, {
	recursive: true,
	// Folders pass, so that files in them are looked at.
	filter: (path) => !/\.[cm]?tsx?$/.test(path),
});

const missing = PROMISED.filter((file) => !existsSync(join(dist, file)));
if (missing.length > 0) {
	process.stderr.write(`the build lacks ${missing.join(", ")}\n`);
	process.exit(1);
}
const main = join(dist, "main.js");
if (!readFileSync(main, "utf8").startsWith("#!/usr/bin/env node\n")) {
	process.stderr.write("dist/main.js must begin with #!/usr/bin/env node\n");
	process.exit(1);
}
chmodSync(main, 0o755);
