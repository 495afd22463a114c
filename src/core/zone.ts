/**
 * What a time zone's clocks show: the offset at an instant, and the instants at which it changes. From Intl, which has
 * the offset at one instant only (2 µs); so the changes of a year are searched once and kept.
 */

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** Between two looks for a change. No zone has ever changed twice within one (the closest: three weeks, for Ramadan). */
const LOOK_MS = 3 * DAY;
/** There are some 600 names, but each may be written in capitals too, and offsets like +05:30 are names as well. */
const KEPT_MAX = 1_000;

/** At `at` (UTC ms) a zone's clocks go from one offset (ms) to another. */
export interface ZoneChange {
	readonly at: number;
	readonly before: number;
	readonly after: number;
}

export interface Zone {
	/** Milliseconds that the zone's clocks are ahead of UTC. */
	offsetAt(at: number): number;
	/** The first change in (after, until]. */
	firstChange(after: number, until: number): ZoneChange | undefined;
	/** The last change in (after, until]. */
	lastChange(after: number, until: number): ZoneChange | undefined;
}

const zones = new Map<string, Zone>();

/** Undefined where this machine's time-zone data does not know the name. */
export function zoneOf(name: string): Zone | undefined {
	const known = zones.get(name);
	if (known !== undefined) return known;
	let format: Intl.DateTimeFormat;
	try {
		format = new Intl.DateTimeFormat("en-US", { timeZone: name, timeZoneName: "longOffset" });
	} catch {
		return undefined;
	}
	const zone = new IntlZone(format);
	if (zones.size >= KEPT_MAX) zones.clear();
	zones.set(name, zone);
	return zone;
}

class IntlZone implements Zone {
	readonly #format: Intl.DateTimeFormat;
	readonly #years = new Map<number, readonly ZoneChange[]>();

	constructor(format: Intl.DateTimeFormat) {
		this.#format = format;
	}

	offsetAt(at: number): number {
		const text = this.#format.format(at);
		const [, sign, hours, minutes, seconds = "0"] = /GMT(?:([+-])(\d{2}):(\d{2})(?::(\d{2}))?)?$/.exec(text) ?? [];
		if (hours === undefined) return 0;
		const ms = Number(hours) * HOUR + Number(minutes) * MINUTE + Number(seconds) * 1000;
		return sign === "-" ? -ms : ms;
	}

	firstChange(after: number, until: number): ZoneChange | undefined {
		for (let year = yearOf(after); year <= yearOf(until); year += 1) {
			const found = this.#changesOf(year).find(({ at }) => at > after && at <= until);
			if (found !== undefined) return found;
		}
		return undefined;
	}

	lastChange(after: number, until: number): ZoneChange | undefined {
		for (let year = yearOf(until); year >= yearOf(after); year -= 1) {
			const found = this.#changesOf(year).findLast(({ at }) => at > after && at <= until);
			if (found !== undefined) return found;
		}
		return undefined;
	}

	/** About 0.3 ms for a year that nobody has asked for yet. */
	#changesOf(year: number): readonly ZoneChange[] {
		const known = this.#years.get(year);
		if (known !== undefined) return known;
		const changes: ZoneChange[] = [];
		const end = Date.UTC(year + 1, 0);
		let at = Date.UTC(year, 0) - 1;
		let before = this.offsetAt(at);
		while (at < end - 1) {
			const next = Math.min(at + LOOK_MS, end - 1);
			const after = this.offsetAt(next);
			if (after !== before) changes.push({ at: this.#changeBetween(at, next, before), before, after });
			before = after;
			at = next;
		}
		this.#years.set(year, changes);
		return changes;
	}

	/** Halves (low, high] until the second of the change is left. */
	#changeBetween(from: number, to: number, before: number): number {
		let low = Math.floor(from / 1000);
		let high = Math.ceil(to / 1000);
		while (high - low > 1) {
			const middle = Math.floor((low + high) / 2);
			if (this.offsetAt(middle * 1000) === before) low = middle;
			else high = middle;
		}
		return high * 1000;
	}
}

function yearOf(at: number): number {
	return new Date(at).getUTCFullYear();
}
