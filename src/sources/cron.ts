/**
 * The cron source: schedules become InvokeRequests at their slots.
 *
 * A slot is decided at most once ever: the engine writes (schedule, slot) under a unique key in the transaction that
 * enqueues. So this file may crash, restart or look twice; it only has to look in time. One timer is armed for the
 * earliest slot; it also looks every LOOK_MS_MAX, because the wall clock may jump. Where the clock went back, slots are
 * worked out again from where it is now; while it stands before LIMITS.clockFrom it is not set, and nothing fires.
 *
 * Thousands of schedules are worked out in slices, so that nothing else waits for them.
 */
import type { Engine, ScheduleChange, ScheduleRecord, Source } from "../core/contracts.ts";
import { nextDue, type CronSpec } from "../core/cron.ts";
import type { Environment, Timer } from "../core/environment.ts";
import { messageOf } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";
import type { InvokeRequest } from "../core/request.ts";

/** A slot that is older than this when it is looked at was missed, not late. */
const LATE_MS = 1_000;
/** A jump of the wall clock is noticed within this; a slot that could not be decided is tried again after it. */
const LOOK_MS_MAX = 1_000;
/** Schedules of one slice: about 3 ms. */
const SLICE = 250;
const encoder = new TextEncoder();

/** A schedule with the next slot that is not decided yet. */
interface Armed {
	schedule: ScheduleRecord;
	readonly spec: CronSpec;
	next: number | undefined;
	/** Not worked out yet: slots after this are to be looked for. */
	after: number | undefined;
	/** Its slot could not be decided (a full disk, no active version): not tried again before this monotonic time. */
	notBefore: number;
}

export function cronSource(environment: Environment): Source {
	return new CronSource(environment);
}

class CronSource implements Source {
	readonly kind = "cron";
	readonly #environment: Environment;
	#engine: Engine | undefined;
	#armed = new Map<string, Armed>();
	#timer: Timer | undefined;
	#unsubscribe: (() => void) | undefined;
	#running: Promise<void> | undefined;
	/** Schedules whose next slot is not worked out yet. */
	#waiting: Armed[] = [];
	#slice: Timer | undefined;
	/** The latest that the wall clock was seen at. */
	#latest = 0;
	#clockIsUnset = false;

	constructor(environment: Environment) {
		this.#environment = environment;
	}

	async start(engine: Engine): Promise<void> {
		if (this.#engine !== undefined) return;
		this.#engine = engine;
		this.#unsubscribe = engine.onSchedulesChanged((change) => this.#changed(change));
		this.#reload();
		const { clock, logger } = this.#environment;
		const ahead = [...this.#armed.values()].filter(
			({ schedule }) => (schedule.lastSlotAt ?? 0) > clock.now() + LATE_MS,
		);
		if (ahead.length > 0) {
			logger.warn(
				{ schedules: ahead.length, now: new Date(clock.now()).toISOString() },
				"slots ahead of the wall clock were decided before: schedules go on from now; those slots do not fire again",
			);
		}
	}

	async stop(): Promise<void> {
		this.#engine = undefined;
		this.#unsubscribe?.();
		this.#timer?.cancel();
		this.#slice?.cancel();
		await this.#running;
	}

	/** Takes the schedules as they are now; an unchanged one keeps its place. */
	#reload(): void {
		const engine = this.#engine;
		if (engine === undefined) return;
		if (!this.#isClockSet()) return this.#arm();
		const armed = new Map<string, Armed>();
		for (const schedule of engine.listSchedules())
			if (!schedule.paused) armed.set(schedule.scheduleId, this.#take(schedule));
		this.#armed = armed;
		this.#waiting = [...armed.values()].filter(({ after }) => after !== undefined);
		this.#workOut();
	}

	/** One is taken by itself: thousands that are put one after the other would be looked at thousands of times. */
	#changed(change: ScheduleChange | undefined): void {
		// While the clock is not set nothing is worked out; whoever notices first that it is works all out.
		if (change === undefined || this.#clockIsUnset || !this.#isClockSet()) return this.#reload();
		if (this.#engine === undefined) return;
		const { scheduleId, schedule } = change;
		if (schedule === undefined || schedule.paused) {
			this.#armed.delete(scheduleId);
			this.#waiting = this.#waiting.filter((armed) => armed.schedule.scheduleId !== scheduleId);
			return this.#arm();
		}
		const armed = this.#take(schedule);
		this.#armed.set(scheduleId, armed);
		if (armed.after !== undefined && !this.#waiting.includes(armed)) this.#waiting.push(armed);
		this.#workOut();
	}

	/** A known schedule keeps its place, unless its times are others now. */
	#take(schedule: ScheduleRecord): Armed {
		const known = this.#armed.get(schedule.scheduleId);
		const spec = { expression: schedule.cron, timezone: schedule.timezone };
		if (known?.spec.expression === spec.expression && known.spec.timezone === spec.timezone) {
			known.schedule = schedule;
			return known;
		}
		// What was missed while nobody looked is due now.
		return { schedule, spec, next: undefined, after: schedule.decidedUntil, notBefore: 0 };
	}

	#workOut(): void {
		this.#slice?.cancel();
		for (const armed of this.#waiting.splice(0, SLICE)) {
			if (armed.after !== undefined) armed.next = this.#next(armed.spec, armed.after);
			armed.after = undefined;
		}
		if (this.#waiting.length > 0) this.#slice = this.#environment.clock.setTimer(0, () => this.#workOut());
		else this.#arm();
	}

	/** Says so once for each time. */
	#isClockSet(): boolean {
		const now = this.#environment.clock.now();
		const wasUnset = this.#clockIsUnset;
		this.#clockIsUnset = now < LIMITS.clockFrom;
		if (this.#clockIsUnset && !wasUnset) {
			this.#environment.logger.warn(
				{ now: new Date(now).toISOString() },
				"the wall clock is not set: no schedule fires until it is",
			);
		}
		return !this.#clockIsUnset;
	}

	/** True where every next slot has to be worked out again: the clock went back, or was set for the first time. */
	#clockWasSet(): boolean {
		const now = this.#environment.clock.now();
		const wasUnset = this.#clockIsUnset;
		if (!this.#isClockSet()) return false;
		const wentBack = this.#latest - now;
		this.#latest = wentBack > LATE_MS ? now : Math.max(this.#latest, now);
		if (wentBack > LATE_MS) {
			this.#environment.logger.warn(
				{ now: new Date(now).toISOString(), back_ms: wentBack },
				"the wall clock went back: schedules go on from now; slots that were decided do not fire again",
			);
		}
		return wasUnset || wentBack > LATE_MS;
	}

