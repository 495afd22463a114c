/**
 * An engine with real Bun workers in a folder of its own, and the few moves that the tests of functions make. It fails
 * the test that leaves a worker process behind.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { silentLogger, silentProbe } from "../../../src/core/environment.ts";
import {
	createEngine,
	type CreateEngineOptions,
	type EngineHandle,
	type FunctionLimits,
	type InvocationRecord,
	type InvokeRequest,
	type LogRecord,
	type WorkerRecord,
} from "../../../src/index.ts";
import { sweepOrphans } from "../../../src/pool/index.ts";
import { realEnvironment } from "../../support/real-environment.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";

const FUNCTIONS = join(import.meta.dirname, "../../functions");

/** Limits under which one attempt is one worker's only one, tried once, and given up soon. */
export const ALONE: FunctionLimits = {
	timeoutMs: 10_000,
	graceMs: 200,
	workerConcurrency: 1,
	maxWorkers: 1,
	retry: { maxAttempts: 1 },
};

export type Call = Partial<Pick<InvokeRequest, "method" | "query" | "headers" | "body" | "maxAttempts" | "laneKey">>;

export interface Lab extends AsyncDisposable {
	readonly engine: EngineHandle;
	/** Removed at the end. */
	readonly folder: string;
	/** Deploys tests/functions/FILE under this name. */
	deploy(name: string, file: string, limits?: FunctionLimits): Promise<void>;
	enqueue(name: string, path: string, call?: Call): Promise<string>;
	/** Its record once it has ended. */
	ended(invocationId: string, withinMs?: number): Promise<InvocationRecord>;
	/** Enqueues and waits for the end. */
	call(name: string, path: string, call?: Call): Promise<InvocationRecord>;
	/** The worker that has it aboard. */
	workerOf(invocationId: string): Promise<WorkerRecord & { readonly pid: number }>;
	/** The worker of this function, where it has exactly one. */
	onlyWorker(name: string): WorkerRecord & { readonly pid: number };
	/** The lines of an invocation, or of all. */
	logs(invocationId?: string): readonly LogRecord[];
}

export async function startLab(options: CreateEngineOptions = {}): Promise<Lab> {
	const folder = tempFolder("bunbase-lab-");
	const dataDir = join(folder.path, "data");
	const environment = { ...realEnvironment, logger: silentLogger, probe: silentProbe };
	const engine = createEngine({ dataDir, drainMs: 0, environment, ...options });
	await engine.start();
	const { instanceId } = JSON.parse(readFileSync(join(dataDir, "instance.json"), "utf8")) as { instanceId: string };

	const lab: Lab = {
		engine,
		folder: folder.path,
		async deploy(name, file, limits = {}) {
			engine.registerFunction({ name });
			engine.configureFunction(name, { ...limits });
			await engine.deploy({ function: name, path: join(FUNCTIONS, file), build: true });
		},
		async enqueue(name, path, call = {}) {
			const accepted = await engine.enqueue({
				function: name,
				source: "cli",
				method: "POST",
				path,
				headers: [],
				query: [],
				body: new Uint8Array(),
				waits: false,
				...call,
			});
			return accepted.invocationId;
		},
		async ended(invocationId, withinMs = 60_000) {
			const { record, timedOutWaiting } = await engine.awaitInvocation(invocationId, { timeoutMs: withinMs });
			assert.equal(timedOutWaiting, false, `${record.request.path} is still ${record.state}`);
			return record;
		},
		async call(name, path, call = {}) {
			return lab.ended(await lab.enqueue(name, path, call));
		},
		workerOf(invocationId) {
			return waitFor(`the worker of ${invocationId}`, () => {
				const found = engine.listWorkers().find(({ running }) => running.includes(invocationId));
				return found?.pid === undefined ? undefined : { ...found, pid: found.pid };
			});
		},
		onlyWorker(name) {
			const found = engine
				.listWorkers()
				.filter(({ functionName, state }) => functionName === name && state !== "DRAINING");
			assert.equal(found.length, 1, `${name} has ${found.length} workers`);
			const [worker] = found;
			assert.ok(worker?.pid !== undefined);
			return { ...worker, pid: worker.pid };
		},
		logs(invocationId) {
			return engine.readLogs({ invocationId, limit: 1_000, tail: true }).logs;
		},
		async [Symbol.asyncDispose]() {
			await engine.stop();
			const left = await sweepOrphans(instanceId);
			folder[Symbol.dispose]();
			assert.equal(left, 0, "worker processes are left");
		},
	};
	return lab;
}

/** The text of a successful answer. */
export function textOf(record: InvocationRecord): string {
	assert.equal(record.state, "succeeded", JSON.stringify(record.error));
	return Buffer.from(record.result?.body ?? []).toString();
}

/** What an invocation came to, for one comparison: state, code of its error, charged attempts. */
export function cameTo(record: InvocationRecord): string {
	return `${record.state} ${record.error?.code ?? "-"} charged ${record.charged}`;
}

/** Query with what its invocation is known by in the functions' own notes. */
export function named(name: string = randomUUID()): { query: [string, string][] } {
	return { query: [["name", name]] };
}
