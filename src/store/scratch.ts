/**
 * Copies of the databases of a folder that no daemon has open, to look at.
 *
 * SQLite cannot open a database in WAL mode without making files beside it, and a look must change nothing. So the
 * database and its WAL are copied (as a clone, where the file system can), and SQLite recovers the copy.
 */
import { constants, copyFileSync, mkdtempSync, rmSync, statfsSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EngineError } from "../core/errors.ts";
import { errnoOf } from "./store-errors.ts";

export interface Scratch extends Disposable {
	/** Where the copy of a file of the folder is; it may be missing there as here. */
	path(file: string): string;
}

/** Throws STORAGE_FULL where the folder for temporary files has no room, and what reading a file throws. */
export function copyToScratch(root: string, files: readonly string[]): Scratch {
	const parts = files.flatMap((file) => [file, `${file}-wal`]);
	const sizeOf = (part: string): number => statSync(join(root, part), { throwIfNoEntry: false })?.size ?? 0;
	const needed = parts.reduce((sum, part) => sum + sizeOf(part), 0);
	const { bavail, bsize } = statfsSync(tmpdir());
	if (bavail * bsize < needed) {
		throw new EngineError(
			"STORAGE_FULL",
			`${tmpdir()} has no room for a copy of ${Math.ceil(needed / 1024 / 1024)} MiB to look at; set TMPDIR to a folder that has`,
		);
	}
	const folder = mkdtempSync(join(tmpdir(), "bunbase-look-"));
	const dispose = (): void => rmSync(folder, { recursive: true, force: true });
	try {
		for (const part of parts) {
			try {
				copyFileSync(join(root, part), join(folder, part), constants.COPYFILE_FICLONE);
			} catch (error) {
				if (errnoOf(error) !== "ENOENT") throw error;
			}
		}
	} catch (error) {
		dispose();
		throw error;
	}
	return { path: (file) => join(folder, file), [Symbol.dispose]: dispose };
}
