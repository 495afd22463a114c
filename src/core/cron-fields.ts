/**
 * What an expression says about a wall clock: which of its times fire. Wall times are milliseconds as if the clock
 * were UTC. cron-parser reads the text and refuses what is no expression; which instants these times are is not known
 * here.
 */
import { CronExpressionParser } from "cron-parser";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** Read expressions are kept up to here, because reading one takes 30 µs and firing it 5. */
const KEPT_MAX = 1_000;

export interface CronFields {
	/** The hour is `*`: a wall time that exists twice fires both times. */
	readonly everyHour: boolean;
	/** The first wall time from `from` to `until` that fires. */
	next(from: number, until: number): number | undefined;
}

const kept = new Map<string, CronFields>();

/** Throws cron-parser's error where the text, of 5 or 6 fields, is no expression. */
export function cronFields(expression: string): CronFields {
	const known = kept.get(expression);
	if (known !== undefined) return known;
	const fields = read(expression);
	if (kept.size >= KEPT_MAX) {
		const [oldest] = kept.keys();
		if (oldest !== undefined) kept.delete(oldest);
	}
	kept.set(expression, fields);
	return fields;
}

function read(expression: string): CronFields {
	// The date says nothing here; without it the parser asks for the present one.
	const { fields } = CronExpressionParser.parse(expression, { currentDate: new Date(0), tz: "UTC" });
	const { second, minute, hour, month, dayOfMonth, dayOfWeek } = fields;
	const months = new Set(numbers(month.values));
	const dates = new Set(numbers(dayOfMonth.values));
	const weekdays = new Set(numbers(dayOfWeek.values).map((day) => day % 7));
	/** `5L`: the last Friday of the month. */
	const lastWeekdays = new Set(
		dayOfWeek.values.flatMap((value) => (typeof value === "string" ? [parseInt(value, 10) % 7] : [])),
	);

	const isDate = (date: Date, isLastDate: boolean): boolean =>
		dates.has(date.getUTCDate()) || (dayOfMonth.hasLastChar && isLastDate);
	const isWeekday = (date: Date, daysInMonth: number): boolean => {
		const weekday = date.getUTCDay();
		const day = date.getUTCDate();
		const isNth = dayOfWeek.nthDay <= 0 || Math.ceil(day / 7) === dayOfWeek.nthDay;
		return (weekdays.has(weekday) && isNth) || (lastWeekdays.has(weekday) && day + 7 > daysInMonth);
	};
	const isDay = (date: Date): boolean => {
		const daysInMonth = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
		const byDate = isDate(date, date.getUTCDate() === daysInMonth);
		const byWeekday = isWeekday(date, daysInMonth);
		// Where both are given, either is enough: the rule of Vixie cron.
		return dayOfMonth.isWildcard || dayOfWeek.isWildcard ? byDate && byWeekday : byDate || byWeekday;
	};

	const time = timeOfDay(numbers(hour.values), numbers(minute.values), numbers(second.values));
	return {
		everyHour: hour.isWildcard,
		next(from, until) {
			let day = Math.floor(from / DAY) * DAY;
			let after = from - day;
			while (day <= until) {
				const date = new Date(day);
				if (!months.has(date.getUTCMonth() + 1)) {
					day = Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1);
				} else {
					const found = isDay(date) ? time(after) : undefined;
					if (found !== undefined) return day + found <= until ? day + found : undefined;
					day += DAY;
				}
				after = 0;
			}
			return undefined;
		},
	};
}

/** The first of a day's times at or after one, in ms since midnight. */
function timeOfDay(
	hours: readonly number[],
	minutes: readonly number[],
	seconds: readonly number[],
): (after: number) => number | undefined {
	return (after) => {
		for (const hour of hours) {
			if (hour * HOUR + HOUR <= after) continue;
			for (const minute of minutes) {
				const at = hour * HOUR + minute * MINUTE;
				if (at + MINUTE <= after) continue;
				for (const second of seconds) if (at + second * SECOND >= after) return at + second * SECOND;
			}
		}
		return undefined;
	};
}

function numbers(values: readonly unknown[]): number[] {
	return values.filter((value) => typeof value === "number").toSorted((a, b) => a - b);
}
