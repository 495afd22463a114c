/**
 * Disk space held back for a full disk.
 *
 * After SQLITE_FULL even a DELETE or a checkpoint fails (measured), so running work could not record how it ended.
 * Giving this file up makes the room for it. It is written with random bytes, because a file system may store zeros
 * as nothing.
 */
import { closeSync, fsyncSync, openSync, rmSync, statfsSync, statSync, writeSync } from "node:fs";
import { randomBytes } from "node:crypto";
import { dirname } from "node:path";
import { LIMITS } from "../core/limits.ts";

const CHUNK_BYTES = 1024 * 1024;

export interface Ballast {
	readonly held: boolean;
	/** It was given up for what runs and is not back yet: new work must not take its room. */
	readonly givenUp: boolean;
	/** Gives the space up. False where there was nothing left to give. */
	free(): boolean;
	/** Takes it back if the disk then still has as much again. False where it has not. */
	restore(): boolean;
}

export function openBallast(path: string): Ballast {
	let held = sizeOf(path) === LIMITS.ballastBytes;
	let givenUp = false;
	const ballast = {
		get held(): boolean {
			return held;
		},
		get givenUp(): boolean {
			return givenUp;
		},
		free(): boolean {
			if (!held) return false;
			held = false;
			givenUp = true;
			rmSync(path, { force: true });
			return true;
		},
		restore(): boolean {
			if (held) return true;
			try {
				const { bavail, bsize } = statfsSync(dirname(path));
				if (bavail * bsize < 2 * LIMITS.ballastBytes) return false;
				write(path);
				held = true;
				givenUp = false;
			} catch {
				// Full again meanwhile: what was written is in the way.
				rmSync(path, { force: true });
			}
			return held;
		},
	};
	ballast.restore();
	return ballast;
}

function write(path: string): void {
	const fd = openSync(path, "w", 0o600);
	try {
		for (let written = 0; written < LIMITS.ballastBytes;) written += writeSync(fd, randomBytes(CHUNK_BYTES));
		fsyncSync(fd);
	} finally {
		closeSync(fd);
	}
}

function sizeOf(path: string): number {
	return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}
