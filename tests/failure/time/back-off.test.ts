/** D9: how long a retry waits, and delays longer than a timer can be. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { retryDelayMs } from "../../../src/core/retry.ts";
import { systemClock } from "../../../src/engine/index.ts";
import { startDaemon } from "../../support/daemon.ts";
import { queueOnFile, THROWN } from "../../support/queue-on-file.ts";
import { fc, seededRandom } from "../../support/seed.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { faketime } from "../needs.ts";
import { deploySleeper, fakeTime } from "./rig.ts";

const DAY = 86_400_000;
const TIMER_MS_MAX = 2 ** 31 - 1;

fault("D9", "a retry waits base × 2^(n−1) up to its cap, with jitter in the upper half of that", (f) => {
	const retry = fc.record({
		maxAttempts: fc.integer({ min: 1, max: 1_000 }),
		baseMs: fc.integer({ min: 0, max: DAY }),
		capMs: fc.integer({ min: 0, max: 7 * DAY }),
		jitter: fc.boolean(),
		retryOn: fc.constant([]),
	});
	const charged = fc.integer({ min: 1, max: 1_000 });
	const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
	const numRuns = f.runs(2_000, 200_000);
	fc.assert(
		fc.property(retry, charged, chance, (policy, n, next) => {
			let whole = policy.baseMs;
			for (let doubled = 1; doubled < n && whole < policy.capMs; doubled += 1) whole *= 2;
			// 0 doubled is 0, however often.
			whole = Math.min(whole, policy.capMs);
			const delay = retryDelayMs(policy, n, { next: () => next });
			assert.ok(Number.isFinite(delay) && delay <= whole && delay >= Math.floor(whole / (policy.jitter ? 2 : 1)));
			if (!policy.jitter) assert.equal(delay, whole);
			else assert.ok(Math.abs(delay - (whole / 2) * (1 + next)) <= 1);
		}),
		{ seed: f.seed, numRuns },
	);
	const random = seededRandom(f.seed);
	const policy = { maxAttempts: 9, baseMs: 1_000, capMs: 60_000, jitter: true, retryOn: [] };
	const delays = Array.from({ length: 1_000 }, () => retryDelayMs(policy, 3, random));
	assert.ok(new Set(delays).size > 500, "a thousand that failed together do not come back together");
});

fault("D9", "the queue starts no retry before its back-off is over, however many came before", async (f) => {
	const retry = { maxAttempts: 12, baseMs: 1_000, capMs: 20_000, jitter: true, retryOn: [] };
	using q = queueOnFile({ lanes: [{ config: { retry } }] });
	q.id(q.submission(0));
	for (let failed = 1; failed < retry.maxAttempts; failed += 1) {
		const sent = q.sent.length;
		const endedAt = q.clock.now();
		q.settle(q.sent.at(-1) as never, THROWN);
		q.turn();
		const whole = Math.min(retry.capMs, retry.baseMs * 2 ** (failed - 1));
		while (q.sent.length === sent) {
			await q.clock.advance(50);
			q.turn();
			assert.ok(q.clock.now() - endedAt <= whole + 50, `retry ${failed} comes within ${whole} ms`);
		}
		assert.ok(q.clock.now() - endedAt >= whole / 2, `retry ${failed} comes after half of ${whole} ms`);
	}
	f.ran(retry.maxAttempts - 1);
});

fault("D9", "work delayed by 40 days starts then: not at once, where a timer that long would fire", async (f) => {
	using q = queueOnFile({ lanes: [{}] });
	const from = q.clock.now();
	q.id(q.submission(0, { delayMs: 40 * DAY }));
	for (let day = 1; day <= 40; day += 1) {
		assert.equal(q.sent.length, 0, `day ${day}`);
		await q.clock.advance(DAY - (day === 40 ? 1 : 0));
		q.turn();
	}
	assert.equal(q.sent.length, 0, "a millisecond before");
	await q.clock.advance(1);
	q.turn();
	assert.equal(q.sent.length, 1);
	assert.equal(q.clock.now(), from + 40 * DAY);
	f.ran(1);
});

fault(
	"D9",
	"the real clock takes a delay over 2^31 ms in steps, and never gives Node one that it would cut to 1 ms",
	async (f) => {
		const asked: number[] = [];
		const real = globalThis.setTimeout;
		const warnings: string[] = [];
		const warn = (warning: Error): void => void warnings.push(warning.name);
		process.on("warning", warn);
		let fired = 0;
		try {
			globalThis.setTimeout = ((act: () => void, ms: number) => {
				asked.push(ms);
				return real(act, ms);
			}) as typeof setTimeout;
			const delays = [TIMER_MS_MAX, TIMER_MS_MAX + 1, 2 ** 32, 40 * DAY, 366 * DAY];
			const timers = delays.map((ms) => systemClock.setTimer(ms, () => (fired += 1)));
			await sleep(200);
			for (const timer of timers) timer.cancel();
		} finally {
			globalThis.setTimeout = real;
			process.off("warning", warn);
		}
		assert.equal(fired, 0);
		assert.ok(asked.length >= 5 && asked.every((ms) => ms <= TIMER_MS_MAX), asked.join(" "));
		assert.deepEqual(warnings, []);
		f.ran(5);
	},
);

fault(
	"D9",
	"a real daemon keeps work of 40 days queued over a restart, and starts it once when the day has come",
	{ needs: [faketime] },
	async (f) => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		const clock = fakeTime(folder.path);
		let daemon = await startDaemon(dataDir, { env: clock.env });
		await deploySleeper(daemon.client, folder.path);
		const body = JSON.stringify({ ms: 0 });
		const { invocationId } = await daemon.client.enqueue("sleeper", { body, delayMs: 40 * DAY });
		await sleep(300);
		assert.equal((await daemon.client.getResult(invocationId)).state, "queued");
		assert.ok(!daemon.lines.some((line) => line.includes("TimeoutOverflowWarning")), daemon.lines.join("\n"));
		assert.equal(await daemon.stop(), 0);
		clock.set("+39d");
		daemon = await startDaemon(dataDir, { env: clock.env });
		await sleep(300);
		assert.equal((await daemon.client.getResult(invocationId)).state, "queued", "a day before");
		assert.equal(await daemon.stop(), 0);
		clock.set("+40d");
		daemon = await startDaemon(dataDir, { env: clock.env });
		try {
			await waitFor("its end", async () => (await daemon.client.getResult(invocationId)).state === "succeeded");
			assert.equal((await daemon.client.call("invocations.get", { invocation_id: invocationId }))["attempt"], 1);
			f.ran(1);
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
	},
);
