/**
 * Time, chance and death as parameters.
 *
 * Everything in the engine that needs a clock, a random number, a log line or a named point to be killed at
 * receives it from here, so that a test (and later a simulator) decides all four.
 */

/** A started timer. Cancelling one that has fired or was cancelled already does nothing. */
export interface Timer {
	cancel(): void;
}

export interface Clock {
	/** Wall clock, UTC milliseconds since 1970. Jumps; use it only for times that are stored or shown. */
	now(): number;
	/** Milliseconds that never jump and never run back. Use it for every timeout. */
	monotonic(): number;
	/** Calls `fire` once, after at least `delayMs`. Delays over 2^31-1 ms are honoured (re-armed), never early. */
	setTimer(delayMs: number, fire: () => void): Timer;
}

export interface Random {
	/** Uniform in [0, 1). */
	next(): number;
}

/** Named points in production code; silent except in tests, which wait for them or end the process there. */
export interface Probe {
	hit(point: ProbePoint, id?: string): void;
}

/** The closed list of probe points; noun, then what just happened. */
export type ProbePoint =
	| "folder.database_opened"
	| "folder.marked"
	| "high_water.written"
	| "migration.backed_up"
	| "migration.step"
	| "migration.done"
	| "commit.begin"
	| "commit.done"
	| "commit.acknowledged"
	| "attempt.dispatched"
	| "attempt.answered"
	| "settle.committed"
	| "recover.begin"
	| "recover.done"
	| "deploy.bundle_stored"
	| "deploy.version_committed"
	| "deploy.switched"
	| "backup.step"
	| "backup.database_copied"
	| "backup.checked"
	| "restore.copied"
	| "restore.checked"
	| "restore.placed";

/** The part of pino's interface that we use. */
export interface Logger {
	debug(fields: object, message: string): void;
	info(fields: object, message: string): void;
	warn(fields: object, message: string): void;
	error(fields: object, message: string): void;
}

export interface Environment {
	readonly clock: Clock;
	readonly random: Random;
	readonly probe: Probe;
	readonly logger: Logger;
}

export const silentProbe: Probe = { hit: () => undefined };

export const silentLogger: Logger = {
	debug: () => undefined,
	info: () => undefined,
	warn: () => undefined,
	error: () => undefined,
};
