/** `deploy`, `functions`, `register`, `configure`, `versions`, `rollback`, `env`: functions and their code. */
import { resolve } from "node:path";
import type { Command } from "commander";
import type { Run } from "./cli-group.ts";
import { bytesText, durationText, fields, painter, relativeTime, table } from "./cli-output.ts";
import { functionNameOf, parseOverrides, parsePair } from "./cli-parse.ts";
import { number, object, text, type Session, type Wire } from "./cli-session.ts";

interface DeployOptions {
	readonly name?: string;
	readonly version?: string;
	readonly handler?: string;
	readonly build: boolean;
}

export function addFunctionCommands(program: Command, run: Run): void {
	program
		.command("deploy")
		.summary("build a file or folder and make it the active version")
		.description(
			"Build a file (or a folder with an index file) and make it the active version of a function.\n" +
				"The function is registered when it does not exist. The path is read by the daemon, on its machine.",
		)
		.argument("<path>", "TypeScript or JavaScript file, or folder")
		.option("--name <name>", "function name; default: the file's or folder's")
		.option("--version <version>", "version name; default: the version with the same bytes, else v1, v2, …")
		.option("--handler <export>", "export that handles requests, where this registers the function", "default")
		.option("--no-build", "the file is a finished JavaScript bundle: store it as it is")
		.action(run(deploy));

	program
		.command("functions")
		.alias("ls")
		.summary("list functions")
		.description("List all functions with their active version and limits.")
		.action(run(listFunctions));

	program
		.command("register")
		.summary("register a function without code")
		.description("Register a function without code; registering an existing name changes nothing.")
		.argument("<name>", "function name")
		.option("--handler <export>", "export that handles requests", "default")
		.action(
			run(async (session, name: string, options: { handler: string }) => {
				const answer = await session.call("functions.register", { name, runtime: "bun", handler: options.handler });
				await session.print(
					answer,
					() => `${text(answer["name"])} is ${text(answer["status"])} as ${text(answer["function_id"])}\n`,
				);
			}),
		);

	program
		.command("configure")
		.summary("show or change a function's limits")
		.description(
			"Change limits of a function; null takes an override away. Without pairs, show what is in force.\n" +
				"Example: bunbase configure resize concurrency=4 timeoutMs=2m retry.maxAttempts=5 memoryMb=null",
		)
		.argument("<name>", "function name or id")
		.argument("[key=value...]", "overrides")
		.action(run(configure));

	program
		.command("versions")
		.summary("list the versions of a function")
		.description("List the versions of a function, and which is active.")
		.argument("<name>", "function name or id")
		.action(run(versions));

	program
		.command("rollback")
		.summary("activate an earlier version")
		.description(
			"Activate an earlier version, with its configuration; without VERSION, the one that was active before.",
		)
		.argument("<name>", "function name or id")
		.argument("[version]", "version name")
		.action(
			run(async (session, name: string, version: string | undefined) => {
				const answer = await session.call("functions.rollback", { function: name, version });
				await session.print(answer, () => `${text(answer["name"])} is at ${text(answer["version"])}\n`);
			}),
		);

	const env = program
		.command("env")
		.summary("set the environment of a function")
		.description("The environment variables of a function. Values are stored by the daemon and never shown again.");
	env
		.command("list")
		.description("List names and when they were set.")
		.argument("<name>", "function name or id")
		.action(run(listEnvironment));
	env
		.command("set")
		.description("Set variables; workers are replaced.")
		.argument("<name>", "function name or id")
		.argument("<KEY=VALUE...>", "variables; KEY=- reads the value from standard input")
		.action(run(setEnvironment));
	env
		.command("unset")
		.description("Take variables away; workers are replaced.")
		.argument("<name>", "function name or id")
		.argument("<KEY...>", "names")
		.action(
			run(async (session, name: string, names: readonly string[]) => {
				const answer = await session.call("env.unset", { function: name, names });
				await session.print(answer, "");
				await session.tell(`unset ${names.join(", ")} of ${name}\n`);
			}),
		);
}

