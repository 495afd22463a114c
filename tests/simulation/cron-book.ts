/**
 * The book of schedules and events: every slot that is due, what became of it, and whether the policy says so.
 *
 *   I14  one decision per (schedule, slot), ever; slots are decided in order, never early, and while the daemon is up
 *        within a second of their time
 *   C1   misfire: `once` the newest missed slot alone, `skip` none of them, `all` each (of the last hundred)
 *   C2   overlap: `skip` exactly while the invocation of an earlier slot has not ended
 *   C3   overlap: what `queue` fired waits while an earlier one of its schedule has not ended
 *   V    an event and one invocation for each subscriber are committed together, once per event id
 */
import { nextDue, type CronSpec } from "../../src/core/cron.ts";
import type { Misfire, Overlap } from "../../src/core/function-config.ts";
import { isTerminal } from "../../src/core/invocation.ts";
import { LIMITS } from "../../src/core/limits.ts";
import { HELD_AT } from "../../src/queue/turns.ts";
import type { Database } from "../../src/store/index.ts";
import type { EventChange, RowChange, SlotChange } from "./disk.ts";
import type { Ledger, Row, Time } from "./ledger.ts";
import type { WorldPlan } from "./plan.ts";

/** A slot that is older than this when it is looked at was missed. */
const LATE_MS = 1_000;
/** What a slot may be late while the daemon is well: a second, and a busy loop. */
const SLACK_MS = 300;

export interface ScheduleBook {
	readonly id: number;
	readonly scheduleId: string;
	readonly spec: CronSpec;
	readonly misfire: Misfire;
	readonly overlap: Overlap;
	readonly effectiveAt: number;
	/** The newest slot that was decided. */
	decided: number;
	/** All that ever were. */
	readonly slots: Set<number>;
	/** What follows the last slot that was decided; undefined: to be computed. */
	next: number | undefined;
	lastFired: Row | undefined;
	/** Fired with overlap `queue`, and not ended. */
	line: Row[];
	firedSeq: number | undefined;
	paused: boolean;
	deleted: boolean;
	/** The newest slot was decided by a clock that was ahead of this one. */
	ahead: boolean;
}

/** cron-parser takes 0.2 ms, and every world asks for the same slots more than once. */
const known = new Map<string, number | undefined>();
function next(spec: CronSpec, after: number): number | undefined {
	const name = `${spec.expression} ${spec.timezone} ${Math.floor(after / 1000)}`;
	if (known.has(name)) return known.get(name);
	const at = nextDue(spec, after);
	if (known.size > 100_000) known.clear();
	known.set(name, at);
	return at;
}

interface RawSchedule {
	readonly id: number;
	readonly scheduleId: string;
	readonly cron: string;
	readonly timezone: string;
	readonly misfire: Misfire;
	readonly overlap: Overlap;
	readonly paused: number;
	readonly effectiveAt: number;
	readonly deletedAt: number | null;
}

export class CronBook {
	readonly schedules = new Map<number, ScheduleBook>();
	readonly #ledger: Ledger;
	readonly #time: Time;
	readonly #plan: WorldPlan;
	readonly #events = new Map<string, number>();
	decisions = 0;

	constructor(plan: WorldPlan, ledger: Ledger, time: Time) {
		this.#plan = plan;
		this.#ledger = ledger;
		this.#time = time;
	}

	/** The schedules as they are in metadata.db now. */
	read(metadata: Database): void {
		const rows = metadata
			.prepare<[], RawSchedule>(
				`SELECT id, schedule_id AS scheduleId, cron, timezone, misfire, overlap, paused, effective_at AS effectiveAt,
					removed_at AS deletedAt FROM schedule`,
			)
			.all();
		for (const row of rows) {
			const before = this.schedules.get(row.id);
			const spec = { expression: row.cron, timezone: row.timezone };
			const same = before?.spec.expression === row.cron && before.spec.timezone === row.timezone;
			this.schedules.set(row.id, {
				id: row.id,
				scheduleId: row.scheduleId,
				spec,
				misfire: row.misfire,
				overlap: row.overlap,
				effectiveAt: row.effectiveAt,
				decided: before?.decided ?? 0,
				slots: before?.slots ?? new Set(),
				next: same && before.effectiveAt === row.effectiveAt ? before.next : undefined,
				lastFired: before?.lastFired,
				line: before?.line ?? [],
				firedSeq: before?.firedSeq,
				paused: row.paused === 1,
				deleted: row.deletedAt !== null,
				ahead: before?.ahead ?? false,
			});
		}
	}

