/** A pool of real Bun workers over tests/functions, and what its tests read of it. */
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { BUILT_IN, type ResolvedConfig } from "../../src/core/function-config.ts";
import type { Outcome } from "../../src/core/invocation.ts";
import type { Pairs } from "../../src/core/request.ts";
import {
	createPool,
	findBun,
	type Pool,
	type Slot,
	type SlotNeed,
	type WorkerLogLine,
	type WorkerSpec,
} from "../../src/pool/index.ts";
import { realEnvironment } from "./real-environment.ts";
import { tempFolder } from "./temp-folder.ts";
import { waitFor } from "./wait-for.ts";

export interface CallOptions {
	readonly id?: string;
	readonly method?: string;
	readonly headers?: Pairs;
	readonly query?: Pairs;
	readonly body?: Uint8Array;
	readonly timeoutMs?: number;
	readonly need?: Partial<SlotNeed>;
}

export interface RealPool extends AsyncDisposable {
	readonly pool: Pool;
	readonly logs: WorkerLogLine[];
	slot(spec: WorkerSpec, need?: Partial<SlotNeed>): Promise<Slot>;
	/** Waits for a slot and runs. */
	call(spec: WorkerSpec, path: string, options?: CallOptions): Promise<Outcome>;
	/** Every process that the pool was seen to have. */
	pids(): number[];
}

export function specOf(file: string, config: Partial<ResolvedConfig> = {}, more: Partial<WorkerSpec> = {}): WorkerSpec {
	const name = file.replace(/\.ts$/, "");
	return {
		key: `${name}/v1`,
		functionId: `fn_${name}`,
		functionName: name,
		version: "v1",
		bundlePath: fileURLToPath(new URL(`../functions/${file}`, import.meta.url)),
		handler: "default",
		config: { ...BUILT_IN, ...config },
		env: {},
		...more,
	};
}

export function createRealPool(
	options: { maxWorkersTotal?: number; spareWorkers?: number; instanceId?: string } = {},
): RealPool {
	const folder = tempFolder("bunbase-pool-");
	const logs: WorkerLogLine[] = [];
	const seen = new Set<number>();
	let waiting: (() => void)[] = [];
	let count = 0;
	const pool = createPool({
		environment: realEnvironment,
		bunPath: findBun(),
		tmpDir: folder.path,
		instanceId: options.instanceId ?? "ins_e2e",
		maxWorkersTotal: options.maxWorkersTotal ?? 8,
		spareWorkers: options.spareWorkers ?? 0,
		events: {
			capacity() {
				const woken = waiting;
				waiting = [];
				for (const wake of woken) wake();
			},
			log: (line) => logs.push(line),
		},
	});
	const look = (): void => {
		for (const { pid } of pool.workers()) if (pid !== undefined) seen.add(pid);
	};

	async function slot(spec: WorkerSpec, need: Partial<SlotNeed> = {}): Promise<Slot> {
		for (;;) {
			const found = pool.reserve(spec, { bytes: 0, solo: false, ...need });
			if (found !== undefined) return found;
			await new Promise<void>((resolve) => waiting.push(resolve));
		}
	}

	return {
		pool,
		logs,
		slot,
		async call(spec, path, options = {}) {
			const { body = new Uint8Array(0), query = [], headers = [] } = options;
			const place = await slot(spec, { bytes: body.byteLength, ...options.need });
			look();
			count += 1;
			return new Promise((ended) => {
				pool.run(
					place,
					{
						invocationId: options.id ?? `inv_${count}`,
						attempt: 1,
						method: options.method ?? "POST",
						path,
						headersJson: JSON.stringify(headers),
						queryJson: JSON.stringify(query),
						body,
						timeoutMs: options.timeoutMs ?? spec.config.timeoutMs,
						timeoutCode: "TIMED_OUT",
					},
					ended,
				);
			});
		},
		pids() {
			look();
			return [...seen];
		},
		async [Symbol.asyncDispose]() {
			look();
			await pool.stop(0);
			assert.deepEqual(pool.workers(), []);
			for (const pid of seen) assert.equal(existsSync(`/proc/${pid}`), false, `process ${pid} is left`);
			await waitFor("the workers' folders to be removed", () => readdirSync(folder.path).length === 0);
			folder[Symbol.dispose]();
		},
	};
}
