import assert from "node:assert/strict";
import { join } from "node:path";
import { startDaemon } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { fault } from "../fault.ts";
import { counts, deploy, residentMb } from "./rig.ts";

/** Well over what a batch of the log writer and the backlog of 20,000 lines hold together. */
const BURST = 50_000;
/** The log backlog is bounded at 16 MiB of text; the rest is the engine and garbage not yet collected. */
const GROWTH_MB_MAX = 250;

fault("G4", "a storm of log lines is dropped and counted, and another function answers", async (f) => {
	using folder = tempFolder();
	await using daemon = await startDaemon(join(folder.path, "data"));
	await deploy(daemon, "chatter", "storm", { timeoutMs: 120_000, retry: { maxAttempts: 1 } });
	await deploy(daemon, "chatter", "quiet");
	await daemon.client.invoke("quiet", { method: "POST", path: "/" });
	const before = residentMb(daemon.pid);
	const done = new AbortController();
	let most = 0;
	let calls = 0;
	const tookMs: number[] = [];
	const quiet = (async () => {
		while (!done.signal.aborted) {
			const from = performance.now();
			const answer = await daemon.client.invoke("quiet", { method: "POST", path: "/" });
			tookMs.push(performance.now() - from);
			assert.equal(answer.status, 200);
			calls += 1;
			most = Math.max(most, residentMb(daemon.pid));
		}
	})();
	const storms = f.runs(2, 40);
	const from = performance.now();
	for (let storm = 0; storm < storms; storm += 4) {
		const answers = await Promise.all(
			Array.from({ length: Math.min(4, storms - storm) }, () =>
				daemon.client.invoke("storm", { method: "POST", path: "/log", query: { lines: String(BURST), bytes: "100" } }),
			),
		);
		for (const answer of answers) assert.equal(answer.state, "succeeded");
	}
	const seconds = (performance.now() - from) / 1000;
	done.abort();
	await quiet;
	const { log_lines_dropped: dropped } = await counts(daemon);
	const kept = ((await daemon.client.call("logs.read", { function: "storm", limit: 1 })) as { total: number }).total;
	const sorted = tookMs.toSorted((a, b) => a - b);
	f.record(
		`${Math.round((storms * BURST) / seconds).toLocaleString("en")} lines/s, ${dropped.toLocaleString("en")} dropped and counted; ${calls} other calls, p99 ${(sorted[Math.floor(sorted.length * 0.99)] ?? 0).toFixed(0)} ms; daemon +${Math.round(most - before)} MB`,
	);
	assert.ok(calls > 0, "the quiet function was called during the storm");
	assert.ok(most - before < GROWTH_MB_MAX, `the daemon grew by ${most - before} MB`);
	// An attempt keeps 1 MiB of lines (about 9,000 of these); what is over is one line that says how many.
	assert.ok(kept > 0 && kept < storms * BURST, `${kept} lines were kept of ${storms * BURST}`);
	const { logs } = (await daemon.client.call("logs.read", { function: "storm", limit: 50, tail: true })) as {
		logs: { message: string }[];
	};
	assert.ok(
		logs.some(({ message }) => /dropped|not kept/.test(message)) || dropped > 0,
		`something says that lines are missing: ${JSON.stringify(logs.at(-1))}`,
	);
	assert.equal(await daemon.stop(), 0);
});
