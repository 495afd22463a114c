/**
 * Which functions there are under some paths, and a fingerprint of each that changes exactly when its code does.
 *
 * A folder with an index file is one function. Any other TypeScript or JavaScript file with a default export is one;
 * files without are helpers. A path that was named itself is a function whatever it looks like. The fingerprint covers
 * the file and every local file that it imports, so that a change in a helper redeploys its users and nobody else.
 */
import { createHash } from "node:crypto";
import { readFile, readdir, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { functionNameOf } from "./cli-parse.ts";

const SOURCE_FILE = /\.(?:ts|tsx|mts|js|jsx|mjs)$/;
/** Tests, declarations, and helpers by the habit of a leading underscore. */
const NOT_A_FUNCTION = /(?:\.d\.[cm]?ts|\.(?:test|spec)\.[cm]?[jt]sx?)$|^[_.]/;
const INDEX_FILES = ["index.ts", "index.tsx", "index.mts", "index.js", "index.mjs"] as const;
const SKIPPED_FOLDERS: ReadonlySet<string> = new Set(["node_modules", "dist", "coverage"]);
const DEFAULT_EXPORT = /\bexport\s+default\b|\bas\s+default\b/;
const IMPORT = /(?:\bfrom|\bimport|\brequire)\s*\(?\s*["'](\.{1,2}\/[^"'\n]+)["']/g;
const EXTENSIONS = ["", ".ts", ".tsx", ".mts", ".js", ".jsx", ".mjs", ".json", "/index.ts", "/index.js"] as const;
/** Enough for any folder of functions; more is surely a whole disk by mistake. */
const FILES_MAX = 5_000;

export interface FoundFunction {
	readonly name: string;
	/** File to build: absolute. */
	readonly path: string;
	readonly fingerprint: string;
	/** All local files that it is made of. */
	readonly files: readonly string[];
}

export interface Scan {
	readonly functions: readonly FoundFunction[];
	/** Sentences about what was left out. */
	readonly problems: readonly string[];
}

export async function scanFunctions(paths: readonly string[]): Promise<Scan> {
	const problems: string[] = [];
	const entries: string[] = [];
	for (const path of paths) {
		const absolute = resolve(path);
		const found = await kindOf(absolute);
		if (found === "file") entries.push(absolute);
		else if (found === "folder") await collectEntries(absolute, entries);
		else problems.push(`${path} does not exist`);
	}
	const texts = new Map<string, Promise<string | undefined>>();
	const functions = new Map<string, FoundFunction>();
	for (const path of new Set(entries)) {
		let name: string;
		try {
			name = functionNameOf(path);
		} catch (error) {
			problems.push(error instanceof Error ? error.message : String(error));
			continue;
		}
		const before = functions.get(name);
		if (before === undefined) functions.set(name, { name, path, ...(await fingerprintOf(path, texts)) });
		else problems.push(`${path} would be the function ${name} as well, as ${before.path} is; rename one of them`);
	}
	return { functions: [...functions.values()], problems };
}

async function kindOf(path: string): Promise<"file" | "folder" | undefined> {
	try {
		const found = await stat(path);
		return found.isDirectory() ? "folder" : found.isFile() ? "file" : undefined;
	} catch {
		return undefined;
	}
}

async function collectEntries(folder: string, entries: string[]): Promise<void> {
	if (entries.length >= FILES_MAX) return;
	const inside = (await readdir(folder, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1));
	const index = INDEX_FILES.find((name) => inside.some((entry) => entry.isFile() && entry.name === name));
	if (index !== undefined && (await hasDefaultExport(join(folder, index)))) {
		entries.push(join(folder, index));
		return;
	}
	for (const entry of inside) {
		const path = join(folder, entry.name);
		if (entry.isDirectory() && !SKIPPED_FOLDERS.has(entry.name) && !entry.name.startsWith(".")) {
			await collectEntries(path, entries);
		} else if (entry.isFile() && SOURCE_FILE.test(entry.name) && !NOT_A_FUNCTION.test(entry.name)) {
			if (await hasDefaultExport(path)) entries.push(path);
		}
	}
}

async function hasDefaultExport(path: string): Promise<boolean> {
	return DEFAULT_EXPORT.test((await textOf(path)) ?? "");
}

async function textOf(path: string): Promise<string | undefined> {
	try {
		return await readFile(path, "utf8");
	} catch {
		return undefined;
	}
}

/** Reads the entry and what it imports by a relative path, each file once in a scan. */
async function fingerprintOf(
	entry: string,
	texts: Map<string, Promise<string | undefined>>,
): Promise<{ fingerprint: string; files: readonly string[] }> {
	const hash = createHash("sha256");
	const files = new Set([entry]);
	for (const file of files) {
		if (files.size > FILES_MAX) break;
		const reading = texts.get(file) ?? textOf(file);
		texts.set(file, reading);
		const text = (await reading) ?? "";
		hash.update(`${file}\0${text.length}\0${text}`);
		for (const match of text.matchAll(IMPORT)) {
			const imported = await resolveImport(resolve(dirname(file), match[1] ?? ""));
			if (imported !== undefined) files.add(imported);
		}
	}
	return { fingerprint: hash.digest("hex"), files: [...files] };
}

async function resolveImport(path: string): Promise<string | undefined> {
	// TypeScript's habit of naming a .ts file by the .js that it becomes.
	for (const candidate of [...EXTENSIONS.map((extension) => path + extension), path.replace(/\.js$/, ".ts")]) {
		if ((await kindOf(candidate)) === "file") return candidate;
	}
	return undefined;
}
