/**
 * Clients of a simulated world: they submit, wait, poll, cancel, run again, emit, send once more under the same key
 * when they do not know what became of the first time, and go away. And an operator who pauses, limits and reschedules.
 */
import type { Accepted, Ended } from "../../src/core/contracts.ts";
import { EngineError } from "../../src/core/errors.ts";
import { isTerminal } from "../../src/core/invocation.ts";
import { LIMITS } from "../../src/core/limits.ts";
import type { InvokeRequest } from "../../src/core/request.ts";
import type { EngineHandle } from "../../src/engine/index.ts";
import type { Coverage } from "./coverage.ts";
import type { CronBook } from "./cron-book.ts";
import type { Answer, Daemon } from "./daemon.ts";
import type { History } from "./history.ts";
import type { Ledger } from "./ledger.ts";
import type { FunctionPlan, WorldPlan } from "./plan.ts";
import type { SimProcess } from "./processes.ts";
import type { Chance } from "./random.ts";
import type { Scheduler } from "./scheduler.ts";

export interface ClientsDeps {
	readonly plan: WorldPlan;
	readonly chance: Chance;
	readonly scheduler: Scheduler;
	readonly ledger: Ledger;
	readonly cron: CronBook;
	readonly history: History;
	readonly coverage: Coverage;
	readonly processes: ReadonlySet<SimProcess>;
	/** Who answers on the socket now. */
	readonly daemon: () => Daemon | undefined;
	readonly schedulesChanged: () => void;
}

const decoder = new TextDecoder();
const SECOND = 1_000;
const HOUR = 3_600_000;

export class Clients {
	readonly #deps: ClientsDeps;
	#requests = 0;
	/** Acknowledged, newest last: what others look at, cancel and run again. */
	readonly #known: { id: string; path: string }[] = [];
	/** Requests with a key, for a second send much later. */
	readonly #keyed: InvokeRequest[] = [];
	#events = 0;
	unreachable = 0;
	unknown = 0;
	refused = 0;

	constructor(deps: ClientsDeps) {
		this.#deps = deps;
	}

	/** One thing that somebody does. */
	act(): void {
		const { chance } = this.#deps;
		const kind = chance.weighted({
			enqueue: 50,
			invoke: 22,
			batch: 4,
			emit: 4,
			cancel: 7,
			cancelMany: 2,
			poll: 5,
			await: 6,
			retry: 2,
			list: 1,
			again: 3,
		});
		switch (kind) {
			case "enqueue":
				this.#enqueue(this.#request(false));
				return;
			case "invoke":
				this.#invoke(this.#request(true));
				return;
			case "batch":
				this.#batch();
				return;
			case "emit":
				this.#emit();
				return;
			case "cancel":
				this.#cancel();
				return;
			case "cancelMany":
				this.#cancelMany();
				return;
			case "poll":
				this.#poll();
				return;
			case "await":
				this.#await(this.#someId());
				return;
			case "retry":
				this.#retry();
				return;
			case "list":
				this.#list();
				return;
			case "again":
				this.#again();
		}
	}

