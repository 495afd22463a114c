/** Nobody is told of a commit before it is on disk, everybody in the order of the commits, and a failing disk tells nobody. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Acknowledger } from "../../../src/queue/acknowledge.ts";
import { fc, seeded } from "../../support/seed.ts";

class FakeDisk {
	/** Commits made. */
	committed = 0;
	/** Of these, on disk. */
	onDisk = 0;
	fails = false;
	quick = false;
	gatherMs = 1;
	/** A sync in place does not wait for one that is under way, so there may be two. */
	readonly #started: { upTo: number; done: (error: Error | null) => void }[] = [];

	now(): void {
		if (this.fails) throw Object.assign(new Error("injected"), { code: "EIO" });
		this.onDisk = this.committed;
	}

	start(done: (error: Error | null) => void): void {
		this.#started.push({ upTo: this.committed, done });
	}

	get busy(): boolean {
		return this.#started.length > 0;
	}

	finish(): void {
		const started = this.#started.shift();
		if (started === undefined) return;
		if (!this.fails) this.onDisk = Math.max(this.onDisk, started.upTo);
		started.done(this.fails ? Object.assign(new Error("injected"), { code: "EIO" }) : null);
	}
}

interface Rig {
	readonly disk: FakeDisk;
	readonly told: number[];
	readonly failed: number[];
	readonly broken: unknown[];
	readonly acknowledger: Acknowledger;
	/** Commits one item at this wall clock; so much follows upon it when it is told. */
	readonly commit: (at: number, lets?: number) => void;
	/** The time that a sync is put off is over. */
	readonly ring: () => void;
	readonly isPutOff: () => boolean;
}

function rig(): Rig {
	const disk = new FakeDisk();
	const timers = new Set<() => void>();
	const clock = {
		setTimer(_ms: number, fire: () => void) {
			timers.add(fire);
			return { cancel: () => void timers.delete(fire) };
		},
	};
	const made: Rig = {
		disk,
		told: [],
		failed: [],
		broken: [],
		acknowledger: new Acknowledger(disk, clock, (error, untold) => {
			made.broken.push(error);
			for (const commit of untold) commit.failed(new Error("unknown") as never);
		}),
		ring() {
			const due = Array.from(timers);
			timers.clear();
			for (const fire of due) fire();
		},
		isPutOff: () => timers.size > 0,
		commit(at, lets = 0) {
			disk.committed += 1;
			const number = disk.committed;
			made.acknowledger.add({
				at,
				items: 1,
				lets: () => lets,
				told() {
					assert.ok(number <= disk.onDisk, `commit ${number} is told, ${disk.onDisk} are on disk`);
					made.told.push(number);
				},
				failed: () => made.failed.push(number),
			});
		},
	};
	return made;
}

test("a quick disk is synced in place; on a slow one a commit waits for a sync that began after it", () => {
	const { disk, told, commit, acknowledger } = rig();
	disk.quick = true;
	commit(1);
	assert.deepEqual(told, [1]);
	disk.quick = false;
	commit(2);
	commit(3); // the sync under way may have missed it
	assert.deepEqual(told, [1]);
	disk.finish();
	assert.deepEqual(told, [1, 2]);
	assert.ok(disk.busy, "the next sync is under way");
	disk.finish();
	assert.deepEqual(told, [1, 2, 3]);
	assert.ok(acknowledger.idle);
});

test("the next sync of a slow disk waits for as much as the last one let out, so that it takes that along", () => {
	const { disk, told, commit, isPutOff } = rig();
	commit(1, 2);
	commit(2);
	disk.finish();
	assert.deepEqual(told, [1]);
	assert.equal(disk.busy, false, "2 waits for what follows upon 1");
	commit(3);
	assert.equal(disk.busy, false);
	commit(4);
	assert.ok(disk.busy, "all that could follow has");
	assert.equal(isPutOff(), false);
	disk.finish();
	assert.deepEqual(told, [1, 2, 3, 4]);
});

test("it waits no longer than its time; where too little came, the next 1, 2, 4, … 16 do not wait", () => {
	const { disk, told, commit, ring, isPutOff } = rig();
	let number = 0;
	const sync = (lets: number): void => {
		number += 1;
		commit(number, lets);
		assert.ok(disk.busy, `${number} is synced at once`);
		disk.finish();
		assert.equal(told.length, number);
	};
	sync(2);
	for (const hasty of [1, 2, 4, 8, 16, 16]) {
		assert.ok(isPutOff(), "tried again");
		ring();
		for (let left = hasty; left > 0; left -= 1) {
			sync(2);
			assert.equal(isPutOff(), false, `${left} of ${hasty}`);
		}
		sync(2);
	}
	commit(++number, 2);
	assert.equal(disk.busy, false);
	commit(++number, 2);
	assert.ok(disk.busy, "enough came");
	disk.finish();
	commit(++number, 2);
	assert.equal(disk.busy, false);
	ring();
	assert.ok(disk.busy, "one of four came, and the time is over");
	disk.finish();
	assert.equal(isPutOff(), false);
	sync(2);
	assert.ok(isPutOff(), "it begins again with one");
});

