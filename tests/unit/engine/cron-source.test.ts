/** The cron source over a fake engine and a clock that stands still: when it looks, and what it asks for. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Source } from "../../../src/core/contracts.ts";
import { silentLogger, silentProbe, type Environment, type Logger } from "../../../src/core/environment.ts";
import { EngineError } from "../../../src/core/errors.ts";
import { LIMITS } from "../../../src/core/limits.ts";
import { cronSource } from "../../../src/sources/cron.ts";
import { createFakeClock, type FakeClock } from "../../support/fake-clock.ts";
import { fakeCronEngine, type FakeCronEngine } from "../../support/fake-cron-engine.ts";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
/** On a full hour. */
const NOON = Date.UTC(2026, 5, 1, 12);

interface Scene extends AsyncDisposable {
	readonly clock: FakeClock;
	readonly fake: FakeCronEngine;
	readonly warnings: string[];
	source: Source;
	/** A new source, as after a restart; the time between is `downMs`. */
	restart(downMs: number): Promise<void>;
}

async function scene(): Promise<Scene> {
	const clock = createFakeClock(NOON);
	const warnings: string[] = [];
	const warn = (_fields: object, message: string): void => void warnings.push(message);
	const logger: Logger = { debug: () => undefined, info: () => undefined, warn, error: warn };
	const environment: Environment = { clock, random: { next: () => 0 }, probe: silentProbe, logger };
	const fake = fakeCronEngine(() => clock.now());
	const made: Scene = {
		clock,
		fake,
		warnings,
		source: cronSource(environment),
		async restart(downMs) {
			await made.source.stop();
			assert.equal(clock.pending, 0, "a stopped source leaves no timer");
			await clock.advance(downMs);
			made.source = cronSource(environment);
			await made.source.start(fake.engine);
			await clock.advance(1);
		},
		async [Symbol.asyncDispose]() {
			await made.source.stop();
			assert.equal(clock.pending, 0, "a stopped source leaves no timer");
		},
	};
	await made.source.start(fake.engine);
	return made;
}

test("each slot fires at its time, as a POST that says where it comes from", async () => {
	await using s = await scene();
	s.fake.put({ scheduleId: "a", cron: "*/10 * * * *", data: { n: 1 } });
	await s.clock.advance(30 * MINUTE);
	assert.deepEqual(s.fake.slots("a"), [NOON + 10 * MINUTE, NOON + 20 * MINUTE, NOON + 30 * MINUTE]);
	for (const { at, slot, request } of s.fake.fired) {
		assert.ok(at >= slot && at - slot <= 1_000, "within a second, never early");
		assert.equal(request?.method, "POST");
		assert.equal(request?.source, "cron");
		assert.ok(
			request?.headers.some(([name, value]) => name === "x-bunbase-scheduled-at" && Date.parse(value) === slot),
		);
		assert.equal(new TextDecoder().decode(request?.body), '{"n":1}');
	}
});

for (const [misfire, expected] of [
	["once", ["fired@15:00"]],
	["skip", ["misfired@15:00"]],
	["all", ["fired@13:00", "fired@14:00", "fired@15:00"]],
] as const) {
	test(`after three hours away, an hourly schedule with misfire ${misfire}: ${expected.join(", ")}`, async () => {
		await using s = await scene();
		s.fake.put({ scheduleId: "a", cron: "0 * * * *", misfire });
		await s.restart(3 * HOUR + 5 * MINUTE);
		const told = s.fake.fired.map(({ slot, decision }) => `${decision}@${new Date(slot).toISOString().slice(11, 16)}`);
		assert.deepEqual(told, expected);
		await s.clock.advance(HOUR);
		assert.equal(s.fake.slots("a").at(-1), NOON + 4 * HOUR, "and goes on as before");
		assert.equal(s.fake.fired.length, expected.length + 1);
	});
}

