/** Who waits for an end is told once, whatever happens. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Ended } from "../../../src/core/contracts.ts";
import { EngineError } from "../../../src/core/errors.ts";
import { seqOf } from "../../../src/core/ids.ts";
import { Waiters } from "../../../src/engine/waiters.ts";

const end = (invocationId: string): Ended => ({
	invocationId,
	state: "succeeded",
	result: { status: 200, headers: [], body: new Uint8Array() },
	error: undefined,
	executionMs: 1,
});

test("every waiter of an invocation is told of its end, once; others are not", () => {
	const waiters = new Waiters();
	const told: string[] = [];
	waiters.add("a", () => told.push("a1"));
	waiters.add("a", () => told.push("a2"));
	waiters.add("b", () => told.push("b"));
	assert.deepEqual([waiters.size, waiters.count], [2, 3]);
	waiters.ended(seqOf("a"), end("a"));
	waiters.ended(seqOf("a"), end("a"));
	assert.deepEqual(told, ["a1", "a2"]);
	assert.equal(waiters.size, 1);
});

test("one that stopped waiting is not told, and leaves nothing behind", () => {
	const waiters = new Waiters();
	const stop = waiters.add("a", () => assert.fail("told"));
	stop();
	stop();
	assert.equal(waiters.size, 0);
	waiters.ended(seqOf("a"), end("a"));
});

test("a waiter that stops and another that starts while an end is told do not disturb each other", () => {
	const waiters = new Waiters();
	const told: string[] = [];
	const stop = waiters.add("a", () => {
		told.push("first");
		stop();
		waiters.add("a", () => told.push("late"));
	});
	waiters.add("a", () => told.push("second"));
	waiters.ended(seqOf("a"), end("a"));
	assert.deepEqual(told, ["first", "second"]);
	assert.equal(waiters.size, 1);
	stop();
	assert.equal(waiters.size, 1, "the stop of an old set leaves the new one");
});

test("a daemon that stops tells every waiter SHUTTING_DOWN with the id, also one that comes after", async () => {
	const waiters = new Waiters();
	const told: (Ended | EngineError)[] = [];
	waiters.add("a", (answer) => told.push(answer));
	waiters.abandon();
	let isInside = true;
	waiters.add("b", (answer) => {
		assert.equal(isInside, false, "never inside add");
		told.push(answer);
	});
	isInside = false;
	await Promise.resolve();
	assert.deepEqual(
		told.map((answer) => answer instanceof EngineError && [answer.code, answer.invocationId]),
		[
			["SHUTTING_DOWN", "a"],
			["SHUTTING_DOWN", "b"],
		],
	);
	assert.equal(waiters.size, 0);
});
