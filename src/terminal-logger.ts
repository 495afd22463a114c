/** The daemon's log for somebody who watches it in a terminal: one readable line each. Everywhere else it is JSON (pino). */
import { styleText } from "node:util";
import type { Logger } from "./core/environment.ts";
import { plain } from "./sources/cli-output.ts";

const LEVELS = ["debug", "info", "warn", "error"] as const;
const COLOURS = { debug: "gray", info: "green", warn: "yellow", error: "red" } as const;
type Level = (typeof LEVELS)[number];

export function terminalLogger(level: string, write: (line: string) => void): Logger {
	const from = LEVELS.indexOf(level as Level);
	const log =
		(at: Level) =>
		(fields: object, message: string): void => {
			if (LEVELS.indexOf(at) < from) return;
			const time = styleText("gray", new Date().toTimeString().slice(0, 8));
			const told = Object.entries(fields).map(([key, value]) => ` ${styleText("gray", `${key}=`)}${textOf(value)}`);
			write(`${time} ${styleText(COLOURS[at], at.padEnd(5))} ${plain(message)}${told.join("")}\n`);
		};
	return { debug: log("debug"), info: log("info"), warn: log("warn"), error: log("error") };
}

/** What a function or a client wrote may be in it. */
function textOf(value: unknown): string {
	if (value instanceof Error) return plain(value.stack ?? value.message);
	return plain(typeof value === "string" ? value : (JSON.stringify(value) ?? String(value)));
}
