/**
 * Makes dist/ out of src/: JavaScript for Node, JavaScript for the Bun program, declarations of what is public, and
 * every file that is no TypeScript (such as the dashboard's pages) copied as it is. The same tree, so that paths relative
 * to a module hold in both; only the Bun program is one file, which starts 5 ms sooner than twelve.
 *
 * Declarations are made of everything that the two public doors import, and kept where a door's declarations really
 * lead: inside of the store are types of better-sqlite3, which a user does not have and must not need. Whether a user
 * can compile against what is kept is tried at the end.
 */
import { spawnSync } from "node:child_process";
import {
	chmodSync,
	cpSync,
	existsSync,
	globSync,
	mkdirSync,
	mkdtempSync,
	readFileSync,
	renameSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, resolve, sep } from "node:path";

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
	"store/check-program.js",
];
const PUBLIC_DECLARATIONS = ["index.d.ts", "sources/client.d.ts"];
/** Folders whose types are made of types of our dependencies. */
const PRIVATE = ["store", "queue", "pool", "runtime"];

function fail(message: string): never {
	process.stderr.write(`${message}\n`);
	process.exit(1);
}

function tsc(args: readonly string[]): { status: number | null; output: string } {
	const bin = join(root, "node_modules/typescript/bin/tsc");
	const { status, stdout } = spawnSync(process.execPath, [bin, ...args], { cwd: root, encoding: "utf8" });
	return { status, output: stdout };
}

function compile(project: string): void {
	const { status, output } = tsc(["-p", project]);
	if (status !== 0) fail(output);
}

/** The Bun program and all that it imports as one file, in the place of its first; names stay, for stacks. */
function bundleRuntime(): void {
	const runtime = join(dist, "runtime");
	const bun = join(root, "node_modules/.bin/bun");
	const args = ["build", join(runtime, "main.js"), "--target=bun", "--outfile", join(dist, "bundled.js")];
	const { status, stderr } = spawnSync(bun, args, { cwd: root, encoding: "utf8" });
	if (status !== 0) fail(stderr);
	rmSync(runtime, { recursive: true });
	mkdirSync(runtime);
	renameSync(join(dist, "bundled.js"), join(runtime, "main.js"));
}

/** Everything that the public declarations import, by relative paths. */
function reachedDeclarations(): Set<string> {
	const reached = new Set(PUBLIC_DECLARATIONS.map((file) => join(dist, file)));
	for (const file of reached) {
		if (!existsSync(file)) fail(`the declarations lack ${file}`);
		if (PRIVATE.some((folder) => file.startsWith(join(dist, folder) + sep))) {
			fail(`public declarations lead to ${file}: its types are not for users of the package`);
		}
		for (const match of readFileSync(file, "utf8").matchAll(/(?:from|import)\s*\(?\s*"(\.{1,2}\/[^"]+)\.[jt]s"/g)) {
			reached.add(resolve(dirname(file), `${match[1]}.d.ts`));
		}
	}
	return reached;
}

/** A user's program against the declarations, with full checks of them and without our development dependencies. */
function tryDeclarations(): void {
	const folder = mkdtempSync(join(tmpdir(), "bunbase-types-"));
	try {
		const doors = PUBLIC_DECLARATIONS.map((file) => join(dist, file.replace(/\.d\.ts$/, ".js")));
		writeFileSync(
			join(folder, "user.ts"),
			doors.map((door, at) => `import * as door${at} from ${JSON.stringify(door)};\nvoid door${at};\n`).join(""),
		);
		const options = {
			strict: true,
			noEmit: true,
			target: "es2024",
			lib: ["es2024", "esnext.disposable"],
			module: "nodenext",
			types: ["node"],
			typeRoots: [join(root, "node_modules/@types")],
		};
		writeFileSync(join(folder, "tsconfig.json"), JSON.stringify({ compilerOptions: options, files: ["user.ts"] }));
		const { status, output } = tsc(["-p", folder]);
		// What is wrong in declarations of others is theirs.
		const ours = output.split("\n").filter((line) => line.includes("error TS") && !line.includes("node_modules"));
		if (status !== 0 && ours.length > 0) fail(`the declarations do not compile for a user:\n${ours.join("\n")}`);
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
}

rmSync(dist, { recursive: true, force: true });
compile("tsconfig.build.json");
compile("tsconfig.build.runtime.json");
bundleRuntime();
// Types are checked by now; what this complains about is declarations of what is not public.
tsc(["-p", "tsconfig.build.types.json"]);
const reached = reachedDeclarations();
for (const file of globSync("**/*.d.ts", { cwd: dist })) {
	if (!reached.has(join(dist, file))) rmSync(join(dist, file));
}
tryDeclarations();
cpSync(join(root, "src"), dist, { recursive: true, filter: (path) => !/\.[cm]?tsx?$/.test(path) });

const missing = PROMISED.filter((file) => !existsSync(join(dist, file)));
if (missing.length > 0) fail(`the build lacks ${missing.join(", ")}`);
const main = join(dist, "main.js");
if (!readFileSync(main, "utf8").startsWith("#!/usr/bin/env node\n")) fail("dist/main.js lacks its first line");
chmodSync(main, 0o755);
