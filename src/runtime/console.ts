/**
 * console.*, process.stdout.write and process.stderr.write as log messages of the call in whose async context they
 * are called. What goes to descriptors 1 and 2 by other ways still reaches the pool, by the pipes.
 */
import type { ChannelLogLevel } from "../protocol/index.ts";
import { OwnError, OwnMap, ownMonotonic, ownStringify } from "./intrinsics.ts";
import type { LineSink } from "./lines.ts";
import { describeThrown } from "./text.ts";

/** Bun's own formatter, given by main.ts. */
export interface Inspector {
	inspect(value: unknown, options?: object): string;
	table(rows: unknown, columns?: string[]): string;
}

const DIRECTIVE = /%[sdifjoOc%]/g;

/** Text as console.log prints it. Never throws, whatever the getters of its arguments do. */
export function formatLine(args: readonly unknown[], inspector: Inspector): string {
	const show = (value: unknown): string => {
		if (typeof value === "string") return value;
		try {
			return inspector.inspect(value);
		} catch (thrown) {
			return `[cannot be shown: ${describeThrown(thrown, 256).message}]`;
		}
	};
	const [first, ...rest] = args;
	if (typeof first !== "string" || rest.length === 0) return args.map(show).join(" ");
	const text = first.replace(DIRECTIVE, (directive) => {
		if (directive === "%%") return "%";
		if (rest.length === 0) return directive;
		const value = rest.shift();
		try {
			switch (directive) {
				case "%d":
				case "%f":
					return `${Number(value)}`;
				case "%i":
					return `${Math.trunc(Number(value))}`;
				case "%j":
					return ownStringify(value) ?? "undefined";
				case "%c":
					return "";
				default:
					return show(value);
			}
		} catch {
			return show(value);
		}
	});
	return [text, ...rest.map(show)].join(" ");
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
		write: (...args: unknown[]) => sink().write("info", args.map(String).join("")),
	};
	for (const [name, method] of Object.entries(methods)) {
		Object.defineProperty(target, name, { value: method, writable: true, configurable: true, enumerable: true });
	}
}
