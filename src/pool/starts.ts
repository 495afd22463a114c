/**
 * Starting workers: a few at once, each with somebody who learns how it went.
 *
 *   - at most `spawnsAtOnceMax` starts are under way; one that takes longer than 500 ms stops holding up the others
 *   - a start that proves a version answers its prover; the end of any other failed start counts in the version's
 *     breaker, and the function is told when the breaker lets a start through again
 */
import PQueue from "p-queue";
import type { Environment } from "../core/environment.ts";
import { EngineError } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";
import type { ReadyReport } from "./contract.ts";
import type { VersionWorkers } from "./version-workers.ts";
import { Worker, type WorkerDependencies } from "./worker.ts";

/** A start that takes longer stops holding up the starts of others. */
const PACE_MS = 500;

interface Proof {
	readonly resolve: (report: ReadyReport) => void;
	readonly reject: (error: EngineError) => void;
}

export interface StartsDependencies {
	readonly environment: Environment;
	readonly worker: WorkerDependencies;
	/** Every process of a function that is not proven gone; a start adds to it. */
	readonly live: Set<Worker>;
	/** A process was started. */
	readonly launched: () => void;
	/** The breaker of this version lets one start through. */
	readonly halfOpen: (version: VersionWorkers) => void;
}

export class Starts {
	readonly #deps: StartsDependencies;
	readonly #pacing = new PQueue({ concurrency: LIMITS.spawnsAtOnceMax });
	/** Ends the turn of a start in `#pacing`. */
	readonly #paced = new Map<Worker, () => void>();
	readonly #proofs = new Map<Worker, Proof>();
	#lastWorker = 0;
	#stopped = false;

	constructor(deps: StartsDependencies) {
		this.#deps = deps;
	}

	/** `awaited`: an invocation waits for it. */
	start(version: VersionWorkers, awaited: boolean): Worker {
		this.#lastWorker += 1;
		const worker = new Worker(`w${this.#lastWorker}`, version.spec, awaited, this.#deps.worker);
		version.workers.push(worker);
		this.#deps.live.add(worker);
		void this.#pacing.add(() => this.#launch(worker));
		return worker;
	}

	/** Starts a worker to see whether its version can serve. Rejects with BAD_BUNDLE. */
	prove(version: VersionWorkers): Promise<ReadyReport> {
		return new Promise((resolve, reject) => this.#proofs.set(this.start(version, false), { resolve, reject }));
	}

	/** A start has succeeded. */
	ready(worker: Worker, version: VersionWorkers, config: unknown): void {
		version.breaker.succeeded();
		version.config = config;
		this.#endPace(worker);
		this.#proofOf(worker)?.resolve({ config, readyMs: worker.readyMs });
	}

	/** A process is gone; `startError` is set where it failed to become READY. */
	gone(worker: Worker, version: VersionWorkers | undefined, startError: string | undefined): void {
		this.#endPace(worker);
		const proof = this.#proofOf(worker);
		if (proof !== undefined) {
			const { functionName, version: name } = worker.spec;
			const text = startError ?? "it was ended before it was ready";
			proof.reject(new EngineError("BAD_BUNDLE", `version ${name} of ${functionName} does not start: ${text}`));
		} else if (startError !== undefined && version !== undefined) {
			this.#failed(version, startError);
		}
	}

	/** No breaker opens again after this. */
	stop(versions: Iterable<VersionWorkers>): void {
		this.#stopped = true;
		for (const version of versions) version.breakerTimer?.cancel();
	}

	/** Its turn ends when it is ready or gone, or has taken too long. */
	#launch(worker: Worker): Promise<void> | undefined {
		if (worker.state !== "STARTING") return undefined;
		return new Promise<void>((resolve) => {
			const timer = this.#deps.environment.clock.setTimer(PACE_MS, resolve);
			this.#paced.set(worker, () => {
				timer.cancel();
				resolve();
			});
			worker.launch();
			this.#deps.launched();
		});
	}

	#endPace(worker: Worker): void {
		this.#paced.get(worker)?.();
		this.#paced.delete(worker);
	}

	#proofOf(worker: Worker): Proof | undefined {
		const proof = this.#proofs.get(worker);
		this.#proofs.delete(worker);
		return proof;
	}

	#failed(version: VersionWorkers, error: string): void {
		const { clock, logger } = this.#deps.environment;
		const { functionName, version: name } = version.spec;
		logger.warn({ function: functionName, version: name, error }, "a worker did not start");
		const openMs = version.breaker.failed(clock.monotonic(), error);
		if (openMs === 0 || this.#stopped) return;
		version.breakerTimer?.cancel();
		version.breakerTimer = clock.setTimer(openMs, () => {
			version.breakerTimer = undefined;
			this.#deps.halfOpen(version);
		});
	}
}
