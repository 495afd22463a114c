/** What a commit lets out of the queue: claims to run, and ends to tell. */
import type { Ended } from "../core/contracts.ts";
import type { Lane } from "./lanes.ts";

/** A place in a worker, reserved before the claim is committed. */
export interface Ticket {
	readonly worker: string;
	readonly cold: boolean;
	release(): void;
}

/** A running Attempt: the claim and what settling it will need. Lives until it is settled. */
export interface Claim {
	readonly seq: number;
	readonly invocationId: string;
	readonly lane: Lane;
	readonly laneKey: string;
	readonly version: number;
	readonly attempt: number;
	readonly charged: number;
	readonly maxAttempts: number;
	readonly atMostOnce: boolean;
	readonly workerDeaths: number;
	readonly daemonDeaths: number;
	readonly solo: boolean;
	readonly createdAt: number;
	readonly runAt: number;
	readonly deadlineAt: number | null;
	readonly startedAt: number;
	readonly ticket: Ticket;
	readonly method: string;
	readonly path: string;
	readonly headersJson: string;
	readonly queryJson: string;
	readonly body: Uint8Array;
	/** Set when a cancel was committed while it runs. */
	cancelAsked: boolean;
}

/** An end, as metrics and waiters want it. */
export interface EndedInvocation extends Ended {
	readonly seq: number;
	readonly lane: Lane;
	/** From acceptance or due time to the start of its last attempt; undefined where it never started. */
	readonly queueWaitMs: number | undefined;
	readonly cold: boolean;
}
