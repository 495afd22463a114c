/**
 * The parts of the hot path alone, by tinybench: what one costs per operation. `node bench/parts.ts [--quick]` prints
 * them; `npm run bench` shows them below its figures. No verdicts: they explain a figure that moved.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Bench } from "tinybench";
import { nextDue } from "../src/core/cron.ts";
import { BUILT_IN } from "../src/core/function-config.ts";
import { settle, type Outcome, type RunningRow } from "../src/core/invocation.ts";
import { checkInvokeRequest, type InvokeRequest } from "../src/core/request.ts";
import { FrameDecoder, FrameGatherer } from "../src/protocol/index.ts";
import { invokeFrame } from "./driver-frames.ts";
import { renderTable } from "./figures.ts";
import { openQueueRig } from "./queue-rig.ts";

export interface Part {
	readonly name: string;
	/** Microseconds of one operation. */
	readonly p50: number;
	readonly p99: number;
	readonly perSecond: number;
}

/** Operations of one sample where one alone is too short to be timed, or where they share a commit. */
const TOGETHER = 64;

export async function measureParts(options: { readonly quick: boolean; readonly folder: string }): Promise<Part[]> {
	const bench = new Bench({
		time: options.quick ? 50 : 500,
		iterations: options.quick ? 5 : 64,
		warmupTime: options.quick ? 10 : 200,
		throws: true,
	});
	using rig = openQueueRig(join(options.folder, "parts"), 1);

	const frame = invokeFrame({ functionId: "echo", bodyBytes: 64 });
	const frames = Buffer.concat(Array.from({ length: TOGETHER }, () => frame));
	let decoded = 0;
	const decoder = new FrameDecoder((_low, _high, _tag, payload) => (decoded += payload.byteLength));
	const answer = JSON.stringify({
		success: true,
		status: 200,
		headers: {},
		body: "eA==",
		execution_time_ms: 1,
		execution_id: "inv_1",
	});
	const gatherer = new FrameGatherer();
	const request: InvokeRequest = {
		function: "echo",
		source: "socket",
		method: "POST",
		path: "/",
		headers: [["content-type", "application/octet-stream"]],
		query: [],
		body: Buffer.alloc(64, "x"),
		waits: true,
	};
	const row: RunningRow = {
		charged: 0,
		maxAttempts: 3,
		workerDeaths: 0,
		daemonDeaths: 0,
		solo: false,
		atMostOnce: false,
		cancelAsked: false,
		deadlineAt: null,
	};
	const failed: Outcome = { kind: "failed", error: { code: "HANDLER_ERROR", message: "no" } };
	const random = { next: () => 0.5 };
	const cron = { expression: "*/5 9-17 * * 1-5", timezone: "Europe/Berlin" };
	const from = Date.UTC(2026, 0, 1);

	bench.add(`client frame: decode (of ${TOGETHER})`, () => void decoder.push(frames), { async: false });
	bench.add(
		`client frame: encode (of ${TOGETHER})`,
		() => {
			for (let index = 0; index < TOGETHER; index += 1) gatherer.add(index, 0, 0, answer);
			gatherer.take();
		},
		{ async: false },
	);
	bench.add(
		`InvokeRequest: check (of ${TOGETHER})`,
		() => {
			for (let index = 0; index < TOGETHER; index += 1) checkInvokeRequest(request);
		},
		{ async: false },
	);
	bench.add(
		`transition: settle() a failure (of ${TOGETHER})`,
		() => {
			for (let index = 0; index < TOGETHER; index += 1) settle(row, failed, from, BUILT_IN.retry, random);
		},
		{ async: false },
	);
	bench.add("cron: nextDue", () => void nextDue(cron, from), { async: false });
	const take = () => {
		const { claims } = rig;
		if (claims.length !== TOGETHER) throw new Error(`expected ${TOGETHER} claims, got ${claims.length}`);
		rig.claims = [];
		return claims;
	};
	const enqueue = (): void => {
		for (let index = 0; index < TOGETHER; index += 1) {
			rig.queue.enqueue(
				rig.submission(0),
				() => undefined,
				(error) => {
					throw error;
				},
			);
		}
		rig.turn();
	};
	bench.add(
		`queue: accept-and-claim, settle (of ${TOGETHER} a commit)`,
		() => {
			rig.slots = TOGETHER;
			enqueue();
			rig.settle(take());
		},
		{ async: false },
	);
	bench.add(
		`queue: enqueue, claim, settle (of ${TOGETHER} a commit)`,
		() => {
			rig.slots = 0;
			enqueue();
			rig.slots = TOGETHER;
			rig.queue.consider(rig.lane(0));
			rig.turn();
			rig.settle(take());
		},
		{ async: false },
	);
	await bench.run();
	if (decoded === 0) throw new Error("nothing was decoded");
	return bench.tasks.map((task) => {
		const { result } = task;
		if (result.state !== "completed") throw new Error(`${task.name} ended ${result.state}`);
		const together = task.name.includes("(of ") ? TOGETHER : 1;
		const perOperation = (ms: number): number => (ms * 1000) / together;
		const p50 = perOperation(result.latency.p50);
		return { name: task.name, p50, p99: perOperation(result.latency.p99), perSecond: 1e6 / p50 };
	});
}

export function renderParts(parts: readonly Part[]): string {
	return renderTable(
		["part", "p50", "p99", "per second"],
		parts.map((part) => [
			part.name,
			`${part.p50.toFixed(2)} µs`,
			`${part.p99.toFixed(2)} µs`,
			Math.round(part.perSecond).toLocaleString("en-US"),
		]),
	);
}

if (import.meta.main) {
	const folder = mkdtempSync(join(tmpdir(), "bunbase-parts-"));
	try {
		process.stdout.write(`${renderParts(await measureParts({ quick: process.argv.includes("--quick"), folder }))}\n`);
	} finally {
		rmSync(folder, { recursive: true, force: true });
	}
}
