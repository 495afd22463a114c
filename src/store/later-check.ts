/**
 * Reads databases through that are too large to do so before serving, in a process of its own (check-program.ts), after a
 * stop that was not clean. Damage ends the daemon, because what it would answer or run from then on may be wrong.
 *
 * Until it has ended well the folder does not count as clean: a stop before its end, or a check that died, is made up for
 * at the next start.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { extname } from "node:path";
import { setPriority } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Environment } from "../core/environment.ts";
import { EngineError, isErrorCode, messageOf } from "../core/errors.ts";
import type { CheckAnswer } from "./check-program.ts";

/** Below the daemon and its workers. */
const NICE = 10;

export class LaterCheck {
	readonly #paths: readonly string[];
	readonly #environment: Environment;
	#child: ChildProcess | undefined;
	#stopped = false;
	/** Whether the databases may be taken to be whole. */
	passed: boolean;

	/** Without paths there is nothing to check. */
	constructor(paths: readonly string[], environment: Environment) {
		this.#paths = paths;
		this.#environment = environment;
		this.passed = paths.length === 0;
	}

	start(damaged: (error: EngineError) => void): void {
		if (this.passed || this.#stopped) return;
		const { logger, clock } = this.#environment;
		const from = clock.monotonic();
		logger.info({ files: this.#paths }, "the last run did not stop cleanly; large databases are checked while serving");
		const program = fileURLToPath(new URL(`./check-program${extname(import.meta.url)}`, import.meta.url));
		const child = spawn(process.execPath, [program, ...this.#paths], { stdio: ["pipe", "pipe", "inherit"] });
		this.#child = child;
		child.stdin.on("error", () => undefined);
		child.once("error", (error) => {
			logger.warn({ error: messageOf(error) }, "the databases could not be checked; the next start tries again");
		});
		child.once("exit", (code, signal) => {
			if (this.#stopped || this.#child === undefined) return;
			this.#child = undefined;
			logger.warn({ code, signal }, "the check of the databases died; the next start tries again");
		});
		if (child.pid !== undefined) lower(child.pid);
		createInterface({ input: child.stdout }).once("line", (line) => {
			this.#end();
			const { error } = JSON.parse(line) as CheckAnswer;
			if (this.#stopped) return;
			if (error === undefined) {
				this.passed = true;
				logger.info({ ms: Math.round(clock.monotonic() - from) }, "the databases are whole");
			} else if (error.code === "DATA_CORRUPT" || error.code === "IO_ERROR") {
				damaged(new EngineError(error.code, error.message));
			} else {
				const code = isErrorCode(error.code) ? error.code : "INTERNAL";
				logger.warn({ code, error: error.message }, "the databases could not be checked; the next start tries again");
			}
		});
	}

	stop(): void {
		this.#stopped = true;
		this.#end();
	}

	#end(): void {
		const child = this.#child;
		this.#child = undefined;
		child?.kill("SIGKILL");
	}
}

function lower(pid: number): void {
	try {
		setPriority(pid, NICE);
	} catch {
		// It may have ended already, or may not be asked for here: then it has the priority of the daemon.
	}
}
