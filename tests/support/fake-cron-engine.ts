/**
 * The part of an Engine that the cron source asks, with the rule that holds it together: a slot is decided at most
 * once, and never before a later one. What a slot answers is the test's to say.
 */
import type { Engine, ScheduleListener, ScheduleRecord, SlotDecision } from "../../src/core/contracts.ts";
import type { InvokeRequest } from "../../src/core/request.ts";

export interface Fired {
	readonly scheduleId: string;
	readonly slot: number;
	readonly decision: SlotDecision;
	readonly request: InvokeRequest | undefined;
	/** Wall clock when it was decided. */
	readonly at: number;
}

export interface FakeCronEngine {
	readonly engine: Engine;
	readonly fired: Fired[];
	/** Every call, also those that were decided before or threw. */
	calls: number;
	/** How often all schedules were listed. */
	lists: number;
	/** Throws, or answers what becomes of a slot. */
	decide: (scheduleId: string, slot: number) => SlotDecision | Promise<SlotDecision>;
	put(schedule: Partial<ScheduleRecord> & { readonly scheduleId: string; readonly cron: string }): void;
	remove(scheduleId: string): void;
	/** Removes it and tells nobody, until `deployed`. */
	withdraw(scheduleId: string): void;
	/** Tells that any schedule may be another one now. */
	deployed(): void;
	slots(scheduleId: string): number[];
}

export function fakeCronEngine(now: () => number): FakeCronEngine {
	const schedules = new Map<string, ScheduleRecord>();
	const decided = new Map<string, Set<number>>();
	const newest = (scheduleId: string, until = Number.POSITIVE_INFINITY): number =>
		Math.max(0, ...[...(decided.get(scheduleId) ?? [])].filter((slot) => slot <= until));
	/** As the queue has it: the newest slot decides all before it, unless the clock was ahead when it was decided. */
	const isDecided = (scheduleId: string, slot: number): boolean => {
		const last = newest(scheduleId);
		return last >= slot && (last <= now() || decided.get(scheduleId)?.has(slot) === true);
	};
	const asIs = (schedule: ScheduleRecord): ScheduleRecord => ({
		...schedule,
		lastSlotAt: newest(schedule.scheduleId) || undefined,
		decidedUntil: Math.max(newest(schedule.scheduleId, now()), Math.min(schedule.decidedUntil, now())),
	});
	const listeners = new Set<ScheduleListener>();
	const changed = (scheduleId: string): void => {
		const schedule = schedules.get(scheduleId);
		for (const listener of listeners) {
			listener({ scheduleId, schedule: schedule === undefined ? undefined : asIs(schedule) });
		}
	};
	const fake: FakeCronEngine = {
		fired: [],
		calls: 0,
		lists: 0,
		decide: () => "fired",
		engine: {
			listSchedules() {
				fake.lists += 1;
				return [...schedules.values()].map(asIs);
			},
			onSchedulesChanged(listener: ScheduleListener) {
				listeners.add(listener);
				return () => listeners.delete(listener);
			},
			async fireSchedule(scheduleId: string, slot: number, request: InvokeRequest | undefined) {
				fake.calls += 1;
				const schedule = schedules.get(scheduleId);
				if (schedule === undefined || schedule.paused) return undefined;
				if (slot <= schedule.decidedUntil && schedule.decidedUntil <= now()) return undefined;
				if (isDecided(scheduleId, slot)) return undefined;
				const decision = request === undefined ? "misfired" : await fake.decide(scheduleId, slot);
				if (isDecided(scheduleId, slot)) return undefined;
				decided.set(scheduleId, (decided.get(scheduleId) ?? new Set()).add(slot));
				fake.fired.push({ scheduleId, slot, decision, request, at: now() });
				return decision;
			},
		} as unknown as Engine,
		put(schedule) {
			schedules.set(schedule.scheduleId, {
				functionId: "fn_1",
				functionName: "f",
				name: schedule.scheduleId,
				timezone: "UTC",
				misfire: "once",
				overlap: "allow",
				origin: "api",
				paused: false,
				nextDueAt: undefined,
				lastSlotAt: undefined,
				decidedUntil: now(),
				data: undefined,
				...schedules.get(schedule.scheduleId),
				...schedule,
			});
			changed(schedule.scheduleId);
		},
		remove(scheduleId) {
			schedules.delete(scheduleId);
			changed(scheduleId);
		},
		withdraw(scheduleId) {
			schedules.delete(scheduleId);
		},
		deployed() {
			for (const listener of listeners) listener(undefined);
		},
		slots: (scheduleId) => fake.fired.filter((each) => each.scheduleId === scheduleId).map((each) => each.slot),
	};
	return fake;
}
