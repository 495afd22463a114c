/**
 * Versions that wait to be tried. Such a start asks for no room, because the active version must not have to end for
 * the new one to be tried; but only one process at a time may be more than `maxWorkersTotal` allows. Without that,
 * forty deployments at once were forty processes, where four were allowed, and stayed until they were idle too long.
 */
import { EngineError } from "../core/errors.ts";
import type { ReadyReport, WorkerSpec } from "./contract.ts";

export interface ProvingDependencies {
	readonly maxWorkersTotal: number;
	/** Every process of a function that is not proven gone; a start adds to it. */
	readonly live: ReadonlySet<unknown>;
	/** Retires whoever has to make room, if anybody can. */
	readonly makeRoom: (spec: WorkerSpec) => void;
}

interface Waiting {
	readonly spec: WorkerSpec;
	readonly start: () => void;
	readonly refuse: (error: EngineError) => void;
}

export class Proving {
	readonly #deps: ProvingDependencies;
	readonly #waiting: Waiting[] = [];
	#stopped = false;

	constructor(deps: ProvingDependencies) {
		this.#deps = deps;
	}

	get waits(): boolean {
		return this.#waiting.length > 0;
	}

	/** Calls `start` when its turn has come. */
	prove(spec: WorkerSpec, start: () => Promise<ReadyReport>): Promise<ReadyReport> {
		if (this.#stopped) return Promise.reject(stopping());
		return new Promise((resolve, reject) => {
			this.#waiting.push({ spec, start: () => void start().then(resolve, reject), refuse: reject });
			this.look();
		});
	}

	/** Somebody may have left, or can be asked to. */
	look(): void {
		const { live, makeRoom, maxWorkersTotal } = this.#deps;
		for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
			if (live.size >= maxWorkersTotal) makeRoom(next.spec);
			if (live.size > maxWorkersTotal) return;
			this.#waiting.shift();
			next.start();
		}
	}

	stop(): void {
		this.#stopped = true;
		for (const { refuse } of this.#waiting.splice(0)) refuse(stopping());
	}
}

function stopping(): EngineError {
	return new EngineError("SHUTTING_DOWN", "the daemon is stopping; deploy again when it is back");
}
