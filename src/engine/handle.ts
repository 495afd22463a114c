/** What a user of the library holds of an engine. No type of the store is reached from here: its users lack those. */
import type * as Contract from "../core/contracts.ts";
import type { Environment, Logger } from "../core/environment.ts";
import type { EngineError } from "../core/errors.ts";
import type { EngineOptions } from "../core/options.ts";

export interface CreateEngineOptions extends EngineOptions {
	/** Started in this order after recovery, stopped last. */
	readonly sources?: readonly Contract.Source[];
	readonly logger?: Logger;
	/** Clock, chance and probe; for tests. */
	readonly environment?: Environment;
	/** Told to a second daemon that finds this one. */
	readonly socketPath?: string;
}

export interface EngineHandle extends Contract.Engine, AsyncDisposable {
	/** Opens the data, recovers, starts the sources. Twice is once. */
	start(): Promise<void>;
	/** Drains and closes. Twice is once. */
	stop(): Promise<void>;
	/** Resolves if the store fails so that the engine cannot go on (fail-stop); it takes no more work then. */
	readonly failed: Promise<EngineError>;
}
