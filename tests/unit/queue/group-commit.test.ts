/** Group commit: who is told what, and what is left behind, when a transaction cannot be written as it was wanted. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { EngineError } from "../../../src/core/errors.ts";
import type { Outcome } from "../../../src/core/invocation.ts";
import type { InvokeRequest } from "../../../src/core/request.ts";
import type { Disk } from "../../../src/queue/acknowledge.ts";
import { findRollbacks, readLevels } from "../../../src/store/index.ts";
import { failStatement, fillDisk, OK, otherProgram, queueOnFile, THROWN } from "../../support/queue-on-file.ts";
import { seededRandom } from "../../support/seed.ts";

const FULL_BODY = new Uint8Array(3_000_000).fill(1);
/** Needs pages of its own: over 4 KiB it goes into the table of bodies. */
const LARGE: Outcome = { kind: "succeeded", status: 200, headers: [], body: new Uint8Array(200_000).fill(2) };
/** STRICT: a text is no status, so SQLite refuses the row. */
const BAD = { kind: "succeeded", status: "two hundred", headers: [], body: new Uint8Array() } as unknown as Outcome;

const refusedWith = (answer: unknown, code: string): EngineError => {
	assert.ok(answer instanceof EngineError, `expected ${code}, got ${JSON.stringify(answer)}`);
	assert.equal(answer.code, code, answer.message);
	return answer;
};

test("one bad item never fails its batch, and the counts are right afterwards", () => {
	using q = queueOnFile({ lanes: [{ limit: 2 }, { limit: 1 }] });
	const bad = { ...q.submission(0), version: "no integer" as unknown as number };
	const answers = q.accept(q.submission(0), q.submission(0), bad, q.submission(0), q.submission(1));
	refusedWith(answers[2], "STORE_ERROR");
	assert.deepEqual(
		answers.map((answer) => (answer instanceof EngineError ? answer.code : answer.state)),
		["running", "running", "STORE_ERROR", "queued", "running"],
	);
	q.checkCounts();
	assert.equal(q.taken, 3, "the slot of the bad one was given back");
	assert.equal(q.broken.length, 0);
	const ids = answers.flatMap((answer) => (answer instanceof EngineError ? [] : [answer.invocationId]));
	assert.equal(new Set(ids).size, 4, "no id twice, though numbers were given out anew");
	assert.equal(q.queue.accepted, 4);
});

test("a bad item among others leaves a lane whose first touch was its own as it was", () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }, { limit: 1 }] });
	const bad = { ...q.submission(1, { laneKey: "k" }), version: "no integer" as unknown as number };
	q.accept(bad, q.submission(0), bad);
	q.checkCounts();
	assert.equal(q.lane(1).lastKey, "");
	assert.equal(q.taken, 1);
	assert.equal(q.accept(q.submission(1))[0] instanceof EngineError, false, "the lane goes on");
});

test("an answer that cannot be stored ends its invocation as failed, and its neighbours are stored", () => {
	using q = queueOnFile({ lanes: [{ limit: 5 }] });
	const bad = q.id(q.submission(0, { maxAttempts: 1 }));
	const good = q.id(q.submission(0));
	const [first, second] = q.sent;
	assert.ok(first !== undefined && second !== undefined);
	q.settle(first, BAD);
	q.settle(second);
	q.turn();
	assert.equal(q.state(good), "succeeded");
	assert.equal(q.state(bad), "failed", "it does not run for ever in the books");
	const { invocations, errors } = q.queue.read.metrics(1, "minute");
	assert.deepEqual({ invocations, errors }, { invocations: 2, errors: 1 }, "each end is counted once");
	q.checkCounts();
	assert.ok(q.logged.length > 0, "it is told");
});

