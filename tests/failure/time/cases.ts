/** The time cases of the fault catalogue: what is broken, how, and what must hold then. */
import type { FaultCase } from "../fault-case.ts";

export const TIME: readonly FaultCase[] = [
	{
		id: "D1",
		what: "The wall clock of a running daemon goes ten days ahead and back, steps by a second, and stands",
		injection:
			"libfaketime over a file that is read at each look at the clock; the monotonic clock and the workers' clocks stay as they are",
		holds:
			"timeouts and waits take as long as ever, never less; no slot fires twice and schedules go on within seconds; delayed work runs once: early by a clock that is ahead, late by one that is behind, never lost",
		bugs: [
			"a clock that was ahead and was set right silenced every schedule until the time that it had shown, fixed in Cron: a clock that was ahead and is set right no longer silences schedules",
			"slots that retention had removed could have fired again where a clock goes back; a mark keeps the newest, fixed in the same",
		],
		notCovered: [
			"a clock that is ahead by more than a year, for longer than retention, and is then set back to before it went ahead: what fired in that time and was removed may fire again",
			"a retry or delay that was worked out by a clock ahead waits until that time comes",
		],
	},
	{
		id: "D2",
		what: "The daemon stands still for 1.5 s (long: 60 s), with its workers and alone",
		injection:
			"SIGSTOP and SIGCONT of the processes, with a call that hangs, one under way, one that arrives, delayed work and a schedule",
		holds:
			"nothing ends early; an answer that lay there in time counts; work that came due meanwhile runs once; of missed slots the newest fires",
		notCovered: ["the suspend of a machine, in which the monotonic clock stands too: not injectable here"],
	},
	{
		id: "D3",
		what: "Starts with the clock in 1970 and in 2100, and what is left of that when it is right again",
		injection: "libfaketime at the start, on a used data folder with a schedule of each misfire policy",
		holds:
			"1970: calls are served, no schedule fires, a warning says why; 2100: each policy catches up as it says (1, 0, at most 100), with a warning; then schedules go on from the present, also one that the wrong clock made",
		bugs: [
			"after a start in 2100 every schedule was silent for 74 years, fixed in Cron: a clock that was ahead and is set right no longer silences schedules",
			"invocations of a clock ahead ended every pass of retention, so that nothing behind them was removed for ever, fixed in the same",
		],
		notCovered: [
			"results older than retention by a clock that is ahead are removed, as it says: there is only a warning",
		],
	},
	{
		id: "D4",
		what: "The days on which clocks change: by an hour, at midnight, for Ramadan, by half an hour, by two hours",
		injection: "A year (long: three) of slots of six expressions in six zones, against a scan of every minute by Intl",
		holds:
			"the same slots, in order: a time that is left out fires once, at the instant it would have had; one that comes twice fires the first time, or both where the hour is *",
		bugs: [
			"Australia/Lord_Howe: next slot threw after 0.5 s of blocking when clocks go back, and left out the day's 02:00 and two quarter hours, fixed in Cron: the next slot is worked out here",
			"Antarctica/Troll: a fixed hour fired twice when clocks go back two hours, fixed in the same",
			"America/New_York: of */15 1-2 three of four slots of the hour that is left out were lost, fixed in the same",
		],
	},
	{
		id: "D5",
		what: "Expressions and zones at the edge: 29 February, the 31st, L, #, names, both day fields, aliases; and what is none: blank, 3 or 7 fields, H, W, 30 February, unknown zones, 10,000 characters",
		injection:
			"30 expressions from 400 (long: 2,000) seeded instants each, in three zones, against a scan of a year (long: 2026 to 2032); 45 expressions and 8 zones that are refused",
		holds: "accepted exactly where documented; the next slot is the scan's, within 5 ms; a refusal is one line",
	},
	{
		id: "D6",
		what: "The daemon is down for 3 minutes and for 3 days, over an every-minute schedule of each misfire policy",
		injection: "Real engine, stopped and started with its wall clock moved",
		holds: "once: the newest slot; skip: none; all: each, of 3 days the newest 100; and the next slot fires as always",
	},
	{
		id: "D7",
		what: "kill -9 at the commit of a slot, and boots in the same second",
		injection:
			"A daemon that kills itself before, in or after the commit, 4 times (long: 60), with an every-second schedule that catches up; starts at a clock that stands in the second of the slot, each after kill -9",
		holds: "every slot fires once, none is left out; a slot and its invocation are one commit",
	},
	{
		id: "D8",
		what: "The rules of a time zone change between two runs, as with a new tzdata",
		injection:
			"Simulated: the zone of a stored schedule is replaced by one with other rules while its cursor stays, at 40 (long: 1,500) seeded times of a year, and once on a real data folder",
		holds: "no slot fires twice, slots stay in order, and the new rules hold from the next slot on",
		notCovered: ["two real versions of tzdata: one Node has one"],
	},
	{
		id: "D9",
		what: "Back-off at its cap, with jitter and without; delays longer than 2^31 ms, which Node's timers cut to 1 ms",
		injection:
			"2,000 (long: 200,000) generated policies; the queue by a clock that a test moves, for 40 days; the real clock with every delay recorded; a real daemon with its clock moved by 39 and 40 days",
		holds:
			"a retry waits base × 2^(n−1) up to the cap, in the upper half of it with jitter; nothing starts early, and once",
	},
];
