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
	/** Commits at this wall clock. */
	readonly commit: (at: number) => void;
}

function rig(): Rig {
	const disk = new FakeDisk();
	const made: Rig = {
		disk,
		told: [],
		failed: [],
		broken: [],
		acknowledger: new Acknowledger(disk, (error, untold) => {
			made.broken.push(error);
			for (const commit of untold) commit.failed(new Error("unknown") as never);
		}),
		commit(at) {
			disk.committed += 1;
			const number = disk.committed;
			made.acknowledger.add({
				at,
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
					fc.record({ kind: fc.constant("commit"), at: fc.integer({ min: 0, max: 20 }), quick: fc.boolean() }),
					fc.record({ kind: fc.constantFrom("synced", "finish") }),
					fc.record({ kind: fc.constant("ensure"), at: fc.integer({ min: 0, max: 20 }) }),
				),
				{ maxLength: 40 },
			),
			(steps) => {
				const { disk, told, commit, acknowledger } = rig();
				const times: number[] = [];
				for (const step of steps) {
					if (step.kind === "commit" && "quick" in step) {
						disk.quick = step.quick;
						commit(step.at);
						times.push(step.at);
					} else if (step.kind === "ensure" && "at" in step) {
						acknowledger.ensure(step.at);
						const due = times.findLastIndex((at) => at <= step.at) + 1;
						// What bears this time is on disk; times may run backwards.
						for (let number = 1; number <= due; number += 1) {
							if (times[number - 1] === step.at) assert.ok(number <= disk.onDisk, `${number} was shown`);
						}
					} else if (step.kind === "synced") disk.finish();
					else acknowledger.finish();
				}
				acknowledger.finish();
				while (disk.busy) disk.finish();
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
