/**
 * Whether the files that are open are still the ones at their paths.
 *
 * A folder that was deleted, renamed or replaced goes on being written to, by descriptor, where nobody will find it. So
 * device and inode of each file are compared with what they were. By `stat` alone, which opens nothing: closing any
 * descriptor of a database drops this process's POSIX locks on it.
 */
import { statSync, type Stats } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { EngineError } from "../core/errors.ts";
import { errnoOf, mapStoreError } from "./store-errors.ts";

/** A WAL that is deleted under its database takes along every commit that is not in the file yet. */
const FILES = [
	"",
	"daemon.lock",
	"instance.json",
	"metadata.db",
	"metadata.db-wal",
	"queue.db",
	"queue.db-wal",
	"logs.db",
] as const;

export type Identity = ReadonlyMap<string, string>;

export function identityOf(root: string): Identity {
	return new Map(FILES.map((name) => join(root, name)).map((path) => [path, keyOf(statSync(path))]));
}

/** Throws IO_ERROR where a file is gone or is another one; answers how large each is. */
export async function checkIdentity(identity: Identity): Promise<ReadonlyMap<string, number>> {
	const sizes = new Map<string, number>();
	for (const [path, key] of identity) {
		let found: Stats;
		try {
			found = await stat(path);
		} catch (error) {
			const code = errnoOf(error);
			if (code === "ENOENT" || code === "ENOTDIR") throw moved(path, "is gone", error);
			throw mapStoreError(error, `looking at ${path}`);
		}
		if (keyOf(found) !== key) throw moved(path, "is another file than the one that is open");
		sizes.set(path, found.size);
	}
	return sizes;
}

function keyOf({ dev, ino }: Stats): string {
	return `${dev}:${ino}`;
}

function moved(path: string, how: string, cause?: unknown): EngineError {
	return new EngineError(
		"IO_ERROR",
		`${path} ${how}: the data folder was deleted, moved or replaced while the daemon ran; put it back, see what is there with: bunbase doctor, then start again`,
		{ cause },
	);
}
