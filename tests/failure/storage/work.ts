/**
 * Work for a daemon on a disk that breaks: a prepared data folder, callers that submit until they are refused, and the
 * check afterwards. What was acknowledged is remembered here, in the test's memory: never on the disk that breaks.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { cpSync } from "node:fs";
import { basename, join } from "node:path";
import { after } from "node:test";
import { createClient, ClientError, type Client } from "../../../src/sources/client.ts";
import { startDaemon, type Daemon, type DaemonOptions } from "../../support/daemon.ts";
import { seededRandom } from "../../support/seed.ts";
import { tempFolder, type TempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { usersOfDisks } from "./disks.ts";

const LEDGER = join(import.meta.dirname, "../../functions/ledger.ts");

/** The disks of these tests are smaller than what the daemon wants to have free. */
export const SMALL_DISK = { BUNBASE_FREE_BYTES_MIN: "0" };

export interface Prepared {
	/** A data folder that was closed in order, with the function `ledger` deployed. */
	readonly dataDir: string;
	/** For sockets: on the machine's own disk, and short. */
	readonly folder: TempFolder;
	/** A copy of it at `path`. */
	copyTo(path: string, options?: { readonly ballast?: boolean }): string;
	/** A daemon on a data folder, with a socket outside of it. */
	start(dataDir: string, options?: DaemonOptions): Promise<Daemon>;
}

// A test that fails half way leaves its daemon running, and the file would wait for it.
after(() => {
	for (const user of usersOfDisks) user.end();
});

let shared: Promise<Prepared> | undefined;

/** The same for all tests of a file; removed when its process ends. */
export function prepare(): Promise<Prepared> {
	shared ??= make();
	return shared;
}

async function make(): Promise<Prepared> {
	const folder = tempFolder();
	process.once("exit", () => folder[Symbol.dispose]());
	const dataDir = join(folder.path, "prepared");
	let count = 0;
	const start = async (at: string, options: DaemonOptions = {}): Promise<Daemon> => {
		const daemon = await startDaemon(at, {
			socketPath: join(folder.path, `${(count += 1)}.sock`),
			...options,
			env: { ...SMALL_DISK, ...options.env },
		});
		const user = { path: at, end: () => void daemon.process.kill("SIGKILL") };
		usersOfDisks.add(user);
		daemon.process.once("exit", () => usersOfDisks.delete(user));
		return daemon;
	};
	const daemon = await start(dataDir);
	await daemon.client.call("functions.deploy", { function: "ledger", path: LEDGER, build: true, register: true });
	assert.equal(await daemon.stop(), 0);
	return {
		dataDir,
		folder,
		copyTo(path, { ballast = true } = {}) {
			cpSync(dataDir, path, { recursive: true, filter: (file) => ballast || basename(file) !== "ballast" });
			// It was there long before the fault.
			execFileSync("sync", ["-f", path]);
			return path;
		},
		start,
	};
}

export interface Accepted {
	readonly id: string;
	/** What its answer must echo. */
	readonly echo: string;
}

export interface Work {
	readonly accepted: readonly Accepted[];
	/** Codes of the refusals, with how many of each. */
	readonly refused: ReadonlyMap<string, number>;
}

export interface WorkOptions {
	readonly seed: number;
	readonly callers?: number;
	/** Accepted work after which the callers end by themselves. */
	readonly atMost?: number;
	/** A refused caller goes on. */
	readonly insist?: boolean;
	readonly delayMs?: number;
	/** Ends all callers. */
	readonly signal?: AbortSignal;
}

export interface Working {
	readonly accepted: Accepted[];
	/** When every caller was refused, or has done its part. */
	readonly done: Promise<Work>;
}

/** Starts the callers. One in eight bodies is too large for its row. */
export function work(daemon: Daemon, options: WorkOptions): Working {
	const random = seededRandom(options.seed);
	const client = createClient(daemon.socketPath, { automaticKeys: false, connectTimeoutMs: 50 });
	const accepted: Accepted[] = [];
	const refused = new Map<string, number>();
	let made = 0;
	const caller = async (): Promise<void> => {
		while (accepted.length < (options.atMost ?? Number.POSITIVE_INFINITY) && options.signal?.aborted !== true) {
			const large = random.next() < 1 / 8;
			const echo = `${(made += 1)} ${"x".repeat(Math.floor(random.next() * (large ? 30_000 : 500)))}`;
			try {
				const { invocationId } = await client.enqueue("ledger", {
					method: "POST",
					path: "/",
					body: JSON.stringify({ echo }),
					...(options.delayMs === undefined ? {} : { delayMs: options.delayMs }),
				});
				accepted.push({ id: invocationId, echo });
			} catch (error) {
				assert.ok(error instanceof ClientError, String(error));
				refused.set(error.code, (refused.get(error.code) ?? 0) + 1);
				if (options.insist !== true || error.code === "DAEMON_UNREACHABLE") return;
			}
		}
	};
	const done = Promise.all(Array.from({ length: options.callers ?? 8 }, caller)).then(() => {
		client.close();
		return { accepted, refused };
	});
	return { accepted, done };
}

/** Every one of them ends, and answers what belongs to it. */
export async function assertAllThere(client: Client, accepted: readonly Accepted[], withinMs = 30_000): Promise<void> {
	// In groups, so that a hundred thousand waits do not stand in the daemon at once.
	for (let from = 0; from < accepted.length; from += 500) {
		await Promise.all(
			accepted.slice(from, from + 500).map(async ({ id, echo }) => {
				const end = await client.waitForResult(id, { timeoutMs: withinMs });
				assert.equal(end.state, "succeeded", `${id}: ${JSON.stringify(end.error)}`);
				const answer = end.response?.json() as { echo: string } | undefined;
				assert.equal(answer?.echo, echo, `${id} answers its own request`);
			}),
		);
	}
}

/** All work has ended. */
export async function drained(client: Client, withinMs = 30_000): Promise<void> {
	const look = async (): Promise<boolean> => {
		const { queued, running } = await client.call("stats.get", {});
		return queued === 0 && running === 0;
	};
	await waitFor("the end of all work", look, withinMs);
}

/** No work is left, and new work is taken: the fault is over. */
export async function assertServes(client: Client): Promise<void> {
	const answer = await client.invoke("ledger", { method: "POST", path: "/", body: '{"echo":"after"}', maxAttempts: 3 });
	assert.equal((answer.json() as { echo: string }).echo, "after");
}

/** [exit code, signal] of a daemon that ends by itself. */
export async function exitOf(daemon: Daemon): Promise<number | null> {
	const { process } = daemon;
	if (process.exitCode === null && process.signalCode === null) await once(process, "exit");
	daemon.client.close();
	return process.exitCode;
}
