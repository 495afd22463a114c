/**
 * Whether a socket path may be ours: refuses what is no socket and what another daemon holds, removes what a dead
 * daemon left behind. It never removes anything but a socket that refused a connection.
 */
import { lstatSync, statSync, unlinkSync, type Stats } from "node:fs";
import { createConnection } from "node:net";
import { dirname, resolve } from "node:path";
import { damage, note, ok, warning, type Diagnosis } from "../core/diagnosis.ts";
import type { Clock } from "../core/environment.ts";
import { EngineError, messageOf } from "../core/errors.ts";

/** `sun_path` holds 108 bytes on Linux and 104 on macOS, the closing NUL included. */
const PATH_BYTES_MAX = process.platform === "darwin" ? 103 : 107;
/** Modes of a folder: everybody may write; but nobody may remove what is not his, as in /tmp. */
const OTHERS_WRITE = 0o002;
const STICKY = 0o1000;
/** A daemon whose loop is this busy is alive all the same. */
const PROBE_MS = 1_000;

/** Resolves when the path is free to bind. */
export async function freeSocketPath(path: string, clock: Clock): Promise<void> {
	const bytes = Buffer.byteLength(path);
	if (bytes === 0 || bytes > PATH_BYTES_MAX) {
		throw refusal(path, `the path has ${bytes} bytes; a socket path has 1 to ${PATH_BYTES_MAX}. Choose a shorter one`);
	}
	const folder = dirname(resolve(path));
	const stats = look(statSync, folder);
	if (stats?.isDirectory() !== true) {
		throw refusal(path, `${folder} is no folder; create it or choose another path`);
	}
	if ((stats.mode & OTHERS_WRITE) !== 0 && (stats.mode & STICKY) === 0) {
		throw refusal(
			path,
			`anybody may replace files in ${folder}, so another program could take the socket's place; run chmod o-w or choose another path`,
		);
	}
	const before = look(lstatSync, path);
	if (before === undefined) return;
	if (!before.isSocket()) throw refusal(path, `there is ${kindOf(before)}; remove it or choose another path`);
	const failure = await probe(path, clock);
	if (failure === "ENOENT") return;
	if (failure === "ECONNREFUSED") return removeStale(path, before);
	if (failure === "EACCES" || failure === "EPERM") {
		throw refusal(path, "there is a socket of another user; choose another path");
	}
	throw new EngineError(
		"SECOND_DAEMON",
		`a daemon answers on the socket ${path}; stop it, or choose another path with --socket`,
	);
}

/** The same look without touching anything. `running`: a daemon should answer there. */
export async function inspectSocketPath(path: string, running: boolean, clock: Clock): Promise<Diagnosis> {
	const check = "socket";
	const bytes = Buffer.byteLength(path);
	if (bytes === 0 || bytes > PATH_BYTES_MAX) {
		const message = `${path} has ${bytes} bytes; a socket path has 1 to ${PATH_BYTES_MAX}`;
		return damage(check, "BAD_ENVIRONMENT", message, "choose a shorter path with --socket");
	}
	const folder = dirname(resolve(path));
	if (look(statSync, folder)?.isDirectory() !== true) {
		return damage(check, "BAD_ENVIRONMENT", `${folder} is no folder`, "make it, or choose another path with --socket");
	}
	const stats = look(lstatSync, path);
	if (stats === undefined) {
		if (!running) return ok(check, `${path} is free`);
		return warning(check, `a daemon runs but its socket ${path} is gone: nobody can reach it`, "restart the daemon");
	}
	if (!stats.isSocket()) {
		return damage(
			check,
			"BAD_ENVIRONMENT",
			`${path} is ${kindOf(stats)}`,
			"remove it, or choose another path with --socket",
		);
	}
	const failure = await probe(path, clock);
	if (failure === "ECONNREFUSED") {
		const advice = running ? "restart the daemon" : "the next start replaces it, or `bunbase doctor --fix`";
		return warning(check, `${path} was left by a daemon that is gone`, advice, { kind: "socket", path });
	}
	if (failure !== undefined && failure !== "ENOENT") {
		return warning(
			check,
			`${path} cannot be reached (${failure})`,
			"ask as the user of the daemon, or choose another path",
		);
	}
	if ((stats.mode & 0o077) !== 0) {
		const message = `${path} has mode ${(stats.mode & 0o777).toString(8)}: other users can call functions and change them`;
		return warning(check, message, "restart the daemon, or chmod 600 the socket");
	}
	if (running) return ok(check, `a daemon answers on ${path}`);
	return note(check, `another daemon, with another data folder, answers on ${path}`, {
		advice: "give this one a socket of its own with --socket",
	});
}

/** Only while it is still the file that refused us: another daemon may have bound the path since. */
function removeStale(path: string, before: Stats): void {
	const now = look(lstatSync, path);
	if (now === undefined) return;
	if (now.ino !== before.ino || now.dev !== before.dev) {
		throw new EngineError("SECOND_DAEMON", `another daemon has just taken the socket ${path}`);
	}
	try {
		unlinkSync(path);
	} catch (error) {
		throw refusal(path, `a dead daemon's socket cannot be removed: ${messageOf(error)}`, error);
	}
}

/** The code of a failed connection attempt, or undefined where something answers (or is too busy to). */
function probe(path: string, clock: Clock): Promise<string | undefined> {
	const { promise, resolve } = Promise.withResolvers<string | undefined>();
	const socket = createConnection(path);
	const timer = clock.setTimer(PROBE_MS, () => resolve(undefined));
	socket.once("connect", () => resolve(undefined));
	// EAGAIN is a full backlog, which only a listener has.
	socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "EAGAIN" ? undefined : error.code));
	return promise.finally(() => {
		timer.cancel();
		socket.destroy();
	});
}

function look(stat: (path: string) => Stats, path: string): Stats | undefined {
	try {
		return stat(path);
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code === "ENOENT" || code === "ENOTDIR") return undefined;
		throw refusal(path, messageOf(error), error);
	}
}

function kindOf(stats: Stats): string {
	if (stats.isDirectory()) return "a folder";
	if (stats.isSymbolicLink()) return "a symbolic link";
	return stats.isFile() ? "a regular file" : "something that is no socket";
}

function refusal(path: string, why: string, cause?: unknown): EngineError {
	return new EngineError("BAD_ENVIRONMENT", `cannot listen on ${JSON.stringify(path)}: ${why}`, { cause });
}
