/**
 * Whose line it is: what a worker logs over its channel names its call; what it prints to a pipe belongs to the
 * attempt that is alone aboard, or to nobody. Keeps the last errors, for the sentence about its death.
 */
import type { LogLevel } from "../core/contracts.ts";
import { LIMITS } from "../core/limits.ts";
import type { LogMessage } from "../protocol/index.ts";
import type { AboardTable, Fence } from "./aboard.ts";
import type { WorkerLogLine } from "./contract.ts";

const LAST_LINES_MAX = 10;
const LAST_CHARS_MAX = 2_000;

export interface WorkerLogDependencies {
	readonly worker: string;
	readonly functionId: string;
	readonly aboard: AboardTable;
	readonly emit: (line: WorkerLogLine) => void;
}

export class WorkerLog {
	readonly #deps: WorkerLogDependencies;
	readonly #lastErrors: string[] = [];

	constructor(deps: WorkerLogDependencies) {
		this.#deps = deps;
	}

	/** The last lines that it printed as errors. */
	get lastWords(): string {
		return this.#lastErrors.join("\n").slice(-LAST_CHARS_MAX);
	}

	/** A line of the channel. */
	said({ call, level, at, metadata, message }: LogMessage): void {
		// The runtime has cut it already, with a mark.
		const text = message.slice(0, LIMITS.logLineBytesMax + 32);
		this.#post(level, text, call === undefined ? undefined : this.#deps.aboard.fenceOf(call), at, metadata);
	}

	/** A line of a pipe. */
	printed(level: LogLevel, line: string, at: number): void {
		this.#post(level, line, this.#deps.aboard.only?.spec, at, undefined);
	}

	#post(
		level: LogLevel,
		message: string,
		fence: Fence | undefined,
		at: number,
		metadata: WorkerLogLine["metadata"],
	): void {
		const { worker, functionId, emit } = this.#deps;
		if (level === "error") this.#remember(message);
		const { invocationId, attempt } = fence ?? { invocationId: undefined, attempt: undefined };
		emit({ functionId, invocationId, attempt, level, message, metadata, at, worker });
	}

	#remember(line: string): void {
		this.#lastErrors.push(line.slice(0, LAST_CHARS_MAX));
		if (this.#lastErrors.length > LAST_LINES_MAX) this.#lastErrors.shift();
	}
}
