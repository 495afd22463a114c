/**
 * Puts the commits of a WAL database on disk, off the main thread where the disk is slow.
 *
 * SQLite's own `synchronous=FULL` fsyncs inside COMMIT and holds up the event loop for as long as the disk takes. With NORMAL a COMMIT only writes its frames to the
 * WAL, and the same fdatasync of the same file is made here. What NORMAL does by itself keeps the file whole: the header
 * of a restarted WAL is synced before its frames, the WAL before a checkpoint, the database after it; so a commit that
 * was checkpointed before its sync is on disk as well.
 *
 * SQLite's locks are on the database and on the -shm file, never on the WAL, so closing a descriptor of it drops none.
 */
import { closeSync, fdatasync, fdatasyncSync, openSync } from "node:fs";
import type { Clock } from "../core/environment.ts";
import { SyncPace } from "./sync-pace.ts";

export interface WalSync {
	/** The disk is so fast that to wait for it in place costs less than not to. */
	readonly quick: boolean;
	/** How long a sync that `start` begins may be put off, so that it takes more along; 0: not at all. */
	readonly gatherMs: number;
	/** Blocks until every commit so far is on disk. Throws what the disk says; then nobody knows what is on it. */
	now(): void;
	/** Calls back, in a later turn, when every commit made before this call is on disk. */
	start(done: (error: Error | null) => void): void;
	close(): void;
}

/**
 * `path` is the database's; its WAL must exist. Two descriptors, because the kernel tells a failed write once to each: were
 * there one, a sync in place could succeed whose error the sync under way was told.
 */
export function openWalSync(path: string, clock: Pick<Clock, "monotonic">): WalSync {
	const pace = new SyncPace(clock);
	const [inPlace, inBackground] = [openSync(`${path}-wal`, "r"), openSync(`${path}-wal`, "r")];
	return {
		get quick() {
			return pace.quick;
		},
		get gatherMs() {
			return pace.gatherMs;
		},
		now: () => pace.time(() => fdatasyncSync(inPlace)),
		start: (done) => pace.timeThread((synced) => fdatasync(inBackground, synced), done),
		close() {
			closeSync(inPlace);
			closeSync(inBackground);
		},
	};
}

/** For `durability: "process"`: the kernel has it, which outlives this process. */
export const noSync: WalSync = {
	quick: true,
	gatherMs: 0,
	now: () => undefined,
	start: (done) => done(null),
	close: () => undefined,
};
