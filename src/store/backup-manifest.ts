/**
 * manifest.json of a backup: which files it has, with their bytes and SHA-256, and of which moment of which instance.
 *
 * It is written last, into a folder that gets its name after that. So a folder with a manifest is a whole backup, and
 * each of its files can be told from one that was cut short, swapped or has rotted.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { EngineError, messageOf } from "../core/errors.ts";
import { writeFileDurably } from "./durable-file.ts";
import { errnoOf, mapStoreError } from "./store-errors.ts";

/** Layout of a backup, apart from the schemas of its databases. */
const FORMAT = 1;
const MANIFEST = "manifest.json";
const CHUNK_BYTES = 1024 * 1024;

/** The only paths a backup may have: a restore writes to what these say. */
const PATH =
	/^(?:queue\.db|metadata\.db|instance\.json|bundles(?:\/[A-Za-z0-9][A-Za-z0-9._-]*){2}\/bundle\.js(?:\.map)?)$/;

const fileSchema = z.object({
	path: z
		.string()
		.regex(PATH)
		.refine((path) => !path.includes("..")),
	bytes: z.int().min(0),
	sha256: z.string().regex(/^[0-9a-f]{64}$/),
});
const manifestSchema = z.object({
	format: z.int(),
	/** UTC ms: when queue.db was whole. Everything acknowledged before is in the backup. */
	created_at: z.int(),
	/** Of the package that wrote it. */
	version: z.string(),
	instance_id: z.string().min(1),
	/** The highest sequence number that the backup knows. */
	seq: z.int().min(0),
	files: z.array(fileSchema),
	/** What the checks found wrong in a backup that was made all the same. */
	damage: z.array(z.string()),
});

export type BackupFile = z.infer<typeof fileSchema>;
export type Manifest = z.infer<typeof manifestSchema>;

/** Throws DATA_FOREIGN, DATA_CORRUPT or DATA_NEWER. */
export function readManifest(folder: string): Manifest {
	const path = join(folder, MANIFEST);
	let text: string;
	try {
		text = readFileSync(path, "utf8");
	} catch (error) {
		const code = errnoOf(error);
		if (code === "ENOENT" || code === "ENOTDIR") {
			throw new EngineError(
				"DATA_FOREIGN",
				`${folder} is no backup: it has no ${MANIFEST}; name a folder that \`bunbase backup\` has finished`,
			);
		}
		throw mapStoreError(error, `reading ${path}`);
	}
	try {
		const json = JSON.parse(text) as { format?: unknown };
		if (typeof json.format === "number" && json.format > FORMAT) {
			throw new EngineError(
				"DATA_NEWER",
				`${path} has format ${json.format}, this version knows ${FORMAT}; use the newer version that wrote it`,
			);
		}
		const manifest = manifestSchema.parse(json);
		for (const needed of ["queue.db", "metadata.db", "instance.json"]) {
			if (!manifest.files.some((file) => file.path === needed)) throw new Error(`it does not list ${needed}`);
		}
		return manifest;
	} catch (error) {
		if (error instanceof EngineError) throw error;
		throw new EngineError("DATA_CORRUPT", `${path} cannot be read (${messageOf(error)}); use another backup`, {
			cause: error,
		});
	}
}

export function writeManifest(folder: string, manifest: Omit<Manifest, "format">): void {
	writeFileDurably(join(folder, MANIFEST), `${JSON.stringify({ format: FORMAT, ...manifest }, undefined, "\t")}\n`);
}

export interface Hashed {
	readonly bytes: number;
	/** Hex. */
	readonly sha256: string;
}

/** Reads a file that no database has open. `signal` ends it early. */
export async function hashFile(path: string, signal?: AbortSignal): Promise<Hashed> {
	return passThrough(path, undefined, signal);
}

/** Copies a file that no database has open, mode 0600; it is on the disk when this resolves, its name is not. */
export async function copyFileDurably(from: string, to: string, signal?: AbortSignal): Promise<Hashed> {
	return passThrough(from, to, signal);
}

async function passThrough(from: string, to: string | undefined, signal: AbortSignal | undefined): Promise<Hashed> {
	const source = await open(from, "r");
	try {
		const target = to === undefined ? undefined : await open(to, "wx", 0o600);
		try {
			const digest = createHash("sha256");
			const buffer = Buffer.allocUnsafe(CHUNK_BYTES);
			let bytes = 0;
			for (;;) {
				signal?.throwIfAborted();
				const { bytesRead } = await source.read(buffer, 0, CHUNK_BYTES);
				if (bytesRead === 0) break;
				const chunk = buffer.subarray(0, bytesRead);
				digest.update(chunk);
				// Loops until all is written.
				await target?.writeFile(chunk);
				bytes += bytesRead;
			}
			await target?.sync();
			return { bytes, sha256: digest.digest("hex") };
		} finally {
			await target?.close();
		}
	} finally {
		await source.close();
	}
}
