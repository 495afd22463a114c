/**
 * The readable copy of the log: logs/YYYY-MM-DD.jsonl (UTC), then YYYY-MM-DD.1.jsonl … past LIMITS.logFileBytesMax.
 *
 * One file is open at a time and written in the order of `append`, off the event loop. A line is never joined to the torn
 * end of an earlier run: that one gets its newline first. What the disk does not take is told once and lost; the
 * database has the lines.
 */
import { open, readdir, rm, stat, type FileHandle } from "node:fs/promises";
import { join } from "node:path";
import type { Environment } from "../core/environment.ts";
import { LIMITS } from "../core/limits.ts";
import { errnoOf, mapStoreError } from "./store-errors.ts";

const DAY_MS = 86_400_000;
const NAME = /^(\d{4}-\d{2}-\d{2})(?:\.\d+)?\.jsonl$/;
const NEWLINE = 10;

interface OpenFile {
	readonly handle: FileHandle;
	readonly day: string;
	bytes: number;
}

export class LogFiles {
	readonly #folder: string;
	readonly #environment: Environment;
	readonly #fileBytesMax: number;
	#file: OpenFile | undefined;
	#work: Promise<void> = Promise.resolve();
	#waitingChars = 0;
	#failing = false;
	#prunedDay = "";

	constructor(folder: string, environment: Environment, fileBytesMax: number = LIMITS.logFileBytesMax) {
		this.#folder = folder;
		this.#environment = environment;
		this.#fileBytesMax = fileBytesMax;
	}

	/** `text` is whole lines. */
	append(text: string): void {
		if (this.#waitingChars + text.length > LIMITS.logBacklogCharsMax) {
			this.#fails(new Error("the disk takes lines slower than they come"));
			return;
		}
		this.#waitingChars += text.length;
		this.#work = this.#work.then(async () => {
			await this.#write(text);
			this.#waitingChars -= text.length;
		});
	}

	/** Removes the files of days that ended before `before`; looks once for each day. */
	prune(before: number): void {
		const day = dayOf(before);
		if (day === this.#prunedDay) return;
		this.#prunedDay = day;
		this.#work = this.#work.then(() => this.#removeBefore(before));
	}

	/** Resolves when what was appended is written. */
	flushed(): Promise<void> {
		return this.#work;
	}

	close(): Promise<void> {
		this.#work = this.#work.then(() => this.#closeFile());
		return this.#work;
	}

	async #write(text: string): Promise<void> {
		try {
			const file = await this.#fileForNow();
			// Loops until all is written.
			await file.handle.appendFile(text);
			file.bytes += Buffer.byteLength(text);
			this.#failing = false;
		} catch (error) {
			this.#fails(error);
			// A part of it may be written: the next open sees to the torn line.
			await this.#closeFile();
		}
	}

	async #fileForNow(): Promise<OpenFile> {
		const day = dayOf(this.#environment.clock.now());
		const current = this.#file;
		if (current?.day === day && current.bytes < this.#fileBytesMax) return current;
		await this.#closeFile();
		for (let part = 0; ; part += 1) {
			const path = join(this.#folder, part === 0 ? `${day}.jsonl` : `${day}.${part}.jsonl`);
			if ((await sizeOf(path)) >= this.#fileBytesMax) continue;
			this.#file = { ...(await openWhole(path)), day };
			return this.#file;
		}
	}

	async #closeFile(): Promise<void> {
		const file = this.#file;
		this.#file = undefined;
		// An error of close is one of a write that was reported before, or changes nothing any more.
		await file?.handle.close().catch(() => undefined);
	}

	async #removeBefore(before: number): Promise<void> {
		try {
			for (const name of await readdir(this.#folder)) {
				const day = NAME.exec(name)?.[1];
				if (day === undefined || day === this.#file?.day || Date.parse(day) + DAY_MS > before) continue;
				await rm(join(this.#folder, name), { force: true });
			}
		} catch (error) {
			this.#fails(error);
		}
	}

	#fails(error: unknown): void {
		if (this.#failing) return;
		this.#failing = true;
		const { message } = mapStoreError(error, `writing ${this.#folder}`);
		this.#environment.logger.warn({ error: message }, "log lines are missing in the JSONL files");
	}
}

/** Opens for appending; the end of an earlier run that died in the middle of a line is ended first. */
async function openWhole(path: string): Promise<{ handle: FileHandle; bytes: number }> {
	const handle = await open(path, "a+", 0o600);
	try {
		const { size } = await handle.stat();
		if (size === 0) return { handle, bytes: 0 };
		const last = await handle.read({ buffer: Buffer.alloc(1), position: size - 1 });
		if (last.buffer[0] === NEWLINE) return { handle, bytes: size };
		await handle.appendFile("\n");
		return { handle, bytes: size + 1 };
	} catch (error) {
		await handle.close();
		throw error;
	}
}

async function sizeOf(path: string): Promise<number> {
	try {
		return (await stat(path)).size;
	} catch (error) {
		if (errnoOf(error) === "ENOENT") return 0;
		throw error;
	}
}

function dayOf(at: number): string {
	return new Date(at).toISOString().slice(0, 10);
}