async function deploy(session: Session, path: string, options: DeployOptions): Promise<void> {
	const answer = await session.call(
		"functions.deploy",
		{
			function: options.name ?? functionNameOf(resolve(path)),
			register: true,
			handler: options.handler,
			version: options.version,
			path: resolve(path),
			build: options.build,
		},
		"the daemon goes on with the deployment; see `bunbase functions`",
	);
	await session.print(answer, () => {
		const paint = painter(session.host.stdout);
		const buildMs = number(answer["build_ms"]) ?? 0;
		const readyMs = number(answer["ready_ms"]) ?? 0;
		const how = answer["created"] === false ? "activated again" : `built in ${durationText(buildMs)}`;
		return `${paint("green", "deployed")} ${text(answer["name"])} ${text(answer["version"])}  ${how}, ready in ${durationText(readyMs)}\n`;
	});
}

async function listFunctions(session: Session): Promise<void> {
	const functions = await session.list("functions.list", "functions");
	await session.print({ functions }, () =>
		functions.length === 0
			? ""
			: table(
					session.host.stdout,
					["NAME", "STATUS", "VERSION", "CONCURRENCY", "TIMEOUT", "ATTEMPTS", "CREATED", "ID"],
					functions.map((row) => {
						const config = object(row["config"]);
						return [
							text(row["name"]),
							text(row["status"]),
							text(row["active_version"]),
							number(config["concurrency"]),
							durationText(number(config["timeoutMs"]) ?? 0),
							number(object(config["retry"])["maxAttempts"]),
							relativeTime(number(row["created_at"]), session.now()),
							text(row["function_id"]),
						];
					}),
				),
	);
	if (functions.length === 0) await session.tell("no functions yet: bunbase deploy FILE\n");
}

async function configure(session: Session, name: string, pairs: readonly string[]): Promise<void> {
	const answer =
		pairs.length === 0
			? await session.call("functions.get", { function: name })
			: await session.call("functions.configure", { function: name, overrides: parseOverrides(pairs) });
	await session.print(answer, () => configText(session, answer));
}

/** One line for each key in force; overridden ones are marked. */
function configText(session: Session, record: Wire): string {
	const overrides = object(record["overrides"]);
	const lines: [string, string][] = [];
	const add = (prefix: string, config: Wire, over: Wire): void => {
		for (const [key, value] of Object.entries(config)) {
			if (typeof value === "object" && value !== null && !Array.isArray(value)) {
				add(`${prefix}${key}.`, value as Wire, object(over[key]));
			} else {
				lines.push([`${prefix}${key}`, `${JSON.stringify(value)}${key in over ? "  (override)" : ""}`]);
			}
		}
	};
	add("", object(record["config"]), overrides);
	return fields(session.host.stdout, lines);
}

async function versions(session: Session, name: string): Promise<void> {
	const rows = await session.list("functions.versions", "versions", { function: name });
	await session.print({ versions: rows }, () =>
		rows.length === 0
			? ""
			: table(
					session.host.stdout,
					["VERSION", "ACTIVE", "SIZE", "CREATED", "SHA-256"],
					rows.map((row) => [
						text(row["version"]),
						row["active"] === true ? "active" : undefined,
						bytesText(number(row["bytes"])),
						relativeTime(number(row["created_at"]), session.now()),
						text(row["sha256"]).slice(0, 16),
					]),
				),
	);
	if (rows.length === 0) await session.tell(`${name} has no versions yet: bunbase deploy FILE --name ${name}\n`);
}

async function listEnvironment(session: Session, name: string): Promise<void> {
	const variables = await session.list("env.list", "variables", { function: name });
	await session.print({ variables }, () =>
		variables.length === 0
			? ""
			: table(
					session.host.stdout,
					["NAME", "SET"],
					variables.map((row) => [text(row["name"]), relativeTime(number(row["updated_at"]), session.now())]),
				),
	);
	if (variables.length === 0) await session.tell(`${name} has no variables\n`);
}

async function setEnvironment(session: Session, name: string, pairs: readonly string[]): Promise<void> {
	const values: Record<string, string> = {};
	for (const pair of pairs) {
		const [key, value] = parsePair(pair);
		// A secret typed as an argument shows in `ps` and in the shell's history; standard input does not.
		values[key] =
			value === "-"
				? Buffer.from(await session.host.readStdin())
						.toString("utf8")
						.replace(/\r?\n$/, "")
				: value;
	}
	const answer = await session.call("env.set", { function: name, values });
	await session.print(answer, "");
	await session.tell(`set ${Object.keys(values).join(", ")} of ${name}\n`);
}
