/**
 * When a schedule fires. cron-parser does the arithmetic; this file refuses what it would misread, and steps
 * over the instants at which it gives up.
 *
 * cron-parser 5.10.5, measured: "" parses as every minute; "* * *" is accepted; "H" is random at each parse; an
 * unknown zone is reported as "unhandled timestamp"; and around a 30-minute DST change (Australia/Lord_Howe) next()
 * throws "loop limit exceeded" after 0.5 s.
 */
import { CronExpressionParser, type CronFieldCollection } from "cron-parser";
import { EngineError, messageOf } from "./errors.ts";
import { LIMITS } from "./limits.ts";

const ALIASES: Readonly<Record<string, string>> = {
	"@yearly": "0 0 1 1 *",
	"@annually": "0 0 1 1 *",
	"@monthly": "0 0 1 * *",
	"@weekly": "0 0 * * 0",
	"@daily": "0 0 * * *",
	"@midnight": "0 0 * * *",
	"@hourly": "0 * * * *",
};
const FIELD = /^[0-9A-Za-z*,/#-]+$/;
const EXPRESSION_CHARS_MAX = 256;
const MINUTE = 60_000;
const SCAN_MS = 48 * 60 * MINUTE;

export interface CronSpec {
	readonly expression: string;
	/** IANA zone, default UTC. */
	readonly timezone: string;
}

function bad(spec: CronSpec, why: string): EngineError {
	return new EngineError(
		"BAD_SCHEDULE",
		`cron ${JSON.stringify(spec.expression.slice(0, 80))} in ${spec.timezone}: ${why}`,
	);
}

/** True where the zone is one that this machine's time-zone data knows. */
function isTimezone(name: string): boolean {
	try {
		return name !== "" && new Intl.DateTimeFormat("en", { timeZone: name }).resolvedOptions().timeZone !== "";
	} catch {
		return false;
	}
}

function normalise(spec: CronSpec): string {
	if (spec.expression.length > EXPRESSION_CHARS_MAX) throw bad(spec, `longer than ${EXPRESSION_CHARS_MAX} characters`);
	const trimmed = spec.expression.trim();
	if (trimmed.startsWith("@")) {
		const meant = ALIASES[trimmed.toLowerCase()];
		if (meant === undefined) throw bad(spec, `unknown alias; known are ${Object.keys(ALIASES).join(", ")}`);
		return meant;
	}
	const fields = trimmed.split(/\s+/);
	if (trimmed === "" || (fields.length !== 5 && fields.length !== 6)) {
		throw bad(spec, "expected 5 fields (minute hour day month weekday), or 6 with seconds in front");
	}
	for (const field of fields) {
		if (!FIELD.test(field)) throw bad(spec, `field ${JSON.stringify(field)} has characters that are not understood`);
		if (/(^|[,/-])H/i.test(field)) throw bad(spec, "H (a random value) is not supported; write the value");
		if (/[0-9]W/i.test(field)) throw bad(spec, "W (nearest weekday) is not supported");
	}
	return fields.join(" ");
}

/** Throws BAD_SCHEDULE where the expression is not understood, its zone unknown, or it can never fire. */
export function checkCron(spec: CronSpec, now: number): void {
	if (!isTimezone(spec.timezone)) throw bad(spec, "unknown time zone; use an IANA name like Europe/Berlin, or UTC");
	if (nextDue(spec, now) === undefined) throw bad(spec, "never fires");
}

/**
 * The first instant strictly after `after` (UTC ms) at which the schedule fires, or undefined where it never does
 * within nine years. A wall time that does not exist fires once at the next valid instant; one that exists twice
 * fires once for fixed hours and both times for wildcard hours.
 */
export function nextDue(spec: CronSpec, after: number): number | undefined {
	const expression = normalise(spec);
	// cron-parser works in whole seconds and looks strictly after its start.
	const start = Math.floor(after / 1000) * 1000;
	const options = { currentDate: new Date(start), tz: spec.timezone };
	try {
		const next = CronExpressionParser.parse(expression, options).next().getTime();
		return next > start + LIMITS.cronHorizonMs ? undefined : next;
	} catch (error) {
		if (!/loop limit/i.test(messageOf(error))) throw bad(spec, messageOf(error));
		return nextByScan(CronExpressionParser.parse(expression, options).fields, spec.timezone, start);
	}
}

/**
 * Where cron-parser gave up (after 0.6 s): looks at the wall clock of the zone minute by minute, 48 h far, 15 ms. An
 * expression that fires nowhere in there is one that never fires.
 */
function nextByScan(fields: CronFieldCollection, timezone: string, start: number): number | undefined {
	const wallOf = wallClock(timezone);
	const seconds = numbers(fields.second.values)[0] ?? 0;
	let before = wallOf(start);
	for (let at = Math.floor(start / MINUTE) * MINUTE + MINUTE; at <= start + SCAN_MS; at += MINUTE) {
		const wall = wallOf(at);
		// After a gap, what should have fired within it fires now.
		for (let skipped = before + MINUTE; skipped < wall; skipped += MINUTE) if (matches(fields, skipped)) return at;
		before = wall;
		const isRepeated = wallOf(at - 30 * MINUTE) >= wall || wallOf(at - 60 * MINUTE) >= wall;
		if (matches(fields, wall) && !(isRepeated && !fields.hour.isWildcard)) return at + seconds * 1000;
	}
	return undefined;
}

/** UTC ms → the zone's wall time, as if it were UTC ms. */
function wallClock(timezone: string): (at: number) => number {
	const format = new Intl.DateTimeFormat("en-US", {
		timeZone: timezone,
		hourCycle: "h23",
		year: "numeric",
		month: "numeric",
		day: "numeric",
		hour: "numeric",
		minute: "numeric",
	});
	return (at) => {
		const part = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, Number(value)]));
		return Date.UTC(part["year"] ?? 0, (part["month"] ?? 1) - 1, part["day"], part["hour"], part["minute"]);
	};
}

function matches(fields: CronFieldCollection, wall: number): boolean {
	const date = new Date(wall);
	const has = (field: { values: readonly unknown[] }, value: number): boolean => numbers(field.values).includes(value);
	const { dayOfMonth, dayOfWeek } = fields;
	const byDate = has(dayOfMonth, date.getUTCDate());
	const byWeekday = has(dayOfWeek, date.getUTCDay());
	// Where both are given, either is enough: the rule of Vixie cron.
	const day = dayOfMonth.isWildcard || dayOfWeek.isWildcard ? byDate && byWeekday : byDate || byWeekday;
	return (
		has(fields.minute, date.getUTCMinutes()) &&
		has(fields.hour, date.getUTCHours()) &&
		has(fields.month, date.getUTCMonth() + 1) &&
		day
	);
}

function numbers(values: readonly unknown[]): number[] {
	return values.filter((value) => typeof value === "number");
}
