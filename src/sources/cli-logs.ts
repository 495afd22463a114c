/** `logs`: what functions printed, also as it happens. How a line looks is decided here, for `dev` as well. */
import type { Command } from "commander";
import { LOG_LEVELS } from "../core/contracts.ts";
import { LIMITS } from "../core/limits.ts";
import { Interrupted } from "./cli-errors.ts";
import { integer, type Run } from "./cli-group.ts";
import type { Output } from "./cli-host.ts";
import { jsonText, painter, plain, type Style } from "./cli-output.ts";
import { parseChoice, parseInstant } from "./cli-parse.ts";
import { number, text, type Session, type Wire } from "./cli-session.ts";

/** One wait of a follower; the daemon answers earlier as soon as there is a line. */
const FOLLOW_WAIT_MS = 30_000;

interface LogOptions {
	readonly follow?: boolean;
	readonly level?: string;
	readonly since?: string;
	readonly limit: number;
}

export function addLogCommands(program: Command, run: Run): void {
	program
		.command("logs")
		.summary("what functions printed")
		.description(
			"Log lines of all functions, of one function or of one invocation, oldest first.\n" +
				"With --json, one JSON object on each line.",
		)
		.argument("[name]", "function name, function id or invocation id")
		.option("-f, --follow", "go on with new lines until Ctrl-C")
		.option("-l, --level <level>", `this level and above: ${LOG_LEVELS.join(", ")}`)
		.option("--since <time>", "10m (ago) or 2026-11-22T09:00:00Z")
		.option("-n, --limit <number>", "the newest so many lines", integer, 100)
		.action(run(logs));
}

async function logs(session: Session, name: string | undefined, options: LogOptions): Promise<void> {
	const filter = {
		function: name === undefined || name.startsWith("inv_") ? undefined : name,
		invocation_id: name?.startsWith("inv_") === true ? name : undefined,
		level: options.level === undefined ? undefined : parseChoice("--level", LOG_LEVELS, options.level),
		since: options.since === undefined ? undefined : parseInstant(options.since, session.now()),
	};
	const names = await functionNames(session);
	const print = async (lines: readonly Wire[]): Promise<void> => {
		let out = "";
		for (const line of lines) {
			if (session.json) out += `${jsonText(line)}\n`;
			else out += logLine(session.host.stdout, line, names.get(text(line["function_id"])) ?? text(line["function_id"]));
		}
		if (out !== "") await session.host.stdout.write(out);
	};
	const limit = Math.min(options.limit, LIMITS.logPageMax);
	const first = await session.call("logs.read", { ...filter, tail: true, limit });
	await print(first["logs"] as readonly Wire[]);
	if (options.follow !== true) return;
	let after = number(first["next_after"]) ?? 0;
	for (;;) {
		try {
			const page = await session.call("logs.read", {
				...filter,
				after,
				limit: LIMITS.logPageMax,
				wait_ms: FOLLOW_WAIT_MS,
			});
			const lines = page["logs"] as readonly Wire[];
			// A function that was deployed since then has a name as well.
			if (lines.some((line) => !names.has(text(line["function_id"])))) {
				for (const [id, known] of await functionNames(session)) names.set(id, known);
			}
			await print(lines);
			after = number(page["next_after"]) ?? after;
		} catch (error) {
			// Ctrl-C is how one stops to follow: nothing was left half done.
			if (error instanceof Interrupted) return;
			throw error;
		}
	}
}

async function functionNames(session: Session): Promise<Map<string, string>> {
	if (session.json) return new Map();
	const functions = await session.list("functions.list", "functions");
	return new Map(functions.map((row) => [text(row["function_id"]), text(row["name"])]));
}

const LEVEL_STYLE: Readonly<Record<string, Style>> = { debug: "dim", info: "cyan", warn: "yellow", error: "red" };

/** `12:00:01.234 info  hello  inv_…  message {"metadata":1}` and a line end. */
export function logLine(output: Output, line: Wire, functionName: string): string {
	const paint = painter(output);
	const level = text(line["level"]);
	const at = new Date(number(line["at"]) ?? 0).toISOString();
	const metadata = line["metadata"] === null || line["metadata"] === undefined ? "" : ` ${jsonText(line["metadata"])}`;
	const message = output.isTTY ? plain(text(line["message"])) : text(line["message"]);
	return [
		paint("dim", output.isTTY ? at.slice(11, 23) : at),
		paint(LEVEL_STYLE[level] ?? "reset", level.padEnd(5)),
		paint("bold", functionName),
		paint("dim", text(line["invocation_id"]) || "-"),
		`${message.trimEnd()}${paint("dim", metadata)}\n`,
	].join("  ");
}