	/** The next slot that must be decided, UTC ms. */
	nextOf(book: ScheduleBook): number {
		book.next ??= next(book.spec, Math.max(book.decided, book.effectiveAt)) ?? Number.POSITIVE_INFINITY;
		return book.next;
	}

	get nextSlot(): number {
		let first = Number.POSITIVE_INFINITY;
		for (const book of this.schedules.values()) {
			if (!book.paused && !book.deleted) first = Math.min(first, this.nextOf(book));
		}
		return first;
	}

	/** `wellFor`: how long the daemon has been up, with a steady clock and a working disk. */
	checkDue(wellFor: number): void {
		for (const book of this.schedules.values()) {
			// One that was decided by a clock that was ahead: which slots are left is for #decided to judge.
			if (book.paused || book.deleted || book.decided > this.#time.wall || book.effectiveAt > this.#time.wall) continue;
			const late = this.#time.wall - this.nextOf(book);
			if (late > LATE_MS + SLACK_MS && wellFor > late + LATE_MS) {
				this.#ledger.violate(
					"I14",
					`slot ${show(this.nextOf(book))} of ${name(book)} is ${late} ms late, and the daemon is well`,
				);
			}
		}
	}

	decided(slot: SlotChange, rows: readonly RowChange[]): void {
		const book = this.schedules.get(slot.schedule);
		if (book === undefined) {
			this.#ledger.violate("I14", `a slot of schedule ${slot.schedule}, which does not exist`);
			return;
		}
		this.decisions += 1;
		const violate = (invariant: string, what: string): void =>
			this.#ledger.violate(invariant, `slot ${show(slot.slot)} of ${name(book)} (${slot.outcome}) ${what}`);
		const late = slot.decidedAt - slot.slot;
		if (book.slots.has(slot.slot)) violate("I14", "is decided a second time");
		if (slot.slot <= book.decided && book.decided <= slot.decidedAt)
			violate("I14", `is decided after ${show(book.decided)}`);
		// Where the clock jumped between the look at it and the commit, the two tell different times.
		const steady = this.#ledger.steadyFor(5_000);
		if (late < 0 && steady) violate("I14", `is decided ${-late} ms early`);
		if (next(book.spec, slot.slot - 1000) !== slot.slot) violate("I14", "is no slot of its expression");
		if (slot.slot <= book.effectiveAt && book.effectiveAt <= slot.decidedAt)
			violate("I14", `is from before ${show(book.effectiveAt)}`);
		if (steady) this.#checkMisfire(book, slot, late, violate);
		this.#checkOverlap(book, slot, violate);
		if (slot.outcome === "fired") {
			const row = this.#ledger.rows.get(slot.seq ?? -1);
			const inserted = rows.some(({ op, seq }) => op === "insert" && seq === slot.seq);
			if (row === undefined || !inserted || row.origin !== `${book.scheduleId}@${slot.slot}`) {
				violate("I14", `was not committed together with its invocation ${slot.seq}`);
			}
			book.lastFired = row;
			if (book.overlap === "queue" && row !== undefined) book.line.push(row);
		}
		book.slots.add(slot.slot);
		// Of a clock that went back: the newest is not ahead of it for ever.
		book.ahead = book.decided > slot.decidedAt;
		book.decided = Math.max(book.decided, slot.slot);
		book.next = undefined;
	}

