/**
 * How things look: tables, times, sizes, colours, and text that came from functions.
 *
 * Text that a function wrote is never trusted to a terminal: `plain` takes its control characters away.
 * In JSON documents those characters are escaped, which says the same (`jsonText`).
 */
import { styleText } from "node:util";
import type { Output } from "./cli-host.ts";

export type Style = Parameters<typeof styleText>[0];
export type Paint = (style: Style, text: string) => string;

export function painter(output: Output): Paint {
	if (!output.colour) return (_style, text) => text;
	return (style, text) => styleText(style, text, { validateStream: false });
}

/**
 * Escape sequences: CSI, then OSC, DCS, SOS, PM and APC up to their end, then short ones; by ESC or as one C1 character. No
 * part can run over the beginning of another, so the time is linear. (Node's stripVTControlCharacters took 9 s for 100 KB
 * of `ESC ]`: a function could hold up whoever reads its log.)
 */
const ESCAPES =
	// oxlint-disable-next-line no-control-regex -- these are exactly the characters to take away
	/(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\0-\x1f\x7f-\x9f]*(?:\x07|\x1b\\|\x9c)|\x1b[ -/]*[0-~]/g;
/** C0, DEL and C1; and the characters that turn the direction of what follows, so that text reads as it is not. */
// oxlint-disable-next-line no-control-regex -- these are exactly the characters to take away
const CONTROL = /[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g;

/** Without escape sequences and control characters, except newline and tab. */
export function plain(text: string): string {
	return text.replace(ESCAPES, "").replace(CONTROL, "");
}

/** One line of it. */
export function oneLine(text: string): string {
	// Not one expression: white space around a line end, matched as such, takes quadratic time where no line ends.
	const [first = "", ...rest] = plain(text).split(/[\n\t]+/);
	if (rest.length === 0) return first;
	return [first.trimEnd(), ...rest.map((part) => part.trim())].join(" ");
}

/** A JSON document in which no character moves a terminal: JSON itself escapes C0 only. */
export function jsonText(value: unknown, indent?: string): string {
	return (JSON.stringify(value, undefined, indent) ?? "").replace(
		CONTROL,
		(char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
	);
}

export type Cell = string | number | boolean | undefined | null;

/** Columns padded with two spaces between; on a terminal the last column is cut at its edge. Empty cells are "-". */
export function table(output: Output, header: readonly string[], rows: readonly (readonly Cell[])[]): string {
	const paint = painter(output);
	const lines = rows.map((row) => header.map((_, column) => cellText(row[column])));
	const widths = header.map((title, column) =>
		Math.max(title.length, ...lines.map((line) => (line[column] ?? "").length)),
	);
	const room = output.isTTY && output.columns !== undefined ? output.columns : Infinity;
	const join = (cells: readonly string[]): string => {
		const text = cells.map((cell, column) => (column === cells.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)));
		const line = text.join("  ").trimEnd();
		return line.length > room && room > 10 ? `${line.slice(0, room - 1)}…` : line;
	};
	return `${[paint("bold", join(header)), ...lines.map(join)].join("\n")}\n`;
}

function cellText(cell: Cell): string {
	if (cell === undefined || cell === null || cell === "") return "-";
	return typeof cell === "string" ? oneLine(cell) : String(cell);
}

/** `name  value` lines for one thing. */
export function fields(output: Output, pairs: readonly (readonly [string, Cell])[]): string {
	const paint = painter(output);
	const width = Math.max(...pairs.map(([name]) => name.length));
	return pairs.map(([name, value]) => `${paint("bold", name.padEnd(width))}  ${cellText(value)}\n`).join("");
}

/** `250 ms`, `1.2 s`, `3m 20s`, `2h 5m`, `4d 3h`. */
export function durationText(ms: number): string {
	const whole = Math.round(ms);
	if (whole < 1000) return `${whole} ms`;
	if (whole < 60_000) return `${Number((whole / 1000).toFixed(1))} s`;
	const units: readonly (readonly [string, number])[] = [
		["d", 86_400_000],
		["h", 3_600_000],
		["m", 60_000],
		["s", 1000],
	];
	const at = units.findIndex(([, size]) => whole >= size);
	const [big, bigMs] = units[at] ?? ["s", 1000];
	const small = units[at + 1];
	const rest = small === undefined ? 0 : Math.floor((whole % bigMs) / small[1]);
	return `${Math.floor(whole / bigMs)}${big}${small === undefined || rest === 0 ? "" : ` ${rest}${small[0]}`}`;
}

/** `12s ago`, `in 5m`, `now`; past a week the date. */
export function relativeTime(at: number | undefined | null, now: number): string | undefined {
	if (at === undefined || at === null) return undefined;
	const distance = Math.abs(now - at);
	if (distance < 1000) return "now";
	if (distance > 7 * 86_400_000) return new Date(at).toISOString().slice(0, 16).replace("T", " ");
	const text =
		distance < 60_000
			? `${Math.floor(distance / 1000)}s`
			: distance < 3_600_000
				? `${Math.floor(distance / 60_000)}m`
				: distance < 86_400_000
					? `${Math.floor(distance / 3_600_000)}h`
					: `${Math.floor(distance / 86_400_000)}d`;
	return at < now ? `${text} ago` : `in ${text}`;
}

export function bytesText(bytes: number | undefined | null): string | undefined {
	if (bytes === undefined || bytes === null) return undefined;
	if (bytes < 1024) return `${bytes} B`;
	const units = ["KiB", "MiB", "GiB", "TiB"];
	let value = bytes;
	let unit = "B";
	for (const next of units) {
		if (value < 1024) break;
		value /= 1024;
		unit = next;
	}
	return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

const STATE_STYLE: Readonly<Record<string, Style>> = {
	queued: "cyan",
	running: "blue",
	succeeded: "green",
	failed: "red",
	timed_out: "red",
	crashed: "red",
	lost: "red",
	expired: "yellow",
	cancelled: "yellow",
};

export function stateText(output: Output, state: string): string {
	return painter(output)(STATE_STYLE[state] ?? "reset", state);
}
