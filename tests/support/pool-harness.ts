/** A pool over fake processes and a fake clock, and the few moves that its tests make. */
import assert from "node:assert/strict";
import { silentLogger, silentProbe } from "../../src/core/environment.ts";
import { BUILT_IN, type ResolvedConfig } from "../../src/core/function-config.ts";
import type { Outcome } from "../../src/core/invocation.ts";
import {
	type AttemptSpec,
	createPool,
	type Pool,
	type Slot,
	type SlotNeed,
	type WorkerLogLine,
	type WorkerSpec,
} from "../../src/pool/index.ts";
import { createFakeClock, type FakeClock, settled } from "./fake-clock.ts";
import { createFakeProcesses, type FakeProcesses, type FakeWorker } from "./fake-worker.ts";

export interface Running {
	readonly id: string;
	readonly slot: Slot;
	/** Undefined while it runs. */
	outcome: Outcome | undefined;
	readonly runs: boolean;
}

export interface PoolHarness {
	readonly pool: Pool;
	readonly clock: FakeClock;
	readonly processes: FakeProcesses;
	/** Functions that `capacity` was called for, in order. */
	readonly capacity: string[];
	readonly logs: WorkerLogLine[];
	/** Resident bytes by pid. */
	readonly memory: Map<number, number>;
	/** Reserves, waiting for a worker where one is started. */
	slot(spec: WorkerSpec, need?: Partial<SlotNeed>): Promise<Slot>;
	/** Reserves and runs. */
	run(spec: WorkerSpec, id: string, attempt?: Partial<AttemptSpec>, need?: Partial<SlotNeed>): Promise<Running>;
	worker(slot: Slot): FakeWorker;
	states(): string[];
	/** Stops the pool; fails where a timer or a process is left. */
	end(): Promise<void>;
}

const NEED: SlotNeed = { bytes: 0, solo: false };

export function spec(config: Partial<ResolvedConfig> = {}, name = "f", version = "v1"): WorkerSpec {
	return {
		key: `${name}/${version}`,
		functionId: `fn_${name}`,
		functionName: name,
		version,
		bundlePath: `/bundles/${name}/${version}/bundle.js`,
		handler: "default",
		config: { ...BUILT_IN, ...config },
		env: {},
	};
}

export function createPoolHarness(options: { maxWorkersTotal?: number; spareWorkers?: number } = {}): PoolHarness {
	const clock = createFakeClock();
	const processes = createFakeProcesses();
	const capacity: string[] = [];
	const logs: WorkerLogLine[] = [];
	const memory = new Map<number, number>();
	const byWorker = new Map<string, FakeWorker>();
	let reserving = false;
	const pool = createPool({
		environment: { clock, random: { next: () => 0.5 }, probe: silentProbe, logger: silentLogger },
		bunPath: "/no/bun",
		tmpDir: "/no/tmp",
		instanceId: "ins_test",
		maxWorkersTotal: options.maxWorkersTotal ?? 32,
		spareWorkers: options.spareWorkers ?? 0,
		events: {
			capacity(functionId) {
				assert.equal(reserving, false, "capacity was called inside reserve");
				capacity.push(functionId);
			},
			log: (line) => logs.push(line),
		},
		hostVariables: {},
		spawn: processes.spawn,
		readMemory: (pid) => memory.get(pid),
	});

	function reserve(wanted: WorkerSpec, need: Partial<SlotNeed>): Slot | undefined {
		reserving = true;
		try {
			return pool.reserve(wanted, { ...NEED, ...need });
		} finally {
			reserving = false;
		}
	}

	const harness: PoolHarness = {
		pool,
		clock,
		processes,
		capacity,
		logs,
		memory,
		async slot(wanted, need = {}) {
			for (let tries = 0; tries < 3; tries += 1) {
				const slot = reserve(wanted, need);
				if (slot !== undefined) return slot;
				await settled();
			}
			throw new Error(`no slot for ${wanted.key}: ${harness.states().join(" ")}`);
		},
		async run(wanted, id, attempt = {}, need = {}) {
			const slot = await harness.slot(wanted, need);
			const running: Running = {
				id,
				slot,
				outcome: undefined,
				get runs() {
					return this.outcome === undefined;
				},
			};
			pool.run(
				slot,
				{
					invocationId: id,
					attempt: 1,
					method: "POST",
					path: "/",
					headersJson: "[]",
					queryJson: "[]",
					body: new Uint8Array(need.bytes ?? 0),
					timeoutMs: wanted.config.timeoutMs,
					timeoutCode: "TIMED_OUT",
					...attempt,
				},
				(ended) => (running.outcome = ended),
			);
			await settled();
			return running;
		},
		worker(slot) {
			const known = byWorker.get(slot.worker);
			if (known !== undefined) return known;
			const record = pool.workers().find((worker) => worker.worker === slot.worker);
			const fake = processes.all.find((worker) => worker.pid === record?.pid);
			assert.ok(fake, `no process behind ${slot.worker}`);
			byWorker.set(slot.worker, fake);
			return fake;
		},
		states: () => pool.workers().map((worker) => `${worker.worker}:${worker.functionName}:${worker.state}`),
		async end() {
			await pool.stop(0);
			await settled();
			assert.deepEqual(harness.states(), [], "a worker is left");
			assert.deepEqual(processes.living, [], "a process is left");
			assert.equal(clock.pending, 0, "a timer is left");
		},
	};
	return harness;
}