test("nothing is acknowledged before the commit", () => {
	using q = queueOnFile({ lanes: [{}] });
	const answers: unknown[] = [];
	q.queue.enqueue(
		q.submission(0),
		(answer) => answers.push(answer),
		(error) => answers.push(error),
	);
	assert.equal(answers.length, 0, "not in the turn in which it was asked");
	const commit = failStatement(q.db, /^COMMIT/, "SQLITE_IOERR_FSYNC");
	q.turn();
	commit.restore();
	refusedWith(answers[0], "STORE_ERROR");
	assert.equal(q.sent.length, 0, "no worker saw it");
	assert.equal(q.taken, 0, "its slot was given back");
	assert.equal(q.db.prepare("SELECT COUNT(*) FROM invocation").pluck().get(), 0);
});

test("an I/O error fails everything that is pending with STORE_ERROR, tells `broken` once, and takes nothing more", () => {
	using q = queueOnFile({ lanes: [{}] });
	q.accept(q.submission(0));
	const claim = q.sent[0];
	assert.ok(claim !== undefined);
	const commit = failStatement(q.db, /^COMMIT/, "SQLITE_IOERR_WRITE");
	const answer = q.settle(claim);
	const answers = q.accept(...Array.from({ length: 600 }, () => q.submission(0)));
	commit.restore();
	assert.equal(answers.length, 600, "also those that waited for the next transaction");
	for (const each of answers) refusedWith(each, "STORE_ERROR");
	assert.equal(answer.settled, undefined);
	assert.deepEqual(
		q.broken.map((error) => error.code),
		["IO_ERROR"],
	);
	refusedWith(q.accept(q.submission(0))[0], "STORE_ERROR");
	assert.equal(q.broken.length, 1);
	q.reopen();
	assert.equal(q.state(claim.invocationId), "running", "the row was recovered and started again");
	assert.equal(q.sent.at(-1)?.attempt, 2);
});

test("an I/O error that shows only while items are tried one by one is an I/O error too", () => {
	using q = queueOnFile({ lanes: [{}] });
	q.accept(q.submission(0));
	const claim = q.sent[0];
	assert.ok(claim !== undefined);
	let times = 0;
	// Once in the batch that the bad item fails, then among the items that are tried one by one.
	const insert = failStatement(q.db, /SET state = 2/, "SQLITE_IOERR_READ", () => (times += 1) === 2);
	const bad = { ...q.submission(0), version: "no integer" as unknown as number };
	q.queue.enqueue(
		bad,
		() => undefined,
		() => undefined,
	);
	const answer = q.settle(claim);
	q.turn();
	insert.restore();
	assert.equal(answer.settled, undefined);
	assert.equal(q.broken[0]?.code, "IO_ERROR");
});

test("a full disk refuses accepts with STORAGE_FULL and Retry-After, and records answers after the ballast is freed", () => {
	const disk: { free?: (pages?: number) => void } = {};
	let freed = 0;
	using q = queueOnFile({
		lanes: [{ limit: 3 }],
		deps: {
			freeBallast() {
				freed += 1;
				if (freed > 1) return false;
				disk.free?.(200);
				return true;
			},
		},
	});
	q.accept(q.submission(0), q.submission(0), q.submission(0), q.submission(0));
	const before = q.sent.slice();
	assert.equal(before.length, 3);
	disk.free = fillDisk(q.db).free;
	const answers = before.map((claim) => q.settle(claim, LARGE));
	const refused = q.accept(q.submission(0, { body: FULL_BODY }));
	const error = refusedWith(refused[0], "STORAGE_FULL");
	assert.ok((error.retryAfterSeconds ?? 0) > 0, "Retry-After");
	for (const answer of answers) assert.equal(answer.settled, "succeeded");
	assert.equal(q.broken.length, 0);
	q.checkCounts();
	assert.equal(q.taken, q.lane(0).running, "no slot leaks");
});

