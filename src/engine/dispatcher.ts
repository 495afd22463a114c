/**
 * The one place where the queue and the pool meet: it lends the queue slots of READY workers, sends committed
 * claims to them, and brings their Outcomes back to be settled.
 */
import type { Environment } from "../core/environment.ts";
import { messageOf } from "../core/errors.ts";
import type { Outcome } from "../core/invocation.ts";
import type { AttemptSpec, Pool } from "../pool/index.ts";
import type { Claim, Lane, Queue, Slots, Ticket } from "../queue/index.ts";
import type { Registry } from "./registry.ts";

export interface DispatcherDeps {
	readonly environment: Environment;
	readonly registry: Registry;
	readonly pool: Pick<Pool, "blocked" | "reserve" | "run">;
	/** Late, because the queue takes its slots from here. */
	readonly queue: () => Queue;
}

export class Dispatcher implements Slots {
	readonly #deps: DispatcherDeps;

	constructor(deps: DispatcherDeps) {
		this.#deps = deps;
	}

	reserve(_lane: Lane, version: number, need: { bytes: number; solo: boolean }): Ticket | undefined {
		const { registry, pool } = this.#deps;
		return pool.reserve(registry.versionById(version).spec, need);
	}

	isStuck(version: number): boolean {
		const { registry, pool } = this.#deps;
		const { entry, spec } = registry.versionById(version);
		return entry.active?.id !== version && pool.blocked(spec.key) !== undefined;
	}

	/** The claims are committed: their workers may see them now. */
	send(claims: readonly Claim[]): void {
		for (const claim of claims) this.#run(claim);
	}

	#run(claim: Claim): void {
		const { environment, pool, registry } = this.#deps;
		const { timeoutMs } = registry.versionById(claim.version).spec.config;
		const left =
			claim.deadlineAt === null ? Number.POSITIVE_INFINITY : Math.max(0, claim.deadlineAt - environment.clock.now());
		const attempt: AttemptSpec = {
			invocationId: claim.invocationId,
			attempt: claim.attempt,
			method: claim.method,
			path: claim.path,
			headersJson: claim.headersJson,
			queryJson: claim.queryJson,
			body: claim.body,
			timeoutMs: Math.min(timeoutMs, left),
			timeoutCode: left < timeoutMs ? "DEADLINE_EXCEEDED" : "TIMED_OUT",
		};
		try {
			pool.run(claim.ticket, attempt, (outcome) => this.#ended(claim, outcome));
		} catch (error) {
			// A defect of ours. Without an end its row would be running for ever, and the others of its commit not sent.
			environment.logger.error({ invocationId: claim.invocationId, err: error }, "an attempt could not be sent");
			const message = `the attempt could not be sent: ${messageOf(error)}`;
			this.#ended(claim, { kind: "failed", error: { code: "INTERNAL", message } });
		}
	}

	#ended(claim: Claim, outcome: Outcome): void {
		const { environment, queue } = this.#deps;
		environment.probe.hit("attempt.answered", claim.invocationId);
		queue().settle(claim, outcome, (settled) => {
			if (settled === "stale") {
				environment.logger.warn(
					{ invocationId: claim.invocationId, attempt: claim.attempt },
					"a stale answer was refused by the fence",
				);
			}
		});
	}
}