test("misfire skip still fires a slot that is at most a second late", async () => {
	await using s = await scene();
	s.fake.put({ scheduleId: "a", cron: "0 * * * *", misfire: "skip" });
	await s.restart(HOUR + 900);
	assert.deepEqual(
		s.fake.fired.map((each) => each.decision),
		["fired"],
	);
});

test("misfire all after a month away with a slot each second: the newest 100, and no long look back", async () => {
	await using s = await scene();
	s.fake.put({ scheduleId: "a", cron: "* * * * * *", misfire: "all" });
	await s.source.stop();
	s.clock.jumpWall(30 * 24 * HOUR);
	const from = performance.now();
	await s.restart(0);
	const tookMs = performance.now() - from;
	const slots = s.fake.slots("a");
	assert.equal(slots.length, LIMITS.misfireRunsMax);
	assert.equal(slots.at(-1), s.clock.now() - (s.clock.now() % 1_000));
	assert.ok(tookMs < 1_000, `${tookMs} ms`);
});

test("a rare schedule that was missed once long ago is caught up once", async () => {
	await using s = await scene();
	s.fake.put({ scheduleId: "a", cron: "0 0 1 1 *", decidedUntil: NOON - 3 * 366 * 24 * HOUR });
	await s.clock.advance(1);
	assert.deepEqual(s.fake.slots("a"), [Date.UTC(2026, 0, 1)]);
});

test("paused fires nothing; resumed it goes on with the next slot, without those of the pause", async () => {
	await using s = await scene();
	s.fake.put({ scheduleId: "a", cron: "*/10 * * * *" });
	await s.clock.advance(10 * MINUTE);
	s.fake.put({ scheduleId: "a", cron: "*/10 * * * *", paused: true });
	await s.clock.advance(HOUR);
	assert.equal(s.fake.fired.length, 1);
	s.fake.put({ scheduleId: "a", cron: "*/10 * * * *", paused: false, decidedUntil: s.clock.now() });
	await s.clock.advance(10 * MINUTE);
	assert.deepEqual(s.fake.slots("a"), [NOON + 10 * MINUTE, NOON + 80 * MINUTE]);
});

test("a changed expression holds at once, also where the new slot is sooner", async () => {
	await using s = await scene();
	s.fake.put({ scheduleId: "a", cron: "0 0 1 1 *" });
	await s.clock.advance(MINUTE);
	s.fake.put({ scheduleId: "a", cron: "*/5 * * * *", decidedUntil: s.clock.now() });
	await s.clock.advance(4 * MINUTE);
	assert.deepEqual(s.fake.slots("a"), [NOON + 5 * MINUTE]);
	s.fake.put({ scheduleId: "a", cron: "*/5 * * * *", timezone: "Asia/Kolkata", decidedUntil: s.clock.now() });
	await s.clock.advance(5 * MINUTE);
	assert.equal(s.fake.fired.length, 2);
});

test("a removed schedule fires no more, and the change of one does not move another", async () => {
	await using s = await scene();
	s.fake.put({ scheduleId: "a", cron: "*/10 * * * *" });
	s.fake.put({ scheduleId: "b", cron: "*/10 * * * *" });
	await s.clock.advance(9 * MINUTE);
	s.fake.remove("a");
	await s.clock.advance(MINUTE);
	assert.deepEqual(s.fake.slots("a"), []);
	assert.deepEqual(s.fake.slots("b"), [NOON + 10 * MINUTE]);
});

test("a wall clock that jumps forward is noticed within a second; the newest slot fires", async () => {
	await using s = await scene();
	s.fake.put({ scheduleId: "a", cron: "0 * * * *" });
	await s.clock.advance(MINUTE);
	s.clock.jumpWall(5 * HOUR);
	await s.clock.advance(1_000);
	assert.deepEqual(s.fake.slots("a"), [NOON + 5 * HOUR]);
});

