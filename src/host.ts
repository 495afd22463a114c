/**
 * The process as the CLI sees it: its streams, its signals, its clock.
 *
 * The first SIGINT, SIGTERM or SIGHUP (its terminal was closed) aborts `interrupted`, and whoever runs ends in order;
 * the second ends the process at once with 128 + the signal's number. A reader that goes away (`| head`) ends a command
 * quietly with 0; output that cannot be written for another reason (a full disk) ends it with 74, because 0 would say that
 * it is there. A daemon goes on in both cases.
 */
import { readFileSync } from "node:fs";
import type { Writable } from "node:stream";
import type { Clock } from "./core/environment.ts";
import { EXIT } from "./core/errors.ts";
import type { CliHost, Output } from "./sources/cli-host.ts";

const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/** For waits on a terminal; the engine brings its own, and importing that would load the whole engine. */
const clock: Clock = {
	now: () => Date.now(),
	monotonic: () => performance.now(),
	setTimer(delayMs, fire) {
		const timer = setTimeout(fire, Math.min(delayMs, 2 ** 31 - 1));
		return { cancel: () => clearTimeout(timer) };
	},
};

export type ProcessHost = Omit<CliHost, "serve" | "dev" | "doctor" | "backup" | "restore"> & {
	/** From now on a broken stdout or stderr is not a reason to end. */
	ignoreBrokenPipes(): void;
};

export function processHost(): ProcessHost {
	const controller = new AbortController();
	let endOnBrokenPipe = true;
	const brokenPipe = (error: NodeJS.ErrnoException): void => {
		if (endOnBrokenPipe && error.code === "EPIPE") process.exit(0);
	};
	process.stdout.on("error", (error: NodeJS.ErrnoException) => {
		brokenPipe(error);
		if (!endOnBrokenPipe) return;
		process.stderr.write(`error: the output cannot be written: ${error.message}\n`);
		process.exit(EXIT.io);
	});
	process.stderr.on("error", brokenPipe);
	for (const signal of Object.keys(SIGNALS) as (keyof typeof SIGNALS)[]) {
		process.on(signal, () => {
			if (controller.signal.aborted) process.exit(SIGNALS[signal]);
			controller.abort(signal);
		});
	}
	return {
		stdout: outputOf(process.stdout),
		stderr: outputOf(process.stderr),
		readStdin: async () => {
			const chunks: Uint8Array[] = [];
			for await (const chunk of process.stdin) chunks.push(chunk as Uint8Array);
			return Buffer.concat(chunks);
		},
		env: process.env,
		clock,
		version: packageVersion(),
		interrupted: controller.signal,
		ignoreBrokenPipes: () => (endOnBrokenPipe = false),
	};
}

function outputOf(stream: Writable & { isTTY?: boolean; columns?: number }): Output {
	return {
		isTTY: stream.isTTY === true,
		colour: wantsColour(process.env, stream.isTTY === true),
		get columns() {
			return stream.columns;
		},
		// A write that fails is an `error` event as well; that decides what becomes of it.
		write: (data) => new Promise((resolve) => stream.write(data, () => resolve())),
	};
}

/** NO_COLOR (any value that is not empty) > FORCE_COLOR > a terminal that is not dumb. */
export function wantsColour(env: Readonly<Record<string, string | undefined>>, isTTY: boolean): boolean {
	if (env["NO_COLOR"]) return false;
	const forced = env["FORCE_COLOR"];
	if (forced !== undefined && forced !== "") return forced !== "0" && forced !== "false";
	return isTTY && env["TERM"] !== "dumb";
}

/** Of package.json beside src/ or dist/. */
function packageVersion(): string {
	const text = readFileSync(new URL("../package.json", import.meta.url), "utf8");
	return (JSON.parse(text) as { version: string }).version;
}
