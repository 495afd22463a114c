/**
 * Puts right what a look found and what touches no row: modes, leftovers, torn lines. The caller holds the data folder's
 * lock for everything but modes.
 */
import { chmodSync, closeSync, fsyncSync, ftruncateSync, openSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import type { Repair } from "../core/diagnosis.ts";
import { fsyncFolder } from "./durable-file.ts";

/** Says what was done. */
export function repair(what: Exclude<Repair, { kind: "socket" }>): string {
	switch (what.kind) {
		case "mode":
			chmodSync(what.path, what.mode);
			return `set the mode of ${what.path} to ${what.mode.toString(8)}`;
		case "remove":
			rmSync(what.path, { recursive: true, force: true });
			fsyncFolder(dirname(what.path));
			return `removed ${what.path}`;
		case "cut": {
			const fd = openSync(what.path, "r+");
			try {
				ftruncateSync(fd, what.bytes);
				fsyncSync(fd);
			} finally {
				closeSync(fd);
			}
			return `cut the torn last line off ${what.path}`;
		}
	}
}
