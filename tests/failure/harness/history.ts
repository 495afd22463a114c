/**
 * What clients asked and were told, what the nemesis broke, what functions did and what stood in the rows at the end:
 * everything that the checker judges by, as values of one list. Kept as a file of JSON lines it can be judged again.
 *
 * Operations are told as Jepsen does: `invoke` when it leaves, then `ok` (acknowledged), `fail` (refused: nothing was
 * queued) or `info` (no answer: nobody knows). An element is one thing that a client wanted done; several operations
 * may be about it, because it is sent again when its outcome is unknown.
 */
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import type { State } from "../../../src/core/invocation.ts";
import { monotonicMs, type LedgerLine } from "../../support/ledger.ts";

/** What the checker must know of a function. */
export interface FunctionFacts {
	readonly delivery: "at-least-once" | "at-most-once";
	/** Lane limit. */
	readonly limit: number;
	/** Ends that the injected faults may bring about. */
	readonly ends: readonly State[];
}

export interface HeaderLine {
	readonly kind: "header";
	readonly title: string;
	readonly seed: number;
	readonly functions: Readonly<Record<string, FunctionFacts>>;
}

interface OpBase {
	readonly kind: "op";
	/** Which client. */
	readonly process: number;
	/** Which operation: the lines of one share it. */
	readonly op: number;
	readonly element: string;
	readonly at: number;
}

export interface InvokeLine extends OpBase {
	readonly type: "invoke";
	readonly function: string;
	readonly via: "socket" | "http";
	/** Idempotency key; without one it is sent at most once. */
	readonly key: string | undefined;
	readonly laneKey: string;
	/** Checksum of the body that was sent, and of the pattern that must come back. */
	readonly sum: number;
	readonly patternSum: number;
}

export interface OkLine extends OpBase {
	readonly type: "ok";
	readonly id: string;
	readonly replayed: boolean;
}

/** Refused, or no answer. */
export interface FailLine extends OpBase {
	readonly type: "fail" | "info";
	readonly code: string;
}

/** A client saw this end of an invocation. */
export interface SawLine {
	readonly kind: "saw";
	readonly id: string;
	readonly state: State;
	/** Checksum of the response's body; 0 without one. */
	readonly digest: number;
	readonly at: number;
}

export interface FaultLine {
	readonly kind: "fault";
	readonly fault: string;
	readonly at: number;
}

export interface RowLine {
	readonly kind: "row";
	/** Position in the order of acceptance. */
	readonly order: number;
	readonly id: string;
	readonly function: string;
	readonly element: string | undefined;
	readonly key: string | undefined;
	readonly laneKey: string;
	readonly state: State;
	readonly attempt: number;
	readonly charged: number;
	readonly maxAttempts: number;
	readonly finishedAt: number | undefined;
	readonly code: string | undefined;
	readonly attempts: readonly { readonly attempt: number; readonly outcome: string }[];
	/** What the response says, where there is one. */
	readonly answer: { readonly echo: unknown; readonly sum: number; readonly patternSum: number } | undefined;
	/** Checksum of the response's body; 0 without one. */
	readonly digest: number;
}

/** What was seen of the world after the faults stopped. */
export interface WorldLine {
	readonly kind: "world";
	/** Until all was terminal; undefined where it never was. */
	readonly drainedMs: number | undefined;
	/** A new invocation, from sending to its end; undefined where it failed. */
	readonly freshMs: number | undefined;
	/** Processes, sockets and files that should not be there, in words. */
	readonly leftovers: readonly string[];
	/** From spawn to ready, each start. */
	readonly bootsMs: readonly number[];
}

export type RanLine = { readonly kind: "ran" } & LedgerLine;

export type Line = HeaderLine | InvokeLine | OkLine | FailLine | SawLine | FaultLine | RanLine | RowLine | WorldLine;

/** Without the fields that the history fills in; `Omit` alone would forget the union. */
type Told<T extends Line> = T extends Line ? Omit<T, "at" | "kind"> : never;

/** One run, as it goes on. */
export class History {
	readonly lines: Line[];
	#op = 0;

	constructor(header: Omit<HeaderLine, "kind">) {
		this.lines = [{ kind: "header", ...header }];
	}

	nextOp(): number {
		this.#op += 1;
		return this.#op;
	}

	op(line: Told<InvokeLine> | Told<OkLine> | Told<FailLine>): void {
		this.lines.push({ kind: "op", ...line, at: monotonicMs() } as Line);
	}

	saw(line: Told<SawLine>): void {
		this.lines.push({ kind: "saw", ...line, at: monotonicMs() });
	}

	fault(fault: string): void {
		this.lines.push({ kind: "fault", fault, at: monotonicMs() });
	}

	/** What is known when the run is over. */
	end(ledger: readonly LedgerLine[], rows: readonly RowLine[], world: Omit<WorldLine, "kind">): void {
		// One by one: hundreds of thousands of arguments would overflow the stack.
		for (const line of ledger) this.lines.push({ kind: "ran", ...line });
		for (const row of rows) this.lines.push(row);
		this.lines.push({ kind: "world", ...world });
	}
}

export function saveHistory(path: string, lines: readonly Line[]): void {
	writeFileSync(path, "");
	for (let from = 0; from < lines.length; from += 10_000) {
		const chunk = lines.slice(from, from + 10_000).map((line) => JSON.stringify(line));
		appendFileSync(path, `${chunk.join("\n")}\n`);
	}
}

export function loadHistory(path: string): Line[] {
	return readFileSync(path, "utf8")
		.split("\n")
		.filter((line) => line !== "")
		.map((line) => JSON.parse(line) as Line);
}
