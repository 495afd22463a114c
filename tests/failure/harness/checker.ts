/**
 * Judges a history: which elements were lost, duplicated, recovered or unexpected, and which invariants broke.
 *
 * Pure and offline: it sees nothing but the lines, so a history that was stored can be judged again, also by a stricter
 * checker. Every finding is something that must not be; what may be (an attempt that ran again after a death, an
 * unacknowledged element that is there) is counted, not found. Where a line leaves room it judges for the engine:
 * an attempt without an end is taken to have run only for as long as its process is known to have lived.
 */
import { ERROR_KINDS, isErrorCode } from "../../../src/core/errors.ts";
import { isTerminal } from "../../../src/core/invocation.ts";
import type {
	FailLine,
	HeaderLine,
	InvokeLine,
	Line,
	OkLine,
	RanLine,
	RowLine,
	SawLine,
	WorldLine,
} from "./history.ts";

export type Invariant = "I1" | "I2" | "I3" | "I4" | "I5" | "I6" | "I7" | "I9" | "I11" | "I12" | "I13";

export interface Finding {
	readonly invariant: Invariant;
	readonly what: string;
	/** Elements and invocation ids that it is about. */
	readonly about: readonly string[];
}

export interface Classes {
	/** Acknowledged, there, terminal. */
	readonly ok: number;
	/** Acknowledged, and not there or not terminal. */
	readonly lost: number;
	/** There, and nobody sent it. */
	readonly unexpected: number;
	/** Elements with more than one invocation. */
	readonly duplicated: number;
	/** Never acknowledged, but there. */
	readonly recovered: number;
	/** Never acknowledged, and not there. */
	readonly absent: number;
}

export interface Verdict {
	readonly classes: Classes;
	readonly findings: readonly Finding[];
	/** Attempts that ran again: allowed at least once, and worth knowing. */
	readonly reruns: number;
	readonly starts: number;
	readonly ends: Readonly<Record<string, number>>;
}

export interface Bounds {
	/** I11: all is terminal this long after the faults end. */
	readonly drainedMs: number;
	/** I11: and new work ends within this. */
	readonly freshMs: number;
}

const BOUNDS: Bounds = { drainedMs: 60_000, freshMs: 5_000 };

/** Codes after which nobody knows whether it was queued; every other refusal means that nothing was. */
const AMBIGUOUS: ReadonlySet<string> = new Set(["DAEMON_UNREACHABLE", "STORE_ERROR", "INTERNAL"]);

interface Element {
	readonly name: string;
	readonly invoke: InvokeLine;
	readonly acks: OkLine[];
	readonly refusals: FailLine[];
	readonly unknown: FailLine[];
	sent: number;
	readonly rows: RowLine[];
}

interface Seen {
	readonly header: HeaderLine;
	readonly elements: ReadonlyMap<string, Element>;
	readonly rows: readonly RowLine[];
	readonly byId: ReadonlyMap<string, RowLine>;
	readonly ran: readonly RanLine[];
	readonly saw: readonly SawLine[];
	readonly world: WorldLine;
	readonly bounds: Bounds;
}

type Tell = (what: string, ...about: (string | undefined)[]) => void;

const RULES: readonly (readonly [Invariant, (seen: Seen, tell: Tell) => void])[] = [
	["I1", acknowledgedIsKept],
	["I2", nothingUnexpected],
	["I3", oneUnchangingEnd],
	["I4", startsAreAccountedFor],
	["I5", lanesKeepTheirLimit],
	["I6", startsAreInOrder],
	["I7", resultsBelongToTheirPayload],
	["I9", nothingIsLeft],
	["I11", itGoesOn],
	["I12", errorsAreDocumented],
	["I13", oneInvocationForAKey],
];

export function check(lines: readonly Line[], bounds: Partial<Bounds> = {}): Verdict {
	const seen = index(lines, { ...BOUNDS, ...bounds });
	const findings: Finding[] = [];
	for (const [invariant, rule] of RULES) {
		rule(seen, (what, ...about) => {
			findings.push({ invariant, what, about: about.filter((name) => name !== undefined) });
		});
	}
	const ends: Record<string, number> = {};
	for (const row of seen.rows) ends[row.state] = (ends[row.state] ?? 0) + 1;
	const starts = seen.ran.filter(({ what }) => what === "start");
	return {
		classes: classesOf(seen),
		findings,
		ends,
		starts: starts.length,
		reruns: starts.length - new Set(starts.map(({ id }) => id)).size,
	};
}

