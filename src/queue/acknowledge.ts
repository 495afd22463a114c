/**
 * What is committed and not told yet: nobody outside learns of a commit before it is on disk.
 *
 * A quick disk is waited for in place, at each commit. With a slow one commits go on while a sync is under way, and one
 * sync takes all of them along that were made before it began. Everybody is told in the order of the commits.
 *
 * What a sync lets out comes back soon: a worker answers, a caller asks again. A sync that began at once would miss it, and
 * every invocation would wait for four syncs in place of two; so the next one of a slow disk waits a little for as much
 * as was let out. Where too little came, because workers take longer, the next ones do not wait.
 */
import type { Clock, Timer } from "../core/environment.ts";
import type { EngineError } from "../core/errors.ts";

/** Puts commits on disk (store/wal-sync.ts). */
export interface Disk {
	/** To wait for it in place costs less than to go on meanwhile. */
	readonly quick: boolean;
	/** How long a sync that `start` begins may wait for commits to take along, a part of what it takes; 0: not at all. */
	readonly gatherMs: number;
	/** Blocks until every commit so far is on disk. */
	now(): void;
	/** Calls back when every commit made before this call is on disk. */
	start(done: (error: Error | null) => void): void;
}

/** One commit: what to do when it is on disk, or when nobody can say whether it is. */
export interface Commit {
	/** Wall clock of the commit; its rows bear it. */
	readonly at: number;
	/** What is written in it. */
	readonly items: number;
	/** How many are told who may have something new soon: callers that get their answer, workers that get a claim. */
	lets(): number;
	told(): void;
	failed(error: EngineError): void;
}

/** How much can come in a millisecond. Waiting for more than that allows cost a tenth at 1,000 callers. */
const ITEMS_PER_MS = 50;
/** Most syncs that begin at once after one that waited in vain: one after the first time, twice as many after each further. */
const HASTY_MAX = 16;

export class Acknowledger {
	readonly #disk: Disk;
	readonly #clock: Pick<Clock, "setTimer">;
	/** The disk failed. What was not told is handed back; nothing is told any more. */
	readonly #broken: (error: unknown, untold: readonly Commit[]) => void;
	/** Made after the sync that is under way began, or without one. */
	#waiting: Commit[] = [];
	/** What the sync that is under way covers. */
	#syncing: Commit[] | undefined;
	#failed = false;
	/** The next sync waits until it rings, or until as many items came as the last one let out. */
	#gathering: Timer | undefined;
	#letOut = 0;
	#came = 0;
	/** So many syncs begin at once. */
	#hasty = 0;
	#hastyNext = 1;
	/** The earliest of the commits that may not be on disk. */
	#unsyncedSince = Number.POSITIVE_INFINITY;

	constructor(disk: Disk, clock: Pick<Clock, "setTimer">, broken: (error: unknown, untold: readonly Commit[]) => void) {
		this.#disk = disk;
		this.#clock = clock;
		this.#broken = broken;
	}

	get idle(): boolean {
		return this.#syncing === undefined && this.#waiting.length === 0;
	}

	add(commit: Commit): void {
		this.#waiting.push(commit);
		this.#unsyncedSince = Math.min(this.#unsyncedSince, commit.at);
		this.#came += commit.items;
		if (this.#syncing !== undefined) return;
		if (this.#disk.quick) this.finish();
		else if (this.#gathering === undefined) this.#start();
		else if (this.#came >= this.#letOut) {
			this.#hastyNext = 1;
			this.#start();
		}
	}

	/** Puts everything on disk and tells everybody, now. */
	finish(): void {
		this.#endGathering();
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
		this.#endGathering();
		const commits = this.#waiting;
		this.#waiting = [];
		this.#syncing = commits;
		this.#disk.start((error) => {
			if (error !== null) this.#fail(error);
			// `finish` came in between, or the disk failed.
			if (this.#syncing !== commits) return;
			this.#syncing = undefined;
			this.#unsyncedSince = Math.min(...this.#waiting.map(({ at }) => at));
			const waits = this.#isWorthWaiting(commits);
			if (!waits && this.#waiting.length > 0) this.#start();
			try {
				for (const commit of commits) commit.told();
			} finally {
				// From now on, because telling a thousand takes longer than the wait.
				if (waits && this.#syncing === undefined && !this.#failed) this.#gather();
			}
		});
	}

	/** If not, the next sync begins at once, and the disk works while they are told. */
	#isWorthWaiting(commits: readonly Commit[]): boolean {
		this.#came = 0;
		this.#letOut = 0;
		for (const commit of commits) this.#letOut += commit.lets();
		if (this.#letOut === 0 || this.#letOut > this.#disk.gatherMs * ITEMS_PER_MS) return false;
		if (this.#hasty === 0) return true;
		this.#hasty -= 1;
		return false;
	}

	#gather(): void {
		this.#gathering = this.#clock.setTimer(this.#disk.gatherMs, () => {
			this.#gathering = undefined;
			if (this.#came > this.#letOut / 2) {
				this.#hastyNext = 1;
			} else {
				this.#hasty = this.#hastyNext;
				this.#hastyNext = Math.min(this.#hastyNext * 2, HASTY_MAX);
			}
			if (this.#waiting.length > 0) this.#start();
		});
	}

	#endGathering(): void {
		this.#gathering?.cancel();
		this.#gathering = undefined;
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
		this.#endGathering();
		const untold = [...(this.#syncing ?? []), ...this.#waiting];
		this.#syncing = undefined;
		this.#waiting = [];
		return untold;
	}

	#fail(error: unknown): void {
		if (!this.#failed) this.#broken(error, this.stop());
	}
}
