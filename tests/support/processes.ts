/** Whether a process runs. A zombie does not: it is dead, and only waits for its parent to look. */
import { readFileSync } from "node:fs";

export function isGone(pid: number): boolean {
	try {
		const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
		// The command's name stands in parentheses and may hold anything; the state follows the last one.
		return stat[stat.lastIndexOf(")") + 2] === "Z";
	} catch {
		return true;
	}
}