	/** New work for a function, after all faults have ended: the path that it is known by. */
	fresh(plan: FunctionPlan): string {
		const request = this.#requestFor(plan, false);
		const plain: InvokeRequest = {
			function: plan.name,
			source: "socket",
			method: "POST",
			path: request.path,
			headers: [],
			query: [],
			body: request.body,
			waits: false,
		};
		this.#deps.ledger.asks(plain, plan.id);
		this.#send(
			"fresh",
			undefined,
			(engine) => engine.enqueue(plain),
			(answer) => {
				if (answer.kind !== "ok") this.#deps.ledger.violate("I11", `new work was not taken: ${JSON.stringify(answer)}`);
			},
		);
		return plain.path;
	}

	#request(waits: boolean): InvokeRequest {
		const { chance, plan } = this.#deps;
		const weights = Object.fromEntries(plan.functions.map(({ name, weight }) => [name, weight]));
		const name = chance.weighted(weights);
		const picked = plan.functions.find((each) => each.name === name);
		if (picked === undefined) throw new Error(`no function ${name}`);
		return this.#requestFor(picked, waits);
	}

	#requestFor(plan: FunctionPlan, waits: boolean): InvokeRequest {
		const { chance } = this.#deps;
		this.#requests += 1;
		const path = `/r${this.#requests}`;
		const size = chance.oneIn(60) ? chance.between(4_000, 6_000) : chance.between(0, 40);
		const atMostOnce = plan.config.delivery === "at-most-once";
		return {
			function: plan.name,
			source: chance.pick(["socket", "http", "cli"]),
			method: "POST",
			path,
			headers: [["n", path]],
			query: [],
			body: new Uint8Array(size).fill(this.#requests % 251),
			waits,
			laneKey: chance.pick(plan.keys),
			...(chance.oneIn(3) ? { priority: chance.between(-1, 1) } : {}),
			...(chance.oneIn(4) ? { idempotencyKey: `k${this.#requests}` } : {}),
			...(!waits && chance.oneIn(6) ? { delayMs: this.#delay() } : {}),
			...(chance.oneIn(8) ? { deadlineMs: chance.magnitude(20, 2 * HOUR) } : {}),
			...(!atMostOnce && chance.oneIn(8) ? { maxAttempts: chance.between(1, 6) } : {}),
		};
	}

	#delay(): number {
		const { chance } = this.#deps;
		return chance.oneIn(8) ? chance.magnitude(60 * SECOND, 6 * HOUR) : chance.magnitude(5, 30 * SECOND);
	}

	/** Over the network, if somebody is there; the answer comes back over it. */
	#send<T>(
		label: string,
		waitsFor: string | undefined,
		ask: (engine: EngineHandle) => Promise<T>,
		left: (answer: Answer<T>) => void,
		got: (answer: Answer<T>) => void = () => undefined,
	): void {
		const { scheduler, chance, history, ledger, daemon } = this.#deps;
		scheduler.after(chance.between(0, 3), () => {
			const there = daemon();
			if (there === undefined || !there.ready) {
				this.unreachable += 1;
				return;
			}
			there.ask(label, waitsFor, ask, (answer) => {
				history.add(`${label}: ${answer.kind === "refused" ? answer.error.code : answer.kind}`);
				if (answer.kind === "unknown") this.unknown += 1;
				if (answer.kind === "refused") {
					this.refused += 1;
					ledger.checkCode(answer.error);
				}
				left(answer);
				scheduler.after(chance.between(0, 3), () => got(answer));
			});
		});
	}

	#lane(request: InvokeRequest): number {
		return this.#deps.plan.functions.find(({ name }) => name === request.function)?.id ?? 0;
	}

	#enqueue(request: InvokeRequest, tries = 0): void {
		const { ledger } = this.#deps;
		ledger.asks(request, this.#lane(request));
		if (tries === 0 && request.idempotencyKey !== undefined) this.#keyed.push(request);
		this.#send(
			`enqueue ${request.path}`,
			undefined,
			(engine) => engine.enqueue(request),
			(answer) => this.#accepted(request, answer),
			(answer) => this.#next(request, answer, tries),
		);
	}

	/** The moment in which an acceptance, or a refusal, leaves the daemon. */
	#accepted(request: InvokeRequest, answer: Answer<Accepted>): void {
		const { ledger } = this.#deps;
		if (answer.kind === "ok") ledger.acknowledged(request.path, answer.value.invocationId, answer.value.replayed);
		else if (answer.kind === "refused") ledger.refused(request.path, answer.error);
	}

	/** What a client does with its answer. */
	#next(request: InvokeRequest, answer: Answer<Accepted>, tries: number): void {
		const { chance, scheduler, coverage } = this.#deps;
		if (answer.kind === "ok") {
			const { invocationId: id } = answer.value;
			this.#known.push({ id, path: request.path });
			if (this.#known.length > 200) this.#known.splice(0, 100);
			if (chance.oneIn(3)) this.#await({ id, path: request.path });
			else if (chance.oneIn(12))
				scheduler.after(chance.magnitude(1, 2000), () => this.#cancel({ id, path: request.path }));
			return;
		}
		// Nobody knows, or not now: the same again, under the same key.
		if (request.idempotencyKey === undefined || tries >= 6) return;
		if (answer.kind === "unknown" || answer.error.code === "STORE_ERROR") coverage.fault("client:unknown-retried");
		scheduler.after(chance.magnitude(50, 60 * SECOND), () => this.#enqueue(request, tries + 1));
	}

	#invoke(request: InvokeRequest): void {
		const { ledger, chance, coverage } = this.#deps;
		ledger.asks(request, this.#lane(request));
		const gone = chance.oneIn(10);
		if (gone) coverage.fault("client:vanished");
		this.#send(
			`invoke ${request.path}`,
			request.path,
			(engine) => engine.invoke(request),
			(answer) => {
				if (answer.kind === "ok") this.#ended(request.path, answer.value);
				else if (answer.kind === "refused") ledger.refused(request.path, answer.error);
			},
			(answer) => {
				if (gone || answer.kind === "ok" || request.idempotencyKey === undefined) return;
				this.#enqueue({ ...request, waits: false });
			},
		);
	}

	#ended(path: string, end: Ended): void {
		const { ledger } = this.#deps;
		ledger.told(end.invocationId, end.state);
		if (end.result !== undefined) ledger.checkResult(path, end.invocationId, decoder.decode(end.result.body));
	}

	#batch(): void {
		const { chance, ledger } = this.#deps;
		const requests = Array.from({ length: chance.between(2, 12) }, () => this.#request(false));
		for (const request of requests) ledger.asks(request, this.#lane(request));
		this.#send(
			`batch ${requests[0]?.path}…${requests.at(-1)?.path}`,
			undefined,
			(engine) => engine.enqueueBatch(requests),
			(answer) => {
				if (answer.kind === "unknown") return;
				requests.forEach((request, index) => {
					const one = answer.kind === "ok" ? answer.value[index] : answer.error;
					if (one === undefined) ledger.violate("I12", "a batch has fewer answers than requests");
					else if (one instanceof EngineError) this.#accepted(request, { kind: "refused", error: one });
					else this.#accepted(request, { kind: "ok", value: one });
				});
			},
		);
	}

	#emit(): void {
		const { chance, plan, cron, ledger } = this.#deps;
		this.#events += chance.oneIn(5) ? 0 : 1;
		const id = `evt-${this.#events}`;
		const type = chance.pick(plan.eventTypes);
		this.#send(
			`emit ${id}`,
			undefined,
			(engine) => engine.emit({ type: this.#typeOf(id, type), data: { id }, id }),
			(answer) => {
				if (answer.kind === "ok" && !cron.hasEvent(id))
					ledger.violate("I1", `event ${id} was acknowledged and is not committed`);
			},
		);
	}

	readonly #types = new Map<string, string>();

	/** An id stands for one event. */
	#typeOf(id: string, type: string): string {
		const known = this.#types.get(id);
		if (known !== undefined) return known;
		this.#types.set(id, type);
		return type;
	}

	#someId(): { id: string; path: string } | undefined {
		if (this.#known.length === 0) return undefined;
		return this.#deps.chance.pick(this.#deps.chance.oneIn(3) ? this.#known : this.#known.slice(-15));
	}

	#cancel(target = this.#someId()): void {
		if (target === undefined) return;
		const { ledger } = this.#deps;
		this.#send(
			`cancel ${target.id}`,
			undefined,
			(engine) => {
				this.#strikeRunner(target.id);
				return engine.cancel(target.id);
			},
			(answer) => {
				if (answer.kind !== "ok") return;
				const row = ledger.rowOf(target.id);
				if (row === undefined) return;
				const { state } = answer.value;
				if (isTerminal(state) && row.state !== state)
					ledger.violate("E2", `cancel of ${row.seq} said ${state}, it is ${row.state}`);
			},
		);
	}

	/** The newest, all in one moment: their commit is one that is synced beside the loop, and much can happen until then. */
	#cancelMany(): void {
		const targets = this.#known.slice(-8);
		this.#send(
			`cancel ${targets.length} at once`,
			undefined,
			(engine) => {
				for (const { id } of targets) this.#strikeRunner(id);
				return Promise.allSettled(targets.map(({ id }) => engine.cancel(id)));
			},
			() => undefined,
		);
	}

	/** Whoever runs it dies of something else, about when the cancel is committed. */
	#strikeRunner(id: string): void {
		const { chance, coverage, processes } = this.#deps;
		if (!chance.oneIn(2)) return;
		const runner = [...processes].find((process) => process.runs(id));
		if (runner === undefined) return;
		coverage.fault("worker:killed-at-cancel");
		runner.struck(chance.between(0, 3));
	}

	#poll(): void {
		const target = this.#someId();
		if (target === undefined) return;
		const { ledger } = this.#deps;
		this.#send(
			`get ${target.id}`,
			undefined,
			async (engine) => engine.getInvocation(target.id),
			(answer) => {
				if (answer.kind === "refused") {
					const known = ledger.rowOf(target.id);
					if (known !== undefined) ledger.violate("I1", `${target.id} is there and was answered ${answer.error.code}`);
				}
				if (answer.kind !== "ok") return;
				const { state, result } = answer.value;
				if (isTerminal(state)) ledger.told(target.id, state);
				if (result !== undefined) ledger.checkResult(target.path, target.id, decoder.decode(result.body));
			},
		);
	}

	#await(target: { id: string; path: string } | undefined): void {
		if (target === undefined) return;
		const { chance, scheduler, ledger, coverage } = this.#deps;
		const controller = new AbortController();
		const timeoutMs = chance.magnitude(5, 120 * SECOND);
		if (chance.oneIn(8)) {
			coverage.fault("client:vanished");
			scheduler.after(chance.magnitude(1, 3000), () => controller.abort());
		}
		this.#send(
			`await ${target.id}`,
			target.id,
			(engine) => engine.awaitInvocation(target.id, { timeoutMs, signal: controller.signal }),
			(answer) => {
				if (answer.kind !== "ok") return;
				const { record, timedOutWaiting } = answer.value;
				if (!timedOutWaiting) ledger.told(target.id, record.state);
				if (record.result !== undefined) ledger.checkResult(target.path, target.id, decoder.decode(record.result.body));
			},
		);
	}

	#retry(): void {
		const target = this.#someId();
		if (target === undefined) return;
		const { ledger } = this.#deps;
		const row = ledger.rowOf(target.id);
		if (row === undefined || !isTerminal(row.state)) return;
		this.#send(
			`retry ${target.id}`,
			undefined,
			(engine) => engine.retry(target.id),
			(answer) => {
				if (answer.kind !== "ok") return;
				if (ledger.rowOf(answer.value.invocationId)?.origin !== target.id)
					ledger.violate("I1", `a retry of ${target.id} is not committed`);
			},
		);
	}

	#list(): void {
		const { chance } = this.#deps;
		this.#send(
			"list",
			undefined,
			async (engine) => [
				engine.listInvocations({ state: chance.pick(["queued", "running", "failed"]), limit: 20 }),
				engine.listLanes(),
				engine.listSchedules(),
			],
			() => undefined,
		);
	}

	/** The same key again, after hours: within its window the same invocation, after it a new one. */
	#again(): void {
		const { chance, ledger, scheduler } = this.#deps;
		const request = this.#keyed.length === 0 ? undefined : chance.pick(this.#keyed);
		if (this.#keyed.length > 300) this.#keyed.splice(0, 150);
		if (request === undefined) return;
		// Now and then at the very end of the window.
		const expiresAt = ledger.keyExpiry(this.#lane(request), request.idempotencyKey ?? "");
		const left = expiresAt === undefined ? 0 : expiresAt - scheduler.wall;
		const wait = left > 0 && left < LIMITS.idempotencyTtlMs && chance.oneIn(2) ? left + chance.between(-4, 2) : 0;
		scheduler.after(wait, () => this.#enqueue({ ...request, waits: false }, 6));
	}

	/** Also where the daemon that was told to pause is dead by then: the pause outlives it. */
	#resume(name: string, afterMs: number): void {
		const { scheduler, daemon } = this.#deps;
		scheduler.after(afterMs, () => {
			const there = daemon();
			if (there === undefined || !there.ready) this.#resume(name, 5 * SECOND);
			else there.engine.pauseLane(name, false);
		});
	}

	/** An operator changes something that is in force. */
	operate(): void {
		const { chance, plan, coverage, ledger, daemon, schedulesChanged, history } = this.#deps;
		const there = daemon();
		if (there === undefined || !there.ready) return;
		const { engine } = there;
		const picked = chance.pick(plan.functions);
		const what = chance.weighted({ pause: 3, limit: 4, reschedule: 6, put: 4, relist: 2 });
		try {
			switch (what) {
				case "pause": {
					coverage.fault("lane:paused");
					engine.pauseLane(picked.name, true);
					this.#resume(picked.name, chance.magnitude(100, 30 * SECOND));
					break;
				}
				case "limit": {
					coverage.fault("lane:limit");
					const limit = chance.between(1, 8);
					engine.configureFunction(picked.name, { concurrency: limit });
					ledger.limit(ledger.lane(picked.id), limit);
					break;
				}
				case "reschedule": {
					const schedules = engine.listSchedules();
					if (schedules.length === 0) break;
					coverage.fault("schedule:changed");
					const { scheduleId, paused } = chance.pick(schedules);
					engine.pauseSchedule(scheduleId, !paused && chance.oneIn(3));
					break;
				}
				// What an activation does: all schedules are read anew.
				case "relist": {
					there.parts?.triggers.schedulesChanged();
					break;
				}
				case "put": {
					coverage.fault("schedule:changed");
					engine.putSchedule({
						function: "f5",
						name: "operator",
						cron: chance.pick(["*/15 * * * *", "*/30 * * * *", "0 * * * *"]),
						misfire: chance.pick(["once", "skip", "all"]),
						overlap: chance.pick(["allow", "skip", "queue"]),
					});
					break;
				}
			}
			history.add(`operator: ${what} ${picked.name}`);
		} catch (error) {
			if (there.alive) ledger.checkCode(error);
		}
		schedulesChanged();
	}
}
