/**
 * What a look at data, machine or daemon found, as values. Who looks decides nothing and prints nothing; who prints
 * (the CLI) and who refuses (backup, restore) read the same list.
 */
import { EXIT, type ErrorCode } from "./errors.ts";

/**
 * `ok`: looked at and fine. `note`: worth knowing, nothing to do. `warning`: works, but something should be done.
 * `error`: the daemon does not start, or something that was accepted cannot be had.
 */
export type Severity = "ok" | "note" | "warning" | "error";

/** What can be put right without touching a row. */
export type Repair =
	| { readonly kind: "mode"; readonly path: string; readonly mode: number }
	| { readonly kind: "remove"; readonly path: string }
	/** Cuts a file to this many bytes. */
	| { readonly kind: "cut"; readonly path: string; readonly bytes: number }
	| { readonly kind: "socket"; readonly path: string };

export interface Diagnosis {
	/** What was looked at, in a word or two: `queue.db`, `bundles`, `socket`. */
	readonly check: string;
	readonly severity: Severity;
	/** What was found and what it means. */
	readonly message: string;
	/** The command or the act that helps. */
	readonly advice?: string;
	/** Set exactly with `error`. */
	readonly code?: ErrorCode;
	readonly repair?: Repair;
}

export function ok(check: string, message: string): Diagnosis {
	return { check, severity: "ok", message };
}

export function note(check: string, message: string, rest: { advice?: string; repair?: Repair } = {}): Diagnosis {
	return { check, severity: "note", message, ...rest };
}

export function warning(check: string, message: string, advice: string, repair?: Repair): Diagnosis {
	return { check, severity: "warning", message, advice, ...(repair === undefined ? {} : { repair }) };
}

export function damage(check: string, code: ErrorCode, message: string, advice: string): Diagnosis {
	return { check, severity: "error", code, message, advice };
}

export function worstOf(findings: readonly Diagnosis[]): Severity {
	const order: readonly Severity[] = ["error", "warning", "note"];
	return order.find((severity) => findings.some((finding) => finding.severity === severity)) ?? "ok";
}

/** 65 where data is bad, else the code of the first error, 1 where there are warnings only, 0 where all is well. */
export function exitCodeOf(findings: readonly Diagnosis[], exitOf: (code: ErrorCode) => number): number {
	const codes = findings.flatMap(({ code }) => (code === undefined ? [] : [exitOf(code)]));
	if (codes.includes(EXIT.badData)) return EXIT.badData;
	return codes[0] ?? (worstOf(findings) === "warning" ? EXIT.functionFailed : EXIT.ok);
}