test("a wall clock that jumps back fires no slot twice, and the next new slot at its time", async () => {
	await using s = await scene();
	s.fake.put({ scheduleId: "a", cron: "0 * * * *" });
	await s.clock.advance(2 * HOUR);
	s.clock.jumpWall(-90 * MINUTE);
	await s.clock.advance(3 * HOUR);
	assert.deepEqual(
		s.fake.slots("a"),
		[1, 2, 3].map((hour) => NOON + hour * HOUR),
	);
	assert.equal(s.clock.now(), NOON + 3.5 * HOUR);
});

for (const [where, restart] of [
	["while it runs", false],
	["between two runs", true],
] as const) {
	test(`a clock that was years ahead and is set right ${where}: schedules go on at once, and say so`, async () => {
		await using s = await scene();
		s.fake.put({ scheduleId: "a", cron: "0 * * * *" });
		await s.clock.advance(2 * HOUR);
		const ahead = 74 * 365 * 24 * HOUR;
		s.clock.jumpWall(ahead);
		await s.clock.advance(HOUR);
		const wrong = s.fake.slots("a").slice(2);
		assert.deepEqual(wrong, [NOON + ahead + 2 * HOUR, NOON + ahead + 3 * HOUR]);
		s.fake.put({ scheduleId: "b", cron: "0 * * * *" });
		s.clock.jumpWall(-ahead);
		if (restart) await s.restart(0);
		await s.clock.advance(3 * HOUR);
		const slots = [3, 4, 5, 6].map((hour) => NOON + hour * HOUR);
		assert.deepEqual(s.fake.slots("a").slice(4), slots);
		assert.deepEqual(s.fake.slots("b"), slots.slice(1), "one that was made by the clock ahead goes on too");
		assert.equal(s.warnings.filter((text) => /went back|ahead of the wall clock/.test(text)).length, 1);
	});
}

test("a clock that is not set decides nothing and says so once; set, it goes on where it was", async () => {
	await using s = await scene();
	s.fake.put({ scheduleId: "a", cron: "0 * * * *" });
	s.fake.put({ scheduleId: "new", cron: "0 * * * *", decidedUntil: NOON + HOUR });
	await s.clock.advance(HOUR + MINUTE);
	await s.source.stop();
	const back = s.clock.now();
	const calls = s.fake.calls;
	s.clock.jumpWall(-back);
	await s.restart(10 * HOUR);
	assert.equal(s.fake.calls, calls);
	assert.equal(s.warnings.filter((text) => text.includes("not set")).length, 1);
	s.fake.put({ scheduleId: "later", cron: "0 * * * *", decidedUntil: back });
	s.clock.jumpWall(back - s.clock.now() + MINUTE);
	await s.clock.advance(HOUR);
	const slots = [NOON + 2 * HOUR];
	assert.deepEqual([s.fake.slots("a"), s.fake.slots("new")], [[NOON + HOUR, ...slots], slots], "nothing is caught up");
	assert.deepEqual(s.fake.slots("later"), slots);
});

test("a clock that is set just before a schedule changes: all others fire as well", async () => {
	for (const change of ["put", "pause", "remove"] as const) {
		await using s = await scene();
		const set = s.clock.now();
		s.fake.put({ scheduleId: "a", cron: "0 * * * *" });
		s.fake.put({ scheduleId: "b", cron: "30 * * * *" });
		s.clock.jumpWall(-set);
		await s.restart(MINUTE);
		s.clock.jumpWall(set);
		if (change === "remove") s.fake.remove("b");
		else s.fake.put({ scheduleId: "b", cron: "45 * * * *", paused: change === "pause" });
		await s.clock.advance(HOUR);
		assert.deepEqual(s.fake.slots("a"), [NOON + HOUR], change);
		assert.equal(s.fake.slots("b").length, change === "put" ? 1 : 0, change);
	}
});

