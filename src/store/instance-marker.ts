/**
 * instance.json: says that this folder is a data folder, and which one.
 *
 * It is written once, after the databases stand, and read at every start: SQLite would open a database that is missing
 * or has 0 bytes as a new one, so without the marker a lost database would look like a first start.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { EngineError, messageOf } from "../core/errors.ts";
import { writeFileDurably } from "./durable-file.ts";
import { errnoOf, mapStoreError } from "./store-errors.ts";

/** Layout of the folder, apart from the schemas of its databases. */
const FORMAT = 1;

const markerSchema = z.looseObject({ instanceId: z.string().min(1), format: z.int(), createdAt: z.int() });

export interface InstanceMarker {
	readonly instanceId: string;
	/** UTC ms. */
	readonly createdAt: number;
}

/** Undefined where there is none. Throws DATA_CORRUPT or DATA_NEWER. */
export function readMarker(root: string): InstanceMarker | undefined {
	const path = markerPath(root);
	let text: string;
	try {
		text = readFileSync(path, "utf8");
	} catch (error) {
		if (errnoOf(error) === "ENOENT") return undefined;
		throw mapStoreError(error, `reading ${path}`);
	}
	const parsed = parse(path, text);
	if (parsed.format > FORMAT) {
		throw new EngineError(
			"DATA_NEWER",
			`${path} has format ${parsed.format}, this version knows ${FORMAT}; use the newer version that wrote it`,
		);
	}
	return { instanceId: parsed.instanceId, createdAt: parsed.createdAt };
}

export function writeMarker(root: string, marker: InstanceMarker): void {
	writeFileDurably(markerPath(root), `${JSON.stringify({ ...marker, format: FORMAT })}\n`);
}

function parse(path: string, text: string): z.infer<typeof markerSchema> {
	try {
		return markerSchema.parse(JSON.parse(text));
	} catch (error) {
		throw new EngineError("DATA_CORRUPT", `${path} cannot be read (${messageOf(error)}); restore it from a backup`, {
			cause: error,
		});
	}
}

function markerPath(root: string): string {
	return join(root, "instance.json");
}
