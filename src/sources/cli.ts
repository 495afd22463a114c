/**
 * The command line: argv in, exit code out. `bunbase fn X` is `bunbase X`, because `fn` is the default group.
 *
 * Data goes to stdout and talk to stderr; what goes wrong becomes three lines (or one JSON object) and the exit code
 * of its error code. Nothing here ends the process, and nothing here knows the engine: `serve` and `dev` come in with
 * the host.
 */
import { Command, CommanderError, Option } from "commander";
import { EXIT } from "../core/errors.ts";
import { Exit, EXIT_INTERRUPTED, failureOf, Interrupted, renderFailure } from "./cli-errors.ts";
import { examplesText } from "./cli-examples.ts";
import type { ServeFlags } from "./cli-flags.ts";
import { addFunctionCommands } from "./cli-functions.ts";
import { runner, type Run } from "./cli-group.ts";
import type { CliHost } from "./cli-host.ts";
import { addInvocationCommands } from "./cli-invocations.ts";
import { addLogCommands } from "./cli-logs.ts";
import { addOperatingCommands } from "./cli-operate.ts";
import { addUpkeepCommands } from "./cli-upkeep.ts";
import { addTriggerCommands } from "./cli-triggers.ts";

/** As shells report them; SIGINT has its own in cli-errors.ts. */
const EXIT_SIGNALLED: Readonly<Record<string, number>> = { SIGHUP: 129, SIGTERM: 143 };

/** Runs one command; never throws and never rejects. */
export async function runCli(argv: readonly string[], host: CliHost): Promise<number> {
	const args = withoutGroup(argv);
	const json = flagGiven(args, "--json");
	const said = { out: "" };
	try {
		await buildProgram(host, said).parseAsync(args, { from: "user" });
		return EXIT.ok;
	} catch (thrown) {
		if (thrown instanceof CommanderError) {
			if (thrown.exitCode === 0) {
				await host.stdout.write(said.out);
				return EXIT.ok;
			}
			if (said.out !== "") await host.stderr.write(said.out);
			else await host.stderr.write(renderFailure(usageFailure(thrown), host.stderr, json));
			return EXIT.usage;
		}
		if (thrown instanceof Exit) return thrown.exitCode;
		if (thrown instanceof Interrupted) {
			if (thrown.advice !== undefined) await host.stderr.write(`\n${thrown.advice}\n`);
			return EXIT_SIGNALLED[String(host.interrupted.reason)] ?? EXIT_INTERRUPTED;
		}
		const failure = failureOf(thrown);
		await host.stderr.write(renderFailure(failure, host.stderr, json));
		if (flagGiven(args, "--verbose", "-v") && thrown instanceof Error)
			await host.stderr.write(`${thrown.stack ?? ""}\n`);
		return failure.exitCode;
	}
}

/** Takes away the `fn` that may stand before the command. */
export function withoutGroup(argv: readonly string[]): string[] {
	for (let at = 0; at < argv.length; at += 1) {
		const word = argv[at] ?? "";
		if (word === "--") break;
		if (word === "--socket") at += 1;
		else if (word === "fn") return argv.toSpliced(at, 1);
		else if (!word.startsWith("-") && word !== "help") break;
	}
	return [...argv];
}

function flagGiven(args: readonly string[], ...names: readonly string[]): boolean {
	const end = args.indexOf("--");
	return (end < 0 ? args : args.slice(0, end)).some((word) => names.includes(word));
}

function usageFailure(error: CommanderError): ReturnType<typeof failureOf> {
	return {
		code: "BAD_REQUEST",
		message: error.message.replace(/^error: /, "").replace("\n", " "),
		why: "The command line cannot be understood.",
		advice: "see `bunbase --help`, or `bunbase COMMAND --help`",
		exitCode: EXIT.usage,
		invocationId: undefined,
	};
}

