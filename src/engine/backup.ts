/**
 * Backups while the engine serves: copies in small turns of the loop, then a thread that checks what was copied, then
 * the name. One at a time; the next one waits. A stop gives the one that is under way up, and nothing is left of it.
 */
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import type { BackupProgress, BackupRecord, BackupRequest } from "../core/contracts.ts";
import type { Environment } from "../core/environment.ts";
import { EngineError } from "../core/errors.ts";
import { copyDatabases, openBackupTarget, openToCopy, type Database, type Manifest } from "../store/index.ts";
import type { BackupAnswer, BackupWork } from "./backup-thread.ts";
import { VERSION } from "./version.ts";

export interface BackupsDeps {
	readonly environment: Environment;
	readonly root: string;
	readonly queue: Database;
	readonly metadata: Database;
}

export class Backups {
	readonly #deps: BackupsDeps;
	readonly #stopped = new AbortController();
	#last: Promise<unknown> = Promise.resolve();
	#progress: BackupProgress | undefined;

	constructor(deps: BackupsDeps) {
		this.#deps = deps;
	}

	/** Of the backup that is under way. */
	get progress(): BackupProgress | undefined {
		return this.#progress;
	}

	create(request: BackupRequest, signal?: AbortSignal): Promise<BackupRecord> {
		const made = this.#last.then(() => this.#create(request, signal));
		this.#last = made.catch(() => undefined);
		return made;
	}

	/** Resolves when none is under way; none begins after it. */
	async stop(): Promise<void> {
		this.#stopped.abort();
		await this.#last;
	}

	async #create(request: BackupRequest, signal: AbortSignal | undefined): Promise<BackupRecord> {
		const { environment, root } = this.#deps;
		const either = signal === undefined ? this.#stopped.signal : AbortSignal.any([this.#stopped.signal, signal]);
		if (either.aborted) throw new EngineError("SHUTTING_DOWN", "the backup was not begun");
		const from = environment.clock.monotonic();
		const target = openBackupTarget(request.path, root);
		try {
			const takenAt = await copyDatabases(this.#deps, target, {
				signal: either,
				progress: (phase, done, total) => (this.#progress = { phase, done, total }),
				probe: environment.probe,
				now: () => environment.clock.now(),
			});
			this.#progress = { phase: "checks", done: 0, total: 0 };
			const { partial, path } = target;
			const work = { root, partial, path, takenAt, version: VERSION, damaged: request.damaged === true };
			const manifest = await inThread(work, either);
			environment.probe.hit("backup.checked");
			target.publish();
			const ms = Math.round(environment.clock.monotonic() - from);
			environment.logger.info({ path, ms, seq: manifest.seq }, "a backup was made");
			return recordOf(path, manifest, ms);
		} catch (error) {
			target.discard();
			throw error;
		} finally {
			this.#progress = undefined;
		}
	}
}

/** Of a folder whose daemon does not run. Takes the folder's lock meanwhile. */
export async function backupOffline(
	dataDir: string,
	request: BackupRequest,
	options: {
		readonly environment: Environment;
		readonly signal: AbortSignal;
		readonly progress: (progress: BackupProgress) => void;
	},
): Promise<BackupRecord> {
	const folder = openToCopy(dataDir);
	const backups = new Backups({ environment: options.environment, ...folder });
	const timer = setInterval(() => backups.progress !== undefined && options.progress(backups.progress), 100);
	try {
		return await backups.create(request, options.signal);
	} finally {
		clearInterval(timer);
		folder.close();
	}
}

function recordOf(path: string, manifest: Manifest, ms: number): BackupRecord {
	return {
		path,
		instanceId: manifest.instance_id,
		createdAt: manifest.created_at,
		seq: manifest.seq,
		files: manifest.files.length,
		bytes: manifest.files.reduce((sum, { bytes }) => sum + bytes, 0),
		damage: manifest.damage,
		ms,
	};
}

/** Rejects when `signal` aborts; the thread is gone then. */
async function inThread(work: BackupWork, signal: AbortSignal): Promise<Manifest> {
	const extension = import.meta.url.endsWith(".ts") ? ".ts" : ".js";
	const program = fileURLToPath(new URL(`./backup-thread${extension}`, import.meta.url));
	// Of the library's host process the thread takes over nothing: not its --import, not its environment.
	const thread = new Worker(program, { workerData: work, execArgv: [], env: {} });
	const { promise, resolve, reject } = Promise.withResolvers<Manifest>();
	thread.once("message", (answer: BackupAnswer) => {
		if ("manifest" in answer) resolve(answer.manifest);
		else reject(new EngineError(answer.code, answer.message));
	});
	thread.once("error", reject);
	thread.once("exit", () => reject(new EngineError("INTERNAL", "the thread that checks a backup ended early")));
	const stop = (): void =>
		reject(new EngineError("SHUTTING_DOWN", `the backup to ${work.path} was given up; nothing is left of it`));
	signal.addEventListener("abort", stop, { once: true });
	if (signal.aborted) stop();
	try {
		return await promise;
	} finally {
		signal.removeEventListener("abort", stop);
		await thread.terminate();
	}
}
