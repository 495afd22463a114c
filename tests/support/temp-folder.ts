/** A folder of its own for each test, removed when the test ends. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface TempFolder extends Disposable {
	readonly path: string;
}

export function tempFolder(prefix = "bunbase-test-"): TempFolder {
	const path = mkdtempSync(join(tmpdir(), prefix));
	return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}
