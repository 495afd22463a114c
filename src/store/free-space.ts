/**
 * How much free space the disk must have for new work to be taken.
 *
 * A disk that is really full refuses by itself; but then the last pages are gone, for every program on it. So new work
 * is refused before, while what runs can still be recorded.
 */
import { LIMITS } from "../core/limits.ts";

export interface FileSystemSpace {
	readonly bavail: number;
	readonly blocks: number;
	readonly bsize: number;
}

/**
 * `wanted`, or 1 % of the disk, at least 64 MiB. At most 1 GiB, because 1 % of a 4 TB disk is 40 GB, and refusing work
 * there would be the outage that this is meant to prevent.
 */
export function freeBytesNeeded({ blocks, bsize }: FileSystemSpace, wanted: number | undefined): number {
	if (wanted !== undefined) return wanted;
	const share = Math.floor(blocks * bsize * LIMITS.freeShareMin);
	return Math.min(Math.max(share, LIMITS.freeBytesMin), LIMITS.freeBytesMinMost);
}

export function freeBytes({ bavail, bsize }: FileSystemSpace): number {
	return bavail * bsize;
}