function index(lines: readonly Line[], bounds: Bounds): Seen {
	const header = lines.find((line) => line.kind === "header");
	const world = lines.findLast((line) => line.kind === "world");
	if (header === undefined || world === undefined)
		throw new Error("a history begins with a header and ends with a world");
	const elements = new Map<string, Element>();
	const rows: RowLine[] = [];
	const ran: RanLine[] = [];
	const saw: SawLine[] = [];
	for (const line of lines) {
		if (line.kind === "row") rows.push(line);
		else if (line.kind === "ran") ran.push(line);
		else if (line.kind === "saw") saw.push(line);
		else if (line.kind === "op") {
			let element = elements.get(line.element);
			if (line.type === "invoke") {
				element ??= { name: line.element, invoke: line, acks: [], refusals: [], unknown: [], sent: 0, rows: [] };
				element.sent += 1;
				elements.set(line.element, element);
			} else if (element === undefined) throw new Error(`an answer to ${line.element}, which was never sent`);
			else if (line.type === "ok") element.acks.push(line);
			else if (line.type === "fail") element.refusals.push(line);
			else element.unknown.push(line);
		}
	}
	for (const row of rows) elements.get(row.element ?? "")?.rows.push(row);
	const byId = new Map(rows.map((row) => [row.id, row]));
	return { header, elements, rows: rows.toSorted((a, b) => a.order - b.order), byId, ran, saw, world, bounds };
}

function classesOf({ elements, rows, byId }: Seen): Classes {
	const classes = { ok: 0, lost: 0, unexpected: 0, duplicated: 0, recovered: 0, absent: 0 };
	for (const { acks, rows } of elements.values()) {
		if (rows.length > 1) classes.duplicated += 1;
		if (acks.length === 0) classes[rows.length === 0 ? "absent" : "recovered"] += 1;
		else if (acks.every(({ id }) => isTerminal(byId.get(id)?.state ?? "queued"))) classes.ok += 1;
		else classes.lost += 1;
	}
	for (const { element } of rows) if (!elements.has(element ?? "")) classes.unexpected += 1;
	return classes;
}

/** I1. */
function acknowledgedIsKept({ elements, byId, rows }: Seen, tell: Tell): void {
	for (const { name, acks } of elements.values()) {
		for (const { id } of acks) {
			const row = byId.get(id);
			if (row === undefined) tell(`lost: ${name} was acknowledged as ${id}, which is not there`, name, id);
			else if (row.element !== name) tell(`${name} was acknowledged as ${id}, which is ${row.element}'s`, name, id);
		}
	}
	for (const { id, state, element } of rows) {
		if (!isTerminal(state)) tell(`${id} is ${state} after all work should have ended`, id, element);
	}
}

/** I2. */
function nothingUnexpected({ elements, rows, byId, ran, header }: Seen, tell: Tell): void {
	for (const row of rows) {
		const element = elements.get(row.element ?? "");
		if (element === undefined)
			tell(`unexpected: ${row.id} (${row.element ?? "no element"}), which nobody sent`, row.id);
		else if (element.invoke.function !== row.function) {
			tell(`${row.id} runs ${row.function}, but ${element.name} was sent to ${element.invoke.function}`, row.id);
		} else if (element.invoke.laneKey !== row.laneKey) {
			tell(`${row.id} has the lane key "${row.laneKey}", sent was "${element.invoke.laneKey}"`, row.id, element.name);
		}
		if (header.functions[row.function] === undefined)
			tell(`${row.id} is of an unknown function ${row.function}`, row.id);
	}
	const strangers = new Set(ran.filter(({ id }) => !byId.has(id)).map(({ id }) => id));
	for (const id of strangers) tell(`${id} ran, and has no record`, id);
}

/** I3. */
function oneUnchangingEnd({ rows, byId, saw }: Seen, tell: Tell): void {
	if (byId.size !== rows.length) tell(`${rows.length} records for ${byId.size} ids`);
	for (const row of rows) {
		if (isTerminal(row.state) !== (row.finishedAt !== undefined)) {
			tell(`${row.id} is ${row.state} and its end is ${row.finishedAt ?? "not set"}`, row.id);
		}
	}
	for (const { id, state, digest } of saw) {
		const row = byId.get(id);
		if (row === undefined) tell(`a client saw ${id} end, and it is not there`, id);
		else if (row.state !== state) tell(`${id} was seen ${state} and is ${row.state} at the end`, id, row.element);
		else if (row.digest !== digest) tell(`${id} was seen with another result than it has at the end`, id, row.element);
	}
}

