/**
 * The book of a simulated world: what was asked, what was committed, what ran where. It believes nobody: rows come
 * from triggers in the database, starts and ends from the processes, answers from the clients. Every entry is checked
 * against the invariants as it is made; the first one that is broken ends the run.
 *
 *   I1  what was acknowledged is committed          I2  nothing is in the queue that nobody asked for
 *   I3  one terminal state, which never changes     I4  at-most-once starts at most once
 *   I5  a lane runs at most its limit               I6  equals start in the order of acceptance
 *   I7  a result is of its own request              I13 one invocation per key within its window
 *   E2  who waits learns committed facts            E3  recovery ends before the first claim
 *   Q3  the attempt number rises by one per claim; charged ≤ max
 */
import { crc32 } from "node:zlib";
import type { InvokeRequest } from "../../src/core/request.ts";
import { isErrorCode, type EngineError } from "../../src/core/errors.ts";
import { invocationId, parseInvocationId } from "../../src/core/ids.ts";
import { isTerminal, stateOf, TRANSITIONS, type State } from "../../src/core/invocation.ts";
import { LIMITS } from "../../src/core/limits.ts";
import type { Coverage } from "./coverage.ts";
import type { Commit, RowChange } from "./disk.ts";
import type { History } from "./history.ts";
import type { WorldPlan } from "./plan.ts";

export interface Violation {
	readonly invariant: string;
	readonly what: string;
}

export interface Row {
	readonly seq: number;
	readonly id: string;
	readonly lane: number;
	readonly laneKey: string;
	readonly priority: number;
	readonly createdAt: number;
	readonly deadlineAt: number | null;
	readonly atMostOnce: boolean;
	readonly path: string;
	readonly origin: string | null;
	state: State;
	ready: boolean;
	attempt: number;
	charged: number;
	runAt: number;
	/** Handlers that began it. */
	starts: number;
	/** The last attempt whose handler ended, and how. */
	answered: { attempt: number; ok: boolean } | undefined;
	/** Monotonic. */
	endedAt: number;
}

export interface LaneBook {
	readonly id: number;
	readonly name: string;
	/** In force. */
	limit: number;
	/** The highest limit under which something that still runs may have started. */
	allowed: number;
	running: number;
	ready: number;
	delayed: number;
	keyed: number;
	readonly waiting: Map<string, Map<number, Row>>;
	readonly alive: Set<Execution>;
}

/** A handler that runs in a process that lives. */
export interface Execution {
	readonly seq: number;
	readonly attempt: number;
	readonly lane: LaneBook;
}

interface Asked {
	readonly lane: number;
	readonly key: string | undefined;
	/** What a handler makes of it. */
	readonly result: string;
	sends: number;
	rows: number;
	refusals: number;
}

const LEGAL: Readonly<Record<"queued" | "running", ReadonlySet<State>>> = {
	queued: new Set<State>([...Object.values(TRANSITIONS.queued).flat(), "queued"]),
	running: new Set<State>([...Object.values(TRANSITIONS.running).flat(), "running"]),
};

/** What every handler here answers: what it was asked, and the checksum of the bytes that it got. */
export function resultOf(path: string, body: Uint8Array): string {
	return `${path}|${crc32(body)};`;
}

export interface Time {
	readonly monotonic: number;
	readonly wall: number;
}

/** A commit may wait for the sync under way and then for its own, of 400 ms each. */
const TOLD_AFTER_MS_MAX = 1_000;

export class Ledger {
	readonly rows = new Map<number, Row>();
	readonly lanes = new Map<number, LaneBook>();
	readonly #asked = new Map<string, Asked>();
	readonly #keys = new Map<string, { seq: number; expiresAt: number }>();
	readonly #liveBySeq = new Map<number, Execution>();
	readonly #plan: WorldPlan;
	readonly #time: Time;
	readonly #history: History;
	readonly #coverage: Coverage;
	/** Rows that ran when the last daemon died and are not settled yet. */
	#left = 0;
	#seqMax = 0;
	violation: Violation | undefined;
	/** Rows that ended in this step. */
	ended: Row[] = [];
	accepted = 0;
	attempts = 0;
	open = 0;

