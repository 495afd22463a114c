/** C3 to C5: functions that take more memory than they may; by our own sampling, and where the kernel is faster. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { startDaemon } from "../../support/daemon.ts";
import { isGone } from "../../support/processes.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { cgroup, cgroups } from "./cgroup.ts";
import { ALONE, cameTo, startLab, textOf } from "./lab.ts";

const MEMORY_MB = 128;
/** One sample each 250 ms, looked at each 50 ms; the rest is for a busy machine. */
const SAMPLE_MS = 300 + 1_500;

fault(
	"C3",
	"heap, Buffers, strings, also without letting go: killed at memoryMb and a sample, and recorded so",
	async (f) => {
		await using lab = await startLab();
		await lab.deploy("hogs", "faults/hogs.ts", { ...ALONE, memoryMb: MEMORY_MB });
		const rounds = f.runs(1, 10);
		for (const [path, sync] of [
			["/heap", false],
			["/buffers", false],
			["/strings", true],
			["/maps", true],
		] as const) {
			let latest = 0;
			let most = 0;
			for (let round = 0; round < rounds; round += 1) {
				const over = join(lab.folder, `over-${path.slice(1)}-${round}`);
				const query: [string, string][] = [
					["over", over],
					["mb", `${MEMORY_MB}`],
				];
				const record = await lab.call("hogs", path, { query: sync ? [...query, ["sync", "1"]] : query });
				assert.equal(cameTo(record), "crashed WORKER_MEMORY charged 1", path);
				const held = Number(/held (\d+) MB/.exec(record.error?.message ?? "")?.[1]);
				assert.ok(held >= MEMORY_MB, `killed at ${held} MB`);
				// Killed while it was about to tell is soon enough.
				const told = existsSync(over) ? readFileSync(over, "utf8").trim() : "";
				const late = told === "" ? 0 : (record.finishedAt ?? 0) - Number(told);
				assert.ok(late <= SAMPLE_MS, `${path} lived ${late} ms over its limit`);
				latest = Math.max(latest, late);
				most = Math.max(most, held);
				assert.match(textOf(await lab.call("hogs", "/fine")), /^\d+$/);
			}
			f.record(`${path.slice(1)}: killed within ${latest} ms, at up to ${most} MB of ${MEMORY_MB}`);
		}
	},
);

fault("C3", "a hog beside four others: it alone is charged, the others run again and succeed", async (f) => {
	await using lab = await startLab();
	await lab.deploy("hogs", "faults/hogs.ts", { ...ALONE, memoryMb: MEMORY_MB, workerConcurrency: 8 });
	for (let round = f.runs(1, 10); round > 0; round -= 1) {
		await lab.call("hogs", "/fine");
		const others = await Promise.all(
			Array.from({ length: 4 }, () => lab.enqueue("hogs", "/fine", { query: [["ms", "500"]] })),
		);
		const hog = await lab.enqueue("hogs", "/buffers");
		for (const id of others) assert.equal(cameTo(await lab.ended(id)), "succeeded - charged 0");
		assert.equal(cameTo(await lab.ended(hog)), "crashed WORKER_MEMORY charged 1");
	}
});

fault("C3", "a slow leak: workers are replaced as they fill, and every call succeeds", async (f) => {
	await using lab = await startLab({ durability: "process" });
	await lab.deploy("hogs", "faults/hogs.ts", {
		memoryMb: 96,
		maxWorkers: 1,
		workerConcurrency: 4,
		concurrency: 4,
		retry: { maxAttempts: 10, baseMs: 1 },
	});
	const calls = f.runs(300, 10_000);
	const bytes = f.long ? 65_536 : 1 << 20;
	const ids: string[] = [];
	const pids = new Set<string>();
	let charged = 0;
	for (let left = calls; left > 0; left -= 100) {
		const some = await Promise.all(
			Array.from({ length: Math.min(100, left) }, () =>
				lab.enqueue("hogs", "/leak", { query: [["bytes", `${bytes}`]] }),
			),
		);
		ids.push(...some);
		for (const id of some) {
			const record = await lab.ended(id);
			pids.add(textOf(record));
			charged += record.charged;
		}
	}
	assert.ok(pids.size > 1, "no worker was replaced");
	f.record(`${ids.length} calls that leak ${bytes / 1024} KiB each: ${pids.size} workers, ${charged} attempts charged`);
});

