/**
 * What functions really did, told by themselves to a file that is not the engine's: one line each time a handler
 * starts or ends. Appends under 4 KiB are atomic, so many workers may write it at once, and the order of the lines is
 * the order in which things happened. It belongs on /dev/shm: a full or broken disk of the engine must not silence it.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface LedgerLine {
	readonly what: "start" | "finish" | "throw";
	readonly id: string;
	readonly attempt: number;
	readonly pid: number;
	/** When the process began: tells two with the same pid apart. */
	readonly born: number;
	/** CLOCK_MONOTONIC in ms, comparable with `monotonicMs` here. */
	readonly at: number;
}

export function readLedger(path: string): LedgerLine[] {
	if (!existsSync(path)) return [];
	return readFileSync(path, "utf8")
		.split("\n")
		.filter((line) => line !== "")
		.map((line) => JSON.parse(line) as LedgerLine);
}

/** A ledger's file in memory where the machine has that, removed with its folder. */
export function ledgerFile(): { readonly path: string } & Disposable {
	const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "bunbase-ledger-"));
	return {
		path: join(folder, "ledger.jsonl"),
		[Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
	};
}

/** The clock of the ledger's `at`. */
export function monotonicMs(): number {
	return Number(process.hrtime.bigint()) / 1e6;
}

/** What the ledger function answers as `pattern`: bytes that belong to one request only. */
export function patternOf(echo: unknown, bytes: number): string {
	const unit = `${JSON.stringify(echo)} `;
	return unit.repeat(Math.ceil(bytes / unit.length)).slice(0, bytes);
}
