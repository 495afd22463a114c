/**
 * What goes wrong in a simulated world, and when: it kills the daemon at named points of its code, takes and gives
 * back disk space, moves the wall clock, strikes processes, holds everything up, and answers for attempts that are
 * long over.
 */
import type { ProbePoint } from "../../src/core/environment.ts";
import { isTerminal } from "../../src/core/invocation.ts";
import type { Claim } from "../../src/queue/index.ts";
import type { Clients } from "./clients.ts";
import type { Coverage } from "./coverage.ts";
import type { Daemon } from "./daemon.ts";
import type { Disk } from "./disk.ts";
import type { History } from "./history.ts";
import type { Ledger, Row } from "./ledger.ts";
import type { SimProcess } from "./processes.ts";
import type { Chance } from "./random.ts";
import type { Scheduler } from "./scheduler.ts";

/** Points of the engine's code at which it may die, and the two sides of a COMMIT. */
export type Point =
	| Extract<ProbePoint, `${"commit" | "attempt" | "settle" | "recover"}.${string}`>
	| "commit.before"
	| "commit.after";

export interface NemesisDeps {
	readonly chance: Chance;
	readonly scheduler: Scheduler;
	readonly disk: Disk;
	readonly ledger: Ledger;
	readonly history: History;
	readonly coverage: Coverage;
	readonly clients: Clients;
	readonly processes: ReadonlySet<SimProcess>;
	readonly daemon: () => Daemon | undefined;
	readonly restart: () => void;
	/** The wall clock jumped, or everything stood still. */
	readonly disturbed: () => void;
}

const DEATHS = [
	"commit.begin",
	"commit.before",
	"commit.after",
	"commit.done",
	"commit.acknowledged",
	"settle.committed",
	"attempt.dispatched",
	"attempt.answered",
] as const satisfies readonly Point[];

const KINDS = {
	crashAt: 26,
	crashNow: 8,
	toldInPart: 5,
	crashLoop: 1.5,
	cleanRestart: 5,
	strike: 14,
	jump: 6,
	stall: 6,
	fullDisk: 8,
	ioError: 5,
	busy: 4,
	badItem: 4,
	checkpoint: 4,
	lateLoop: 5,
	stale: 12,
	operate: 14,
} as const;

export class Nemesis {
	readonly #deps: NemesisDeps;
	/** Where the daemon dies next: at this point, after it was passed this often. */
	#death: { readonly point: Point; left: number } | undefined;
	#toldInPart = 0;
	/** Daemons to come that die as soon as they have started something. */
	#loop = 0;
	crashes = 0;
	strikes = 0;
	jumps = 0;
	fullDisks = 0;
	quiet = false;

	constructor(deps: NemesisDeps) {
		this.#deps = deps;
	}

	/** Peace: what was armed does not happen any more. */
	rest(): void {
		this.quiet = true;
		this.#death = undefined;
		this.#toldInPart = 0;
		this.#loop = 0;
		this.#deps.scheduler.latenessMs = 0;
		this.#deps.disk.heal();
	}

	/** The next daemon is to come soon, because this one died in a loop of deaths. */
	get looping(): boolean {
		return this.#loop > 0;
	}

	/** A new daemon starts: sometimes it dies while it recovers, a few times in a row. */
	booting(): void {
		const { chance } = this.#deps;
		if (this.quiet) return;
		this.#death = undefined;
		if (this.#loop > 0) {
			this.#loop -= 1;
			this.#death = { point: "attempt.dispatched", left: 1 };
		} else if (chance.oneIn(8)) {
			const point = chance.pick([
				"recover.begin",
				"recover.done",
				"commit.before",
				"commit.after",
				"commit.begin",
			] as const);
			this.#death = { point, left: 1 };
		}
	}

	/** True where the daemon dies here. */
	passes(point: Point | ProbePoint): boolean {
		if (this.#toldInPart > 0 && point === "commit.done") this.#tellInPart();
		const death = this.#death;
		if (death === undefined || death.point !== point) return false;
		death.left -= 1;
		if (death.left > 0) return false;
		this.#death = undefined;
		this.#deps.coverage.fault(`crash:${death.point}`);
		return true;
	}

	/** Some of those who are told by a commit hear it, and the others do not. */
	#tellInPart(): void {
		const there = this.#deps.daemon();
		if (there === undefined) return;
		let left = this.#toldInPart;
		this.#toldInPart = 0;
		const hop = (): void => {
			left -= 1;
			if (left > 0) queueMicrotask(hop);
			else if (there.alive) {
				this.#deps.coverage.fault("crash:told-in-part");
				this.#deps.history.add("the daemon dies while it tells");
				there.die("told in part");
			}
		};
		queueMicrotask(hop);
	}

