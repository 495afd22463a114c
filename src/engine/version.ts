/** The version of this package, as its package.json says. */
import { createRequire } from "node:module";

/** The same two folders up from src/engine and from dist/engine. */
const manifest = createRequire(import.meta.url)("../../package.json") as {
	version: string;
	dependencies: { bun: string };
};

export const VERSION: string = manifest.version;

/** Of Bun, which this version was tested with. */
export const BUN_VERSION: string = manifest.dependencies.bun;
