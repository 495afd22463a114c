/**
 * Finds the Bun executable: the one that was named, the platform package beside ours (there also where install
 * scripts were skipped), the `bun` package, then PATH.
 */
import { accessSync, constants, statSync } from "node:fs";
import { createRequire } from "node:module";
import { delimiter, dirname, isAbsolute, join, resolve } from "node:path";
import { EngineError } from "../core/errors.ts";

/** Without its install script the `bun` package holds a text file that only prints advice; the real one has 90 MB. */
const EXECUTABLE_BYTES_MIN = 1024 * 1024;

export interface FindBunOptions {
	/** The value of PATH; default: that of this process. */
	readonly searchPath?: string;
	/** Packages are resolved from here; default: this file. */
	readonly from?: string;
	readonly platform?: string;
	readonly arch?: string;
}

function isExecutable(path: string, bytesMin: number): boolean {
	try {
		const stat = statSync(path);
		if (!stat.isFile() || stat.size < bytesMin) return false;
		accessSync(path, constants.X_OK);
		return true;
	} catch {
		return false;
	}
}

/** `bunPath` is what the operator named; nothing else is tried then. Throws BAD_ENVIRONMENT with what to do. */
export function findBun(bunPath?: string, options: FindBunOptions = {}): string {
	const { searchPath = process.env["PATH"] ?? "", platform = process.platform, arch = process.arch } = options;
	if (bunPath !== undefined) {
		const path = resolve(bunPath);
		if (isExecutable(path, 1)) return path;
		throw new EngineError(
			"BAD_ENVIRONMENT",
			`expected the path of Bun to be an executable file, got ${JSON.stringify(bunPath)}; correct it, or leave it out to use the bun package`,
		);
	}
	const require = createRequire(options.from ?? import.meta.url);
	const inPackage = (name: string, ...file: readonly string[]): string[] => {
		try {
			return [join(dirname(require.resolve(`${name}/package.json`)), ...file)];
		} catch {
			return [];
		}
	};
	const os = platform === "win32" ? "windows" : platform;
	const cpu = arch === "arm64" ? "aarch64" : arch;
	const file = platform === "win32" ? "bun.exe" : "bun";
	const packaged = [
		...inPackage(`@oven/bun-${os}-${cpu}`, "bin", file),
		...inPackage(`@oven/bun-${os}-${cpu}-musl`, "bin", file),
		// The same name on every platform; the install script moves the platform's executable here.
		...inPackage("bun", "bin", "bun.exe"),
	];
	const onPath = searchPath.split(delimiter).filter(isAbsolute);
	const found =
		packaged.find((path) => isExecutable(path, EXECUTABLE_BYTES_MIN)) ??
		// Small files are fine here: version managers put scripts on PATH.
		onPath.map((folder) => join(folder, file)).find((path) => isExecutable(path, 1));
	if (found !== undefined) return found;
	throw new EngineError(
		"BAD_ENVIRONMENT",
		`Bun was not found for ${platform} ${arch}: run \`npm install bun\` beside this package, or set the option bunPath (or BUNBASE_BUN) to its executable`,
	);
}