test("a schedule that throws does not stop the others, and is tried again at a measured pace", async () => {
	await using s = await scene();
	let refuse = true;
	s.fake.decide = (scheduleId) => {
		if (scheduleId === "bad" && refuse) throw new EngineError("NOT_DEPLOYED", "no active version");
		return "fired";
	};
	s.fake.put({ scheduleId: "bad", cron: "*/10 * * * *" });
	s.fake.put({ scheduleId: "good", cron: "*/10 * * * *" });
	await advanceBounded(s, 10 * MINUTE);
	const before = s.fake.calls;
	await advanceBounded(s, 10 * MINUTE);
	assert.deepEqual(s.fake.slots("good"), [NOON + 10 * MINUTE, NOON + 20 * MINUTE]);
	assert.ok(s.fake.calls - before <= 650, `${s.fake.calls - before} tries in 10 minutes`);
	assert.ok(s.warnings.length >= 1 && s.warnings.length < 20, `${s.warnings.length} warnings`);
	refuse = false;
	await advanceBounded(s, 1_000);
	assert.deepEqual(s.fake.slots("bad"), [NOON + 20 * MINUTE], "the newest slot, once it can be decided");
	await advanceBounded(s, 10 * MINUTE);
	assert.deepEqual(s.fake.slots("bad"), [NOON + 20 * MINUTE, NOON + 30 * MINUTE]);
});

/** Fails instead of hanging where the source fires timers without end at one instant. */
async function advanceBounded(s: Scene, ms: number): Promise<void> {
	const limit = s.fake.calls + 5_000;
	const decide = s.fake.decide;
	s.fake.decide = (scheduleId, slot) => {
		if (s.fake.calls > limit) void s.source.stop();
		return decide(scheduleId, slot);
	};
	await s.clock.advance(ms);
	s.fake.decide = decide;
	assert.ok(s.fake.calls <= limit, "the source asks without end");
}

test("a change while a slot is being decided makes it fire once", async () => {
	await using s = await scene();
	let decided: (() => void) | undefined;
	s.fake.decide = () => new Promise((resolve) => (decided = () => resolve("fired")));
	s.fake.put({ scheduleId: "a", cron: "*/10 * * * *" });
	await s.clock.advance(10 * MINUTE);
	assert.ok(decided !== undefined);
	s.fake.put({ scheduleId: "b", cron: "0 0 1 1 *" });
	s.fake.put({ scheduleId: "a", cron: "*/10 * * * *", misfire: "all" });
	s.fake.deployed();
	await s.clock.advance(2_000);
	decided();
	s.fake.decide = () => "fired";
	await s.clock.advance(2_000);
	assert.deepEqual(s.fake.slots("a"), [NOON + 10 * MINUTE]);
	assert.equal(s.fake.calls, 1, "asked for once");
	await s.clock.advance(10 * MINUTE);
	assert.deepEqual(s.fake.slots("a"), [NOON + 10 * MINUTE, NOON + 20 * MINUTE]);
});

test("start and stop may be called twice, and stop waits for the slot that is being decided", async () => {
	await using s = await scene();
	await s.source.start(s.fake.engine);
	let decided: (() => void) | undefined;
	s.fake.decide = () => new Promise((resolve) => (decided = () => resolve("fired")));
	s.fake.put({ scheduleId: "a", cron: "* * * * *" });
	await s.clock.advance(MINUTE);
	let stopped = false;
	const stop = Promise.all([s.source.stop(), s.source.stop()]).then(() => (stopped = true));
	await s.clock.advance(1);
	assert.equal(stopped, false);
	decided?.();
	await stop;
	await s.clock.advance(HOUR);
	assert.deepEqual(s.fake.slots("a"), [NOON + MINUTE]);
});

test("a stored expression that cannot be understood is told, and the others fire", async () => {
	await using s = await scene();
	s.fake.put({ scheduleId: "bad", cron: "not cron" });
	s.fake.put({ scheduleId: "good", cron: "* * * * *" });
	await s.clock.advance(MINUTE);
	assert.equal(s.fake.slots("good").length, 1);
	assert.ok(s.warnings.length >= 1);
});

