import { engineOn } from "./engine.ts";
import type { CreateEngineOptions, EngineHandle } from "./handle.ts";
import { realMachine } from "./machine.ts";

/** An engine that is not started yet. Throws BAD_CONFIG, naming every option that is wrong. */
export function createEngine(options: CreateEngineOptions = {}): EngineHandle {
	return engineOn(realMachine, options);
}
