/**
 * The daemon under test through its deaths: one data folder, one socket, one ledger, as many runs of the daemon as the
 * nemesis wants. Knows how long each start took, and what is left in the world when it should be gone.
 */
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { startDaemon, type Daemon, type DaemonOptions } from "../../support/daemon.ts";
import { ledgerFile } from "../../support/ledger.ts";
import { isGone } from "../../support/processes.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import type { FunctionPlan } from "./plans.ts";

/**
 * Half the CPU of a start from source is reading and stripping TypeScript, which the package's compiled form spares.
 * Kept here, a hundred starts leave the machine to the faults. Beside other tools' caches, so nothing is left elsewhere.
 */
export const COMPILE_CACHE = join(import.meta.dirname, "../../../node_modules/.cache/node");

const LEDGER_FUNCTION = join(import.meta.dirname, "../../functions/ledger.ts");

export interface SubjectOptions extends DaemonOptions {
	/** Where the data folder is made; default a temporary folder. */
	readonly folder?: string;
}

export class Subject implements AsyncDisposable {
	readonly dataDir: string;
	readonly socketPath: string;
	readonly ledger: string;
	/** From spawn to ready, each start. */
	readonly bootsMs: number[] = [];
	readonly #options: SubjectOptions;
	readonly #stack = new DisposableStack();
	#daemon: Daemon | undefined;

	constructor(options: SubjectOptions = {}) {
		this.#options = options;
		const folder = options.folder ?? this.#stack.use(tempFolder("bunbase-fault-")).path;
		this.dataDir = join(folder, "data");
		this.socketPath = options.socketPath ?? join(folder, "daemon.sock");
		this.ledger = this.#stack.use(ledgerFile()).path;
	}

	/** The daemon that runs, or ran last. */
	get daemon(): Daemon {
		if (this.#daemon === undefined) throw new Error("the daemon was never started");
		return this.#daemon;
	}

	/** Changes with each start; undefined while none runs. */
	get httpUrl(): string | undefined {
		const { process: child, httpUrl } = this.#daemon ?? {};
		return child?.exitCode === null && child.signalCode === null ? httpUrl : undefined;
	}

	async start(options: DaemonOptions = {}): Promise<Daemon> {
		const from = performance.now();
		this.#daemon = await startDaemon(this.dataDir, {
			...this.#options,
			socketPath: this.socketPath,
			...options,
			env: { NODE_COMPILE_CACHE: COMPILE_CACHE, ...this.#options.env, ...options.env },
		});
		this.bootsMs.push(performance.now() - from);
		return this.#daemon;
	}

	/** Registers, configures and deploys each plan's function. */
	async deploy(plans: readonly FunctionPlan[]): Promise<void> {
		const { client } = this.daemon;
		for (const { name, overrides } of plans) {
			await client.call("functions.register", { name });
			await client.call("env.set", { function: name, values: { LEDGER: this.ledger } });
			await client.call("functions.configure", { function: name, overrides });
			await client.call("functions.deploy", { function: name, path: LEDGER_FUNCTION, build: true });
		}
	}

	async workers(): Promise<{ pid: number; state: string; function: string; running: string[] }[]> {
		const { workers } = (await this.daemon.client.call("workers.list", {})) as {
			workers: { pid: number; state: string; function_name: string; running: string[] }[];
		};
		return workers
			.filter(({ state }) => state !== "TERMINATED")
			.map(({ pid, state, running, function_name }) => ({ pid, state, running, function: function_name }));
	}

	/** Until nothing is queued or running; the ms that it took, or undefined. */
	async drained(withinMs: number): Promise<number | undefined> {
		const from = performance.now();
		try {
			await waitFor(
				"the end of all work",
				async () => {
					const { queued, running } = await this.daemon.client.call("stats.get", {});
					return queued === 0 && running === 0;
				},
				withinMs,
			);
		} catch {
			return undefined;
		}
		return performance.now() - from;
	}

	/** Processes with this instance's mark in their environment, or at home in its data folder: workers and their children. */
	workerProcesses(): number[] {
		const marker = join(this.dataDir, "instance.json");
		if (!existsSync(marker)) return [];
		const { instanceId } = JSON.parse(readFileSync(marker, "utf8")) as { instanceId: string };
		return readdirSync("/proc").flatMap((name) => {
			const pid = Number(name);
			if (!Number.isInteger(pid) || pid === process.pid || isGone(pid)) return [];
			try {
				const marked = readFileSync(`/proc/${name}/environ`, "latin1").includes(`=${instanceId}\0`);
				return marked || readlinkSync(`/proc/${name}/cwd`).startsWith(`${this.dataDir}/tmp/`) ? [pid] : [];
			} catch {
				return []; // gone meanwhile
			}
		});
	}

	/** I9, after a clean stop: what should not be there. */
	leftovers(): string[] {
		const found = this.workerProcesses().map((pid) => `worker process ${pid}`);
		if (existsSync(this.socketPath)) found.push(`socket ${this.socketPath}`);
		for (const name of readdirSync(this.dataDir, { recursive: true }) as string[]) {
			if (/(?:^|\/)tmp\/.|\.tmp$|-wal$|-shm$|-journal$/.test(name)) found.push(`file ${name}`);
		}
		return found;
	}

	/** Ends whatever runs, also in a test that failed half way. */
	async [Symbol.asyncDispose](): Promise<void> {
		const daemon = this.#daemon;
		if (daemon !== undefined && daemon.process.exitCode === null && daemon.process.signalCode === null) {
			// A daemon that the nemesis has stopped does not see the kill otherwise.
			daemon.process.kill("SIGCONT");
			await daemon.kill();
		}
		daemon?.client.close();
		for (const pid of this.workerProcesses()) process.kill(pid, "SIGKILL");
		await waitFor("the end of all workers", () => this.workerProcesses().length === 0);
		this.#stack.dispose();
	}
}