/** I4. */
function startsAreAccountedFor({ byId, ran, header }: Seen, tell: Tell): void {
	const starts = new Map<string, number[]>();
	for (const { what, id, attempt } of ran) {
		if (what !== "start") continue;
		const known = starts.get(id);
		if (known === undefined) starts.set(id, [attempt]);
		else if (known.includes(attempt)) tell(`attempt ${attempt} of ${id} was started twice`, id);
		else known.push(attempt);
	}
	for (const [id, attempts] of starts) {
		const row = byId.get(id);
		if (row === undefined) continue; // I2 says so
		if (header.functions[row.function]?.delivery === "at-most-once" && attempts.length > 1) {
			tell(`at-most-once ${id} was started ${attempts.length} times`, id, row.element);
		}
		for (const attempt of attempts) {
			if (!row.attempts.some((known) => known.attempt === attempt)) {
				tell(`attempt ${attempt} of ${id} ran and has no record`, id, row.element);
			}
		}
	}
	for (const { id, charged, maxAttempts, attempt, attempts, element } of byId.values()) {
		if (charged > maxAttempts) tell(`${id} is charged ${charged} of ${maxAttempts} attempts`, id, element);
		if (attempts.length !== attempt) tell(`${id} has attempt ${attempt} and ${attempts.length} records`, id, element);
	}
}

interface Run {
	readonly id: string;
	readonly attempt: number;
	/** Positions of lines in the ledger, whose order is the order of events. */
	readonly from: number;
	readonly to: number;
}

/** Each attempt that started, with the last moment at which it is known to have run. */
function runsOf(ran: readonly RanLine[]): Run[] {
	const lastOf = new Map<string, number>();
	const ends = new Map<string, number>();
	ran.forEach(({ what, id, attempt, pid, born }, position) => {
		lastOf.set(`${pid} ${born}`, position);
		if (what !== "start") ends.set(`${id} ${attempt}`, position);
	});
	return ran.flatMap(({ what, id, attempt, pid, born }, from) =>
		what === "start"
			? [{ id, attempt, from, to: ends.get(`${id} ${attempt}`) ?? lastOf.get(`${pid} ${born}`) ?? from }]
			: [],
	);
}

/** I5: of a lane, and of one invocation, which never runs twice at once. */
function lanesKeepTheirLimit({ byId, ran, header }: Seen, tell: Tell): void {
	const events: { position: number; opens: boolean; run: Run }[] = [];
	for (const run of runsOf(ran)) {
		events.push({ position: run.from, opens: true, run }, { position: run.to, opens: false, run });
	}
	// An attempt that is known to have lived for no longer than its own first line opens before it closes.
	events.sort((a, b) => a.position - b.position || Number(b.opens) - Number(a.opens));
	const open = new Map<string, Set<Run>>();
	const told = new Set<string>();
	for (const { opens, run } of events) {
		const row = byId.get(run.id);
		if (row === undefined) continue;
		const running = open.get(row.function) ?? new Set();
		open.set(row.function, running);
		if (!opens) {
			running.delete(run);
			continue;
		}
		const twin = [...running].find(({ id }) => id === run.id);
		if (twin !== undefined) tell(`attempts ${twin.attempt} and ${run.attempt} of ${run.id} ran at once`, run.id);
		running.add(run);
		const limit = header.functions[row.function]?.limit ?? Infinity;
		if (running.size > limit && !told.has(row.function)) {
			told.add(row.function);
			tell(
				`${running.size} attempts of ${row.function} ran at once, its limit is ${limit}`,
				...[...running].map(({ id }) => id),
			);
		}
	}
}

/**
 * I6, seen from outside where the lane runs one at a time: the first start of each, by key. One whose first attempt ended
 * before its function had noted it (its worker was killed) started at a time that nobody knows.
 */
function startsAreInOrder({ byId, ran, header }: Seen, tell: Tell): void {
	const started = new Set<string>();
	const last = new Map<string, RowLine>();
	for (const { what, id, attempt } of ran) {
		if (what !== "start" || started.has(id)) continue;
		started.add(id);
		if (attempt !== 1) continue;
		const row = byId.get(id);
		if (row === undefined || header.functions[row.function]?.limit !== 1) continue;
		const lane = `${row.function} ${row.laneKey}`;
		const before = last.get(lane);
		if (before !== undefined && before.order > row.order) {
			tell(`${id} was accepted before ${before.id} and started after it`, id, before.id);
		}
		last.set(lane, row);
	}
}

/** I7. */
function resultsBelongToTheirPayload({ elements, rows, ran, header }: Seen, tell: Tell): void {
	const finished = new Set(ran.filter(({ what }) => what === "finish").map(({ id, attempt }) => `${id} ${attempt}`));
	for (const row of rows) {
		const { id, state, attempt, answer } = row;
		const allowed = header.functions[row.function]?.ends ?? [];
		if (isTerminal(state) && !allowed.includes(state)) {
			tell(
				`${id} ended ${state} (${row.code ?? "no code"}); these faults allow ${allowed.join(", ")}`,
				id,
				row.element,
			);
		}
		if ((state === "succeeded") !== (answer !== undefined)) {
			tell(`${id} is ${state} and has ${answer === undefined ? "no" : "an"} answer`, id, row.element);
		}
		const sent = elements.get(row.element ?? "")?.invoke;
		if (answer === undefined || sent === undefined) continue;
		if (answer.echo !== row.element || answer.sum !== sent.sum || answer.patternSum !== sent.patternSum) {
			tell(`${id} answers ${JSON.stringify(answer)} to ${row.element}`, id, row.element);
		}
		if (!finished.has(`${id} ${attempt}`))
			tell(`${id} succeeded, but its attempt ${attempt} never finished`, id, row.element);
	}
}

