/** What callers ask about invocations: accept, wait, look up, cancel, run again. */
import type * as Contract from "../core/contracts.ts";
import type { Environment } from "../core/environment.ts";
import { EngineError } from "../core/errors.ts";
import { isTerminal } from "../core/invocation.ts";
import { LIMITS } from "../core/limits.ts";
import type { InvokeRequest } from "../core/request.ts";
import type { Pool } from "../pool/index.ts";
import type { Queue } from "../queue/index.ts";
import type { Registry } from "./registry.ts";
import { resolveRequest } from "./submit.ts";
import type { Waiters } from "./waiters.ts";

export interface InvocationsDeps {
	readonly environment: Environment;
	readonly registry: Registry;
	readonly queue: Queue;
	readonly pool: Pick<Pool, "cancel">;
	readonly waiters: Waiters;
}

export class Invocations {
	readonly #deps: InvocationsDeps;

	constructor(deps: InvocationsDeps) {
		this.#deps = deps;
	}

	invoke(request: InvokeRequest): Promise<Contract.Ended> {
		return new Promise((resolve, reject) => {
			const { queue, registry } = this.#deps;
			const answer = (end: Contract.Ended | EngineError): void => {
				if (end instanceof EngineError) reject(end);
				else resolve(end);
			};
			const submission = resolveRequest(registry, request);
			queue.enqueue(
				submission,
				(accepted) => {
					if (accepted.replayed && isTerminal(accepted.state)) resolve(this.#endedOf(accepted.invocationId));
					else this.#deps.waiters.add(accepted.invocationId, answer); // E1
				},
				reject,
			);
		});
	}

	/** A promise, because a damaged record is this caller's answer and must not throw into the commit that told it. */
	async #endedOf(invocationId: string): Promise<Contract.Ended> {
		const { state, result, error, runMs } = this.#deps.queue.read.record(invocationId);
		return { invocationId, state, result, error, executionMs: runMs ?? 0 };
	}

	enqueue(request: InvokeRequest): Promise<Contract.Accepted> {
		return new Promise((resolve, reject) => {
			const { queue, registry } = this.#deps;
			queue.enqueue(resolveRequest(registry, request), resolve, reject);
		});
	}

	async enqueueBatch(requests: readonly InvokeRequest[]): Promise<readonly (Contract.Accepted | EngineError)[]> {
		const { queue, registry } = this.#deps;
		if (requests.length > LIMITS.batchMax) {
			throw new EngineError(
				"BAD_REQUEST",
				`expected at most ${LIMITS.batchMax} requests in a batch, got ${requests.length}`,
			);
		}
		return queue.enqueueBatch(
			requests.map((request) => {
				try {
					return resolveRequest(registry, request);
				} catch (error) {
					if (error instanceof EngineError) return error;
					throw error;
				}
			}),
		);
	}

	getInvocation(invocationId: string): Contract.InvocationRecord {
		return this.#deps.queue.read.record(invocationId);
	}

	async awaitInvocation(
		invocationId: string,
		options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
	): Promise<{ readonly record: Contract.InvocationRecord; readonly timedOutWaiting: boolean }> {
		const record = this.getInvocation(invocationId);
		if (isTerminal(record.state)) return { record, timedOutWaiting: false };
		const end = await this.#waitForEnd(invocationId, options);
		if (end instanceof EngineError) throw end;
		return { record: this.getInvocation(invocationId), timedOutWaiting: end === undefined };
	}

	/** Undefined where the wait ended before the invocation did. */
	#waitForEnd(
		invocationId: string,
		options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
	): Promise<Contract.Ended | EngineError | undefined> {
		return new Promise((resolve) => {
			const done = (end: Contract.Ended | EngineError | undefined): void => {
				timer.cancel();
				options.signal?.removeEventListener("abort", aborted);
				stopWaiting();
				resolve(end);
			};
			const aborted = (): void => done(undefined);
			const stopWaiting = this.#deps.waiters.add(invocationId, done);
			const timer = this.#deps.environment.clock.setTimer(Math.min(options.timeoutMs, LIMITS.awaitMsMax), () =>
				done(undefined),
			);
			if (options.signal?.aborted === true) done(undefined);
			else options.signal?.addEventListener("abort", aborted, { once: true });
		});
	}

	async cancel(
		invocationId: string,
	): Promise<{ readonly invocationId: string; readonly state: Contract.InvocationRecord["state"] }> {
		const { queue, pool } = this.#deps;
		const { state, attempt } = await queue.cancel(invocationId);
		if (state === "running") pool.cancel(invocationId, attempt);
		return { invocationId, state };
	}

	async retry(invocationId: string): Promise<Contract.Accepted> {
		const { queue, registry } = this.#deps;
		const { row, request } = queue.read.request(invocationId);
		if (row.finishedAt === null) {
			throw new EngineError("BAD_REQUEST", `${invocationId} has not ended; only ended invocations can be retried`, {
				invocationId,
			});
		}
		const submission = resolveRequest(
			registry,
			{ ...request, function: registry.byId(row.lane).functionId },
			invocationId,
		);
		return new Promise((resolve, reject) => queue.enqueue(submission, resolve, reject));
	}

	listInvocations(filter: Contract.InvocationFilter): readonly Contract.InvocationSummary[] {
		const { queue, registry } = this.#deps;
		const lane = filter.function === undefined ? undefined : registry.resolve(filter.function).id;
		return queue.read.list({ lane, state: filter.state, limit: filter.limit, before: filter.before });
	}
}