	#next(spec: CronSpec, after: number): number | undefined {
		try {
			return nextDue(spec, after);
		} catch (error) {
			this.#environment.logger.error(
				{ cron: spec.expression, timezone: spec.timezone, error: messageOf(error) },
				"a stored schedule cannot be understood",
			);
			return undefined;
		}
	}

	#arm(): void {
		this.#timer?.cancel();
		const { clock } = this.#environment;
		const now = clock.now();
		const monotonic = clock.monotonic();
		let wait = Number.POSITIVE_INFINITY;
		for (const { next, notBefore } of this.#armed.values()) {
			if (next !== undefined) wait = Math.min(wait, Math.max(next - now, notBefore - monotonic));
		}
		if (wait === Number.POSITIVE_INFINITY && !this.#clockIsUnset) return;
		this.#timer = clock.setTimer(Math.min(Math.max(0, wait), LOOK_MS_MAX), () => this.#look());
	}

	#look(): void {
		if (this.#running !== undefined) return;
		if (this.#clockWasSet()) {
			this.#armed = new Map();
			this.#reload();
			return;
		}
		this.#running = this.#fireDue().finally(() => {
			this.#running = undefined;
			if (this.#engine !== undefined) this.#arm();
		});
	}

	async #fireDue(): Promise<void> {
		if (this.#clockIsUnset) return;
		const now = this.#environment.clock.now();
		const monotonic = this.#environment.clock.monotonic();
		const due = [...this.#armed.values()].filter(
			({ next, notBefore }) => next !== undefined && next <= now && notBefore <= monotonic,
		);
		await Promise.all(due.map((armed) => this.#fireSchedule(armed, now)));
	}

	async #fireSchedule(armed: Armed, now: number): Promise<void> {
		try {
			const slots = slotsUntil(armed, now);
			const last = slots.at(-1);
			if (last === undefined) return;
			for (const slot of slotsToDecide(slots, armed.schedule.misfire, now)) {
				await this.#engine?.fireSchedule(
					armed.schedule.scheduleId,
					slot.at,
					slot.missed ? undefined : request(armed.schedule, slot.at),
				);
			}
			armed.next = this.#next(armed.spec, last);
			armed.notBefore = 0;
		} catch (error) {
			// Nothing was decided that is not in the table; a later look tries again, and is silent about it.
			if (armed.notBefore === 0) {
				this.#environment.logger.warn(
					{ schedule: armed.schedule.scheduleId, error: messageOf(error) },
					"a slot could not be decided; it is tried again each second",
				);
			}
			armed.notBefore = this.#environment.clock.monotonic() + LOOK_MS_MAX;
		}
	}
}

/**
 * The undecided slots up to now, oldest first; of a long gap only the newest `misfireRunsMax`. Looks back in windows
 * that double, because an every-second schedule has millions of slots after a month away.
 */
function slotsUntil(armed: Armed, now: number): number[] {
	const first = armed.next;
	if (first === undefined) return [];
	for (let windowMs = 60_000; ; windowMs *= 2) {
		const from = Math.max(first - 1, now - windowMs);
		const slots: number[] = [];
		for (let at = nextDue(armed.spec, from); at !== undefined && at <= now; at = nextDue(armed.spec, at))
			slots.push(at);
		if (slots.length >= LIMITS.misfireRunsMax || from === first - 1) return slots.slice(-LIMITS.misfireRunsMax);
	}
}

/** `once`: the newest of the missed slots; `skip`: none of them; `all`: each. A slot at most 1 s old is not missed. */
function slotsToDecide(
	slots: readonly number[],
	misfire: ScheduleRecord["misfire"],
	now: number,
): { at: number; missed: boolean }[] {
	if (misfire === "all") return slots.map((at) => ({ at, missed: false }));
	const newest = slots.at(-1);
	if (newest === undefined) return [];
	return [{ at: newest, missed: misfire === "skip" && now - newest > LATE_MS }];
}

function request(schedule: ScheduleRecord, slot: number): InvokeRequest {
	const body = schedule.data === undefined ? new Uint8Array() : encoder.encode(JSON.stringify(schedule.data));
	return {
		function: schedule.functionId,
		source: "cron",
		method: "POST",
		path: "/",
		headers: [
			["x-bunbase-source", "cron"],
			["x-bunbase-schedule", schedule.name],
			["x-bunbase-scheduled-at", new Date(slot).toISOString()],
			...(body.byteLength === 0 ? [] : ([["content-type", "application/json"]] as const)),
		],
		query: [],
		body,
		waits: false,
	};
}