	constructor(plan: WorldPlan, time: Time, history: History, coverage: Coverage) {
		this.#plan = plan;
		this.#time = time;
		this.#history = history;
		this.#coverage = coverage;
		for (const { id, name, config } of plan.functions) {
			this.lanes.set(id, {
				id,
				name,
				limit: config.concurrency,
				allowed: config.concurrency,
				running: 0,
				ready: 0,
				delayed: 0,
				keyed: 0,
				waiting: new Map(),
				alive: new Set(),
			});
		}
	}

	violate(invariant: string, what: string): void {
		if (this.violation !== undefined) return;
		this.violation = { invariant, what };
		this.#history.add(`VIOLATION ${invariant}: ${what}`);
	}

	lane(id: number): LaneBook {
		const lane = this.lanes.get(id);
		if (lane === undefined) throw new Error(`no lane ${id}`);
		return lane;
	}

	// --- what clients asked and were told ----------------------------------------------------------------------------
	asks({ path, idempotencyKey: key, body }: InvokeRequest, lane: number): void {
		const asked = this.#asked.get(path);
		if (asked !== undefined) asked.sends += 1;
		else this.#asked.set(path, { lane, key, result: resultOf(path, body), sends: 1, rows: 0, refusals: 0 });
	}

	/** An acceptance left the daemon. */
	acknowledged(path: string, id: string, replayed: boolean): void {
		const row = this.rowOf(id);
		if (row === undefined) {
			if (!this.isPruned(id)) this.violate("I1", `${id} was acknowledged and is not committed`);
			return;
		}
		if (row.path !== path) this.violate("I13", `${path} was answered with ${id}, which is ${row.path}`);
		const asked = this.#asked.get(path);
		if (replayed && asked?.key === undefined) this.violate("I13", `${path} has no key and was replayed`);
		if (!replayed || asked?.key === undefined) return;
		const known = this.#keys.get(`${row.lane}/${asked.key}`);
		// It was decided in its transaction, and is told when that is on the disk.
		const decidedAt = this.#time.wall - TOLD_AFTER_MS_MAX;
		if (known !== undefined && known.expiresAt <= decidedAt && known.seq === row.seq && this.steadyFor(5_000)) {
			this.violate("I13", `key ${asked.key} is past its window and was replayed`);
		}
	}

	/** Until when a key stands for its first invocation, UTC ms. */
	keyExpiry(lane: number, key: string): number | undefined {
		return this.#keys.get(`${lane}/${key}`)?.expiresAt;
	}

	/** How long the wall clock has kept step with the monotonic one; set by the world. */
	steadyFor: (ms: number) => boolean = () => false;

	/** A refusal left the daemon: nothing was queued by this send. */
	refused(path: string, error: EngineError): void {
		this.checkCode(error);
		const asked = this.#asked.get(path);
		if (asked === undefined) return;
		// After the others nobody knows: it may have been queued.
		if (error.code === "STORE_ERROR" || error.invocationId !== undefined) return;
		asked.refusals += 1;
		if (asked.rows > 0 && asked.refusals === asked.sends)
			this.violate("I2", `${path} was refused (${error.code}) each time and is in the queue`);
	}

	checkCode(error: unknown): void {
		const code = (error as { code?: unknown } | null)?.code;
		if (!isErrorCode(code)) this.violate("I12", `a client was told ${String(error)}`);
		else if (code === "INTERNAL" || code === "DATA_CORRUPT") this.violate("I12", `a client was told ${String(error)}`);
	}

	/** An end left the daemon. */
	told(id: string, state: State): void {
		const row = this.rowOf(id);
		if (row === undefined) {
			if (!this.isPruned(id)) this.violate("I1", `${id} was told to have ended and is not committed`);
		} else if (row.state !== state) this.violate("E2", `${id} was told to be ${state} and is ${row.state}`);
	}

	rowOf(id: string): Row | undefined {
		return this.rows.get(parseInvocationId(id)?.seq ?? -1);
	}

	isPruned(id: string): boolean {
		const parts = parseInvocationId(id);
		return parts !== undefined && parts.seq <= this.#seqMax && this.#prunedSeqs.has(parts.seq);
	}