test("without ballast, answers wait for space, in order, and are written when it returns", async () => {
	using q = queueOnFile({ lanes: [{ limit: 700 }] });
	q.accept(...Array.from({ length: 700 }, () => q.submission(0)));
	assert.equal(q.sent.length, 700);
	const disk = fillDisk(q.db);
	const answers = q.sent.slice().map((claim) => q.settle(claim, LARGE));
	q.turn();
	assert.ok(answers.every((answer) => answer.settled === undefined));
	q.checkCounts();

	// More answers wait than one transaction takes: others are refused all the same, they do not hang behind them.
	refusedWith(q.accept(q.submission(0, { body: FULL_BODY }))[0], "STORAGE_FULL");
	await q.clock.advance(2_000);
	q.turn();
	assert.ok(answers.every((answer) => answer.settled === undefined));
	assert.equal(q.lane(0).running, 700, "their places are taken until they are written");

	disk.free(100_000);
	await q.clock.advance(1_000);
	q.turn();
	await q.clock.advance(1_000);
	q.turn();
	assert.ok(
		answers.every((answer) => answer.settled === "succeeded"),
		"every answer is written",
	);
	q.checkCounts();
	assert.equal(q.lane(0).running, 0);
	assert.equal(q.taken, 0);
	assert.equal(q.ended.length, 700);
});

test("on a full disk an answer is not held up by the claims of its transaction", async () => {
	using q = queueOnFile({ lanes: [{ limit: 1 }, { limit: 1 }], slots: 1 });
	const id = q.id(q.submission(0));
	const waiting = q.id(q.submission(1));
	const [claim] = q.sent;
	assert.ok(claim !== undefined);
	// The claim cannot be written; the answer can.
	const claims = failStatement(q.db, /SET state = 1/, "SQLITE_FULL");
	const answer = q.settle(claim);
	q.queue.consider(q.lane(1));
	q.turn();
	assert.equal(answer.settled, "succeeded");
	assert.equal(q.state(id), "succeeded");
	assert.equal(q.state(waiting), "queued");
	assert.equal(q.taken, 0);
	q.checkCounts();
	claims.restore();
	await q.clock.advance(1_000);
	q.turn();
	assert.equal(q.state(waiting), "running", "the claim is tried again when space may be back");
});

test("on a full disk a claim is tried again after a pause, though its slot is offered anew at once", async () => {
	let free = 0;
	using q = queueOnFile({
		lanes: [{ limit: 3 }],
		deps: {
			slots: {
				isStuck: () => false,
				reserve(lane) {
					if (free === 0) return undefined;
					free -= 1;
					// As the pool does where somebody else of this function could not be served.
					const release = (): void => {
						free += 1;
						q.queue.consider(lane);
					};
					return { worker: "w1", cold: false, release };
				},
			},
		},
	});
	free = 1;
	const ids = [q.id(q.submission(0)), q.id(q.submission(0)), q.id(q.submission(0))];
	const states = (): string[] => ids.map((id) => q.state(id));
	const [claim] = q.sent;
	assert.ok(claim !== undefined);
	const full = failStatement(q.db, /^COMMIT$/, "SQLITE_FULL");
	try {
		free = 1;
		q.queue.consider(q.lane(0));
		q.turn();
		q.queue.settle(claim, OK, () => undefined);
		q.turn();
		await q.clock.advance(10_000);
		q.turn();
		assert.deepEqual(states(), ["running", "queued", "queued"]);
	} finally {
		full.restore();
	}
	await q.clock.advance(1_000);
	q.turn();
	assert.deepEqual(states(), ["succeeded", "running", "queued"], "written and claimed when there is space again");
	q.checkCounts();
});

test("recovery on a full disk ends with STORAGE_FULL instead of trying the same page for ever", () => {
	using q = queueOnFile({ lanes: [{ limit: 3 }] });
	q.accept(q.submission(0), q.submission(0));
	const insert = failStatement(q.db, /INSERT INTO attempt/, "SQLITE_FULL");
	assert.throws(
		() => q.reopen(),
		(error) => error instanceof EngineError && error.code === "STORAGE_FULL",
	);
	insert.restore();
	q.reopen();
	q.checkCounts();
});

