/**
 * One simulated world: an engine, its machine, its clients and its nemesis, from a seed. It runs for some simulated
 * days, then in peace until all work has ended, and is checked after each step, each day, each restart and at the end.
 *
 * Idle stretches are slept through: where nothing is due and nobody acts, time moves to shortly before the next thing,
 * and the engine's regular looks find that they are late. Now and then a stretch is lived through step by step.
 */
import { silentLogger, silentProbe, type Environment } from "../../src/core/environment.ts";
import { isTerminal } from "../../src/core/invocation.ts";
import { HELD_AT } from "../../src/queue/turns.ts";
import { FunctionStore, type Database } from "../../src/store/index.ts";
import { Clients } from "./clients.ts";
import { countSettlements, Coverage } from "./coverage.ts";
import { CronBook } from "./cron-book.ts";
import { Daemon, type Pending } from "./daemon.ts";
import { Died, Disk, type Commit } from "./disk.ts";
import { fsck } from "./fsck.ts";
import { History } from "./history.ts";
import { Ledger, type Row, type Violation } from "./ledger.ts";
import { Nemesis, type Point } from "./nemesis.ts";
import { planWorld, type WorldPlan } from "./plan.ts";
import type { SimProcess } from "./processes.ts";
import { Chance } from "./random.ts";
import { Scheduler, turnOfLoop } from "./scheduler.ts";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** How long before the next thing a sleep ends. */
const AWAKE_MS = 2_000;
/** What a daemon that is well may take for what it does at once. */
const PROMPT_MS = 3_000;
/** From when the last of it is due until all work has ended: retries, and what waits behind them. */
const PEACE_MS = 2 * HOUR;
/** Steps of one instant: a turn that asks for the next without end keeps time from moving. */
const STEPS_OF_INSTANT_MAX = 5_000;
/** What a full, a failing and a locked disk may answer a start. */
const REFUSED_STARTS: ReadonlySet<string> = new Set(["STORAGE_FULL", "STORE_ERROR", "STORE_BUSY", "IO_ERROR"]);
/** Timers that an engine at work may hold. */
const TIMERS_MAX = 2_000;

export interface Figures {
	days: number;
	steps: number;
	invocations: number;
	attempts: number;
	commits: number;
	daemons: number;
	crashes: number;
	strikes: number;
	jumps: number;
	fullDisks: number;
	slots: number;
	unknown: number;
}

export interface Result {
	readonly seed: number;
	readonly days: number;
	readonly digest: string;
	readonly violation: Violation | undefined;
	/** Simulated hours until the violation, or of the run. */
	readonly hours: number;
	readonly figures: Figures;
	readonly coverage: Coverage;
	/** The last lines of the history. */
	readonly last: readonly string[];
}

export interface WorldOptions {
	readonly seed: number;
	readonly days: number;
}

/** Runs one world to its end, or to the first invariant that is broken. */
export async function runWorld(options: WorldOptions): Promise<Result> {
	const world = new World(options);
	try {
		return await world.run();
	} finally {
		world.dispose();
	}
}

class World {
	readonly #options: WorldOptions;
	readonly #chance: Chance;
	readonly #plan: WorldPlan;
	readonly #scheduler: Scheduler;
	readonly #history: History;
	readonly #coverage = new Coverage();
	readonly #ledger: Ledger;
	readonly #cron: CronBook;
	readonly #disk: Disk;
	readonly #clients: Clients;
	readonly #nemesis: Nemesis;
	readonly #processes = new Set<SimProcess>();
	#daemon: Daemon | undefined;
	#pids = 1000;
	#daemons = 0;
	#steps = 0;
	/** Since when clock, disk and loop have been well; monotonic. */
	#wellSince = 0;
	/** Since when the wall clock has not jumped; monotonic. */
	#steadySince = 0;
	#instant = 0;
	#stepsOfInstant = 0;
	#committed = false;
	#closing = false;

