/**
 * What the CLI gets from the process it runs in. Commands see the outside world through this alone, so a test
 * runs them with a fake terminal, and the engine reaches `serve` and `dev` without an import from here.
 */
import type { Clock } from "../core/environment.ts";
import type { ServeFlags } from "./cli-flags.ts";

export interface Output {
	/** The promise resolves when the operating system has taken the bytes. */
	write(data: string | Uint8Array): Promise<void>;
	readonly isTTY: boolean;
	readonly colour: boolean;
	/** Width of the terminal; undefined where there is none. */
	readonly columns: number | undefined;
}

export interface CliHost {
	/** Data. */
	readonly stdout: Output;
	/** Talk. */
	readonly stderr: Output;
	/** Everything on standard input, to its end. */
	readStdin(): Promise<Uint8Array>;
	readonly env: Readonly<Record<string, string | undefined>>;
	readonly clock: Clock;
	/** Of this package. */
	readonly version: string;
	/** Aborts at SIGINT or SIGTERM; the reason is the signal's name. */
	readonly interrupted: AbortSignal;
	/** Runs the daemon until it is told to stop; resolves with the exit code. */
	serve(flags: ServeFlags): Promise<number>;
	/** Runs an engine in this process that deploys what it finds under `paths` and watches it. */
	dev(paths: readonly string[], flags: ServeFlags): Promise<number>;
}
