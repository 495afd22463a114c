/** What the time cases share: a wall clock that a test moves, a function with schedules, and the slots that fired. */
import assert from "node:assert/strict";
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { silentLogger, type Environment } from "../../../src/core/environment.ts";
import { createEngine, type EngineHandle } from "../../../src/index.ts";
import type { Client } from "../../../src/sources/client.ts";
import { realEnvironment } from "../../support/real-environment.ts";
import { faketimeLibrary } from "../needs.ts";

export interface FakeTime {
	/** For the daemon's environment. Its workers do not get it, and its monotonic clock stays as it is. */
	readonly env: Readonly<Record<string, string>>;
	/** "+10d", "-10d", "+1.5s" from the real time; "2026-01-01 00:00:00" stands still; "@1970-01-01 00:00:10" goes on. */
	set(spec: string): void;
}

/** libfaketime over a file that is read at each look at the clock, so that a test moves it while the daemon runs. */
export function fakeTime(folder: string, spec = "+0"): FakeTime {
	const path = join(folder, "faketime");
	const set = (text: string): void => {
		// Renamed, so that nobody reads half of it.
		writeFileSync(`${path}.new`, `${text}\n`);
		renameSync(`${path}.new`, path);
	};
	set(spec);
	return {
		set,
		env: {
			LD_PRELOAD: faketimeLibrary() ?? "",
			FAKETIME_TIMESTAMP_FILE: path,
			FAKETIME_NO_CACHE: "1",
			FAKETIME_DONT_FAKE_MONOTONIC: "1",
			TZ: "UTC",
		},
	};
}

/** Takes `ms` milliseconds; without it never ends. */
const SLEEPER = `export default async (req: Request) => {
	const { ms } = (await req.json().catch(() => ({ ms: 0 }))) as { ms?: number };
	if (ms === undefined) return new Promise<Response>(() => undefined);
	await Bun.sleep(ms);
	return new Response("slept");
};`;

export async function deploySleeper(client: Client, folder: string, name = "sleeper"): Promise<void> {
	const path = join(folder, `${name}.ts`);
	writeFileSync(path, SLEEPER);
	await client.call("functions.deploy", { function: name, path, build: true, register: true });
}

export interface ScheduleSettings {
	readonly name: string;
	readonly cron: string;
	readonly misfire?: "once" | "skip" | "all";
	readonly timezone?: string;
}

/** Overlap is allowed, so that only the slots decide. Returns the schedule's id. */
export async function putSchedule(client: Client, settings: ScheduleSettings, fn = "sleeper"): Promise<string> {
	const put = await client.call("schedules.put", { function: fn, overlap: "allow", data: { ms: 0 }, ...settings });
	return String(put["schedule_id"]);
}

/** Slots of a schedule that became invocations, in the order of acceptance. Fails where one did so twice. */
export async function firedSlots(client: Client, scheduleId: string): Promise<number[]> {
	const slots: number[] = [];
	let before: string | undefined;
	do {
		const page = (await client.call("invocations.list", { limit: 1_000, before })) as {
			invocations: { origin: string | null }[];
			next_before: string | null;
		};
		for (const { origin } of page.invocations) {
			if (origin?.startsWith(`${scheduleId}@`) === true) slots.push(Number(origin.slice(scheduleId.length + 1)));
		}
		before = page.next_before ?? undefined;
	} while (before !== undefined);
	assert.equal(new Set(slots).size, slots.length, `a slot fired twice: ${told(slots)}`);
	return slots.toReversed();
}

export function told(slots: readonly number[]): string {
	return slots.map((slot) => new Date(slot).toISOString()).join(" ");
}

/** An engine in this process whose wall clock a test moves; everything else of it is real. */
export interface MovedEngine {
	readonly engine: EngineHandle;
	readonly warnings: string[];
}

export interface WallClock {
	/** Milliseconds that it is ahead of the real one. */
	offsetMs: number;
	now(): number;
	/** Sets it to this UTC ms. */
	setTo(at: number): void;
}

export function wallClock(): WallClock {
	return {
		offsetMs: 0,
		now() {
			return Date.now() + this.offsetMs;
		},
		setTo(at) {
			this.offsetMs = at - Date.now();
		},
	};
}

export function movedEngine(dataDir: string, wall: WallClock): MovedEngine {
	const warnings: string[] = [];
	const warn = (_fields: object, message: string): void => void warnings.push(message);
	const environment: Environment = {
		...realEnvironment,
		clock: { ...realEnvironment.clock, now: () => wall.now() },
		logger: { ...silentLogger, warn, error: warn },
	};
	return { engine: createEngine({ dataDir, environment }), warnings };
}

/** As `firedSlots`, of an engine in this process. */
export function slotsOf(engine: EngineHandle, scheduleId: string): number[] {
	const slots = engine
		.listInvocations({ limit: 1_000 })
		.flatMap(({ origin }) =>
			origin?.startsWith(`${scheduleId}@`) === true ? [Number(origin.slice(scheduleId.length + 1))] : [],
		);
	assert.equal(new Set(slots).size, slots.length, `a slot fired twice: ${told(slots)}`);
	return slots.toReversed();
}