	readonly #prunedSeqs = new Set<number>();

	/** What a client reads as a result must be of its own request. */
	checkResult(path: string, id: string, text: string): void {
		const expected = this.#asked.get(path)?.result ?? `${path}|`;
		if (!text.startsWith(expected)) this.violate("I7", `${id} of ${path} answered ${text.slice(0, 80)}`);
	}

	// --- what was committed ------------------------------------------------------------------------------------------
	committed(commit: Commit): void {
		const claimed: Row[] = [];
		const becameReady = new Set<number>();
		for (const { lane, key, expiresAt } of commit.keys) {
			if (expiresAt > this.#time.wall) this.violate("I13", `key ${key} is forgotten before its window is over`);
			this.#keys.delete(`${lane}/${key}`);
		}
		for (const change of commit.rows) this.#apply(change, claimed, becameReady);
		for (const row of claimed) this.#checkClaim(row, becameReady);
	}

	#apply(change: RowChange, claimed: Row[], becameReady: Set<number>): void {
		if (change.op === "delete") {
			this.#deleted(change);
			return;
		}
		const state = stateOf(change.state);
		let row = this.rows.get(change.seq);
		if (change.op === "insert") {
			if (row !== undefined || change.seq <= this.#seqMax) this.violate("I1", `seq ${change.seq} was given out twice`);
			row = this.#inserted(change);
		} else if (row === undefined) {
			this.violate("I2", `row ${change.seq} changed and was never inserted`);
			return;
		} else this.#moved(row, change, state);
		const before = change.op === "insert" ? undefined : row.state;
		this.#count(row, -1, before);
		const wasReady = before === "queued" && row.ready;
		row.state = state;
		row.ready = change.ready === 1;
		row.attempt = change.attempt;
		row.charged = change.charged;
		row.runAt = change.runAt;
		this.#count(row, 1, state);
		if (before === "running" && state !== "running") this.#lower(this.lane(row.lane));
		if (row.ready && !wasReady && state === "queued") becameReady.add(row.seq);
		if (row.ready && !wasReady && row.runAt > this.#time.wall && before !== "running") {
			this.violate("D", `row ${row.seq} is ready ${row.runAt - this.#time.wall} ms before it is due`);
		}
		if (state === "running" && before !== "running") claimed.push(row);
		if (before !== state) this.#coverage.move((before ?? "new") as State | "new", state);
		if (isTerminal(state) && before !== undefined && !isTerminal(before)) {
			row.endedAt = this.#time.monotonic;
			this.open -= 1;
			this.ended.push(row);
		}
		this.#history.add(`row ${row.seq} ${before ?? "new"} → ${state} #${row.attempt}${row.ready ? " ready" : ""}`);
	}

	#inserted(change: RowChange): Row {
		this.#seqMax = Math.max(this.#seqMax, change.seq);
		this.accepted += 1;
		this.open += 1;
		const row: Row = {
			seq: change.seq,
			id: invocationId(change.createdAt, change.seq),
			lane: change.lane,
			laneKey: change.laneKey,
			priority: change.priority,
			createdAt: change.createdAt,
			deadlineAt: change.deadlineAt,
			atMostOnce: change.atMostOnce === 1,
			path: change.path,
			origin: change.origin,
			state: "queued",
			ready: false,
			attempt: 0,
			charged: 0,
			runAt: change.runAt,
			starts: 0,
			answered: undefined,
			endedAt: 0,
		};
		this.rows.set(row.seq, row);
		if (row.origin === null) this.#checkAsked(row, change);
		return row;
	}