test("it does not wait for more than can come in its time", () => {
	for (const [lets, waits] of [
		[50, true],
		[51, false],
	] as const) {
		const { disk, commit, isPutOff } = rig();
		commit(1, lets);
		commit(2);
		disk.finish();
		assert.deepEqual([isPutOff(), disk.busy], [waits, !waits]);
	}
});

test("a sync in place, a disk that is quick again and a store that failed leave no timer", () => {
	for (const end of [
		({ acknowledger }: Rig) => acknowledger.finish(),
		({ disk, commit }: Rig) => {
			disk.quick = true;
			commit(3);
		},
		({ acknowledger }: Rig) => acknowledger.stop(),
		({ acknowledger, disk }: Rig) => {
			disk.fails = true;
			assert.throws(() => acknowledger.ensure(2), /injected/);
		},
	]) {
		const made = rig();
		made.commit(1, 9);
		made.commit(2);
		made.disk.finish();
		assert.ok(made.isPutOff());
		end(made);
		assert.equal(made.isPutOff(), false);
		assert.ok(made.acknowledger.idle);
		assert.equal(made.disk.busy, false);
	}
	const { disk, commit, acknowledger, isPutOff } = rig();
	commit(1, 9);
	disk.finish();
	assert.ok(acknowledger.idle);
	assert.ok(isPutOff());
	acknowledger.finish();
	assert.equal(isPutOff(), false, "also where nothing waits for it");
});

test("what is shown is on disk first, and showing it tells nobody", () => {
	const { disk, told, commit, acknowledger } = rig();
	commit(10);
	acknowledger.ensure(9);
	assert.equal(disk.onDisk, 0, "older rows are on disk already");
	acknowledger.ensure(10);
	assert.equal(disk.onDisk, 1);
	assert.deepEqual(told, []);
	disk.finish();
	assert.deepEqual(told, [1]);
});

test("a disk that fails tells nobody, and hands back everything that was not told", () => {
	for (const inPlace of [false, true]) {
		const { disk, told, failed, broken, commit, acknowledger } = rig();
		commit(1);
		commit(2);
		disk.fails = true;
		if (inPlace) acknowledger.finish();
		else disk.finish();
		disk.finish();
		assert.deepEqual(told, []);
		assert.deepEqual(failed, [1, 2]);
		assert.equal(broken.length, 1);
	}
	const { disk, commit, acknowledger, failed } = rig();
	commit(1);
	disk.fails = true;
	assert.throws(() => acknowledger.ensure(1), /injected/);
	assert.deepEqual(failed, [1]);
});

test("once the store has failed elsewhere nobody is told, also of a sync that goes well", () => {
	const { disk, told, commit, acknowledger } = rig();
	commit(1);
	commit(2);
	assert.equal(acknowledger.stop().length, 2);
	while (disk.busy) disk.finish();
	assert.deepEqual(told, []);
	assert.ok(acknowledger.idle);
});

test("an error of a sync that was overtaken breaks the store all the same: the kernel tells it once", () => {
	const { disk, told, broken, commit, acknowledger } = rig();
	commit(1);
	acknowledger.finish();
	assert.deepEqual(told, [1]);
	disk.fails = true;
	disk.finish();
	assert.equal(broken.length, 1);
});

test("whatever happens in whatever order: told once each, in order, never before the disk has it", () => {
	fc.assert(
		fc.property(
			fc.array(
				fc.oneof(
					fc.record({
						kind: fc.constant("commit"),
						at: fc.integer({ min: 0, max: 20 }),
						quick: fc.boolean(),
						lets: fc.nat(3),
					}),
					fc.record({ kind: fc.constantFrom("synced", "finish", "ring") }),
					fc.record({ kind: fc.constant("ensure"), at: fc.integer({ min: 0, max: 20 }) }),
				),
				{ maxLength: 40 },
			),
			(steps) => {
				const { disk, told, commit, ring, isPutOff, acknowledger } = rig();
				const times: number[] = [];
				for (const step of steps) {
					if (step.kind === "commit" && "quick" in step) {
						disk.quick = step.quick;
						commit(step.at, step.lets);
						times.push(step.at);
					} else if (step.kind === "ensure" && "at" in step) {
						acknowledger.ensure(step.at);
						const due = times.findLastIndex((at) => at <= step.at) + 1;
						// What bears this time is on disk; times may run backwards.
						for (let number = 1; number <= due; number += 1) {
							if (times[number - 1] === step.at) assert.ok(number <= disk.onDisk, `${number} was shown`);
						}
					} else if (step.kind === "synced") disk.finish();
					else if (step.kind === "ring") ring();
					else acknowledger.finish();
				}
				for (let left = 100; left > 0 && (disk.busy || isPutOff()); left -= 1) {
					ring();
					disk.finish();
				}
				assert.deepEqual(
					told,
					Array.from({ length: disk.committed }, (_, index) => index + 1),
				);
				assert.ok(acknowledger.idle);
			},
		),
		seeded(2_000),
	);
});