test("10,000 schedules: a look at which none is due costs little, and a change of one does not parse all again", async (t) => {
	await using s = await scene();
	await s.source.stop();
	for (let index = 0; index < 10_000; index += 1) {
		s.fake.put({ scheduleId: `s${index}`, cron: `${index % 60} ${index % 24} * * ${index % 7}` });
	}
	await s.restart(0);
	const timed = async (act: () => void | Promise<void>): Promise<number> => {
		const from = performance.now();
		await act();
		return performance.now() - from;
	};
	const looks = await timed(() => s.clock.advance(20_000));
	const change = await timed(() => s.fake.put({ scheduleId: "one", cron: "* * * * *" }));
	const deployment = await timed(() => s.fake.deployed());
	const hour = await timed(() => s.clock.advance(HOUR));
	t.diagnostic(
		`10,000 schedules: 20 looks ${looks.toFixed(1)} ms, one change ${change.toFixed(1)} ms, a deployment ${deployment.toFixed(1)} ms, one hour with ${s.fake.fired.length} slots ${hour.toFixed(0)} ms`,
	);
	assert.ok(looks / 20 < 20, `${(looks / 20).toFixed(1)} ms a look`);
	assert.ok(change < 250, `${change.toFixed(1)} ms for one change`);
	assert.ok(deployment < 250, `${deployment.toFixed(1)} ms for a deployment`);
});

test("thousands that are put, paused and removed one after the other: each is taken by itself, all are listed once", async () => {
	await using s = await scene();
	const { lists } = s.fake;
	for (let index = 0; index < 3_000; index += 1) s.fake.put({ scheduleId: `s${index}`, cron: "0 * * * *" });
	for (let index = 0; index < 2_999; index += 2)
		s.fake.put({ scheduleId: `s${index}`, cron: "0 * * * *", paused: true });
	for (let index = 1; index < 2_999; index += 2) s.fake.remove(`s${index}`);
	assert.equal(s.fake.lists, lists, "listed at the start only");
	await s.clock.advance(HOUR);
	assert.deepEqual(
		s.fake.fired.map(({ scheduleId, slot }) => [scheduleId, slot]),
		[["s2999", NOON + HOUR]],
	);
});

test("a change of any schedule, as a deployment makes it: all are listed, each keeps its place", async () => {
	await using s = await scene();
	s.fake.put({ scheduleId: "kept", cron: "0 * * * *" });
	s.fake.put({ scheduleId: "gone", cron: "0 * * * *" });
	const { lists } = s.fake;
	s.fake.withdraw("gone");
	s.fake.deployed();
	assert.equal(s.fake.lists, lists + 1);
	await s.clock.advance(2 * HOUR);
	assert.deepEqual(s.fake.slots("kept"), [NOON + HOUR, NOON + 2 * HOUR]);
	assert.deepEqual(s.fake.slots("gone"), []);
	assert.equal(s.fake.calls, 2);
});

test("10,000 schedules are worked out in slices: other work goes between, and what was missed fires all the same", async (t) => {
	const clock = createFakeClock(NOON);
	const environment: Environment = { clock, random: { next: () => 0 }, probe: silentProbe, logger: silentLogger };
	const fake = fakeCronEngine(() => clock.now());
	for (let index = 0; index < 10_000; index += 1) {
		fake.put({ scheduleId: `s${index}`, cron: `${index % 60} 12 * * *`, decidedUntil: NOON - 10 * HOUR });
	}
	const source = cronSource(environment);
	const from = performance.now();
	await source.start(fake.engine);
	const startMs = performance.now() - from;
	assert.equal(clock.pending, 1, "the next slice");
	await clock.advance(HOUR);
	await source.stop();
	t.diagnostic(`10,000 schedules: start took ${startMs.toFixed(0)} ms`);
	assert.equal(fake.fired.length, 10_000);
	assert.equal(clock.pending, 0);
});
