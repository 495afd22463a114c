/**
 * What the engine does on its own, each task named, one after another at its own pace: retention of ended invocations
 * and logs, taking the ballast back after a full disk, and keeping the WAL short while nothing else happens.
 */
import type { Environment, Timer } from "../core/environment.ts";
import { messageOf } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";

export interface MaintenanceTask {
	readonly name: string;
	/** One short step. True where it has more to do at once. */
	readonly step: () => boolean | Promise<boolean>;
}

export class Maintenance {
	readonly #environment: Environment;
	readonly #tasks: readonly MaintenanceTask[];
	#timer: Timer | undefined;
	#round: Promise<void> | undefined;
	#stopped = false;

	constructor(environment: Environment, tasks: readonly MaintenanceTask[]) {
		this.#environment = environment;
		this.#tasks = tasks;
	}

	start(): void {
		if (this.#stopped) return;
		this.#timer = this.#environment.clock.setTimer(LIMITS.maintenanceMs, () => {
			this.#round = this.round().finally(() => this.start());
		});
	}

	/** Every task until it has nothing more to do; a step that fails ends its task for this round. */
	async round(): Promise<void> {
		for (const { name, step } of this.#tasks) {
			try {
				while (!this.#stopped && (await step())) {
					// The next step is a turn of its own: serving goes between.
				}
			} catch (error) {
				this.#environment.logger.warn(
					{ task: name, error: messageOf(error) },
					"maintenance was cut short; it goes on in the next round",
				);
			}
		}
	}

	async stop(): Promise<void> {
		this.#stopped = true;
		this.#timer?.cancel();
		await this.#round;
	}
}
