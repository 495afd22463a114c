/** A cgroup (version 1) of its own for one test, emptied and removed at its end. */
import { accessSync, constants, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isGone } from "../../support/processes.ts";
import type { Need } from "../fault.ts";

const ROOT = "/sys/fs/cgroup";

type Controller = "memory" | "pids";

/** Needed where cgroup version 1 with this controller can be written. */
export function cgroups(controller: Controller): Need {
	return () => {
		const folder = join(ROOT, controller);
		try {
			accessSync(join(folder, "cgroup.procs"), constants.W_OK);
			const tried = join(folder, `bunbase-try-${process.pid}`);
			mkdirSync(tried);
			rmdirSync(tried);
			return undefined;
		} catch {
			return `needs a writable cgroup (version 1) with the controller ${controller}`;
		}
	};
}

export interface Cgroup extends Disposable {
	set(file: string, value: number): void;
	add(pid: number): void;
	pids(): number[];
}

export function cgroup(controller: Controller): Cgroup {
	const path = join(ROOT, controller, `bunbase-test-${process.pid}`);
	mkdirSync(path);
	const group: Cgroup = {
		set: (file, value) => writeFileSync(join(path, file), `${value}`),
		add: (pid) => writeFileSync(join(path, "cgroup.procs"), `${pid}`),
		pids: () => readFileSync(join(path, "cgroup.procs"), "utf8").split("\n").filter(Boolean).map(Number),
		[Symbol.dispose]() {
			const until = performance.now() + 10_000;
			for (let left = group.pids(); left.length > 0 && performance.now() < until; left = group.pids()) {
				for (const pid of left) {
					// A process that is killed stays listed until its parent has looked.
					if (!isGone(pid)) kill(pid);
				}
				if (left.every(isGone)) break;
			}
			removeWhenEmpty(path, until);
		},
	};
	return group;
}

function kill(pid: number): void {
	try {
		process.kill(pid, "SIGKILL");
	} catch {
		// It ended between the look and the kill.
	}
}

function removeWhenEmpty(path: string, until: number): void {
	for (;;) {
		try {
			rmdirSync(path);
			return;
		} catch (error) {
			// Busy until the kernel has done with the last process.
			if (performance.now() > until) throw error;
		}
	}
}
