import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Outcome } from "../../src/core/invocation.ts";
import { findBun, runBun, sweepOrphans } from "../../src/pool/index.ts";
import { childrenOf, isGone } from "../support/processes.ts";
import { createRealPool, specOf } from "../support/real-pool.ts";
import { tempFolder } from "../support/temp-folder.ts";
import { waitFor } from "../support/wait-for.ts";

const trials = specOf("trials.ts", { timeoutMs: 10_000, graceMs: 200 });
const text = (outcome: Outcome): string => {
	assert.equal(outcome.kind, "succeeded", JSON.stringify(outcome));
	assert.ok(outcome.kind === "succeeded");
	return new TextDecoder().decode(outcome.body);
};
const errorOf = (outcome: Outcome): { code: string; message: string; name?: string; stack?: string } => {
	assert.ok("error" in outcome, JSON.stringify(outcome));
	return outcome.error;
};

test("a request arrives as it was sent and its response comes back as it was made", async () => {
	await using real = createRealPool();
	const outcome = await real.call(trials, "/echo", {
		id: "inv_abc",
		headers: [
			["x-many", "1"],
			["x-many", "2"],
			["content-type", "text/plain"],
		],
		query: [
			["a", "1"],
			["a", "2 ä&="],
		],
		body: new TextEncoder().encode("hello"),
	});
	assert.equal(text(outcome), "hello");
	assert.ok(outcome.kind === "succeeded");
	assert.equal(outcome.status, 201);
	const headers = new Map(outcome.headers);
	assert.equal(headers.get("x-url"), "http://trials.function.internal/echo?a=1&a=2%20%C3%A4%26%3D");
	assert.equal(headers.get("x-many"), "1, 2");
	assert.equal(headers.get("x-invocation"), "inv_abc");
	assert.equal(headers.get("x-attempt"), "1");
	assert.deepEqual(
		outcome.headers.filter(([name]) => name === "set-cookie").map(([, value]) => value),
		["a=1; Path=/", "b=2"],
	);
	const get = await real.call(trials, "/echo", { method: "GET" });
	assert.ok(get.kind === "succeeded");
	assert.equal(new Map(get.headers).get("x-body"), "null");
});

test("a body arrives the same whichever way the Response was given it", async () => {
	await using real = createRealPool();
	const words = "größe 漢字";
	for (const kind of ["text", "bytes", "blob", "clone", "titled", "properties", "stream", "touched", "pieces"]) {
		assert.equal(text(await real.call(trials, "/body", { query: [["of", kind]] })), words, kind);
	}
	assert.equal(text(await real.call(trials, "/body", { query: [["of", "json"]] })), JSON.stringify(words));
	for (const kind of ["empty", "none"])
		assert.equal(text(await real.call(trials, "/body", { query: [["of", kind]] })), "");
});

test("binary bodies of any size go both ways unchanged", async () => {
	await using real = createRealPool();
	for (const bytes of [1, 4_095, 16_385, 70_000, 1_000_000, 6 * 1024 * 1024]) {
		const body = randomBytes(bytes);
		const outcome = await real.call(trials, "/echo", { body });
		assert.ok(outcome.kind === "succeeded");
		assert.ok(Buffer.compare(body, outcome.body) === 0, `${bytes} bytes came back changed`);
	}
	const bodies = Array.from({ length: 16 }, () => randomBytes(500_000));
	const outcomes = await Promise.all(bodies.map((body) => real.call(trials, "/echo", { body })));
	for (const [i, outcome] of outcomes.entries()) {
		assert.ok(outcome.kind === "succeeded");
		assert.ok(Buffer.compare(bodies[i] ?? randomBytes(1), outcome.body) === 0);
	}
});

