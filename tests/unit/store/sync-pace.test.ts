/** In place while the disk is quick; a slow one is left to a thread, and tried again each second. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SyncPace } from "../../../src/store/sync-pace.ts";

class Disk {
	nowMs = 0;
	syncMs = 0.3;
	readonly pace = new SyncPace({ monotonic: () => this.nowMs });

	syncByThread(times: number): void {
		for (let i = 0; i < times; i += 1) {
			let done = false;
			this.pace.timeThread(
				(synced) => {
					this.nowMs += this.syncMs;
					synced(null);
				},
				(error) => (done = error === null),
			);
			assert.ok(done);
		}
	}

	sync(times = 1): void {
		for (let i = 0; i < times; i += 1) this.pace.time(() => (this.nowMs += this.syncMs));
	}
}

test("a disk is quick until it has shown otherwise", () => {
	const disk = new Disk();
	assert.ok(disk.pace.quick);
	disk.sync(100);
	assert.ok(disk.pace.quick);
});

test("a few syncs that take longer are enough, and of a hanging disk one", () => {
	for (const { syncMs, enough } of [
		{ syncMs: 5, enough: 4 },
		{ syncMs: 5_000, enough: 1 },
	]) {
		const disk = new Disk();
		disk.sync(100);
		disk.syncMs = syncMs;
		disk.sync(enough - 1);
		assert.ok(disk.pace.quick, `${enough - 1} of ${syncMs} ms`);
		disk.sync();
		assert.equal(disk.pace.quick, false, `${enough} of ${syncMs} ms`);
	}
});

test("a slow disk is tried in place again, for at most a hundredth of the time", () => {
	const disk = new Disk();
	disk.syncMs = 500;
	disk.sync();
	const from = disk.nowMs;
	for (let tries = 1; tries <= 10; tries += 1) {
		while (!disk.pace.quick) disk.nowMs += 100;
		disk.sync();
		assert.ok((tries * 500) / (disk.nowMs - from) <= 0.0101, `${tries} tries in ${disk.nowMs - from} ms`);
	}
});

test("it is quick again after some tries were", () => {
	const disk = new Disk();
	disk.syncMs = 50;
	disk.sync(20);
	disk.syncMs = 0.3;
	let tries = 0;
	while (!disk.pace.quick) {
		while (!disk.pace.quick) disk.nowMs += 100;
		disk.sync();
		tries += 1;
	}
	assert.ok(tries > 1 && tries < 30, `${tries} tries`);
	disk.sync(50);
	assert.ok(disk.pace.quick);
});

test("a sync may be put off for two fifths of what one takes, in whole milliseconds, under 7", () => {
	for (const [syncMs, gatherMs] of [
		[0.3, 0],
		[2.4, 0],
		[5.3, 2],
		[11, 4],
		[500, 6],
	] as const) {
		const disk = new Disk();
		disk.syncMs = syncMs;
		disk.syncByThread(200);
		assert.equal(disk.pace.gatherMs, gatherMs, `${syncMs} ms`);
	}
});
