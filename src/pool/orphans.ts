/**
 * Workers that a dead daemon left behind, and what their functions had started. `--no-orphans` ends nearly all of them;
 * this finds the rest, kills them and waits until they are gone, because work is run again only when its process is
 * proven gone. Linux only: elsewhere there is no /proc and nothing is found.
 *
 * A worker has the instance's marker in its environment. Its children have not, because functions do not see it, or have
 * another environment altogether; but they have no terminal, and began in their worker's own folder.
 */
import { readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { EngineError } from "../core/errors.ts";
import { WORKER_FOLDER, WORKER_MARKER } from "./process.ts";

const POLL_MS = 10;
/** A process that survives SIGKILL this long hangs in the kernel; nothing of ours can end it. */
const GONE_MS_MAX = 10_000;

function read(path: string): string | undefined {
	try {
		return readFileSync(path, "latin1");
	} catch {
		return undefined;
	}
}

/** What follows the name in /proc/PID/stat: state, parent, group, session, terminal, … The name may hold anything. */
function statOf(pid: number): string[] {
	const stat = read(`/proc/${pid}/stat`) ?? "";
	return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** A process that has ended counts as gone, also while nobody has reaped it. */
function lives(pid: number): boolean {
	const [state = ""] = statOf(pid);
	return state !== "" && state !== "Z" && state !== "X";
}

/** Whether its working folder is a worker's. One with a terminal is somebody who looks around. */
function isAtHome(pid: number, home: string | undefined): boolean {
	if (home === undefined) return false;
	try {
		return readlinkSync(`/proc/${pid}/cwd`).startsWith(home) && statOf(pid)[4] === "0";
	} catch {
		return false;
	}
}

function find(marker: string, home: string | undefined): number[] {
	let names: string[];
	try {
		names = readdirSync("/proc");
	} catch {
		return [];
	}
	return names.flatMap((name) => {
		const pid = Number(name);
		if (!Number.isInteger(pid) || pid === process.pid) return [];
		const marked = read(`/proc/${name}/environ`)?.split("\0").includes(marker) === true;
		return (marked || isAtHome(pid, home)) && lives(pid) ? [pid] : [];
	});
}

/**
 * Resolves with how many processes of `instanceId` were found; all are gone now. `tempDir` is where its workers have
 * their folders. It waits for the kernel, not for the engine's time, so it takes no Clock.
 */
export async function sweepOrphans(instanceId: string, tempDir?: string): Promise<number> {
	const marker = `${WORKER_MARKER}=${instanceId}`;
	// As the kernel names it.
	const home = tempDir === undefined ? undefined : join(realpathSync(tempDir), WORKER_FOLDER);
	const killed = new Set<number>();
	const until = performance.now() + GONE_MS_MAX;
	// Looks again each time: a process may have been forking while it was read.
	for (let pids = find(marker, home); pids.length > 0; pids = find(marker, home)) {
		for (const pid of pids) {
			killed.add(pid);
			try {
				process.kill(pid, "SIGKILL");
			} catch {
				// It ended between the look and the kill.
			}
		}
		if (performance.now() > until) {
			throw new EngineError(
				"BAD_ENVIRONMENT",
				`workers of the last run do not end: pid ${pids.join(", ")}; end them or restart the machine, then start again`,
			);
		}
		await wait(POLL_MS);
	}
	return killed.size;
}