	act(): void {
		if (this.quiet) return;
		const { chance, scheduler, disk, history, coverage, clients, daemon, restart, disturbed } = this.#deps;
		const kind = chance.weighted(KINDS);
		history.add(`nemesis: ${kind}`);
		switch (kind) {
			case "crashAt":
				this.#death = { point: chance.pick(DEATHS), left: chance.magnitude(1, 30) };
				return;
			case "crashNow":
				if (daemon()?.alive !== true) return;
				coverage.fault("crash:anywhere");
				daemon()?.die("struck");
				return;
			case "toldInPart":
				this.#toldInPart = chance.between(1, 9);
				return;
			case "crashLoop":
				coverage.fault("crash:loop");
				this.#loop = chance.between(3, 14);
				daemon()?.die("struck");
				return;
			case "cleanRestart":
				restart();
				return;
			case "strike":
				this.#strike();
				return;
			case "jump":
				this.#jump();
				return;
			case "stall":
				coverage.fault("stall");
				scheduler.stall(chance.magnitude(30, 10_000));
				disturbed();
				return;
			case "fullDisk":
				this.#fullDisk();
				return;
			case "ioError": {
				const when = chance.pick(["ioerr-before", "ioerr-after", "sync-fails"] as const);
				coverage.fault(`disk:${when}`);
				if (when === "sync-fails") disk.failSync();
				else disk.failCommit(when, chance.magnitude(1, 20));
				return;
			}
			case "busy": {
				coverage.fault("disk:busy");
				const until = scheduler.monotonic + chance.magnitude(5, 3_000);
				disturbed();
				disk.lockWhile(() => scheduler.monotonic < until);
				scheduler.after(until - scheduler.monotonic + 1, disturbed);
				return;
			}
			case "badItem":
				coverage.fault("disk:bad-item");
				disk.spoilInsert(chance.between(1, 5));
				disturbed();
				return;
			case "checkpoint":
				coverage.fault("disk:checkpoint");
				disk.forceCheckpoint();
				return;
			case "lateLoop":
				coverage.fault("loop:late");
				scheduler.latenessMs = chance.magnitude(1, 120);
				disturbed();
				scheduler.after(chance.magnitude(500, 10_000), () => {
					scheduler.latenessMs = 0;
					disturbed();
				});
				return;
			case "stale":
				this.#stale();
				return;
			case "operate":
				clients.operate();
		}
	}

	/** A process, or all of them, die of something outside. */
	#strike(): void {
		const { chance, processes, coverage } = this.#deps;
		const all = [...processes].filter(({ dead }) => !dead);
		if (all.length === 0) return;
		const struck = chance.oneIn(5) ? all : [chance.pick(all.filter(({ busy }) => busy > 0).concat(all))];
		for (const process of struck) {
			this.strikes += 1;
			coverage.fault("worker:killed");
			process.struck(0);
		}
	}

	#jump(): void {
		const { chance, scheduler, coverage, disturbed } = this.#deps;
		this.jumps += 1;
		const ms = chance.magnitude(10, chance.oneIn(4) ? 3 * 86_400_000 : 600_000);
		const back = chance.oneIn(2);
		coverage.fault(back ? "clock:back" : "clock:forward");
		scheduler.jumpWall(back ? -ms : ms);
		disturbed();
	}

	#fullDisk(): void {
		const { chance, scheduler, disk, coverage, disturbed } = this.#deps;
		if (disk.full) return;
		this.fullDisks += 1;
		coverage.fault("disk:full");
		disk.fill(chance.between(0, 10));
		disturbed();
		scheduler.after(chance.magnitude(50, 60_000), () => {
			disk.freeSpace();
			disturbed();
		});
	}

	/** An answer that was under way for a very long time: of an attempt that is over. */
	#stale(): void {
		const { chance, ledger, daemon, coverage, history } = this.#deps;
		const there = daemon();
		const queue = there?.ready === true ? there.parts?.queue : undefined;
		if (queue === undefined) return;
		const rows = [...ledger.rows.values()].slice(-300);
		const retried = rows.filter(({ state, attempt }) => attempt > 1 || (attempt === 1 && state !== "running"));
		const running = retried.filter(({ state }) => state === "running");
		if (retried.length === 0) return;
		const row: Row = chance.pick(running.length > 0 ? running : retried);
		const attempt = row.state === "running" ? row.attempt - 1 : row.attempt;
		const { atMostOnce, seq, laneKey, createdAt, runAt, deadlineAt } = row;
		const claim: Claim = {
			seq,
			invocationId: row.id,
			lane: queue.lanes.get(row.lane),
			laneKey,
			version: row.lane,
			attempt,
			charged: 0,
			maxAttempts: 1000,
			atMostOnce,
			workerDeaths: 0,
			daemonDeaths: 0,
			solo: false,
			createdAt,
			runAt,
			deadlineAt,
			startedAt: createdAt,
			ticket: { worker: "w0", cold: false, release: () => undefined },
			method: "POST",
			path: row.path,
			headersJson: "[]",
			queryJson: "[]",
			body: new Uint8Array(),
			cancelAsked: false,
		};
		coverage.fault("answer:stale");
		history.add(`a stale answer for ${seq} #${attempt}, which is ${row.state} #${row.attempt}`);
		const outcome = chance.oneIn(2)
			? ({ kind: "succeeded", status: 200, headers: [], body: new TextEncoder().encode("stale") } as const)
			: ({ kind: "failed", error: { code: "HANDLER_ERROR", message: "stale" } } as const);
		const wasTerminal = isTerminal(row.state);
		queue.settle(claim, outcome, (settled) => {
			// Between the asking and the commit the row may have come to be the one that is answered: never for one that had ended.
			if (settled !== "stale" && (wasTerminal || row.attempt > attempt)) {
				ledger.violate("Q5", `a stale answer for ${seq} #${attempt} made it ${settled}`);
			}
		});
	}
}
