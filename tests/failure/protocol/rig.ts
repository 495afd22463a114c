/** What the protocol cases share: a daemon with an echo, connections by the thousand, and what a process holds. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { startDaemon, type Daemon, type DaemonOptions } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";

export const COMMAND = {
	INVOKE: 0x01,
	ENQUEUE: 0x10,
	GET: 0x11,
	AWAIT: 0x12,
	HELLO: 0x20,
	CALL: 0x21,
} as const;

/** Answers its body, or as many bytes as the header x-size says, after the milliseconds of x-sleep. */
const ECHO = `export const config = { timeoutMs: 600_000, maxBodyBytes: 6291456, retry: { maxAttempts: 1 } };
export default async (req) => {
	const ms = Number(req.headers.get("x-sleep") ?? 0);
	if (ms > 0) await Bun.sleep(ms);
	const size = req.headers.get("x-size");
	return new Response(size === null ? await req.arrayBuffer() : "x".repeat(Number(size)));
};`;

export interface EchoDaemon {
	readonly daemon: Daemon;
	readonly folder: string;
	readonly dataDir: string;
}

/** A daemon that is stopped in the end, and must be able to. */
export async function withEcho(run: (scene: EchoDaemon) => Promise<void>, options: DaemonOptions = {}): Promise<void> {
	using folder = tempFolder();
	const path = join(folder.path, "echo.js");
	writeFileSync(path, ECHO);
	const dataDir = join(folder.path, "data");
	const daemon = await startDaemon(dataDir, options);
	try {
		await daemon.client.call("functions.deploy", { function: "echo", path, register: true });
		await run({ daemon, folder: folder.path, dataDir });
	} finally {
		if (!isOver(daemon)) assert.equal(await daemon.stop(), 0);
	}
}

function isOver({ process: child }: Daemon): boolean {
	return child.exitCode !== null || child.signalCode !== null;
}

export function invokePayload(body: string, more: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
	return { function_id: "echo", method: "POST", path: "/", body: Buffer.from(body).toString("base64"), ...more };
}

/** Connects, trying again while the daemon's backlog is full, which is what EAGAIN says. */
export async function connectPatiently(path: string): Promise<Socket> {
	for (let wait = 5; ; wait = Math.min(wait * 2, 200)) {
		const socket = connect(path);
		try {
			await once(socket, "connect");
			return socket;
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
			await sleep(wait);
		}
	}
}

/** `count` connections, some hundred at a time. */
export async function connectMany(path: string, count: number): Promise<Socket[]> {
	const sockets: Socket[] = [];
	while (sockets.length < count) {
		const some = Math.min(400, count - sockets.length);
		sockets.push(...(await Promise.all(Array.from({ length: some }, () => connectPatiently(path)))));
	}
	return sockets;
}

/** Resident bytes of a process. */
export function rssOf(pid: number): number {
	return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]) * 1024;
}

/** Open descriptors of a process. */
export function fdsOf(pid: number): number {
	return readdirSync(`/proc/${pid}/fd`).length;
}

/** How many descriptors a process may have at most, ever. */
export function descriptorsMax(): number {
	const [, hard] = /Max open files\s+\d+\s+(\d+|unlimited)/.exec(readFileSync("/proc/self/limits", "latin1")) ?? [];
	return hard === "unlimited" ? Number.POSITIVE_INFINITY : Number(hard ?? 0);
}

/** The value below which this share of them lies. */
export function percentile(values: readonly number[], share: number): number {
	const sorted = values.toSorted((a, b) => a - b);
	return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
