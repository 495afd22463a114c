/** What the kernel says of a process. */
import { readdirSync, readFileSync } from "node:fs";

/** R, S, D, T (stopped), Z (dead, but its parent has not looked); undefined where there is none. */
export function stateOf(pid: number): string | undefined {
	try {
		const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
		// The command's name stands in parentheses and may hold anything; the state follows the last one.
		return stat[stat.lastIndexOf(")") + 2];
	} catch {
		return undefined;
	}
}

/** Whether a process does not run any more. A zombie does not. */
export function isGone(pid: number): boolean {
	return ["Z", "X", undefined].includes(stateOf(pid));
}

/** Resident bytes; 0 where there is no such process. */
export function residentBytes(pid: number): number {
	try {
		return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? 0) * 1024;
	} catch {
		return 0;
	}
}

/** Those that it started and that run; by all of them, because the kernel's own list has only what the first thread started. */
export function childrenOf(pid: number): number[] {
	return readdirSync("/proc").flatMap((name) => {
		if (!/^\d+$/.test(name)) return [];
		try {
			const stat = readFileSync(`/proc/${name}/stat`, "latin1");
			return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]) === pid ? [Number(name)] : [];
		} catch {
			return [];
		}
	});
}
