/** The CLI in a test: a terminal that remembers, and a host around it. */
import type { CliHost, Output } from "../../src/sources/cli-host.ts";
import { runCli } from "../../src/sources/cli.ts";
import { realEnvironment } from "./fake-engine.ts";

export interface Captured extends Output {
	/** Everything written so far. */
	readonly text: string;
	/** Resolves when the text matches. */
	until(pattern: RegExp): Promise<void>;
}

export function capture(look: Partial<Pick<Output, "isTTY" | "colour" | "columns">> = {}): Captured {
	const chunks: Buffer[] = [];
	const waiting = new Set<() => void>();
	const whole = (): string => Buffer.concat(chunks).toString("utf8");
	return {
		isTTY: false,
		colour: false,
		columns: undefined,
		...look,
		write: (data) => {
			chunks.push(Buffer.from(data));
			for (const look of waiting) look();
			return Promise.resolve();
		},
		get text() {
			return whole();
		},
		until: (pattern) =>
			new Promise((resolve) => {
				const look = (): void => {
					if (!pattern.test(whole())) return;
					waiting.delete(look);
					resolve();
				};
				waiting.add(look);
				look();
			}),
	};
}

export interface Ran {
	readonly code: number;
	readonly out: string;
	readonly err: string;
}

export interface CliOptions extends Partial<Omit<CliHost, "stdout" | "stderr">> {
	readonly stdout?: Captured;
	readonly stderr?: Captured;
}

/** Runs one command line in this process. */
export async function cli(argv: readonly string[], options: CliOptions = {}): Promise<Ran> {
	const stdout = options.stdout ?? capture();
	const stderr = options.stderr ?? capture();
	const code = await runCli(argv, {
		readStdin: () => Promise.resolve(new Uint8Array()),
		env: {},
		clock: realEnvironment().clock,
		version: "1.2.3",
		interrupted: new AbortController().signal,
		serve: () => Promise.resolve(0),
		dev: () => Promise.resolve(0),
		doctor: () => Promise.reject(new Error("this test has no folder to look at")),
		backup: () => Promise.reject(new Error("this test has no folder to back up")),
		restore: () => Promise.reject(new Error("this test has no folder to restore")),
		...options,
		stdout,
		stderr,
	});
	return { code, out: stdout.text, err: stderr.text };
}