	#checkMisfire(
		book: ScheduleBook,
		slot: SlotChange,
		late: number,
		violate: (invariant: string, what: string) => void,
	): void {
		// What was decided by a clock that was ahead leaves holes that no policy fills.
		if (book.decided > slot.slot || book.ahead) return;
		const from = Math.max(book.decided, book.effectiveAt);
		switch (book.misfire) {
			case "skip":
				// The look that decided it may have been a busy loop earlier.
				if (slot.outcome !== "misfired" && late > LATE_MS + 12_000) violate("C1", `was fired ${late} ms late`);
				if (slot.outcome === "misfired" && late <= LATE_MS) violate("C1", `was missed ${late} ms after its time`);
				return;
			case "once": {
				if (slot.outcome === "misfired") violate("C1", "was skipped");
				const following = next(book.spec, slot.slot) ?? Number.POSITIVE_INFINITY;
				if (following <= slot.decidedAt - 12_000) violate("C1", `was fired although ${show(following)} is due too`);
				return;
			}
			case "all": {
				if (slot.outcome === "misfired") violate("C1", "was skipped");
				let missed = 0;
				for (let at = next(book.spec, from); at !== undefined && at < slot.slot; at = next(book.spec, at)) {
					missed += 1;
					if (missed > LIMITS.misfireRunsMax * 50) break;
				}
				if (missed === 0) return;
				let after = 0;
				for (
					let at: number | undefined = slot.slot;
					at !== undefined && at <= this.#time.wall;
					at = next(book.spec, at)
				)
					after += 1;
				if (after < LIMITS.misfireRunsMax) violate("C1", `was decided, and ${missed} before it were left out`);
			}
		}
	}

	#checkOverlap(book: ScheduleBook, slot: SlotChange, violate: (invariant: string, what: string) => void): void {
		const before = [...book.line, ...(book.lastFired === undefined ? [] : [book.lastFired])];
		const runs = before.find(({ state }) => !isTerminal(state));
		if (slot.outcome === "overlapped" && book.overlap !== "skip")
			violate("C2", `was skipped, with overlap ${book.overlap}`);
		// One that ended in this very commit may count as either.
		const justEnded = before.some((row) => this.#ledger.ended.includes(row));
		// A line also has what was fired before under `allow`.
		const other = (): boolean =>
			[...this.#ledger.rows.values()].some(
				({ origin, state }) => origin?.startsWith(`${book.scheduleId}@`) === true && !isTerminal(state),
			);
		if (slot.outcome === "overlapped" && runs === undefined && !justEnded && !other())
			violate("C2", "was skipped, and nothing earlier runs");
		if (slot.outcome === "fired" && book.overlap === "skip" && runs !== undefined) {
			violate("C2", `was fired while ${runs.seq} is ${runs.state}`);
		}
	}

	/** C3, after each commit. */
	checkTurns(): void {
		for (const book of this.schedules.values()) {
			if (book.line.length === 0) continue;
			book.line = book.line.filter((row) => this.#ledger.rows.get(row.seq) === row && !isTerminal(row.state));
			const [first, ...others] = book.line;
			const early = others.find(({ state, ready, runAt }) => state !== "queued" || ready || runAt !== HELD_AT);
			if (early === undefined) continue;
			const what = `${early.seq} of ${name(book)} is ${early.state}${early.ready ? " and due" : ""} while ${first?.seq} is ${first?.state}`;
			this.#ledger.violate("C3", what);
		}
	}

	event(event: EventChange, rows: readonly RowChange[]): void {
		if (event.invocations === null) {
			this.#events.delete(event.eventId);
			return;
		}
		const ids = JSON.parse(event.invocations) as string[];
		const subscribers = this.#plan.functions.filter(({ module }) => module.events?.includes(event.type) === true);
		const inserted = rows.filter(({ op, origin }) => op === "insert" && origin === event.eventId);
		if (inserted.length !== subscribers.length || ids.length !== subscribers.length) {
			this.#ledger.violate(
				"V",
				`event ${event.eventId} has ${subscribers.length} subscribers, ${inserted.length} invocations in its commit`,
			);
		}
		if (this.#events.has(event.eventId)) this.#ledger.violate("V", `event ${event.eventId} was committed twice`);
		this.#events.set(event.eventId, ids.length);
	}

	hasEvent(eventId: string): boolean {
		return this.#events.has(eventId);
	}
}

function show(at: number): string {
	return Number.isFinite(at) ? new Date(at).toISOString() : String(at);
}

function name(book: ScheduleBook): string {
	return `${book.scheduleId} (${book.spec.expression} ${book.spec.timezone}, ${book.misfire}, ${book.overlap})`;
}
