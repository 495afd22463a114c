/**
 * Workers that a dead daemon left behind. `--no-orphans` ends nearly all of them; this finds the rest by the marker
 * in their environment, kills them and waits until they are gone, because work is run again only when its process
 * is proven gone. Linux only: elsewhere there is no /proc and nothing is found.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { EngineError } from "../core/errors.ts";
import { WORKER_MARKER } from "./process.ts";

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

/** A process that has ended counts as gone, also while nobody has reaped it. */
function lives(pid: number): boolean {
	const stat = read(`/proc/${pid}/stat`);
	// `pid (name) state …`: the name may hold anything, so the state is what follows the last parenthesis.
	return stat !== undefined && !["Z", "X"].includes(stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3));
}

function find(marker: string): number[] {
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
		return marked && lives(pid) ? [pid] : [];
	});
}

/**
 * Resolves with how many workers of `instanceId` were found; all are gone now. It waits for the kernel, not for the
 * engine's time, so it takes no Clock.
 */
export async function sweepOrphans(instanceId: string): Promise<number> {
	const marker = `${WORKER_MARKER}=${instanceId}`;
	const killed = new Set<number>();
	const until = performance.now() + GONE_MS_MAX;
	// Looks again each time: a process may have been forking while it was read.
	for (let pids = find(marker); pids.length > 0; pids = find(marker)) {
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
