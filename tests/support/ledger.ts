/**
 * What functions really did, told by themselves to a file that is not the engine's: one line each time a handler
 * starts or finishes. Appends under 4 KiB are atomic, so many workers may write it at once.
 */
import { existsSync, readFileSync } from "node:fs";

export interface LedgerLine {
	readonly what: "start" | "finish";
	readonly id: string;
	readonly attempt: number;
	readonly pid: number;
}

export function readLedger(path: string): LedgerLine[] {
	if (!existsSync(path)) return [];
	return readFileSync(path, "utf8")
		.split("\n")
		.filter((line) => line !== "")
		.map((line) => JSON.parse(line) as LedgerLine);
}