test("a worker sees its function's variables, four of the daemon's, and nothing of the pool's", async () => {
	await using real = createRealPool();
	const spec = { ...trials, env: { GREETING: "hi", MIMALLOC_PURGE_DELAY: "2500" } };
	const seen = JSON.parse(text(await real.call(spec, "/environment"))) as {
		env: Record<string, string>;
		cwd: string;
		left: string[];
	};
	assert.equal(seen.env["GREETING"], "hi");
	assert.equal(seen.env["MIMALLOC_PURGE_DELAY"], "2500", "of those the pool sets, the function's own value counts");
	// The last one is Bun's own, by which its children die with it.
	const allowed = new Set([
		"GREETING",
		"MIMALLOC_PURGE_DELAY",
		"PATH",
		"HOME",
		"TZ",
		"LANG",
		"BUN_FEATURE_FLAG_NO_ORPHANS",
	]);
	assert.deepEqual(
		Object.keys(seen.env).filter((name) => !allowed.has(name)),
		[],
	);
	assert.deepEqual(seen.left, []);
	assert.match(seen.cwd, /bunbase-pool-.*worker-/);
});

test("a spare process becomes the worker of whichever function needs one first, and is like any other", async () => {
	await using real = createRealPool({ spareWorkers: 1 });
	real.pool.activate(trials);
	const first = await waitFor("a spare", () => childrenOf(process.pid)[0]);
	assert.equal(text(await real.call(trials, "/pid")), `${first}`);
	assert.equal(text(await real.call(trials, "/pid")), `${first}`);
	const next = await waitFor("its successor", () => childrenOf(process.pid).find((pid) => pid !== first));
	const other = specOf(
		"trials.ts",
		{ timeoutMs: 10_000 },
		{ key: "other/v1", functionId: "fn_o", functionName: "other" },
	);
	const own = { ...other, key: "own/v1", functionId: "fn_own", env: { OWN: "1" } };
	const pid = text(await real.call(own, "/pid"));
	assert.notEqual(pid, `${next}`, "one with variables of its own has a process with them");
	assert.equal(text(await real.call(other, "/pid")), `${next}`);
	assert.equal(text(await real.call(other, "/echo", { body: new TextEncoder().encode("hello") })), "hello");
	const last = await waitFor("the third", () => childrenOf(process.pid).find((child) => !real.pids().includes(child)));
	await real.pool.stop(0);
	assert.ok([first, next, last].every(isGone));
});

test("prove answers with the exported config, a named handler is found, and an object with fetch", async () => {
	await using real = createRealPool();
	const named = { ...trials, key: "named/v1", handler: "other" };
	assert.deepEqual((await real.pool.prove(named)).config, { timeoutMs: 1234, retry: { maxAttempts: 2 } });
	assert.equal(text(await real.call(named, "/")), "from fetch");
});

test("a bundle that does not load is refused with its error and last output", async () => {
	await using real = createRealPool();
	await assert.rejects(real.pool.prove(specOf("does-not-load.ts")), (error: { code: string; message: string }) => {
		assert.equal(error.code, "BAD_BUNDLE");
		assert.match(error.message, /no configuration found/);
		assert.match(error.message, /connecting to nowhere/);
		return true;
	});
	await assert.rejects(real.pool.prove(specOf("no-handler.ts")), /exports answer/);
	await assert.rejects(real.pool.prove(specOf("missing.ts")), { code: "BAD_BUNDLE" });
});

test("an endless loop is killed after timeout and grace, and the next call gets a new worker", async () => {
	await using real = createRealPool();
	const began = performance.now();
	const outcome = await real.call(trials, "/spin", { timeoutMs: 300 });
	const took = performance.now() - began;
	assert.equal(outcome.kind, "timed_out");
	assert.ok(took >= 500, `after ${took} ms`);
	assert.equal(text(await real.call(trials, "/sleep", { query: [["ms", "1"]] })), "slept");
});

test("an attempt that honours the signal has timed out and its worker survives", async () => {
	await using real = createRealPool();
	const pid = text(await real.call(trials, "/pid"));
	for (const path of ["/honour", "/late-answer"]) {
		const outcome = await real.call(trials, path, { timeoutMs: 50 });
		assert.equal(outcome.kind, "timed_out");
	}
	assert.equal(text(await real.call(trials, "/pid")), pid);
});

