/**
 * What is committed and not told yet: nobody outside learns of a commit before it is on disk.
 *
 * A quick disk is waited for in place, at each commit. With a slow one commits go on while a sync is under way, and one
 * sync takes all of them along that were made before it began. Everybody is told in the order of the commits.
 */
import type { EngineError } from "../core/errors.ts";

/** Puts commits on disk (store/wal-sync.ts). */
export interface Disk {
	/** To wait for it in place costs less than to go on meanwhile. */
	readonly quick: boolean;
	/** Blocks until every commit so far is on disk. */
	now(): void;
	/** Calls back when every commit made before this call is on disk. */
	start(done: (error: Error | null) => void): void;
}

/** One commit: what to do when it is on disk, or when nobody can say whether it is. */
export interface Commit {
	/** Wall clock of the commit; its rows bear it. */
	readonly at: number;
	told(): void;
	failed(error: EngineError): void;
}

export class Acknowledger {
	readonly #disk: Disk;
	/** The disk failed. What was not told is handed back; nothing is told any more. */
	readonly #broken: (error: unknown, untold: readonly Commit[]) => void;
	/** Made after the sync that is under way began, or without one. */
	#waiting: Commit[] = [];
	/** What the sync that is under way covers. */
	#syncing: Commit[] | undefined;
	#failed = false;
	/** The earliest of the commits that may not be on disk. */
	#unsyncedSince = Number.POSITIVE_INFINITY;

	constructor(disk: Disk, broken: (error: unknown, untold: readonly Commit[]) => void) {
		this.#disk = disk;
		this.#broken = broken;
	}

	get idle(): boolean {
		return this.#syncing === undefined && this.#waiting.length === 0;
	}

	add(commit: Commit): void {
		this.#waiting.push(commit);
		this.#unsyncedSince = Math.min(this.#unsyncedSince, commit.at);
		if (this.#syncing !== undefined) return;
		if (this.#disk.quick) this.finish();
		else this.#start();
	}

	/** Puts everything on disk and tells everybody, now. */
	finish(): void {
		if (this.idle) return;
		try {
			this.#syncNow();
		} catch {
			return; // everybody was told that nobody knows
		}
		const commits = [...(this.#syncing ?? []), ...this.#waiting];
		this.#syncing = undefined;
		this.#waiting = [];
		for (const commit of commits) commit.told();
	}

	/** What was written at this time is about to be shown: it must be on disk. Tells nobody. Throws what the disk says. */
	ensure(at: number): void {
		if (at >= this.#unsyncedSince) this.#syncNow();
	}

	#start(): void {
		const commits = this.#waiting;
		this.#waiting = [];
		this.#syncing = commits;
		this.#disk.start((error) => {
			if (error !== null) this.#fail(error);
			// `finish` came in between, or the disk failed.
			if (this.#syncing !== commits) return;
			this.#syncing = undefined;
			this.#unsyncedSince = Math.min(...this.#waiting.map(({ at }) => at));
			// The disk works while they are told.
			if (this.#waiting.length > 0) this.#start();
			for (const commit of commits) commit.told();
		});
	}

	#syncNow(): void {
		try {
			this.#disk.now();
		} catch (error) {
			this.#fail(error);
			throw error;
		}
		this.#unsyncedSince = Number.POSITIVE_INFINITY;
	}

	/**
	 * The store failed elsewhere: nobody is told any more, also not of a sync that is under way and says that it went
	 * well. The one that failed may have taken its pages along. Hands back what was not told.
	 */
	stop(): readonly Commit[] {
		this.#failed = true;
		const untold = [...(this.#syncing ?? []), ...this.#waiting];
		this.#syncing = undefined;
		this.#waiting = [];
		return untold;
	}

	#fail(error: unknown): void {
		if (!this.#failed) this.#broken(error, this.stop());
	}
}
