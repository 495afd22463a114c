/** What a run has found, as it is written to --json. */
import type { Machine } from "../machine.ts";
import type { Peer } from "./peers.ts";

/** Medians of all rounds. */
export interface Measured {
	/** Milliseconds, one caller. */
	readonly p50: number;
	readonly p99: number;
	/** Answers, with the many callers. */
	readonly perSecond: number;
	readonly drainPerSecond: number;
}

export interface Row {
	readonly peer: Peer;
	readonly version: string;
	readonly measured?: Measured;
	/** The engine, in turns with this peer. */
	readonly engine?: Measured;
	/** Why it was not measured. */
	readonly left?: string;
}

export interface PeersRun {
	readonly machine: Machine;
	readonly quick: boolean;
	readonly rounds: number;
	readonly backlog: number;
	readonly callers: number;
	readonly rows: readonly Row[];
}
