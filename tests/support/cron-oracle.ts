/**
 * When an expression fires, found the long way: by looking at the wall clock of a zone minute by minute. Shares nothing
 * with core/cron.ts: it reads the five fields itself and asks Intl for whole dates instead of offsets.
 */

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/** The wall clock at each full minute from `from` to `until`, as ms as if it were UTC. */
export interface Walls {
	readonly timezone: string;
	readonly from: number;
	readonly minutes: Float64Array;
}

/**
 * Asks Intl at every minute, or, with `hourly`, at full hours and at the minutes of those in which the clock does not
 * go on evenly: 60 times faster.
 */
export function scanWalls(timezone: string, from: number, until: number, hourly: boolean): Walls {
	const format = new Intl.DateTimeFormat("en-US", {
		timeZone: timezone,
		hourCycle: "h23",
		year: "numeric",
		month: "numeric",
		day: "numeric",
		hour: "numeric",
		minute: "numeric",
	});
	const wallOf = (at: number): number => {
		const part = Object.fromEntries(format.formatToParts(at).map(({ type, value }) => [type, Number(value)]));
		return Date.UTC(part["year"] ?? 0, (part["month"] ?? 1) - 1, part["day"], part["hour"], part["minute"]);
	};
	const minutes = new Float64Array((until - from) / MINUTE);
	for (let index = 0; index < minutes.length; index += 60) {
		const at = from + index * MINUTE;
		const first = wallOf(at);
		const isEven = hourly && wallOf(at + HOUR) === first + HOUR && wallOf(at + HOUR / 2) === first + HOUR / 2;
		for (let minute = 0; minute < 60 && index + minute < minutes.length; minute += 1) {
			minutes[index + minute] = isEven ? first + minute * MINUTE : wallOf(at + minute * MINUTE);
		}
	}
	return { timezone, from, minutes };
}

/** Where the zone's clocks were changed. */
export function changesOf({ from, minutes }: Walls): number[] {
	const found: number[] = [];
	for (let index = 1; index < minutes.length; index += 1) {
		if (minutes[index] !== (minutes[index - 1] ?? 0) + MINUTE) found.push(from + index * MINUTE);
	}
	return found;
}

/** All instants of the walls at which the expression fires, in order. */
export function fires(expression: string, { from, minutes }: Walls): number[] {
	const { matches, everyHour } = read(expression);
	const found = new Set<number>();
	let before = (minutes[0] ?? 0) - MINUTE;
	/** The latest wall time that was shown so far: what is not later is shown again. */
	let latest = before;
	for (let index = 0; index < minutes.length; index += 1) {
		const at = from + index * MINUTE;
		const wall = minutes[index] ?? 0;
		// What the clock left out fires when it would have been, had the clock gone on.
		for (let skipped = before + MINUTE; skipped < wall; skipped += MINUTE) {
			if (matches(skipped)) found.add(at + (skipped - before - MINUTE));
		}
		if (matches(wall) && (everyHour || wall > latest)) found.add(at);
		before = wall;
		latest = Math.max(latest, wall);
	}
	return [...found].toSorted((a, b) => a - b);
}

interface Reading {
	readonly matches: (wall: number) => boolean;
	readonly everyHour: boolean;
}

function read(expression: string): Reading {
	const texts = expression.trim().split(/\s+/);
	if (texts.length !== 5) throw new Error(`the oracle reads five fields, not ${expression}`);
	const [minuteText = "", hourText = "", dateText = "", monthText = "", weekdayText = ""] = texts;
	const isMinute = values(minuteText, 0, 59);
	const isHour = values(hourText, 0, 23);
	const isMonth = values(named(monthText, MONTHS, 1), 1, 12);
	const isDate = dates(dateText);
	const isWeekday = weekdays(named(weekdayText, WEEKDAYS, 0));
	const isDay = (wall: number): boolean => {
		const date = new Date(wall);
		if (!isMonth.has(date.getUTCMonth() + 1)) return false;
		if (dateText === "*") return isWeekday(wall);
		if (weekdayText === "*") return isDate(wall);
		return isDate(wall) || isWeekday(wall);
	};
	let dayKnown = Number.NaN;
	let dayMatches = false;
	return {
		everyHour: hourText === "*",
		matches(wall) {
			const day = Math.floor(wall / DAY);
			if (day !== dayKnown) {
				dayKnown = day;
				dayMatches = isDay(wall);
			}
			if (!dayMatches) return false;
			const minuteOfDay = (wall - day * DAY) / MINUTE;
			return isMinute.has(minuteOfDay % 60) && isHour.has(Math.floor(minuteOfDay / 60));
		},
	};
}

function named(text: string, names: readonly string[], first: number): string {
	return names.reduce((replaced, name, index) => replaced.replaceAll(new RegExp(name, "gi"), `${index + first}`), text);
}

/** `*`, `7`, `1-5`, `2/10`, `1-9/2`, and lists of them. */
function values(text: string, min: number, max: number): Set<number> {
	const found = new Set<number>();
	for (const item of text.split(",")) {
		const [range = "", step = "1"] = item.split("/");
		const [low = "", high = low] = range === "*" ? [`${min}`, `${max}`] : range.split("-");
		const last = item.includes("/") && !range.includes("-") ? max : Number(high);
		for (let value = Number(low); value <= last; value += Number(step)) found.add(value);
	}
	return found;
}

/** A date, or `L`: the last of the month. */
function dates(text: string): (wall: number) => boolean {
	const items = text.split(",");
	const plain = values(items.filter((item) => item !== "L").join(",") || "0", 1, 31);
	return (wall) =>
		plain.has(new Date(wall).getUTCDate()) || (items.includes("L") && new Date(wall + DAY).getUTCDate() === 1);
}

/** 0 and 7 are Sunday; `5L` is the last Friday of a month, `5#2` the second. */
function weekdays(text: string): (wall: number) => boolean {
	const tests = text.split(",").map((item): ((wall: number) => boolean) => {
		const [day = "", nth] = item.split("#");
		if (nth !== undefined) {
			return (wall) =>
				weekdayOf(wall) === Number(day) % 7 && Math.ceil(new Date(wall).getUTCDate() / 7) === Number(nth);
		}
		if (item.endsWith("L")) {
			const last = Number(item.slice(0, -1)) % 7;
			return (wall) =>
				weekdayOf(wall) === last && new Date(wall).getUTCMonth() !== new Date(wall + 7 * DAY).getUTCMonth();
		}
		const plain = new Set([...values(item, 0, 7)].map((each) => each % 7));
		return (wall) => plain.has(weekdayOf(wall));
	});
	return (wall) => tests.some((test) => test(wall));
}

function weekdayOf(wall: number): number {
	return new Date(wall).getUTCDay();
}
