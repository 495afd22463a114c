/**
 * What text on the command line means: durations, instants, pairs and configuration values.
 * Every function throws `Usage` with the expectation and what came instead; commands never see half-parsed text.
 */
import { EngineError } from "../core/errors.ts";

/** A mistake on the command line: exit code 2. */
export class Usage extends EngineError {
	constructor(message: string) {
		super("BAD_REQUEST", message);
	}
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const DURATION = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)?$/;

function durationOrUndefined(text: string): number | undefined {
	const match = DURATION.exec(text.trim());
	if (match === null) return undefined;
	const ms = Math.round(Number(match[1]) * (UNIT_MS[match[2] ?? "ms"] ?? 1));
	return Number.isSafeInteger(ms) ? ms : undefined;
}

/** Milliseconds of `500ms`, `30s`, `5m`, `2h`, `1d`, `1.5s` or a bare number of ms. */
export function parseDuration(text: string): number {
	const ms = durationOrUndefined(text);
	if (ms === undefined) throw new Usage(`expected a duration like 500ms, 30s, 5m, 2h, 1d or 1500 (ms), got "${text}"`);
	return ms;
}

/** UTC milliseconds of an RFC 3339 time, of UTC milliseconds, or of a duration ago (`10m`). */
export function parseInstant(text: string, now: number): number {
	if (/^\d{12,}$/.test(text)) return Number(text);
	const ago = durationOrUndefined(text);
	if (ago !== undefined) return now - ago;
	const at = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : NaN;
	if (Number.isNaN(at)) throw new Usage(`expected a time like 10m (ago) or 2026-11-22T09:00:00Z, got "${text}"`);
	return at;
}

export function parseInteger(text: string): number {
	const value = /^[+-]?\d+$/.test(text) ? Number(text) : NaN;
	if (!Number.isSafeInteger(value)) throw new Usage(`expected a whole number, got "${text}"`);
	return value;
}

/** One of a closed list. */
export function parseChoice<T extends string>(what: string, choices: readonly T[], text: string): T {
	const found = choices.find((choice) => choice === text);
	if (found === undefined) throw new Usage(`expected ${what} to be one of ${choices.join(", ")}, got "${text}"`);
	return found;
}

/** `Name: value` (as in curl) or `name=value`; names come out lower case. */
export function parseHeader(text: string): [string, string] {
	const match = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*[:=]\s*(.*)$/s.exec(text);
	if (match === null) throw new Usage(`expected a header like "X-Name: value", got "${text}"`);
	return [(match[1] ?? "").toLowerCase(), match[2] ?? ""];
}

/** `name=value`; the value may be empty and may hold "=". */
export function parsePair(text: string): [string, string] {
	const at = text.indexOf("=");
	if (at <= 0) throw new Usage(`expected name=value, got "${text}"`);
	return [text.slice(0, at), text.slice(at + 1)];
}

export function parseJson(what: string, text: string): unknown {
	try {
		return JSON.parse(text) as unknown;
	} catch (cause) {
		throw new Usage(
			`expected ${what} to be JSON, got ${JSON.stringify(text.slice(0, 80))} (${cause instanceof Error ? cause.message : "not JSON"}); ` +
				`quote it for the shell ('{"name":"Ada"}'), or give @file or - for standard input`,
		);
	}
}

/**
 * Overrides out of `timeoutMs=30s`, `retry.maxAttempts=5`, `retry.retryOn=500,503`, `memoryMb=null` (removes it).
 * Dots nest. Whether a key exists and its value is in bounds is the engine's to say.
 */
export function parseOverrides(pairs: readonly string[]): Record<string, unknown> {
	const overrides: Record<string, unknown> = {};
	for (const pair of pairs) {
		const [key, text] = parsePair(pair);
		const parts = key.split(".");
		const last = parts.pop() ?? key;
		let target = overrides;
		for (const part of parts) {
			const inner = Object.hasOwn(target, part) ? target[part] : undefined;
			const next = typeof inner === "object" && inner !== null ? (inner as Record<string, unknown>) : {};
			setOwn(target, part, next);
			target = next;
		}
		setOwn(target, last, overrideValue(last, text));
	}
	return overrides;
}

/** An own property whatever its name: `__proto__=1` must reach the engine and be refused there by name. */
function setOwn(target: Record<string, unknown>, key: string, value: unknown): void {
	Object.defineProperty(target, key, { value, enumerable: true, writable: true, configurable: true });
}

function overrideValue(key: string, text: string): unknown {
	if (text === "" || text === "null") return null;
	if (key === "retryOn" && /^\d+(,\d+)*$/.test(text)) return text.split(",").map(Number);
	if (key.endsWith("Ms")) {
		const ms = durationOrUndefined(text);
		if (ms !== undefined) return ms;
	}
	try {
		return JSON.parse(text) as unknown;
	} catch {
		return text;
	}
}

/** A function name out of a file's or folder's: `src/Resize Image.ts` → `resize-image`, `invoice/index.ts` → `invoice`. */
export function functionNameOf(path: string): string {
	const parts = path.split(/[\\/]/).filter((part) => part !== "" && part !== ".");
	let base = (parts.at(-1) ?? "").replace(/\.[cm]?[jt]sx?$/, "");
	if (base === "index" && parts.length > 1) base = parts.at(-2) ?? base;
	const name = base
		.replace(/([a-z0-9])([A-Z])/g, "$1-$2")
		.toLowerCase()
		.replace(/[^a-z0-9_-]+/g, "-")
		.replace(/^[^a-z]+/, "")
		.slice(0, 128)
		.replace(/-+$/, "");
	if (name === "") throw new Usage(`no function name can be made of "${path}"; give one with --name`);
	return name;
}
