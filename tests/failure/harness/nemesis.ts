/**
 * What goes wrong, decided before it does: a schedule of faults as values from a seed, and the one place that carries
 * them out. Each is written into the history.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { seededRandom } from "../../support/seed.ts";
import type { History } from "./history.ts";
import { between, pick } from "./plans.ts";
import type { Subject } from "./subject.ts";

export type Fault =
	/** kill -9 of the daemon, then a new start. */
	| { readonly fault: "kill daemon" }
	/** SIGTERM, its clean end, then a new start. */
	| { readonly fault: "stop daemon" }
	/** SIGSTOP, then SIGCONT. */
	| { readonly fault: "freeze daemon"; readonly ms: number }
	/** A signal to one worker, whichever `which` (0 to 1) falls on. */
	| {
			readonly fault: "kill worker";
			readonly signal: "SIGKILL" | "SIGSEGV" | "SIGTERM" | "SIGABRT";
			readonly which: number;
	  }
	| { readonly fault: "freeze worker"; readonly ms: number; readonly which: number };

export type Step = Fault & { readonly afterMs: number };

export interface ScheduleOptions {
	readonly count: number;
	/** Life between two faults, drawn so that short lives are as frequent as long ones. */
	readonly minMs: number;
	readonly maxMs: number;
	/** Each is as likely as it is often here. */
	readonly kinds: readonly Fault["fault"][];
}

export function schedule(seed: number, options: ScheduleOptions): Step[] {
	const random = seededRandom(seed);
	return Array.from({ length: options.count }, (): Step => {
		const fault = pick(random, options.kinds);
		const afterMs = Math.round(options.minMs * (options.maxMs / options.minMs) ** random.next());
		const which = random.next();
		const ms = between(random, 50, 1_000);
		const signal = pick(random, ["SIGKILL", "SIGSEGV", "SIGTERM", "SIGABRT"] as const);
		switch (fault) {
			case "kill daemon":
			case "stop daemon":
				return { fault, afterMs };
			case "freeze daemon":
				return { fault, afterMs, ms };
			case "kill worker":
				return { fault, afterMs, which, signal };
			case "freeze worker":
				return { fault, afterMs, ms, which };
		}
	});
}

/** Carries out the schedule; the daemon runs when it resolves. The signal is that of a test that ran out of time. */
export async function unleash(
	steps: readonly Step[],
	subject: Subject,
	history: History,
	signal?: AbortSignal,
): Promise<void> {
	for (const step of steps) {
		signal?.throwIfAborted();
		await sleep(step.afterMs);
		await strike(step, subject, history);
	}
}

async function strike(step: Step, subject: Subject, history: History): Promise<void> {
	const { daemon } = subject;
	switch (step.fault) {
		case "kill daemon":
			history.fault(`kill -9 of the daemon ${daemon.pid}`);
			await daemon.kill();
			await restart(subject, history);
			return;
		case "stop daemon": {
			history.fault(`SIGTERM to the daemon ${daemon.pid}`);
			const code = await daemon.stop();
			if (code !== 0) throw new Error(`a clean stop ended with ${code}:\n${daemon.lines.slice(-20).join("\n")}`);
			await restart(subject, history);
			return;
		}
		case "freeze daemon":
			history.fault(`SIGSTOP to the daemon ${daemon.pid} for ${step.ms} ms`);
			daemon.process.kill("SIGSTOP");
			await sleep(step.ms);
			daemon.process.kill("SIGCONT");
			history.fault("SIGCONT to the daemon");
			return;
		case "kill worker": {
			const pid = await victim(subject, step.which);
			if (pid === undefined) return;
			history.fault(`${step.signal} to worker ${pid}`);
			signal(pid, step.signal);
			return;
		}
		case "freeze worker": {
			const pid = await victim(subject, step.which);
			if (pid === undefined) return;
			history.fault(`SIGSTOP to worker ${pid} for ${step.ms} ms`);
			signal(pid, "SIGSTOP");
			await sleep(step.ms);
			signal(pid, "SIGCONT");
			history.fault(`SIGCONT to worker ${pid}`);
		}
	}
}

async function restart(subject: Subject, history: History): Promise<void> {
	const { pid } = await subject.start();
	history.fault(`daemon ${pid} is ready after ${Math.round(subject.bootsMs.at(-1) ?? 0)} ms`);
}

async function victim(subject: Subject, which: number): Promise<number | undefined> {
	const workers = await subject.workers();
	return workers[Math.floor(which * workers.length)]?.pid;
}

/** A worker may have ended since it was chosen. */
function signal(pid: number, name: NodeJS.Signals): void {
	try {
		process.kill(pid, name);
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
	}
}
