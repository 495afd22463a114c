/** Schedules and events: standing orders, and how each becomes work in the queue. */
import type {
	EmitRequest,
	EmitResult,
	EventRecord,
	EventTranslator,
	ScheduleListener,
	ScheduleRecord,
	ScheduleRequest,
	SlotDecision,
} from "../core/contracts.ts";
import { checkCron, nextDue, type CronSpec } from "../core/cron.ts";
import type { Environment } from "../core/environment.ts";
import { EngineError } from "../core/errors.ts";
import { newId } from "../core/ids.ts";
import { LIMITS } from "../core/limits.ts";
import { checkEventType, checkScheduleName } from "../core/names.ts";
import type { InvokeRequest } from "../core/request.ts";
import type { Queue } from "../queue/index.ts";
import type { FunctionStore, ScheduleRow } from "../store/index.ts";
import { defaultScheduleName } from "./deploy.ts";
import type { FunctionEntry, Registry } from "./registry.ts";
import { resolveRequest } from "./submit.ts";

export interface TriggersDeps {
	readonly environment: Environment;
	readonly registry: Registry;
	readonly store: FunctionStore;
	readonly queue: Queue;
}

export class Triggers {
	readonly #deps: TriggersDeps;
	readonly #listeners = new Set<ScheduleListener>();
	/** Live schedules by id, as the store has them. */
	#schedules = new Map<string, ScheduleRow>();
	/** By schedule id: what was computed at `from`, until it is due. cron-parser takes 0.2 ms, and a list may have thousands. */
	readonly #nextDue = new Map<string, { readonly spec: CronSpec; readonly from: number; readonly at: number }>();
	#translate: EventTranslator | undefined;

	constructor(deps: TriggersDeps) {
		this.#deps = deps;
		this.#schedules = this.#read();
	}

	onSchedulesChanged(listener: ScheduleListener): () => void {
		this.#listeners.add(listener);
		return () => this.#listeners.delete(listener);
	}