/** I9. */
function nothingIsLeft({ world }: Seen, tell: Tell): void {
	for (const leftover of world.leftovers) tell(`left behind: ${leftover}`);
}

/** I11. */
function itGoesOn({ world, bounds }: Seen, tell: Tell): void {
	if (world.drainedMs === undefined) tell("work did not end after the faults had");
	else if (world.drainedMs > bounds.drainedMs) tell(`all work ended after ${Math.round(world.drainedMs)} ms`);
	if (world.freshMs === undefined) tell("new work did not run after the faults had ended");
	else if (world.freshMs > bounds.freshMs) tell(`new work took ${Math.round(world.freshMs)} ms`);
}

/** I12: documented, and a refusal means that nothing was queued. */
function errorsAreDocumented({ elements }: Seen, tell: Tell): void {
	for (const { name, acks, refusals, unknown, rows } of elements.values()) {
		for (const { code, type } of [...refusals, ...unknown]) {
			if (!isErrorCode(code)) {
				tell(`${name} was answered with ${code}, which is none of ${Object.keys(ERROR_KINDS).length} codes`, name);
			} else if (type === "info" && !AMBIGUOUS.has(code)) {
				tell(`${name}: the outcome is unknown after ${code}, which says that it is known`, name);
			}
		}
		if (acks.length === 0 && unknown.length === 0 && refusals.length > 0 && rows.length > 0) {
			tell(`${name} was refused (${refusals[0]?.code}) and is there all the same`, name, rows[0]?.id);
		}
	}
}

/** I13. */
function oneInvocationForAKey({ elements }: Seen, tell: Tell): void {
	for (const { name, acks, rows, invoke, sent } of elements.values()) {
		const ids = new Set([...rows, ...acks].map(({ id }) => id));
		if (ids.size > 1)
			tell(`${name} (${invoke.key ?? "no key"}) has ${ids.size} invocations: ${[...ids].join(", ")}`, name, ...ids);
		if (invoke.key === undefined && sent > 1) throw new Error(`${name} has no key and was sent ${sent} times`);
		for (const row of rows)
			if (row.key !== invoke.key) tell(`${row.id} has the key ${row.key}, sent was ${invoke.key}`, row.id);
	}
}

export function describeClasses(verdict: Verdict): string {
	const { ok, lost, unexpected, duplicated, recovered } = verdict.classes;
	const number = (value: number): string => value.toLocaleString("en");
	return `acknowledged ${number(ok + lost)}, lost ${lost}, unexpected ${unexpected}, duplicated ${duplicated}, recovered ${recovered}`;
}

const FINDINGS_SHOWN = 10;
const LINES_SHOWN = 60;

/** What broke, the seed, and the lines of the history that are about it. */
export function report(lines: readonly Line[], verdict: Verdict): string {
	const header = lines.find((line) => line.kind === "header");
	const shown = verdict.findings.slice(0, FINDINGS_SHOWN);
	const about = new Set(shown.flatMap((finding) => finding.about));
	const names = (line: Line): boolean =>
		line.kind === "fault" ||
		(line.kind === "op" && (about.has(line.element) || (line.type === "ok" && about.has(line.id)))) ||
		((line.kind === "ran" || line.kind === "saw") && about.has(line.id)) ||
		(line.kind === "row" && (about.has(line.id) || about.has(line.element ?? "")));
	const concerned = lines.filter(names);
	// Faults set the scene, but only next to what they may have caused.
	const scene = concerned.filter(
		(line, at) =>
			line.kind !== "fault" || [concerned[at - 1], concerned[at + 1]].some((next) => next && next.kind !== "fault"),
	);
	return [
		`${header?.title ?? ""}: ${verdict.findings.length} findings, SEED=${header?.seed ?? ""}; ${describeClasses(verdict)}`,
		...shown.map(({ invariant, what }) => `  ${invariant}  ${what}`),
		...(verdict.findings.length > shown.length ? [`  and ${verdict.findings.length - shown.length} more`] : []),
		"history:",
		...scene.slice(0, LINES_SHOWN).map((line) => `  ${JSON.stringify(line)}`),
	].join("\n");
}