test("recovery whose first transaction fails counts each running row once", () => {
	using q = queueOnFile({ lanes: [{ limit: 3 }] });
	q.accept(q.submission(0), q.submission(0));
	let failures = 0;
	const insert = failStatement(q.db, /INSERT INTO attempt/, "SQLITE_CONSTRAINT", () => (failures += 1) === 1);
	q.reopen();
	insert.restore();
	assert.equal(failures > 1, true);
	q.checkCounts();
});

test("a lock of another program that passes within 2 s is waited for, in order, and the loop goes on", async () => {
	using q = queueOnFile({ lanes: [{}] });
	q.accept(q.submission(0));
	const claim = q.sent[0];
	assert.ok(claim !== undefined);
	const shell = otherProgram(q);
	shell.exec("BEGIN IMMEDIATE");
	const answer = q.settle(claim);
	const told: (string | EngineError)[] = [];
	const ask = (): void => {
		q.queue.enqueue(
			q.submission(0),
			(accepted) => told.push(accepted.invocationId),
			(error) => told.push(error),
		);
	};
	ask();
	const from = performance.now();
	q.turn();
	ask();
	q.turn();
	assert.ok(performance.now() - from < 1_000, "SQLite does not wait for the lock on our thread");
	await q.clock.advance(1_500);
	q.turn();
	assert.deepEqual(told, [], "nobody was told anything");
	assert.equal(answer.settled, undefined);
	shell.exec("ROLLBACK");
	shell.close();
	await q.clock.advance(100);
	q.turn();
	assert.equal(answer.settled, "succeeded");
	assert.equal(told.length, 2);
	const [first, second] = told;
	assert.ok(typeof first === "string" && typeof second === "string");
	assert.ok(first < second, "in the order in which they asked");
	assert.equal(q.logged.length, 0, "a passing lock is nothing to tell");
	q.checkCounts();
});

test("a lock of another program that stays: after 2 s new work is refused with STORE_BUSY, and answers wait", async () => {
	using q = queueOnFile({ lanes: [{}] });
	q.accept(q.submission(0));
	const claim = q.sent[0];
	assert.ok(claim !== undefined);
	const shell = otherProgram(q);
	shell.exec("BEGIN IMMEDIATE");
	const answer = q.settle(claim);
	assert.deepEqual(q.accept(q.submission(0)), []);
	let refused: unknown;
	q.queue.enqueue(
		q.submission(0),
		() => assert.fail(),
		(error) => (refused = error),
	);
	// The clock is moved in steps as the timers of a loop would be.
	for (let waited = 0; waited < 2_500; waited += 50) {
		await q.clock.advance(50);
		q.turn();
	}
	const error = refusedWith(refused, "STORE_BUSY");
	assert.equal(error.httpStatus, 503);
	assert.ok((error.retryAfterSeconds ?? 0) > 0);
	refusedWith(q.accept(q.submission(0))[0], "STORE_BUSY");
	for (let waited = 0; waited < 60_000; waited += 1_000) {
		await q.clock.advance(1_000);
		q.turn();
	}
	assert.equal(answer.settled, undefined);
	assert.equal(q.broken.length, 0, "a lock must not end the daemon");
	assert.equal(q.logged.length, 1, "told once");
	shell.exec("ROLLBACK");
	shell.close();
	await q.clock.advance(1_000);
	q.turn();
	assert.equal(answer.settled, "succeeded");
	assert.equal((q.accept(q.submission(0))[0] as { state?: string }).state, "running");
	assert.equal(
		q.db.prepare("SELECT COUNT(*) FROM invocation").pluck().get(),
		2,
		"nothing of what was refused is there",
	);
	q.checkCounts();
});

test("a stop while another program holds the lock ends within its bound, and refuses what waited", () => {
	using q = queueOnFile({ lanes: [{}] });
	const shell = otherProgram(q);
	shell.exec("BEGIN IMMEDIATE");
	let refused: unknown;
	q.queue.enqueue(
		q.submission(0),
		() => assert.fail(),
		(error) => (refused = error),
	);
	const from = performance.now();
	q.queue.close();
	assert.ok(performance.now() - from < 10_000);
	refusedWith(refused, "STORE_BUSY");
	shell.exec("ROLLBACK");
	shell.close();
});

