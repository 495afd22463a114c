/** What a run of the driver is asked and answers; starts it as a process of its own. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

/** What a caller sends, again and again. */
export interface Call {
	/** Id or name. */
	readonly functionId: string;
	readonly bodyBytes: number;
}

interface DriveBase {
	/** The callers take them in turn. */
	readonly calls: readonly Call[];
	readonly sockets: number;
	readonly warmupMs: number;
	readonly measureMs: number;
}

/** Closed loop: each caller sends its next request when its answer is there. */
export interface SocketDrive extends DriveBase {
	readonly kind: "socket";
	readonly path: string;
	readonly callers: number;
}

/** Open loop: so many requests a second, whatever becomes of them. */
export interface OpenDrive extends DriveBase {
	readonly kind: "open";
	readonly path: string;
	readonly ratePerSecond: number;
}

export interface HttpDrive extends DriveBase {
	readonly kind: "http";
	readonly host: string;
	readonly port: number;
	readonly callers: number;
}

export type Drive = SocketDrive | OpenDrive | HttpDrive;

/** Latencies in milliseconds. */
export interface Driven {
	readonly perSecond: number;
	readonly p50: number;
	readonly p99: number;
	readonly p999: number;
	readonly max: number;
	readonly count: number;
}

const DRIVER = join(import.meta.dirname, "driver.ts");

/** Rejects with what the driver wrote where an answer was not a success. */
export async function runDriver(drive: Drive): Promise<Driven> {
	const child = spawn(process.execPath, [DRIVER, JSON.stringify(drive)], { stdio: ["ignore", "pipe", "pipe"] });
	let out = "";
	let err = "";
	child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
	child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
	await once(child, "close");
	if (child.exitCode !== 0) throw new Error(`the driver failed (${child.exitCode ?? child.signalCode}): ${err}`);
	return JSON.parse(out) as Driven;
}