test("a promise that never settles is killed alone: its neighbour finishes", async () => {
	await using real = createRealPool();
	const neighbour = real.call(trials, "/sleep", { query: [["ms", "900"]] });
	const outcome = await real.call(trials, "/hang", { timeoutMs: 100 });
	assert.equal(outcome.kind, "timed_out");
	assert.equal(text(await neighbour), "slept");
});

test("a cancel reaches the handler's signal", async () => {
	await using real = createRealPool();
	await real.pool.prove(trials);
	const honours = real.call(trials, "/honour", { id: "inv_c" });
	const ignores = real.call(trials, "/hang", { id: "inv_d" });
	await waitFor("both to run", () => real.pool.workers()[0]?.running.length === 2);
	real.pool.cancel("inv_c", 1);
	assert.deepEqual(await honours, { kind: "cancelled" });
	real.pool.cancel("inv_d", 1);
	assert.deepEqual(await ignores, { kind: "cancelled" });
});

test("a stopped process is killed at the time limit", async () => {
	await using real = createRealPool();
	const pid = Number(text(await real.call(trials, "/pid")));
	const running = real.call(trials, "/hang", { timeoutMs: 300 });
	process.kill(pid, "SIGSTOP");
	assert.equal((await running).kind, "timed_out");
	assert.equal(existsSync(`/proc/${pid}`), false);
});

test("process.exit in a handler is a crash that tells the exit code and the last output", async () => {
	await using real = createRealPool();
	const error = errorOf(await real.call(trials, "/exit", { query: [["code", "7"]] }));
	assert.equal(error.code, "WORKER_CRASHED");
	assert.match(error.message, /exited with code 7.*about to exit/s);
});

test("a crash in company charges nobody", async () => {
	await using real = createRealPool();
	await real.pool.prove(trials);
	const neighbour = real.call(trials, "/hang");
	await waitFor("it to run", () => real.pool.workers()[0]?.running.length === 1);
	const exits = await real.call(trials, "/exit", { query: [["code", "1"]] });
	const released = { kind: "released", why: "neighbour_died", started: true, solo: true };
	assert.deepEqual([await neighbour, exits], [released, released]);
});

test("twenty attempts at once: each line of output finds its own invocation", async () => {
	await using real = createRealPool();
	const ids = Array.from({ length: 20 }, (_, i) => `inv_log${i}`);
	await Promise.all(ids.map((id) => real.call(trials, "/log", { id, query: [["id", id]] })));
	await waitFor("the lines after the answers", () => real.logs.length === 20 * 9);
	for (const line of real.logs) {
		assert.match(`${line.message} ${JSON.stringify(line.metadata)}`, new RegExp(`\\b${line.invocationId}\\b`));
	}
	const first = real.logs.filter((line) => line.invocationId === "inv_log0").map((line) => line.message.split("\n")[0]);
	assert.ok(first.includes("line 1 of inv_log0 {"), first.join("|"));
	assert.ok(first.includes("raw 2 of inv_log0"));
	assert.ok(first.includes("after the answer of inv_log0"));
	assert.deepEqual(real.logs.find((line) => line.message === "with metadata")?.metadata !== undefined, true);
});

test("an attempt may log 1 MiB; the rest is counted and reported once, long lines are cut", async () => {
	await using real = createRealPool();
	assert.equal(text(await real.call(trials, "/chatter")), "said all");
	const bytes = real.logs.reduce((sum, line) => sum + line.message.length, 0);
	assert.ok(bytes <= 1_100_000, `${bytes} bytes kept`);
	const marks = real.logs.filter((line) => line.message.includes("more log lines were dropped"));
	assert.equal(marks.length, 1);
	assert.match(marks[0]?.message ?? "", /^[89]\d{4} /);
});

test("64 MiB on stdout and stderr neither block the worker nor stay in memory", async () => {
	await using real = createRealPool();
	const before = process.memoryUsage().rss;
	assert.equal(text(await real.call(trials, "/flood")), "flooded");
	assert.ok(process.memoryUsage().rss - before < 100 * 1024 * 1024);
	const kept = real.logs.reduce((sum, line) => sum + line.message.length, 0);
	assert.ok(kept < 3_000_000, `${kept} characters kept`);
	assert.equal(text(await real.call(trials, "/sleep", { query: [["ms", "1"]] })), "slept");
});

