/**
 * What is looked at about once a second while a data folder is in use: whether its files are still there, whether a WAL
 * grows without end, whether the disk has space for new work; and then the high-water mark is written.
 *
 * Off the event loop (measured: 0.6 ms of the loop a second, in some fifteen pieces), one look at a time. In this order,
 * because nothing may be written into a folder that is not ours any more.
 */
import { statfsSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { join } from "node:path";
import type { Environment, Timer } from "../core/environment.ts";
import { messageOf, type EngineError } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";
import type { Database } from "./database.ts";
import { freeBytes, freeBytesNeeded, type FileSystemSpace } from "./free-space.ts";
import { writeHighWaterLater, type Levels } from "./high-water.ts";
import { checkIdentity, identityOf, type Identity } from "./identity.ts";
import { errnoOf, mapStoreError } from "./store-errors.ts";

export interface KeeperDeps {
	readonly root: string;
	readonly instanceId: string;
	readonly durability: "power" | "process";
	readonly environment: Environment;
	readonly queue: Database;
	readonly metadata: Database;
	/** Undefined: what free-space.ts takes. */
	readonly freeBytesMin: number | undefined;
}

export interface Watch {
	/** What is committed now. */
	readonly levels: () => Levels;
	/** The folder cannot be used any more. */
	readonly broken: (error: EngineError) => void;
}

export class Keeper {
	readonly #deps: KeeperDeps;
	readonly #identity: Identity;
	#watch: Watch | undefined;
	#timer: Timer | undefined;
	#stopped = false;
	#gone = false;
	#looking: Promise<void> | undefined;
	#seen = "";
	#written = "";
	#walBytes = 0;
	#walAlarm = false;
	#spaceLow = false;

	constructor(deps: KeeperDeps) {
		this.#deps = deps;
		this.#identity = identityOf(deps.root);
		this.#judgeSpace(statfsSync(deps.root));
	}

	start(watch: Watch): void {
		this.#watch = watch;
		this.#arm();
	}

	/** No look is under way afterwards, and none follows. */
	async stop(): Promise<void> {
		this.#stopped = true;
		this.#timer?.cancel();
		await this.#looking;
	}

	/** New work is to be refused. */
	get spaceLow(): boolean {
		return this.#spaceLow;
	}

	/** The larger of both, as it was last seen. */
	get walBytes(): number {
		return this.#walBytes;
	}

	/** What is committed, for the mark of a stop; undefined where nobody used the folder, or where it is ours no more. */
	get levels(): Levels | undefined {
		return this.#gone ? undefined : this.#watch?.levels();
	}

	/** One look; also for who cannot wait for the next. */
	look(): Promise<void> {
		this.#looking ??= this.#look().finally(() => {
			this.#looking = undefined;
		});
		return this.#looking;
	}

	#arm(): void {
		if (this.#stopped) return;
		this.#timer = this.#deps.environment.clock.setTimer(LIMITS.keeperMs, () => {
			void this.look().then(() => this.#arm());
		});
	}

	async #look(): Promise<void> {
		const { root, environment } = this.#deps;
		const watch = this.#watch;
		if (watch === undefined || this.#stopped) return;
		try {
			this.#judgeWal(await checkIdentity(this.#identity));
		} catch (error) {
			// Out of descriptors or memory is no word about the folder.
			const mapped = mapStoreError(error, "watching the data folder");
			if (mapped.code !== "IO_ERROR" || this.#stopped) return;
			this.#stopped = true;
			this.#gone = true;
			watch.broken(mapped);
			return;
		}
		try {
			this.#judgeSpace(await statfs(root));
			await this.#mark(watch.levels());
		} catch (error) {
			const fields = { error: messageOf(error), code: errnoOf(error) };
			environment.logger.warn(fields, "the high-water mark could not be written; it is tried again");
		}
	}

	#judgeWal(sizes: ReadonlyMap<string, number>): void {
		const { root, environment } = this.#deps;
		const name = (["queue.db-wal", "metadata.db-wal"] as const).reduce((most, each) =>
			(sizes.get(join(root, each)) ?? 0) > (sizes.get(join(root, most)) ?? 0) ? each : most,
		);
		const bytes = sizes.get(join(root, name)) ?? 0;
		this.#walBytes = bytes;
		const alarm = bytes > LIMITS.walBytesMax;
		if (alarm === this.#walAlarm) return;
		this.#walAlarm = alarm;
		if (!alarm) {
			environment.logger.warn({ file: name, bytes }, "the WAL is short again");
			return;
		}
		environment.logger.warn(
			{ file: name, bytes },
			`${name} grows: another program (a database shell?) holds a read transaction on it for long; it is cut back when that ends`,
		);
	}

	#judgeSpace(space: FileSystemSpace): void {
		const free = freeBytes(space);
		const needed = freeBytesNeeded(space, this.#deps.freeBytesMin);
		const low = free < needed;
		if (low === this.#spaceLow) return;
		this.#spaceLow = low;
		this.#deps.environment.logger.warn(
			{ root: this.#deps.root, free_bytes: free, needed_bytes: needed },
			low
				? "the disk is nearly full: new work is refused until there is more space; what runs is still recorded"
				: "the disk has space again: new work is taken",
		);
	}

	/** H1: with NORMAL a commit may still be in memory; so after a second without any, they are moved to the disk. */
	async #mark(levels: Levels): Promise<void> {
		const { root, instanceId, durability } = this.#deps;
		const text = JSON.stringify(levels);
		if (text === this.#written) return;
		if (durability === "process") {
			const quiet = text === this.#seen;
			this.#seen = text;
			if (!quiet || !this.#onDisk()) return;
		}
		await writeHighWaterLater(root, { instanceId, ...levels });
		this.#written = text;
		this.#deps.environment.probe.hit("high_water.written");
	}

	#onDisk(): boolean {
		return [this.#deps.queue, this.#deps.metadata].every((database) => {
			const [row] = database.pragma("wal_checkpoint(PASSIVE)") as { busy: number; log: number; checkpointed: number }[];
			return row !== undefined && row.busy === 0 && row.log === row.checkpointed;
		});
	}
}
