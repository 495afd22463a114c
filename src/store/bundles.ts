/**
 * Bundle files: bundles/{function_id}/{version}/bundle.js, and bundle.js.map where there is a sourcemap.
 *
 * A version's folder appears whole, by one rename after every file was fsynced, and is never written again. It is on the
 * disk before its row is committed (measured: without the fsyncs, 20 of 20 bundles were empty after a power cut while
 * their rows survived). So a folder may be there without a row, never a row without its folder; `sweep` and `discard`
 * remove the former.
 */
import { createHash, hash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdtemp, open, readdir, rename, rm } from "node:fs/promises";
import { join, resolve, sep } from "node:path";
import { EngineError } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";
import { fsyncFolderLater, makePrivateFolder } from "./durable-file.ts";
import { errnoOf, mapStoreError } from "./store-errors.ts";

const BUNDLE = "bundle.js";
const SOURCEMAP = "bundle.js.map";
const TEMPORARY = "bundle-";
const SEGMENT = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

export interface StoredBundle {
	/** Absolute path of bundle.js. */
	readonly path: string;
	/** Hex. */
	readonly sha256: string;
	readonly bytes: number;
}

export class BundleStore {
	readonly #bundles: string;
	readonly #tmp: string;

	constructor(paths: { readonly bundles: string; readonly tmp: string }) {
		this.#bundles = paths.bundles;
		this.#tmp = paths.tmp;
	}

	/** Resolves when it would survive a power cut. The same bytes again change nothing; others are VERSION_CONFLICT. */
	async store(
		functionId: string,
		version: string,
		bytes: Uint8Array,
		sourcemap?: Uint8Array | string,
	): Promise<StoredBundle> {
		const folder = this.#folder(functionId, version);
		if (bytes.byteLength > LIMITS.bundleBytesMax) {
			throw new EngineError(
				"BAD_BUNDLE",
				`the bundle has ${bytes.byteLength} bytes; expected at most ${LIMITS.bundleBytesMax}`,
			);
		}
		const stored = { path: join(folder, BUNDLE), sha256: hash("sha256", bytes, "hex"), bytes: bytes.byteLength };
		try {
			if (await this.#isThere(stored, version)) return stored;
			await this.#write(functionId, folder, bytes, sourcemap);
		} catch (error) {
			// Another store of this version was faster: its bytes count.
			const code = errnoOf(error);
			const raced = code === "ENOTEMPTY" || code === "EEXIST";
			if (!raced || !(await this.#isThere(stored, version))) throw mapStoreError(error, `storing ${stored.path}`);
		}
		return stored;
	}

	/** Absolute path of a version's bundle.js, whether it is there or not. */
	path(functionId: string, version: string): string {
		return join(this.#folder(functionId, version), BUNDLE);
	}

	/** Throws DATA_CORRUPT where the file is missing or has other bytes than its row says. */
	async verify(functionId: string, version: string, sha256: string): Promise<void> {
		const path = this.path(functionId, version);
		const found = await hashOfFile(path);
		if (found === sha256) return;
		throw new EngineError(
			"DATA_CORRUPT",
			found === undefined
				? `${path} is missing; restore it from a backup, or deploy the function again as a new version`
				: `${path} is damaged (SHA-256 ${found.slice(0, 12)}…, expected ${sha256.slice(0, 12)}…); restore it from a backup, or deploy the function again as a new version`,
		);
	}

	/** Takes back a bundle whose version was not committed, e.g. because it does not load. */
	async discard(functionId: string, version: string): Promise<void> {
		const folder = this.#folder(functionId, version);
		try {
			const temporary = await this.#temporary();
			try {
				// Away at once, so that a store of the same version meets no half-removed folder.
				await rename(folder, join(temporary, "discarded"));
			} finally {
				await rm(temporary, { recursive: true, force: true });
			}
		} catch (error) {
			const code = errnoOf(error);
			if (code === "ENOENT") return;
			// A full disk has no room to put it aside first.
			if (code !== "ENOSPC" && code !== "EDQUOT") throw mapStoreError(error, `removing ${folder}`);
			await rm(folder, { recursive: true, force: true });
		}
	}

	/** Removes every folder that no version row knows; for boot, before anything is stored. Returns how many. */
	async sweep(isKnown: (functionId: string, version: string) => boolean): Promise<number> {
		let removed = 0;
		for (const functionId of await names(this.#bundles)) {
			for (const version of await names(join(this.#bundles, functionId))) {
				if (isKnown(functionId, version)) continue;
				await this.discard(functionId, version);
				removed += 1;
			}
		}
		return removed;
	}

	/** True where this version is stored with these bytes. Throws VERSION_CONFLICT where with others. */
	async #isThere(stored: StoredBundle, version: string): Promise<boolean> {
		const found = await hashOfFile(stored.path);
		if (found === undefined) return false;
		if (found !== stored.sha256) {
			throw new EngineError(
				"VERSION_CONFLICT",
				`version ${version} exists with other bytes (${found.slice(0, 12)}…, not ${stored.sha256.slice(0, 12)}…); choose another version`,
			);
		}
		// The run that stored it may have died between the rename and this.
		await this.#syncFolders(resolve(stored.path, ".."));
		return true;
	}

	async #write(
		functionId: string,
		folder: string,
		bytes: Uint8Array,
		sourcemap: Uint8Array | string | undefined,
	): Promise<void> {
		makePrivateFolder(join(this.#bundles, functionId));
		const temporary = await this.#temporary();
		try {
			await writeSynced(join(temporary, BUNDLE), bytes);
			if (sourcemap !== undefined) await writeSynced(join(temporary, SOURCEMAP), sourcemap);
			await fsyncFolderLater(temporary);
			await rename(temporary, folder);
		} catch (error) {
			await rm(temporary, { recursive: true, force: true });
			throw error;
		}
		await this.#syncFolders(folder);
	}

	async #syncFolders(folder: string): Promise<void> {
		await fsyncFolderLater(resolve(folder, ".."));
		await fsyncFolderLater(this.#bundles);
	}

	/** A new folder, mode 0700, on the same file system. */
	#temporary(): Promise<string> {
		return mkdtemp(join(this.#tmp, TEMPORARY));
	}

	/** The names were checked long before; this holds also if they were not. */
	#folder(functionId: string, version: string): string {
		const folder = resolve(this.#bundles, functionId, version);
		const inside = folder.startsWith(resolve(this.#bundles) + sep);
		if (!inside || !SEGMENT.test(functionId) || !SEGMENT.test(version)) {
			throw new Error(`no folder is made of ${JSON.stringify([functionId, version])}`);
		}
		return folder;
	}
}

async function writeSynced(path: string, content: Uint8Array | string): Promise<void> {
	const handle = await open(path, "wx", 0o400);
	try {
		await handle.writeFile(content);
		await handle.sync();
	} finally {
		await handle.close();
	}
}

/** Hex SHA-256, or undefined where there is no such file. */
async function hashOfFile(path: string): Promise<string | undefined> {
	try {
		const digest = createHash("sha256");
		for await (const chunk of createReadStream(path)) digest.update(chunk as Buffer);
		return digest.digest("hex");
	} catch (error) {
		if (errnoOf(error) === "ENOENT") return undefined;
		throw mapStoreError(error, `reading ${path}`);
	}
}

async function names(folder: string): Promise<string[]> {
	const entries = await readdir(folder, { withFileTypes: true });
	return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
}
