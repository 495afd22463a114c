/**
 * TypeScript source to one JavaScript bundle, by the same Bun that will run it.
 *
 * A path comes from a caller and may be anything: a device, a pipe, a loop of links, 10 GB. Only regular files are read,
 * at most `bundleBytesMax` each, and the bundler, which reads what they import, is bounded in time and memory.
 */
import {
	closeSync,
	constants,
	fstatSync,
	mkdtempSync,
	openSync,
	readFileSync,
	rmSync,
	statSync,
	type Stats,
} from "node:fs";
import { basename, extname, join, resolve } from "node:path";
import { EngineError } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";
import { runBun } from "../pool/index.ts";

export interface Built {
	readonly bytes: Uint8Array;
	readonly sourcemap: Uint8Array | undefined;
}

const ENTRY_NAMES = ["index.ts", "index.tsx", "index.js", "index.mjs", "src/index.ts", "src/index.js"];
const BUILDABLE = new Set([".ts", ".tsx", ".mts", ".cts", ".js", ".mjs", ".cjs", ".jsx"]);

/** The entry file of a source: itself, or the index of a folder. Throws BAD_BUNDLE where there is none. */
export function entryOf(path: string): string {
	const stat = look(path);
	if (stat === undefined)
		throw new EngineError("BAD_BUNDLE", `no file or folder ${shown(path)}; give an absolute path on this machine`);
	if (!stat.isDirectory()) {
		checkFile(path, stat);
		if (BUILDABLE.has(extname(path))) return path;
		throw new EngineError(
			"BAD_BUNDLE",
			`${basename(path)} is neither JavaScript nor TypeScript; expected ${[...BUILDABLE].join(", ")}`,
		);
	}
	for (const name of ENTRY_NAMES) {
		const entry = join(path, name);
		const found = look(entry);
		if (found?.isFile() !== true) continue;
		checkFile(entry, found);
		return entry;
	}
	throw new EngineError("BAD_BUNDLE", `the folder ${shown(path)} has none of ${ENTRY_NAMES.join(", ")}`);
}

/** Throws BUILD_FAILED with the bundler's own messages. `tmp` is a folder that we may write to. */
export async function build(bunPath: string, path: string, tmp: string): Promise<Built> {
	const entry = entryOf(path);
	const out = mkdtempSync(join(tmp, "build-"));
	try {
		const result = await runBun(
			bunPath,
			// With --outfile and a linked source map Bun 1.4.5 says that it wrote and writes nothing; --outdir works.
			[
				"build",
				entry,
				"--target=bun",
				"--format=esm",
				"--sourcemap=linked",
				`--outdir=${out}`,
				"--entry-naming=bundle.js",
			],
			{ cwd: out, timeoutMs: LIMITS.buildMsMax, memoryBytesMax: LIMITS.buildMemoryBytesMax },
		);
		if (result.overMemory) {
			const mib = LIMITS.buildMemoryBytesMax / 1024 / 1024;
			throw new EngineError("BUILD_FAILED", `building ${basename(path)} took more than ${mib} MiB of memory`);
		}
		if (result.timedOut)
			throw new EngineError("BUILD_FAILED", `building ${basename(path)} took longer than ${LIMITS.buildMsMax} ms`);
		if (result.exitCode !== 0) {
			throw new EngineError(
				"BUILD_FAILED",
				`${basename(path)} does not build:\n${(result.stderr || result.stdout).trim()}`,
			);
		}
		return { bytes: readBundle(join(out, "bundle.js")), sourcemap: readSourcemap(out) };
	} finally {
		remove(out);
	}
}

/** What cannot be removed now (out of descriptors) is no reason to fail, and goes with the next start. */
function remove(folder: string): void {
	try {
		rmSync(folder, { recursive: true, force: true });
	} catch {
		// See above.
	}
}

/** A bundle that is taken as it is. */
export function readBundle(path: string): Uint8Array {
	const stat = look(path);
	if (stat?.isFile() !== true)
		throw new EngineError("BAD_BUNDLE", `no file ${shown(path)}; bundle_path is a path on this machine`);
	try {
		// What is a file now may be a pipe when it is opened, and would wait for its writer.
		const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
		try {
			checkFile(path, fstatSync(fd));
			return readFileSync(fd);
		} finally {
			closeSync(fd);
		}
	} catch (error) {
		if (error instanceof EngineError) throw error;
		throw new EngineError("BAD_BUNDLE", `${shown(path)} cannot be read`, { cause: error });
	}
}

/** Undefined where nothing is there. Links are followed. */
function look(path: string): Stats | undefined {
	try {
		return statSync(path, { throwIfNoEntry: false });
	} catch (error) {
		// A loop of links, a name that is too long, NUL in it, a folder that we may not enter.
		const { code } = error as NodeJS.ErrnoException;
		throw new EngineError("BAD_BUNDLE", `${shown(path)} cannot be read (${code ?? String(error)})`, { cause: error });
	}
}

function checkFile(path: string, stat: Stats): void {
	if (!stat.isFile()) throw new EngineError("BAD_BUNDLE", `${shown(path)} is no regular file`);
	if (stat.size > LIMITS.bundleBytesMax) {
		throw new EngineError(
			"BAD_BUNDLE",
			`${basename(path)} has ${stat.size} bytes; a bundle has at most ${LIMITS.bundleBytesMax}`,
		);
	}
}

function shown(path: string): string {
	return path.length > 300 ? `${path.slice(0, 300)}…` : path;
}

/** The map's sources are relative to the folder of the build; stacks shall name the files where they are. */
function readSourcemap(out: string): Uint8Array | undefined {
	const path = join(out, "bundle.js.map");
	if (statSync(path, { throwIfNoEntry: false }) === undefined) return undefined;
	const map = JSON.parse(readFileSync(path, "utf8")) as { sources: string[] };
	map.sources = map.sources.map((source) => resolve(out, source));
	return Buffer.from(JSON.stringify(map));
}