test("a thousand attempts wait at once in at most four workers", async () => {
	await using real = createRealPool();
	const spec = specOf("trials.ts", { workerConcurrency: 250, maxWorkers: 4, timeoutMs: 20_000 });
	let most = 0;
	const calls = Array.from({ length: 1_000 }, () => real.call(spec, "/sleep", { query: [["ms", "1500"]] }));
	const watch = setInterval(() => {
		const workers = real.pool.workers();
		assert.ok(workers.length <= 4);
		most = Math.max(
			most,
			workers.reduce((sum, worker) => sum + worker.running.length, 0),
		);
	}, 20);
	const outcomes = await Promise.all(calls);
	clearInterval(watch);
	assert.equal(most, 1_000);
	assert.ok(outcomes.every((outcome) => outcome.kind === "succeeded"));
});

test("an answer does not wait for the call behind it, which keeps the worker busy", async () => {
	await using real = createRealPool();
	using folder = tempFolder("bunbase-busy-");
	const file = join(folder.path, "answered");
	const spec = { ...trials, config: { ...trials.config, maxWorkers: 1 } };
	await real.pool.prove(spec);
	// Both are in one write to the worker.
	const [first, second] = [
		real.call(spec, "/busy", { query: [["ms", "5"]] }),
		real.call(spec, "/busy", { query: [["file", file]] }),
	];
	assert.equal(text(await first), "was busy");
	writeFileSync(file, "");
	assert.equal(text(await second), "was busy");
	assert.equal(real.pids().length, 1);
});

test("a worker over its memory is killed with WORKER_MEMORY", async () => {
	await using real = createRealPool();
	const spec = specOf("trials.ts", { memoryMb: 128, timeoutMs: 20_000 });
	const error = errorOf(await real.call(spec, "/hog"));
	assert.equal(error.code, "WORKER_MEMORY");
	assert.match(error.message, /memoryMb of 128/);
});

for (const [path, code, message, name] of [
	["/throw", "HANDLER_ERROR", /thrown on purpose/, "TypeError"],
	["/throw-null", "HANDLER_ERROR", /null/, undefined],
	["/throw-hostile", "HANDLER_ERROR", /an instance of Hostile/, "Error"],
	["/throw-huge", "HANDLER_ERROR", /^h+ … \[cut\]$/, "Error"],
	["/string", "RESULT_NOT_RESPONSE", /returned a string of 11 characters/, undefined],
	["/object", "RESULT_NOT_RESPONSE", /returned an object with a, b/, undefined],
	["/nothing", "RESULT_NOT_RESPONSE", /returned undefined/, undefined],
	["/used", "RESULT_UNREADABLE", /read already/, undefined],
	["/endless", "RESULT_TOO_LARGE", /maxBodyBytes/, undefined],
	// Whatever hangs on the Response, a stream is read as one.
	["/endless-titled", "RESULT_TOO_LARGE", /maxBodyBytes/, undefined],
	["/endless-with-properties", "RESULT_TOO_LARGE", /maxBodyBytes/, undefined],
	["/endless-subclass", "RESULT_TOO_LARGE", /maxBodyBytes/, undefined],
	["/large", "RESULT_TOO_LARGE", /maxBodyBytes/, undefined],
	["/broken-stream", "RESULT_UNREADABLE", /the source failed/, undefined],
	["/vandal", "RESULT_NOT_RESPONSE", /a string of 16/, undefined],
] as const) {
	test(`${path} fails with ${code} and its worker survives`, async () => {
		await using real = createRealPool();
		const spec = { ...trials, config: { ...trials.config, workerConcurrency: 1, maxWorkers: 1 } };
		const outcome = await real.call(spec, path);
		assert.equal(outcome.kind, "failed", JSON.stringify(outcome));
		const error = errorOf(outcome);
		assert.equal(error.code, code);
		assert.match(error.message, message);
		assert.equal(error.name, name);
		if (path === "/throw") assert.match(error.stack ?? "", /trials\.ts.*caused by: .*the reason/s);
		assert.ok(JSON.stringify(error).length < 40_000);
		const [before] = real.pids();
		const next = await real.call(spec, "/string");
		assert.equal(next.kind, "failed");
		assert.deepEqual(real.pids(), [before]);
	});
}