test("a callback that throws keeps nobody else from being told, and no claim from being sent", () => {
	const ended: string[] = [];
	using q = queueOnFile({
		lanes: [{ limit: 2 }],
		deps: {
			ended(end) {
				ended.push(end.invocationId);
				throw new Error("a waiter throws");
			},
		},
	});
	const told: string[] = [];
	const boom = (): never => {
		throw new Error("a source throws");
	};
	q.queue.enqueue(q.submission(0), boom, boom);
	q.queue.enqueue(
		q.submission(0),
		() => told.push("second"),
		() => undefined,
	);
	assert.doesNotThrow(() => q.turn());
	assert.deepEqual(told, ["second"]);
	assert.equal(q.sent.length, 2);
	for (const claim of q.sent.slice()) q.settle(claim);
	assert.doesNotThrow(() => q.turn());
	assert.equal(ended.length, 2);
	q.checkCounts();
	assert.ok(q.logged.length > 0, "it is told");
});

test("a callback may enqueue: its work is written in the next turn", () => {
	using q = queueOnFile({ lanes: [{}] });
	const order: string[] = [];
	q.queue.enqueue(
		q.submission(0),
		() => {
			order.push("first");
			q.queue.enqueue(
				q.submission(0),
				() => order.push("second"),
				() => undefined,
			);
			order.push("asked");
		},
		() => undefined,
	);
	q.turn();
	assert.deepEqual(order, ["first", "asked", "second"]);
	q.checkCounts();
});

test("a refused item wrote nothing, and the others of its turn are accepted", () => {
	using q = queueOnFile({ lanes: [{ limit: 1, maxQueued: 2 }] });
	const answers = q.accept(...Array.from({ length: 6 }, () => q.submission(0)));
	assert.deepEqual(
		answers.map((answer) => (answer instanceof EngineError ? answer.code : answer.state)),
		["running", "queued", "queued", "LANE_FULL", "LANE_FULL", "LANE_FULL"],
	);
	q.checkCounts();
});

test("closing with a full disk ends, and what was not written is recovered at the next start", () => {
	using q = queueOnFile({ lanes: [{}] });
	const id = q.id(q.submission(0));
	const claim = q.sent[0];
	assert.ok(claim !== undefined);
	const disk = fillDisk(q.db);
	q.settle(claim, LARGE);
	const from = performance.now();
	q.queue.close();
	assert.ok(performance.now() - from < 2_000);
	disk.free();
	q.reopen();
	assert.equal(q.state(id), "running");
	assert.equal(q.sent.at(-1)?.attempt, 2);
	q.settle(q.sent.at(-1) ?? claim, THROWN);
	q.turn();
	assert.equal(q.settle({ ...claim, ticket: { ...claim.ticket, release: () => undefined } }, OK).settled, undefined);
	q.turn();
	assert.equal(q.state(id), "queued", "the answer of the first attempt is stale");
});

test("the level for the high-water mark is that of the newest commit on disk, and looking at it syncs nothing", () => {
	const syncs: ((error: Error | null) => void)[] = [];
	let inPlace = 0;
	using q = queueOnFile({
		lanes: [{}],
		deps: {
			disk: { quick: false, gatherMs: 0, now: () => void (inPlace += 1), start: (done) => void syncs.push(done) },
		},
	});
	const before = q.queue.level;
	q.accept(q.submission(0), q.submission(0), q.submission(0));
	assert.equal(syncs.length, 1, "under way");
	inPlace = 0;
	assert.deepEqual(q.queue.level, before, "it may be in memory only");
	assert.equal(inPlace, 0, "a slow disk must not hold up the loop for a look");
	syncs[0]?.(null);
	assert.deepEqual(q.queue.level, { commits: before.commits, seq: before.seq + 3 }, "the seq shows it");
	for (const claim of q.sent) q.settle(claim);
	q.turn();
	syncs[1]?.(null);
	assert.deepEqual(q.queue.level, { commits: before.commits + 3, seq: before.seq + 3 }, "each end shows");
});

