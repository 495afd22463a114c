/**
 * Open loop: requests leave by the clock, as those of strangers do, whether or not earlier ones are answered. A
 * latency is counted from when its request was due, not from when it was sent, so a stall of the server, or of this
 * process, makes all that were due meanwhile late, and none of them is left out (no coordinated omission).
 *
 * Requests are due in bunches, one each millisecond, because a timer is no finer.
 */
import type { Socket } from "node:net";
import { createHistogram } from "node:perf_hooks";
import { setTimeout as delay } from "node:timers/promises";
import type { Driven, OpenDrive } from "./drive.ts";
import { answerReader, gather, invokeFrame } from "./driver-frames.ts";

/** More than this unanswered, and the server does not keep up: there is no latency to measure. */
const UNANSWERED_MAX = 200_000;
/** How long the last of them may take. */
const DRAIN_MS = 30_000;

export async function openLoop(
	drive: OpenDrive,
	connect: (drive: OpenDrive) => Promise<Socket>,
	fail: (error: Error) => void,
): Promise<Driven> {
	const histogram = createHistogram({ figures: 3 });
	const requests = drive.calls.map(invokeFrame);
	const sockets = await Promise.all(Array.from({ length: drive.sockets }, () => connect(drive)));
	const startedAt = performance.now();
	const measureFrom = startedAt + drive.warmupMs;
	const end = measureFrom + drive.measureMs;
	/** When each was due, by its id. */
	const dueAt: number[] = [];
	let answered = 0;
	for (const socket of sockets) {
		const answers = answerReader();
		socket.on("data", (chunk) => {
			for (const id of answers(chunk)) {
				answered += 1;
				const due = dueAt[id] ?? 0;
				if (due >= measureFrom) histogram.record(Math.max(1, Math.round((performance.now() - due) * 1e6)));
			}
		});
		socket.on("close", () => {
			if (answered < dueAt.length) fail(new Error("the server closed a connection in the middle of a run"));
		});
	}
	for (let tick = 1; ; tick += 1) {
		const due = startedAt + tick;
		if (due >= end) break;
		const late = performance.now() - due;
		if (late < 0) await delay(-late);
		const bunch: number[] = [];
		for (const all = Math.floor((tick * drive.ratePerSecond) / 1000); dueAt.length < all; dueAt.push(due)) {
			bunch.push(dueAt.length);
		}
		if (dueAt.length - answered > UNANSWERED_MAX) {
			throw new Error(`${UNANSWERED_MAX} requests are unanswered at ${drive.ratePerSecond}/s: that is too much`);
		}
		sockets.forEach((socket, index) => {
			const its = bunch.filter((id) => id % sockets.length === index);
			if (its.length > 0) socket.write(gather(requests, its));
		});
	}
	const giveUpAt = performance.now() + DRAIN_MS;
	while (answered < dueAt.length) {
		if (performance.now() > giveUpAt) throw new Error(`${dueAt.length - answered} requests were never answered`);
		await delay(5);
	}
	for (const socket of sockets) socket.destroy();
	const at = (percent: number): number => histogram.percentile(percent) / 1e6;
	const { count } = histogram;
	return {
		perSecond: (count / drive.measureMs) * 1000,
		p50: at(50),
		p99: at(99),
		p999: at(99.9),
		max: histogram.max / 1e6,
		count,
	};
}