fault(
	"C4",
	"the kernel is out of memory: it takes workers, although the daemon is the largest process",
	{ needs: [cgroups("memory")] },
	async (f) => {
		const folder = tempFolder("bunbase-oom-");
		const daemon = await startDaemon(join(folder.path, "data"));
		using group = cgroup("memory");
		try {
			group.set("memory.limit_in_bytes", 320 << 20);
			group.add(daemon.pid);
			const { client } = daemon;
			await client.call("functions.register", { name: "hogs" });
			const limits = {
				memoryMb: 1_024,
				workerConcurrency: 1,
				maxWorkers: 6,
				retry: { maxAttempts: 10, baseMs: 10 },
				timeoutMs: 20_000,
			};
			await client.call("functions.configure", { function: "hogs", overrides: limits });
			const path = join(import.meta.dirname, "../../functions/faults/hogs.ts");
			await client.call("functions.deploy", { function: "hogs", path, build: true });
			let killed = 0;
			for (let round = f.runs(1, 10); round > 0; round -= 1) {
				const ids = await Promise.all(
					Array.from({ length: 8 }, () =>
						client
							.enqueue("hogs", {
								path: "/hold",
								query: [
									["mb", "64"],
									["ms", "400"],
								],
							})
							.then(({ invocationId }) => invocationId),
					),
				);
				for (const id of ids) {
					const { state, error } = await client.waitForResult(id, { timeoutMs: 60_000 });
					// Three deaths alone are enough for any invocation, also where the kernel chose it.
					if (state === "crashed") assert.equal(error?.code, "WORKER_CRASHED");
					else assert.equal(state, "succeeded", error?.message);
					const { attempts } = (await client.call("invocations.get", { invocation_id: id })) as {
						attempts: { outcome: string }[];
					};
					killed += attempts.filter(({ outcome }) => outcome === "crashed").length;
				}
				assert.equal(isGone(daemon.pid), false, "the kernel took the daemon");
				const { workers } = (await client.call("workers.list", {})) as { workers: { pid: number }[] };
				for (const { pid } of workers) {
					assert.equal(readFileSync(`/proc/${pid}/oom_score_adj`, "utf8").trim(), "900");
				}
			}
			assert.ok(killed > 0, "the kernel was never out of memory");
			f.record(`${killed} workers taken by the kernel, the daemon never`);
			assert.equal(await daemon.stop(), 0);
		} finally {
			await daemon.kill();
			folder[Symbol.dispose]();
		}
	},
);

fault(
	"C5",
	"a kernel limit on one worker: it is crashed, says SIGKILL and what that may mean; the next worker is free of it",
	{ needs: [cgroups("memory")] },
	async (f) => {
		await using lab = await startLab();
		await lab.deploy("hogs", "faults/hogs.ts", { ...ALONE, memoryMb: 1_024 });
		using group = cgroup("memory");
		group.set("memory.limit_in_bytes", 128 << 20);
		for (let round = f.runs(1, 10); round > 0; round -= 1) {
			const before = Number(textOf(await lab.call("hogs", "/fine")));
			group.add(before);
			const record = await lab.call("hogs", "/buffers");
			assert.equal(cameTo(record), "crashed WORKER_CRASHED charged 1");
			assert.match(record.error?.message ?? "", /SIGKILL.*out of memory/);
			await waitFor("it to be gone", () => isGone(before));
			assert.notEqual(Number(textOf(await lab.call("hogs", "/fine"))), before);
		}
	},
);
