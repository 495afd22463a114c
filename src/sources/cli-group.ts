/**
 * What all command files share: the runner that turns a function into a commander action, and option parsers.
 * A command is `(session, ...arguments, options)`; it prints through the session and throws what goes wrong.
 */
import { InvalidArgumentError, type Command } from "commander";
import type { CliHost } from "./cli-host.ts";
import { parseDuration, parseInteger } from "./cli-parse.ts";
import { Session, type GlobalOptions } from "./cli-session.ts";

// Commander gives an action the declared arguments and the options, whose types only the declaration knows.
export type Action<Arguments extends readonly unknown[]> = (session: Session, ...args: Arguments) => Promise<void>;
export type Run = <Arguments extends readonly unknown[]>(
	action: Action<Arguments>,
) => (this: Command, ...args: unknown[]) => Promise<void>;

export function runner(host: CliHost): Run {
	return <Arguments extends readonly unknown[]>(action: Action<Arguments>) =>
		async function (this: Command, ...args: unknown[]): Promise<void> {
			const session = new Session(host, this.optsWithGlobals<GlobalOptions>());
			try {
				// The last argument is the command itself.
				await action(session, ...(args.slice(0, -1) as unknown as Arguments));
			} finally {
				session.close();
			}
		};
}

/** Values of an option that may be repeated; undefined where it never came. */
export function collect(value: string, before: readonly string[] | undefined): readonly string[] {
	return [...(before ?? []), value];
}

/** Commander names the option in the message of an InvalidArgumentError. */
function option<T>(parse: (text: string) => T): (text: string) => T {
	return (text) => {
		try {
			return parse(text);
		} catch (error) {
			throw new InvalidArgumentError(error instanceof Error ? `${error.message}.` : "It cannot be understood.");
		}
	};
}

export const duration = option(parseDuration);
export const integer = option(parseInteger);
