/** What a run of the driver is asked and answers; starts it as a process of its own. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

interface DriveBase {
	/** Id or name. */
	readonly functionId: string;
	readonly callers: number;
	readonly sockets: number;
	readonly warmupMs: number;
	readonly measureMs: number;
	readonly bodyBytes: number;
}

export interface SocketDrive extends DriveBase {
	readonly kind: "socket";
	readonly path: string;
}

export interface HttpDrive extends DriveBase {
	readonly kind: "http";
	readonly host: string;
	readonly port: number;
}

export type Drive = SocketDrive | HttpDrive;

/** Latencies in milliseconds. */
export interface Driven {
	readonly perSecond: number;
	readonly p50: number;
	readonly p99: number;
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
