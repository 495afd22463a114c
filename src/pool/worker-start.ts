/**
 * A worker's start: what its runtime is told, how long it took, and why it failed. Only the first cause of a failure
 * is kept, because what follows comes of it. A start that was given up is no failure of its version.
 */
import { LIMITS } from "../core/limits.ts";
import { CHANNEL_VERSION, type InitMessage, type RuntimeLimits } from "../protocol/index.ts";
import type { WorkerSpec } from "./contract.ts";
import type { Exit } from "./process.ts";
import { describeExit } from "./verdict.ts";

const CONFIG_BYTES_MAX = 256 * 1024;

export class WorkerStart {
	/** When its process was spawned, or a spare one taken; starts may wait for their turn. Monotonic. */
	launchedAt = 0;
	/** Since when it has been READY; monotonic. */
	readyAt = 0;
	/** From then on; undefined until it is READY. */
	readyMs: number | undefined;
	/** Retired before it was READY. */
	givenUp = false;
	#error: string | undefined;

	get lateAt(): number {
		return this.launchedAt + LIMITS.workerStartMsMax;
	}

	/** Returns what is wrong with a message that says ready, if anything. */
	objection(protocol: number): string | undefined {
		if (this.readyMs !== undefined) return "it said ready twice";
		if (protocol !== CHANNEL_VERSION) return `it speaks channel version ${protocol}, not ${CHANNEL_VERSION}`;
		return undefined;
	}

	succeeded(now: number): void {
		this.readyAt = now;
		this.readyMs = Math.round((now - this.launchedAt) * 10) / 10;
	}

	failed(error: string): void {
		this.#error ??= error;
	}

	/** Why its version could not be started; undefined where that is not what happened. */
	failure(exit: Exit, lastWords: string): string | undefined {
		if (this.readyMs !== undefined || this.givenUp) return undefined;
		const error = this.#error ?? `it ${describeExit(exit)} before it was ready`;
		return lastWords === "" ? error : `${error}; last output: ${lastWords}`;
	}
}

export function initOf(spec: WorkerSpec): InitMessage {
	const { bundlePath, handler, functionName, version } = spec;
	return {
		type: "init",
		protocol: CHANNEL_VERSION,
		bundlePath,
		handler,
		functionName,
		version,
		limits: limitsOf(spec),
	};
}

export function limitsOf({ config }: WorkerSpec): RuntimeLimits {
	return {
		bodyBytesMax: config.maxBodyBytes,
		headersBytesMax: LIMITS.headersBytesMax,
		errorTextBytesMax: LIMITS.errorTextBytesMax,
		logLineBytesMax: LIMITS.logLineBytesMax,
		logBytesPerAttemptMax: LIMITS.logBytesPerAttemptMax,
		configBytesMax: CONFIG_BYTES_MAX,
	};
}