test("each transaction raises the level of the file, whatever it writes: without its newest one it is known to lack it", async () => {
	using q = queueOnFile({ lanes: [{ limit: 2 }, { limit: 1 }] });
	const random = seededRandom(7);
	const ids: string[] = [];
	const kinds = new Set<string>();
	const accept = (request: Partial<InvokeRequest> = {}): void =>
		q.queue.enqueue(
			q.submission(Math.floor(random.next() * 2), request),
			({ invocationId }) => void ids.push(invocationId),
			assert.fail,
		);
	const settle = (): void => {
		const claim = q.sent.shift();
		if (claim !== undefined) q.settle(claim, random.next() < 0.5 ? OK : THROWN);
	};
	const acts: Record<string, () => unknown> = {
		accept: () => accept(),
		"accept later": () => accept({ delayMs: 10 }),
		settle,
		"accept and settle": () => (accept(), settle()),
		cancel() {
			try {
				void q.queue.cancel(ids[Math.floor(random.next() * ids.length)] ?? assert.fail());
			} catch (error) {
				assert.ok(error instanceof EngineError && /^(RESULT_PRUNED|INVOCATION_NOT_FOUND)$/.test(error.code));
			}
		},
		prune: () => void q.queue.prune(),
		wait: () => q.clock.advance(5_000),
		// Nothing is young enough to stay, not even the newest.
		"wait for weeks": () => q.clock.advance(15 * 86_400_000),
	};
	const names = Object.keys(acts);
	accept();
	q.turn();
	let before = readLevels(q.folder);
	for (let step = 0; step < 2_000; step += 1) {
		const name = names[Math.floor(random.next() * names.length)] ?? "accept";
		await acts[name]?.();
		while (q.wantsTurn) {
			const { commits } = q.queue;
			q.oneTurn();
			const after = readLevels(q.folder);
			if (q.queue.commits === commits) continue;
			kinds.add(name);
			assert.equal(q.queue.commits, commits + 1);
			assert.equal(findRollbacks(after, before).length, 1, `step ${step}, ${name}: it looks as before`);
			assert.deepEqual(findRollbacks(before, after), [], `step ${step}, ${name}: it is no less than before`);
			before = after;
		}
	}
	assert.deepEqual([...kinds].toSorted(), names.toSorted(), "each had something to write at least once");
});

test("a slow disk: a sync waits for what callers and workers may send next, an end that nobody waits for is none of it", () => {
	const awaited = new Set<string>();
	const syncs: ((error: Error | null) => void)[] = [];
	const disk: Disk = { quick: false, gatherMs: 4, now: () => undefined, start: (done) => void syncs.push(done) };
	const synced = (): void => syncs.pop()?.(null);
	using q = queueOnFile({ lanes: [{}], deps: { disk, awaited: (end) => awaited.has(end.invocationId) } });
	q.accept(q.submission(0), q.submission(0));
	synced();
	const [first, second] = q.sent;
	assert.ok(first !== undefined && second !== undefined);
	awaited.add(first.invocationId);
	q.settle(first);
	q.turn();
	assert.equal(syncs.length, 0, "the other worker's answer may come");
	q.settle(second);
	q.turn();
	assert.equal(syncs.length, 1, "both are there");
	synced();
	q.accept(q.submission(0));
	assert.equal(syncs.length, 1, "one caller waited, and asked again");
	synced();
	const third = q.sent[2];
	assert.ok(third !== undefined);
	q.settle(third);
	q.turn();
	synced();
	const before = q.clock.pending;
	q.accept(q.submission(0));
	assert.equal(syncs.length, 1, "nobody waited for the third");
	synced();
	assert.equal(q.clock.pending, before + 1);
	q.queue.close();
	assert.equal(q.clock.pending, before, "a closed queue leaves no timer");
});