	constructor(options: WorldOptions) {
		this.#options = options;
		this.#chance = new Chance(options.seed);
		this.#plan = planWorld(this.#chance.stream("plan"));
		this.#scheduler = new Scheduler(this.#chance.stream("scheduler"), this.#plan.startAt);
		const scheduler = this.#scheduler;
		this.#history = new History(scheduler);
		this.#ledger = new Ledger(this.#plan, scheduler, this.#history, this.#coverage);
		this.#ledger.steadyFor = (ms) => scheduler.monotonic - this.#steadySince >= ms;
		this.#cron = new CronBook(this.#plan, this.#ledger, scheduler);
		this.#disk = new Disk(this.#chance.stream("disk"), {
			committed: (commit) => this.#onCommit(commit),
			beforeCommit: () => this.#pass("commit.before"),
			afterCommit: () => this.#pass("commit.after"),
		});
		const common = {
			chance: this.#chance,
			scheduler,
			ledger: this.#ledger,
			history: this.#history,
			coverage: this.#coverage,
			daemon: () => (this.#daemon?.alive === true ? this.#daemon : undefined),
		};
		this.#clients = new Clients({
			...common,
			chance: this.#chance.stream("clients"),
			plan: this.#plan,
			processes: this.#processes,
			cron: this.#cron,
			schedulesChanged: () => this.#readSchedules(),
		});
		this.#nemesis = new Nemesis({
			...common,
			chance: this.#chance.stream("nemesis"),
			disk: this.#disk,
			clients: this.#clients,
			processes: this.#processes,
			restart: () => this.#restart(),
			disturbed: () => this.#disturbed(),
		});
		const environment: Environment = {
			clock: scheduler.clockOf(() => false),
			random: this.#chance,
			probe: silentProbe,
			logger: silentLogger,
		};
		this.#disk.create(environment, (metadata) => this.#deploy(metadata));
	}

	dispose(): void {
		if (this.#daemon !== undefined) this.#daemon.alive = false;
		this.#scheduler.forgetDaemon();
		this.#disk.dispose();
	}

	async run(): Promise<Result> {
		const unhandled = (error: unknown): void => {
			if (!(error instanceof Died))
				this.#ledger.violate("I12", `nobody handled ${String((error as Error).stack ?? error)}`);
		};
		process.on("unhandledRejection", unhandled);
		countSettlements((event, to) => this.#coverage.settlement(event, to));
		try {
			await this.#live();
		} catch (error) {
			this.#ledger.violate("HARNESS", String((error as Error).stack ?? error));
		} finally {
			process.off("unhandledRejection", unhandled);
			countSettlements(undefined);
		}
		const { monotonic } = this.#scheduler;
		return {
			seed: this.#options.seed,
			days: this.#options.days,
			violation: this.#ledger.violation,
			hours: monotonic / HOUR,
			figures: {
				days: monotonic / DAY,
				steps: this.#steps,
				invocations: this.#ledger.accepted,
				attempts: this.#ledger.attempts,
				commits: this.#disk.commits,
				daemons: this.#daemons,
				crashes: this.#nemesis.crashes,
				strikes: this.#nemesis.strikes,
				jumps: this.#nemesis.jumps,
				fullDisks: this.#nemesis.fullDisks,
				slots: this.#cron.decisions,
				unknown: this.#clients.unknown,
			},
			coverage: this.#coverage,
			last: this.#history.last(60),
			digest: this.#history.digest(),
		};
	}

	// --- the course of a world ---------------------------------------------------------------------------------------
	async #live(): Promise<void> {
		this.#boot();
		await turnOfLoop();
		const { days } = this.#options;
		for (let day = 1; day < days + 1; day += 1) {
			const until = Math.min(day, days) * DAY;
			this.#planDay(day - 1);
			await this.#until(() => this.#scheduler.monotonic >= until, Number.POSITIVE_INFINITY);
			this.#fsck();
		}
		await this.#peace();
	}

	/** Everything heals; what is there must end, and new work must run. */
	async #peace(): Promise<void> {
		this.#history.add("peace");
		this.#nemesis.rest();
		this.#disturbed();
		this.#boot();
		await this.#until(
			() => this.#daemon?.ready === true,
			MINUTE,
			"I11",
			"no daemon is up a minute after all faults ended",
		);
		for (const { name } of this.#plan.functions) this.#daemon?.engine.pauseLane(name, false);
		const old = [...this.#ledger.rows.values()].filter(({ state }) => !isTerminal(state));
		const isOver = (): boolean => old.every(({ state }) => isTerminal(state));
		// A clock that was set back makes all that was delayed wait longer.
		const delayed = old.filter(({ runAt }) => runAt !== HELD_AT);
		const due = Math.max(0, ...delayed.map(({ runAt }) => runAt - this.#scheduler.wall));
		await this.#until(isOver, due + PEACE_MS, "I11", () => {
			const { seq, state, attempt, lane, runAt } = old.find((row) => !isTerminal(row.state)) as Row;
			return `row ${seq} of lane ${lane} is ${state} #${attempt}, due ${runAt}, hours after all faults ended`;
		});
		const paths = new Set(this.#plan.functions.map((plan) => this.#clients.fresh(plan)));
		const fresh = (): Row[] => [...this.#ledger.rows.values()].filter(({ path }) => paths.has(path));
		const ran = (): boolean => fresh().filter(({ state }) => state === "succeeded").length === paths.size;
		await this.#until(ran, 10 * SECOND, "I11", () => `new work does not run: ${JSON.stringify(fresh())}`);
		this.#fsck();
		this.#closing = true;
		this.#daemon?.stop(() => {
			this.#history.add("stopped");
			this.#daemon = undefined;
		});
		await this.#until(
			() => this.#daemon === undefined && this.#processes.size === 0,
			MINUTE,
			"I9",
			() => {
				return `a minute after the stop ${this.#processes.size} processes are left`;
			},
		);
		if (this.#scheduler.armed > 0)
			this.#ledger.violate("I9", `${this.#scheduler.armed} timers are left after the stop`);
	}

	/** Steps until something holds; time that is given without a reason passes in any case. */
	async #until(
		done: () => boolean,
		withinMs: number,
		invariant?: string,
		what?: string | (() => string),
	): Promise<void> {
		const end = this.#scheduler.monotonic + withinMs;
		while (this.#ledger.violation === undefined && !done()) {
			if (this.#scheduler.monotonic > end) {
				this.#ledger.violate(invariant ?? "HARNESS", typeof what === "function" ? what() : (what ?? "took too long"));
				return;
			}
			await this.#step();
		}
	}

	async #step(): Promise<void> {
		this.#sleep();
		const run = this.#scheduler.take();
		if (run === undefined) {
			this.#ledger.violate("HARNESS", "nothing happens any more");
			return;
		}
		this.#steps += 1;
		this.#countStep();
		run();
		await turnOfLoop();
		this.#check();
	}

	/** B1: an engine at work does not turn for ever without time moving on. */
	#countStep(): void {
		const { monotonic } = this.#scheduler;
		this.#stepsOfInstant = monotonic === this.#instant ? this.#stepsOfInstant + 1 : 0;
		this.#instant = monotonic;
		if (this.#stepsOfInstant > STEPS_OF_INSTANT_MAX) {
			this.#ledger.violate("B1", `${STEPS_OF_INSTANT_MAX} steps at one instant: the loop turns without end`);
		}
	}

	/** Where nobody acts and nothing is due for a while, time moves on without the engine. */
	#sleep(): void {
		const { monotonic, wall, nextInWorld, nextTimer } = this.#scheduler;
		if (nextInWorld - monotonic < 3 * AWAKE_MS || nextTimer - monotonic > 3 * AWAKE_MS) return;
		const daemon = this.#daemon;
		if (daemon !== undefined && (!daemon.ready || daemon.pending.size > 0 || daemon.parts?.queue.idle === false))
			return;
		for (const lane of this.#ledger.lanes.values()) if (lane.running > 0 || lane.ready > 0) return;
		const next = Math.min(nextInWorld, monotonic + Math.min(this.#cron.nextSlot, this.#disk.nextDue) - wall);
		const ms = next - monotonic - AWAKE_MS;
		if (ms < AWAKE_MS || this.#chance.oneIn(400)) return;
		// A day has an end that somebody waits for.
		this.#scheduler.stall(Math.min(ms, HOUR));
	}

	/** Hours of rest, and in between some seconds in which everybody wants something and things go wrong. */
	#planDay(day: number): void {
		const chance = this.#chance.stream(`day ${day}`);
		// Nobody sleeps past the end of a day: what the next one brings is not known before.
		this.#scheduler.after((day + 1) * DAY - this.#scheduler.monotonic, () => undefined);
		const bursts = chance.between(8, 16);
		for (let burst = 0; burst < bursts; burst += 1) {
			// Quarters of an hour are when schedules fire.
			const at = chance.oneIn(2)
				? chance.between(0, 95) * 15 * MINUTE - (this.#plan.startAt % (15 * MINUTE)) - chance.between(0, 5_000)
				: chance.between(0, DAY - 1);
			this.#planBurst(chance, day * DAY + Math.max(0, at));
		}
	}

	#planBurst(chance: Chance, at: number): void {
		const { monotonic } = this.#scheduler;
		const lasts = chance.magnitude(3_000, 60_000);
		const moments = (count: number, act: () => void): void => {
			for (let index = 0; index < count; index += 1)
				this.#scheduler.after(at + chance.between(0, lasts) - monotonic, act);
		};
		moments(chance.magnitude(10, 120), () => {
			if (!this.#nemesis.quiet) this.#clients.act();
		});
		moments(chance.between(0, 6), () => this.#nemesis.act());
	}

	// --- daemons -----------------------------------------------------------------------------------------------------
	#boot(): void {
		if (this.#daemon !== undefined) return;
		this.#daemons += 1;
		this.#nemesis.booting();
		this.#history.add(`daemon ${this.#daemons} starts`);
		const daemon = new Daemon({
			plan: this.#plan,
			scheduler: this.#scheduler,
			disk: this.#disk,
			chance: this.#chance.stream(`daemon ${this.#daemons}`),
			history: this.#history,
			machinery: {
				scheduler: this.#scheduler,
				chance: this.#chance.stream(`processes ${this.#daemons}`),
				ledger: this.#ledger,
				history: this.#history,
				coverage: this.#coverage,
				calm: () => this.#nemesis.quiet,
				gone: (process) => {
					this.#processes.delete(process);
					this.#daemon?.looked();
				},
			},
			processes: this.#processes,
			nextPid: () => (this.#pids += 1),
			point: (point) => this.#nemesis.passes(point),
			died: (dead, why) => this.#died(dead, why),
			failed: (failed, error) => {
				this.#history.add(`the daemon ends itself: ${error.code}`);
				failed.die("fail-stop");
			},
			broke: (what) => this.#ledger.violate("DEFECT", what),
		});
		this.#daemon = daemon;
		daemon.start((error) => {
			if (error === undefined) {
				this.#history.add("the daemon is ready");
				this.#readSchedules();
				this.#checkCounts();
				return;
			}
			// A full or failing disk refuses the start; the supervisor tries again.
			const { code, stack } = error as { code?: string; stack?: string };
			this.#history.add(`the start failed: ${code}`);
			if (code === undefined || !REFUSED_STARTS.has(code)) this.#ledger.violate("I11", `a start failed: ${stack}`);
			daemon.die("start failed");
		});
	}

	#died(dead: Daemon, why: string): void {
		this.#history.add(`daemon ${this.#daemons} is dead: ${why}`);
		this.#nemesis.crashes += 1;
		this.#ledger.daemonDied();
		if (this.#daemon === dead) this.#daemon = undefined;
		for (const orphan of dead.orphans) {
			const late = !this.#nemesis.quiet && this.#chance.oneIn(10);
			if (late) this.#coverage.fault("worker:outlived-daemon");
			orphan.struck(late ? this.#chance.magnitude(100, 5_000) : this.#chance.between(0, 30));
		}
		const down = this.#chance.oneIn(6) ? this.#chance.magnitude(MINUTE, 4 * HOUR) : this.#chance.magnitude(5, 5_000);
		this.#scheduler.after(this.#nemesis.quiet || this.#nemesis.looping ? 10 : down, () => this.#boot());
	}

	/** A clean stop, and the next start. */
	#restart(): void {
		const daemon = this.#daemon;
		if (daemon === undefined || !daemon.ready) return;
		this.#coverage.fault("restart:clean");
		daemon.stop(() => {
			this.#history.add("stopped");
			if (this.#scheduler.armed > 0)
				this.#ledger.violate("I9", `${this.#scheduler.armed} timers are left after a stop`);
			if (this.#daemon === daemon) this.#daemon = undefined;
			daemon.alive = false;
			this.#scheduler.after(this.#chance.magnitude(5, 20_000), () => this.#boot());
		});
	}

	#pass(point: Point): void {
		const daemon = this.#daemon;
		if (daemon?.alive !== true || !this.#nemesis.passes(point)) return;
		this.#history.add(`the daemon dies at ${point}`);
		daemon.die(point);
		throw new Died(point);
	}

	#disturbed(): void {
		this.#wellSince = this.#scheduler.monotonic;
		this.#steadySince = this.#scheduler.monotonic;
	}

	get #wellFor(): number {
		const daemon = this.#daemon;
		if (daemon?.ready !== true || this.#disk.full) return 0;
		return this.#scheduler.monotonic - Math.max(daemon.readyAt, this.#wellSince);
	}

	#readSchedules(): void {
		const { metadata } = this.#disk;
		if (metadata !== undefined) this.#cron.read(metadata);
	}

	#deploy(metadata: Database): void {
		const store = new FunctionStore(metadata);
		const at = this.#plan.startAt;
		for (const { functionId, name, module } of this.#plan.functions) {
			const { id } = store.insertFunction({ functionId, name, handler: "default", createdAt: at });
			const version = store.insertVersion({
				function: id,
				version: "v1",
				sha256: "0".repeat(64),
				bytes: 1,
				config: module,
				createdAt: at,
			});
			store.activate({
				function: id,
				version: version.id,
				deploymentId: `dep_${id}`,
				reason: "deploy",
				at,
				events: module.events ?? [],
				schedules: (module.schedules ?? []).map((schedule) => ({
					scheduleId: `sch_${id}${schedule.name}`,
					name: schedule.name ?? "s",
					cron: schedule.cron,
					timezone: schedule.timezone ?? "UTC",
					misfire: schedule.misfire ?? "once",
					overlap: schedule.overlap ?? "skip",
					data: undefined,
				})),
			});
		}
	}

	// --- checks ------------------------------------------------------------------------------------------------------
	#onCommit(commit: Commit): void {
		this.#committed = true;
		this.#ledger.committed(commit);
		for (const slot of commit.slots) {
			this.#history.add(`slot ${slot.schedule}@${new Date(slot.slot).toISOString()} ${slot.outcome} ${slot.seq ?? ""}`);
			this.#cron.decided(slot, commit.rows);
		}
		this.#cron.checkTurns();
		for (const event of commit.events) this.#cron.event(event, commit.rows);
	}

	/** After each step. */
	#check(): void {
		const { ended } = this.#ledger;
		if (ended.length > 0) {
			this.#watchWaiters(ended);
			this.#ledger.ended = [];
		}
		if (this.#committed) {
			this.#committed = false;
			this.#ledger.settleLimits();
			this.#checkCounts();
		}
		if (this.#scheduler.armed > TIMERS_MAX) this.#ledger.violate("I9", `${this.#scheduler.armed} timers are armed`);
		if (this.#steps % 16 === 0) this.#cron.checkDue(this.#wellFor);
	}

	/** I8: what the engine counts is what the rows are. */
	#checkCounts(): void {
		const daemon = this.#daemon;
		if (daemon?.ready !== true || daemon.parts === undefined) return;
		for (const book of this.#ledger.lanes.values()) {
			const lane = daemon.parts.queue.lanes.get(book.id);
			if (
				lane.running === book.running &&
				lane.ready === book.ready &&
				lane.delayed === book.delayed &&
				lane.keyed === book.keyed
			)
				continue;
			const { running, ready, delayed, keyed } = lane;
			this.#ledger.violate(
				"I8",
				`lane ${book.name} counts ${JSON.stringify({ running, ready, delayed, keyed })}, its rows are ${JSON.stringify({ running: book.running, ready: book.ready, delayed: book.delayed, keyed: book.keyed })}`,
			);
		}
	}

	/** I9, E1: whoever waited when an invocation ended is told soon. */
	#watchWaiters(ended: readonly Row[]): void {
		const daemon = this.#daemon;
		if (daemon?.ready !== true) return;
		for (const { id, path, seq } of ended) {
			const waiting: Pending[] = [...daemon.pending].filter(({ waitsFor }) => waitsFor === id || waitsFor === path);
			if (waiting.length === 0) continue;
			this.#scheduler.after(PROMPT_MS, () => {
				if (!daemon.alive || this.#wellFor < PROMPT_MS) return;
				for (const pending of waiting) {
					if (daemon.pending.has(pending))
						this.#ledger.violate("E1", `row ${seq} has ended, and ${pending.label} was not told`);
				}
			});
		}
	}

	#fsck(): void {
		const { queue } = this.#disk;
		if (queue === undefined || this.#closing) return;
		const problem = fsck(queue, this.#ledger);
		if (problem !== undefined) this.#ledger.violate("I8", problem);
		const daemon = this.#daemon;
		if (daemon?.ready !== true || daemon.parts === undefined) return;
		const { waiters } = daemon.parts;
		if (waiters.size > daemon.pending.size)
			this.#ledger.violate("I9", `${waiters.size} ids have waiters, ${daemon.pending.size} wait`);
		if (this.#disk.walBytes > 64 * 1_048_576) this.#ledger.violate("I10", `the WAL holds ${this.#disk.walBytes} bytes`);
	}
}
