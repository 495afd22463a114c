/** Schedules in the engine: what a list costs, and that it is not out of date. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { silentLogger, silentProbe, type Environment } from "../../../src/core/environment.ts";
import { Triggers, type TriggersDeps } from "../../../src/engine/triggers.ts";
import { createFakeClock } from "../../support/fake-clock.ts";

const NOON = Date.UTC(2026, 5, 1, 12);
const HOUR = 3_600_000;

function scene(rows: Record<string, unknown>[]) {
	const clock = createFakeClock(NOON);
	const environment: Environment = { clock, random: { next: () => 0 }, probe: silentProbe, logger: silentLogger };
	const entry = { id: 1, functionId: "fn_1", name: "f" };
	const registry = { byId: () => entry, resolve: () => entry };
	const asked = { lists: 0, slots: 0 };
	const rowOf = (scheduleId: string) => rows.find((row) => row["scheduleId"] === scheduleId);
	const store = {
		listSchedules() {
			asked.lists += 1;
			return rows.map((row) => ({ ...row }));
		},
		putSchedule(_fn: number, { name, cron }: { name: string; cron: string }) {
			const known = rows.findIndex((each) => each["name"] === name);
			const put = { ...row(known < 0 ? rows.length : known, cron), name };
			rows[known < 0 ? rows.length : known] = put;
			return put;
		},
		pauseSchedule: (scheduleId: string, paused: boolean) => ({ ...rowOf(scheduleId), paused }),
		removeSchedule: () => undefined,
	};
	const queue = {
		lastSlot() {
			asked.slots += 1;
			return undefined;
		},
	};
	const triggers = new Triggers({ environment, registry, store, queue } as unknown as TriggersDeps);
	return { clock, triggers, asked };
}

function row(index: number, cron: string): Record<string, unknown> {
	return {
		id: index,
		scheduleId: `sch_${index}`,
		function: 1,
		name: `s${index}`,
		cron,
		timezone: "Europe/Berlin",
		misfire: "once",
		overlap: "skip",
		origin: "api",
		paused: false,
		data: undefined,
		effectiveAt: NOON,
	};
}

test("the next due time follows the clock in both directions, and a changed expression", () => {
	const rows = [row(1, "0 * * * *")];
	const { clock, triggers } = scene(rows);
	const next = (): number | undefined => triggers.list(undefined)[0]?.nextDueAt;
	assert.equal(next(), NOON + HOUR);
	assert.equal(next(), NOON + HOUR);
	clock.jumpWall(HOUR - 1);
	assert.equal(next(), NOON + HOUR);
	clock.jumpWall(1);
	assert.equal(next(), NOON + 2 * HOUR);
	clock.jumpWall(-3 * HOUR);
	assert.equal(next(), NOON - HOUR);
	rows[0] = row(1, "30 * * * *");
	triggers.schedulesChanged();
	assert.equal(next(), NOON - 2 * HOUR + HOUR / 2);
});

test("a change of one schedule does not work out the next time of thousands", () => {
	const rows = Array.from({ length: 3_000 }, (_, index) => row(index, `${index % 60} ${index % 24} * * ${index % 7}`));
	const { triggers } = scene(rows);
	const timed = (): number => {
		const from = performance.now();
		for (const { nextDueAt } of triggers.list(undefined)) assert.ok(nextDueAt !== undefined);
		return performance.now() - from;
	};
	const first = timed();
	rows.push(row(3_000, "* * * * *"));
	triggers.schedulesChanged();
	const second = timed();
	assert.ok(second < first / 5, `first ${first.toFixed(0)} ms, after a change ${second.toFixed(0)} ms`);
});

test("one schedule that is put, paused or removed: the listener gets it, and no other is read", () => {
	const rows = Array.from({ length: 50 }, (_, index) => row(index, "0 * * * *"));
	const { triggers, asked } = scene(rows);
	const told: unknown[] = [];
	triggers.onSchedulesChanged((change) =>
		told.push([change?.scheduleId, change?.schedule?.cron, change?.schedule?.paused]),
	);
	const before = { ...asked };
	const { scheduleId } = triggers.put({ function: "f", cron: "30 * * * *", name: "half" });
	triggers.pause(scheduleId, true);
	triggers.remove(scheduleId);
	assert.deepEqual(told, [
		["sch_50", "30 * * * *", false],
		["sch_50", "30 * * * *", true],
		["sch_50", undefined, undefined],
	]);
	assert.deepEqual(asked, { ...before, slots: before.slots + 2 }, "its own last slot, twice");
	assert.equal(triggers.list(undefined).length, 50);
	assert.throws(() => triggers.pause(scheduleId, false), { code: "SCHEDULE_NOT_FOUND" });
});

test("the next due time is that of the new expression, and the list has the order of a restart", () => {
	const { triggers } = scene([row(0, "0 * * * *"), row(1, "0 * * * *")]);
	const listed = (): unknown[] => triggers.list(undefined).map(({ name, nextDueAt }) => [name, nextDueAt]);
	assert.deepEqual(listed(), [
		["s0", NOON + HOUR],
		["s1", NOON + HOUR],
	]);
	triggers.remove("sch_0");
	assert.deepEqual(listed(), [["s1", NOON + HOUR]]);
	triggers.put({ function: "f", cron: "30 * * * *", name: "s0" });
	triggers.put({ function: "f", cron: "45 * * * *", name: "s1" });
	assert.deepEqual(listed(), [
		["s0", NOON + HOUR / 2],
		["s1", NOON + (HOUR * 3) / 4],
	]);
});