	/** After a change in the store of which nobody says what it was. */
	schedulesChanged(): void {
		this.#schedules = this.#read();
		for (const id of this.#nextDue.keys()) if (!this.#schedules.has(id)) this.#nextDue.delete(id);
		for (const listener of this.#listeners) listener(undefined);
	}

	/** After a change of one schedule, which costs the same whether there are ten others or ten thousand. */
	#changed(row: ScheduleRow): ScheduleRecord {
		const schedule = this.#record(row);
		this.#schedules.set(row.scheduleId, row);
		for (const listener of this.#listeners) listener({ scheduleId: row.scheduleId, schedule });
		return schedule;
	}

	#removed(scheduleId: string): void {
		this.#schedules.delete(scheduleId);
		this.#nextDue.delete(scheduleId);
		for (const listener of this.#listeners) listener({ scheduleId, schedule: undefined });
	}

	#read(): Map<string, ScheduleRow> {
		return new Map(this.#deps.store.listSchedules().map((row) => [row.scheduleId, row]));
	}

	list(entry: FunctionEntry | undefined): ScheduleRecord[] {
		return (
			[...this.#schedules.values()]
				.filter((row) => entry === undefined || row.function === entry.id)
				// As after a restart, also where one that was removed has come back.
				.sort((a, b) => a.id - b.id)
				.map((row) => this.#record(row))
		);
	}

	#record(row: ScheduleRow): ScheduleRecord {
		const { environment, queue, registry } = this.#deps;
		const entry = registry.byId(row.function);
		const now = environment.clock.now();
		// What was decided, made or resumed by a clock that was ahead does not hold the schedule up until then.
		const lastSlotAt = queue.lastSlot(row.id);
		const decided = lastSlotAt !== undefined && lastSlotAt > now ? queue.lastSlot(row.id, now) : lastSlotAt;
		const nextDueOf = (): number | undefined => this.#nextDueOf(row);
		return {
			scheduleId: row.scheduleId,
			functionId: entry.functionId,
			functionName: entry.name,
			name: row.name,
			cron: row.cron,
			timezone: row.timezone,
			misfire: row.misfire,
			overlap: row.overlap,
			origin: row.origin,
			paused: row.paused,
			// Worked out when it is asked for: the cron source, which lists all at each deployment, never does.
			get nextDueAt() {
				return row.paused ? undefined : nextDueOf();
			},
			lastSlotAt,
			decidedUntil: Math.max(decided ?? 0, Math.min(row.effectiveAt, now)),
			data: row.data,
		};
	}

	#nextDueOf(row: ScheduleRow): number | undefined {
		const now = this.#deps.environment.clock.now();
		const known = this.#nextDue.get(row.scheduleId);
		const isSame = known?.spec.expression === row.cron && known.spec.timezone === row.timezone;
		if (isSame && known.from <= now && now < known.at) return known.at;
		const spec = { expression: row.cron, timezone: row.timezone };
		const at = nextDue(spec, now);
		if (at !== undefined) this.#nextDue.set(row.scheduleId, { spec, from: now, at });
		return at;
	}

	put(request: ScheduleRequest): ScheduleRecord {
		const { environment, registry, store } = this.#deps;
		const entry = registry.resolve(request.function);
		const timezone = request.timezone ?? "UTC";
		checkCron({ expression: request.cron, timezone }, environment.clock.now());
		const name =
			request.name === undefined ? defaultScheduleName(request.cron, timezone) : checkScheduleName(request.name);
		const row = store.putSchedule(
			entry.id,
			{
				scheduleId: newId("sch", environment.clock, environment.random),
				name,
				cron: request.cron,
				timezone,
				misfire: request.misfire ?? "once",
				overlap: request.overlap ?? "skip",
				data: request.data,
			},
			environment.clock.now(),
		);
		return this.#changed(row);
	}

	remove(ref: string): void {
		const { scheduleId } = this.#find(ref);
		this.#deps.store.removeSchedule(scheduleId, this.#deps.environment.clock.now());
		this.#removed(scheduleId);
	}

	pause(ref: string, paused: boolean): ScheduleRecord {
		return this.#changed(
			this.#deps.store.pauseSchedule(this.#find(ref).scheduleId, paused, this.#deps.environment.clock.now()),
		);
	}

	/** By id, or by name where only one function has a schedule of that name. */
	#find(ref: string): ScheduleRow {
		const byId = this.#schedules.get(ref);
		if (byId !== undefined) return byId;
		const named = [...this.#schedules.values()].filter((row) => row.name === ref);
		const [first] = named;
		if (first !== undefined && named.length === 1) return first;
		const why =
			named.length > 1
				? `${named.length} functions have a schedule ${ref}; give its id`
				: `no schedule ${JSON.stringify(ref.slice(0, 140))}`;
		throw new EngineError("SCHEDULE_NOT_FOUND", `${why}; list them with: bunbase schedules list`);
	}

	async fire(scheduleId: string, slot: number, request: InvokeRequest | undefined): Promise<SlotDecision | undefined> {
		const row = this.#schedules.get(scheduleId);
		if (row === undefined || row.paused) return undefined;
		// From before it was made: asked for where the clock went back and forth.
		if (slot <= row.effectiveAt && row.effectiveAt <= this.#deps.environment.clock.now()) return undefined;
		return this.#deps.queue.fireSlot({
			schedule: row.id,
			slot,
			overlap: row.overlap,
			submission:
				request === undefined ? undefined : resolveRequest(this.#deps.registry, request, `${scheduleId}@${slot}`),
		});
	}

	translateEvents(translate: EventTranslator): void {
		this.#translate = translate;
	}

	/** The event and one invocation for each deployed subscriber commit together. */
	async emit(request: EmitRequest): Promise<EmitResult> {
		const { environment, registry, queue } = this.#deps;
		const type = checkEventType(request.type);
		const data = JSON.stringify(request.data ?? null);
		if (Buffer.byteLength(data) > LIMITS.bodyBytesMax) {
			throw new EngineError("BODY_TOO_LARGE", `the event's data has over ${LIMITS.bodyBytesMax} bytes`);
		}
		const eventId = request.id ?? newId("evt", environment.clock, environment.random);
		if (eventId.length === 0 || eventId.length > 255)
			throw new EngineError("BAD_REQUEST", "expected an event id of 1 to 255 characters");
		const translate = this.#translate;
		if (translate === undefined)
			throw new EngineError("BAD_ENVIRONMENT", "this engine runs without the events source; add it to `sources`");
		const event = { eventId, type, source: request.source ?? "bunbase", dataJson: data, at: environment.clock.now() };
		const subscribers = registry.subscribers(type);
		const { invocationIds } = await queue.emit({
			eventId,
			type,
			source: event.source,
			data,
			submissions: subscribers.map((entry) => resolveRequest(registry, translate(event, entry.functionId), eventId)),
		});
		return {
			eventId,
			type,
			invocations: invocationIds.map((invocationId) => ({
				invocationId,
				functionName: queue.read.functionName(invocationId),
			})),
		};
	}

	listEvents(limit: number): EventRecord[] {
		return this.#deps.queue.read.events(Math.min(limit, LIMITS.listPageMax));
	}
}
