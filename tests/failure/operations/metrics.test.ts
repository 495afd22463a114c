import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { startDaemon, type Daemon } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { fault } from "../fault.ts";
import { program } from "../needs.ts";
import { deploy } from "./rig.ts";

/** Name and labels of each sample with its value; throws on a line that is none of the text format's. */
function parse(text: string): { readonly samples: Map<string, number>; readonly types: Map<string, string> } {
	const samples = new Map<string, number>();
	const types = new Map<string, string>();
	for (const line of text.split("\n")) {
		if (line === "") continue;
		const comment = /^# (HELP|TYPE) ([a-z_]+) (.+)$/.exec(line);
		if (comment !== null) {
			if (comment[1] === "TYPE") types.set(comment[2] ?? "", comment[3] ?? "");
			continue;
		}
		const sample = /^([a-z_]+(?:\{(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)*\})?) ([0-9.e+-]+|\+Inf|NaN)$/.exec(line);
		assert.ok(sample !== null, `not a sample: ${line}`);
		assert.ok(!samples.has(sample[1] ?? ""), `twice: ${line}`);
		samples.set(sample[1] ?? "", Number(sample[2]));
	}
	return { samples, types };
}

async function scrape(daemon: Daemon): Promise<string> {
	const response = await fetch(`${daemon.httpUrl}/metrics`);
	assert.equal(response.status, 200);
	return response.text();
}

/** A counter's samples, a histogram's parts among them. */
function counters({ samples, types }: ReturnType<typeof parse>): Map<string, number> {
	return new Map(
		[...samples].filter(([key]) => {
			const name = key.replace(/\{.*/, "");
			return [name, name.replace(/_(bucket|sum|count)$/, "")].some((base) =>
				["counter", "histogram"].includes(types.get(base) ?? ""),
			);
		}),
	);
}

fault("G9", "counters never fall while work fails and workers die, and series stay few", async (f) => {
	using folder = tempFolder();
	const dataDir = join(folder.path, "data");
	{
		await using daemon = await startDaemon(dataDir);
		await deploy(daemon, "chatter", "chatter", { retry: { maxAttempts: 1 } });
		await deploy(daemon, "misbehave", "misbehave");
		let before = counters(parse(await scrape(daemon)));
		const rounds = f.runs(3, 20);
		let series = 0;
		for (let round = 0; round < rounds; round += 1) {
			await daemon.client.invoke("chatter", {
				method: "POST",
				path: `/path-${round}`,
				query: { q: String(round) },
				headers: { "x-odd": '\\"' },
			});
			await daemon.client.invoke("chatter", { method: "POST", path: "/fail", body: `"}\\\n${round}` });
			await daemon.client.invoke("misbehave", { method: "POST", path: "/kill" });
			await fetch(`${daemon.httpUrl}/functions/no-such-${round}`);
			const all = parse(await scrape(daemon));
			const now = counters(all);
			for (const [key, value] of before) assert.ok((now.get(key) ?? -1) >= value, `${key} fell from ${value}`);
			if (round === 0) series = all.samples.size;
			// Paths, errors and names that nobody registered make no series; a worker's death may add an outcome's.
			assert.ok(all.samples.size <= series + 20, `${all.samples.size} series after ${round + 1} rounds`);
			before = now;
		}
		assert.equal(before.get('bunbase_invocations_total{function="chatter",state="failed"}'), rounds);
		assert.equal(before.get('bunbase_invocations_total{function="misbehave",state="crashed"}'), rounds);
		f.record(`${series} series for 2 functions`);
		await daemon.kill();
	}
	await using again = await startDaemon(dataDir);
	const { samples } = parse(await scrape(again));
	assert.equal(samples.get("bunbase_accepted_total"), 0, "a new run counts from 0, as its start time says");
	assert.ok((samples.get("bunbase_start_time_seconds") ?? 0) > Date.now() / 1000 - 60);
	assert.equal(await again.stop(), 0);
});

fault("G9", "promtool finds nothing to say about the text", { needs: [program("promtool")] }, async () => {
	using folder = tempFolder();
	await using daemon = await startDaemon(join(folder.path, "data"));
	await deploy(daemon, "chatter", "chatter");
	await daemon.client.invoke("chatter", { method: "POST", path: "/" });
	const { status, stdout, stderr } = spawnSync("promtool", ["check", "metrics"], {
		input: await scrape(daemon),
		encoding: "utf8",
	});
	assert.equal(status, 0, stdout + stderr);
	assert.equal(await daemon.stop(), 0);
});