	#checkAsked(row: Row, change: RowChange): void {
		const asked = this.#asked.get(row.path);
		if (asked === undefined || asked.lane !== row.lane) {
			this.violate("I2", `row ${row.seq} (${row.path}) is nothing that anybody asked for`);
			return;
		}
		asked.rows += 1;
		if (asked.key !== (change.key ?? undefined)) this.violate("I2", `row ${row.seq} has key ${change.key}`);
		if (asked.key === undefined) {
			if (asked.rows > asked.sends)
				this.violate("I2", `${row.path} was sent ${asked.sends} times, is there ${asked.rows}`);
			return;
		}
		const name = `${row.lane}/${asked.key}`;
		const known = this.#keys.get(name);
		if (known !== undefined && row.createdAt < known.expiresAt) {
			this.violate("I13", `key ${asked.key} made ${known.seq} and, within its window, ${row.seq}`);
		}
		this.#keys.set(name, { seq: row.seq, expiresAt: row.createdAt + LIMITS.idempotencyTtlMs });
	}

	#moved(row: Row, change: RowChange, state: State): void {
		const { seq } = row;
		if (stateOf(change.oldState) !== row.state) {
			this.violate("I1", `row ${seq} was ${stateOf(change.oldState)}, and ${row.state} was committed`);
		}
		if (row.state !== "queued" && row.state !== "running") {
			this.violate("I3", `row ${seq} had ended ${row.state} and was changed to ${state}`);
			return;
		}
		if (!LEGAL[row.state].has(state)) this.violate("I3", `row ${seq} went from ${row.state} to ${state}`);
		const claims = row.state === "queued" && state === "running";
		if (change.attempt !== row.attempt + (claims ? 1 : 0)) {
			this.violate("Q3", `row ${seq} went from attempt ${row.attempt} to ${change.attempt} as ${row.state} → ${state}`);
		}
		if (change.charged > change.maxAttempts || change.charged < row.charged) {
			this.violate("Q3", `row ${seq} is charged ${change.charged} of ${change.maxAttempts}, was ${row.charged}`);
		}
		if (row.state === "running" && state !== "running") this.#settled(row, change, state);
		if (state === "expired" && (row.deadlineAt === null || row.deadlineAt > this.#time.wall)) {
			this.violate("D", `row ${seq} expired before its deadline`);
		}
	}

	#settled(row: Row, change: RowChange, state: State): void {
		if (this.#left > 0) this.#left -= 1;
		const live = this.#liveBySeq.get(row.seq);
		if (live !== undefined) {
			this.violate("I5", `row ${row.seq} was settled ${state} while attempt ${live.attempt} of it still runs`);
		}
		if (state === "succeeded") {
			const { answered } = row;
			if (answered === undefined || answered.attempt !== row.attempt || !answered.ok) {
				this.violate("I7", `row ${row.seq} succeeded by attempt ${row.attempt}, which never answered`);
			}
			const expected = this.#asked.get(row.path)?.result ?? `${row.path}|`;
			const inline = change.resultBytes !== null && change.resultBytes <= LIMITS.bodyInlineBytesMax;
			if (inline && !(change.result ?? "").startsWith(expected))
				this.violate("I7", `row ${row.seq} of ${expected} has the result ${String(change.result).slice(0, 80)}`);
		}
		if (state === "queued" && change.runAt > 0 && change.charged === row.charged + 1) this.#checkRetry(row, change);
	}

	/** A retry is never early, and never later than its policy says. */
	#checkRetry(row: Row, change: RowChange): void {
		const { retry } = this.#plan.functions.find(({ id }) => id === row.lane)?.config ?? {};
		if (retry === undefined) return;
		const whole = Math.min(retry.capMs, retry.baseMs * 2 ** (change.charged - 1));
		const delay = change.runAt - this.#time.wall;
		const least = retry.jitter ? whole / 2 : whole;
		if (delay < Math.floor(least) || delay > Math.ceil(whole)) {
			this.violate("R", `row ${row.seq} is retried after ${delay} ms, not ${least} to ${whole}`);
		}
	}

	#deleted(change: RowChange): void {
		const row = this.rows.get(change.seq);
		if (row === undefined) return;
		const before = this.#time.wall - this.#plan.retentionMs;
		if (!isTerminal(row.state) || (change.finishedAt ?? Infinity) >= before) {
			this.violate("I1", `row ${change.seq} (${row.state}) was pruned before its time`);
		}
		this.#count(row, -1, row.state);
		this.rows.delete(change.seq);
		this.#prunedSeqs.add(change.seq);
		const asked = this.#asked.get(row.path);
		if (asked !== undefined && asked.key === undefined) this.#asked.delete(row.path);
	}

	#count(row: Row, by: 1 | -1, state: State | undefined): void {
		const lane = this.lane(row.lane);
		if (state === "running") lane.running += by;
		if (state !== "queued") return;
		if (row.laneKey !== "") lane.keyed += by;
		if (!row.ready) {
			lane.delayed += by;
			return;
		}
		lane.ready += by;
		let waiting = lane.waiting.get(row.laneKey);
		if (waiting === undefined) lane.waiting.set(row.laneKey, (waiting = new Map()));
		if (by === 1) waiting.set(row.seq, row);
		else waiting.delete(row.seq);
	}

	#checkClaim(row: Row, becameReady: ReadonlySet<number>): void {
		const lane = this.lane(row.lane);
		this.attempts += 1;
		if (this.#left > 0) this.violate("E3", `row ${row.seq} was claimed before ${this.#left} rows were recovered`);
		if (lane.running > lane.allowed) this.violate("I5", `lane ${lane.name} runs ${lane.running} of ${lane.allowed}`);
		const { wall } = this.#time;
		if (row.deadlineAt !== null && row.deadlineAt <= wall) {
			this.violate("D", `row ${row.seq} was claimed ${wall - row.deadlineAt} ms after its deadline`);
		}
		for (const other of lane.waiting.get(row.laneKey)?.values() ?? []) {
			if (becameReady.has(other.seq)) continue;
			if (other.priority > row.priority || (other.priority === row.priority && other.seq < row.seq)) {
				this.violate("I6", `row ${row.seq} of lane ${lane.name} overtook ${other.seq}`);
			}
		}
	}

	// --- what ran ----------------------------------------------------------------------------------------------------
	/** A handler begins. */
	starts(id: string, attempt: number, process: number): Execution | undefined {
		const row = this.rowOf(id);
		if (row === undefined) {
			this.violate("I4", `${id} runs and is not committed`);
			return undefined;
		}
		if (row.state !== "running" || row.attempt !== attempt) {
			this.violate("I4", `row ${row.seq} is ${row.state} #${row.attempt}, and its attempt ${attempt} begins`);
		}
		row.starts += 1;
		if (row.atMostOnce && row.starts > 1) this.violate("I4", `at-most-once ${row.seq} begins ${row.starts} times`);
		const lane = this.lane(row.lane);
		const before = this.#liveBySeq.get(row.seq);
		if (before !== undefined) {
			this.violate("I5", `row ${row.seq} begins attempt ${attempt} while attempt ${before.attempt} still runs`);
		}
		const execution: Execution = { seq: row.seq, attempt, lane };
		this.#liveBySeq.set(row.seq, execution);
		lane.alive.add(execution);
		if (lane.alive.size > lane.allowed) {
			this.violate("I5", `${lane.alive.size} handlers of lane ${lane.name} run at once; its limit is ${lane.allowed}`);
		}
		this.#history.add(`process ${process} begins ${row.seq} #${attempt}`);
		return execution;
	}

	/** A handler has ended, or its process is gone. */
	stops(execution: Execution, how: "ok" | "failed" | "gone"): void {
		if (!execution.lane.alive.delete(execution)) return;
		this.#liveBySeq.delete(execution.seq);
		const row = this.rows.get(execution.seq);
		if (row !== undefined && how !== "gone") row.answered = { attempt: execution.attempt, ok: how === "ok" };
		this.#lower(execution.lane);
		this.#history.add(`handler of ${execution.seq} #${execution.attempt} ends: ${how}`);
	}

	limit(lane: LaneBook, limit: number): void {
		lane.limit = limit;
		lane.allowed = Math.max(lane.allowed, limit);
		this.#lower(lane);
	}

	/** What a lower limit found running may go on; nothing may start over it. */
	#lower(lane: LaneBook): void {
		lane.allowed = Math.max(lane.limit, Math.min(lane.allowed, Math.max(lane.running, lane.alive.size)));
	}

	settleLimits(): void {
		for (const lane of this.lanes.values()) this.#lower(lane);
	}

	daemonDied(): void {
		this.#left = 0;
		for (const lane of this.lanes.values()) this.#left += lane.running;
	}
}