for (const [path, message] of [
	["/late-rejection", /unhandled rejection: .*nobody catches this/s],
	["/late-throw", /uncaught exception: .*thrown in a timer/s],
	["/reject", /unhandled rejection: .*nobody awaits this/s],
	["/throw-in-microtask", /uncaught exception: .*thrown in a microtask/s],
	["/throw-in-tick", /uncaught exception: .*thrown in a tick/s],
] as const) {
	test(`${path}: an error after the answer is logged, neighbours finish, and the worker is replaced`, async () => {
		await using real = createRealPool();
		await real.pool.prove(trials);
		const [first] = real.pids();
		const neighbour = real.call(trials, "/sleep", { query: [["ms", "300"]] });
		assert.equal(text(await real.call(trials, path)), "answered before");
		const line = await waitFor("the error in the log", () => real.logs.find((each) => each.level === "error"));
		assert.match(line.message, message);
		assert.equal(text(await neighbour), "slept");
		assert.notEqual(Number(text(await real.call(trials, "/pid"))), first);
	});
}

test("work given to waitUntil is finished before its worker ends, and its failure is logged", async () => {
	await using real = createRealPool();
	assert.equal(text(await real.call(trials, "/wait-until", { id: "inv_w" })), "answered before");
	real.pool.recycle(trials.functionId);
	await waitFor("the worker to end", () => real.pool.workers().length === 0);
	assert.deepEqual(
		real.logs.map(({ level, invocationId }) => [level, invocationId]),
		[
			["error", "inv_w"],
			["info", "inv_w"],
		],
	);
});

test("a handler that writes to the channel hurts only its own worker", async () => {
	await using real = createRealPool();
	const other = specOf("trials.ts", {}, { key: "other/v1", functionId: "fn_other" });
	const innocent = real.call(other, "/sleep", { query: [["ms", "200"]] });
	const error = errorOf(await real.call(trials, "/tamper"));
	assert.equal(error.code, "WORKER_PROTOCOL");
	assert.equal(text(await innocent), "slept");
});

test("workers that a dead daemon left behind are found by their marker and ended", async () => {
	const instanceId = `ins_orphan${process.pid}`;
	const orphan = spawn(findBun(), ["-e", "setInterval(() => {}, 1000)"], {
		detached: true,
		stdio: "ignore",
		env: { ...process.env, BUNBASE_WORKER_OF: instanceId },
	});
	const gone = new Promise((resolve) => orphan.once("exit", resolve));
	const stranger = spawn(findBun(), ["-e", "setInterval(() => {}, 1000)"], {
		detached: true,
		stdio: "ignore",
		env: { ...process.env, BUNBASE_WORKER_OF: `${instanceId}0` },
	});
	try {
		await waitFor("both to run", () => orphan.pid !== undefined && stranger.pid !== undefined);
		assert.equal(await sweepOrphans(instanceId), 1);
		await gone;
		assert.equal(stranger.exitCode, null);
		assert.equal(await sweepOrphans(instanceId), 0);
	} finally {
		orphan.kill("SIGKILL");
		stranger.kill("SIGKILL");
	}
});

test("runBun answers with exit code and output, and ends what takes too long", async () => {
	const options = { cwd: process.cwd(), timeoutMs: 10_000 };
	const fine = await runBun(findBun(), ["-e", "console.log('out'); console.error('err'); process.exit(3)"], options);
	assert.deepEqual(fine, { exitCode: 3, stdout: "out\n", stderr: "err\n", timedOut: false, overMemory: false });
	const slow = await runBun(findBun(), ["-e", "for(;;){}"], { ...options, timeoutMs: 200 });
	assert.equal(slow.timedOut, true);
	const none = await runBun("/no/such/bun", [], options);
	assert.equal(none.exitCode, null);
	assert.match(none.stderr, /ENOENT/);
});
