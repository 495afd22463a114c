/**
 * What an engine takes from the machine it runs on: its data folder, its Bun, the end of a turn, and the proof that no
 * process of an earlier daemon is left. The simulator (tests/simulation) brings a machine of its own.
 */
import type { Environment } from "../core/environment.ts";
import { findBun, sweepOrphans } from "../pool/index.ts";
import { openDataFolder, type DataFolder, type DataFolderOptions } from "../store/index.ts";
import { assemble, type AssembleDeps, type Parts } from "./assemble.ts";
import { removeLeftovers } from "./leftovers.ts";
import { endOfTurn } from "./system.ts";

export interface Machine {
	/** Throws BAD_ENVIRONMENT where there is none. */
	findBun(configured: string | undefined): string;
	openFolder(options: DataFolderOptions): DataFolder;
	/** Resolves when every worker of an earlier daemon is gone; with how many there were. */
	sweepOrphans(instanceId: string, tmp: string): Promise<number>;
	/** Empties the folder of temporary files. */
	removeLeftovers(tmp: string, environment: Environment): Promise<void>;
	assemble(deps: Omit<AssembleDeps, "defer">): Parts;
}

export const realMachine: Machine = {
	findBun: (configured) => findBun(configured),
	openFolder: openDataFolder,
	sweepOrphans,
	removeLeftovers,
	assemble: (deps) => assemble({ ...deps, defer: endOfTurn }),
};