function buildProgram(host: CliHost, said: { out: string }): Command {
	const program = new Command("bunbase");
	program
		.description("Durable functions on one machine. `bunbase fn COMMAND` is the same as `bunbase COMMAND`.")
		.version(host.version, "-V, --version", "print the version")
		.helpOption("-h, --help", "print this")
		.helpCommand("help [command]", "print the help of a command")
		// Options before the command are the program's, behind it the command's: `deploy --version v2` needs that.
		.enablePositionalOptions()
		.exitOverride()
		.configureOutput({
			writeOut: (text) => (said.out += text),
			// Help that is an answer to a mistake comes here; the mistakes themselves are told by runCli.
			writeErr: (text) => (said.out += text),
			outputError: () => undefined,
			getOutHelpWidth: () => host.stdout.columns ?? 100,
			getErrHelpWidth: () => host.stderr.columns ?? 100,
			getOutHasColors: () => host.stdout.colour,
			getErrHasColors: () => host.stderr.colour,
		});
	const run = runner(host);
	program.commandsGroup("Run an engine:");
	addDaemonCommands(program, run, host);
	program.commandsGroup("Functions:");
	addFunctionCommands(program, run);
	program.commandsGroup("Invocations:");
	addInvocationCommands(program, run);
	addLogCommands(program, run);
	program.commandsGroup("Triggers:");
	addTriggerCommands(program, run);
	program.commandsGroup("Operate:");
	addOperatingCommands(program, run);
	addUpkeepCommands(program, run);
	finish(program, "");
	return program;
}

/** Global options on every command, and examples above every help. */
function finish(command: Command, example: string): void {
	for (const option of [
		new Option("--socket <path>", "the daemon's socket (BUNBASE_SOCKET; default /tmp/functions.sock)"),
		new Option("--json", "one JSON document on stdout; errors as one JSON object on stderr"),
		new Option("-v, --verbose", "say more"),
	]) {
		command.addOption(option.helpGroup("Global options:"));
	}
	const examples = examplesText(example);
	if (examples !== "") command.addHelpText("before", examples);
	for (const inner of command.commands) finish(inner, example === "" ? inner.name() : `${example} ${inner.name()}`);
}

function addDaemonCommands(program: Command, run: Run, host: CliHost): void {
	const daemonOptions = (command: Command, dataDir: string): Command =>
		command
			.option("--data-dir <folder>", `folder of all data (default ${dataDir})`)
			.option("--http-port <port>", "HTTP port; 0 is any free one (default 8080)")
			.option("--http-host <host>", "address to listen on (default 127.0.0.1)")
			.option("--http-token-file <file>", "file (0600) of tokens that HTTP callers must bring")
			.option("--no-http", "no HTTP, only the socket")
			.option("--log-level <level>", "debug, info, warn, error or silent")
			.option("--config <file>", "JSON file with any of the daemon's options")
			.option(
				"--durability <mode>",
				"power: acknowledged work survives a power cut; process: it survives kill -9 only",
			);

	daemonOptions(program.command("serve"), "./data")
		.option("--accept-rollback", "start although a database has lost acknowledged work, and go on without it")
		.summary("run the daemon")
		.description(
			"Run the daemon until SIGTERM, SIGINT or SIGHUP; it finishes what runs before it ends, a second signal ends it at once.\n" +
				"Precedence: flags, BUNBASE_* variables, the --config file, defaults. Its log is JSON on stderr.",
		)
		.action(
			run(async (session, flags: ServeFlags) => {
				throw new Exit(await host.serve({ ...flags, ...session.socketFlag }));
			}),
		);

	daemonOptions(program.command("dev"), "./.bunbase")
		.summary("run functions from source and redeploy on save")
		.description(
			"Run an engine in this process, deploy every function found under the paths, and redeploy what changes.\n" +
				"A file with a default export is a function named like the file; a folder with an index file is one function.",
		)
		.argument("[path...]", "files and folders (default ./functions, or the current folder)")
		.action(
			run(async (session, paths: readonly string[], flags: ServeFlags) => {
				throw new Exit(await host.dev(paths, { ...flags, ...session.socketFlag }));
			}),
		);
}
