/**
 * console.*, process.stdout.write and process.stderr.write as log messages of the call in whose async context they
 * are called. What goes to descriptors 1 and 2 by other ways still reaches the pool, by the pipes.
 */
import type { ChannelLogLevel } from "../protocol/index.ts";
import {
	ownApply,
	OwnError,
	OwnMap,
	ownMonotonic,
	ownNumber,
	ownStringify,
	ownTrunc,
	stringIndexOf,
	stringSlice,
} from "./intrinsics.ts";
import type { LineSink } from "./lines.ts";
import { describeThrown, textOf } from "./text.ts";

/** Bun's own formatter, given by main.ts. */
export interface Inspector {
	inspect(value: unknown, options?: object): string;
	table(rows: unknown, columns?: string[]): string;
}

/**
 * Text as console.log prints it. Never throws, whatever the getters of its arguments do; and calls nothing that user
 * code may have replaced, because then every later invocation's lines would pay for it.
 */
export function formatLine(args: readonly unknown[], inspector: Inspector): string {
	const show = (value: unknown): string => {
		if (typeof value === "string") return value;
		try {
			return inspector.inspect(value);
		} catch (thrown) {
			return `[cannot be shown: ${describeThrown(thrown, 256).message}]`;
		}
	};
	const format = args[0];
	let text = "";
	let next = 0;
	if (typeof format === "string" && args.length > 1) {
		next = 1;
		let from = 0;
		for (let at = percentIn(format, 0); at >= 0; at = percentIn(format, from)) {
			const directive = format[at + 1] ?? "";
			text += ownApply(stringSlice, format, [from, at]);
			from = at + 2;
			if (directive === "%") text += "%";
			else if (!isDirective(directive) || next >= args.length) text += `%${directive}`;
			else {
				text += filled(directive, args[next], show);
				next += 1;
			}
		}
		text += ownApply(stringSlice, format, [from]);
	}
	for (; next < args.length; next += 1) text += next === 0 ? show(args[next]) : ` ${show(args[next])}`;
	return text;
}

function percentIn(text: string, from: number): number {
	return ownApply(stringIndexOf, text, ["%", from]);
}

function isDirective(directive: string): boolean {
	return directive !== "" && ownApply(stringIndexOf, "sdifjoOc", [directive]) >= 0;
}

function filled(directive: string, value: unknown, show: (value: unknown) => string): string {
	try {
		switch (directive) {
			case "d":
			case "f":
				return `${ownNumber(value)}`;
			case "i":
				return `${ownTrunc(ownNumber(value))}`;
			case "j":
				return ownStringify(value) ?? "undefined";
			case "c":
				return "";
			default:
				return show(value);
		}
	} catch {
		return show(value);
	}
}

/** Replaces the methods of the global console; `sink` answers with the one of the current call. */
export function captureConsole(target: Console, sink: () => LineSink, inspector: Inspector): void {
	const counts = new OwnMap<string, number>();
	const timers = new OwnMap<string, number>();
	const print =
		(level: ChannelLogLevel) =>
		(...args: unknown[]) =>
			sink().line(level, formatLine(args, inspector));
	const elapsed = (label: string): string | undefined => {
		const since = timers.get(label);
		return since === undefined ? undefined : `${label}: ${(ownMonotonic() - since).toFixed(3)}ms`;
	};
	const info = print("info");
	const methods: Record<string, unknown> = {
		log: info,
		info,
		dirxml: info,
		group: info,
		groupCollapsed: info,
		groupEnd: () => undefined,
		clear: () => undefined,
		debug: print("debug"),
		warn: print("warn"),
		error: print("error"),
		trace: (...args: unknown[]) => {
			const { stack } = describeThrown(new OwnError("trace"), 8192);
			const frames = (stack ?? "").split("\n").slice(2).join("\n");
			sink().line("debug", `Trace: ${formatLine(args, inspector)}\n${frames}`);
		},
		assert: (condition: unknown, ...args: unknown[]) => {
			if (!condition)
				sink().line("error", `Assertion failed${args.length > 0 ? `: ${formatLine(args, inspector)}` : ""}`);
		},
		dir: (value: unknown, options?: object) => sink().line("info", inspector.inspect(value, options)),
		table: (rows: unknown, columns?: string[]) =>
			typeof rows === "object" && rows !== null ? sink().line("info", inspector.table(rows, columns)) : info(rows),
		count: (label: string = "default") => {
			const count = (counts.get(label) ?? 0) + 1;
			counts.set(label, count);
			info(`${label}: ${count}`);
		},
		countReset: (label: string = "default") => void counts.delete(label),
		time: (label: string = "default") => void timers.set(label, ownMonotonic()),
		timeLog: (label: string = "default", ...args: unknown[]) => info(elapsed(label) ?? `no timer ${label}`, ...args),
		timeEnd: (label: string = "default") => {
			info(elapsed(label) ?? `no timer ${label}`);
			timers.delete(label);
		},
		/** Bun's own: text without a line feed. */
		write: (...args: unknown[]) => {
			let text = "";
			for (let i = 0; i < args.length; i += 1) text += textOf(args[i]);
			sink().write("info", text);
		},
	};
	for (const [name, method] of Object.entries(methods)) {
		Object.defineProperty(target, name, { value: method, writable: true, configurable: true, enumerable: true });
	}
}
