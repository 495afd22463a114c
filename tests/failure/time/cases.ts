/** The time cases of the fault catalogue: what is broken, how, and what must hold then. */
import type { FaultCase } from "../fault-case.ts";

export const TIME: readonly FaultCase[] = [
	{
		id: "D1",
		what: "wall clock +10 d / −10 d / +1 s steps / frozen, while running",
		injection: "libfaketime `FAKETIME_TIMESTAMP_FILE` + `FAKETIME_NO_CACHE=1` + `FAKETIME_DONT_FAKE_MONOTONIC=1` (",
		holds: "promises 10–13",
	},
	{
		id: "D2",
		what: "monotonic jump (suspend)",
		injection: "faketime without DONT_FAKE, or SIGSTOP tree 60 s",
		holds: "late not early",
	},
	{
		id: "D3",
		what: "boot with clock in 1970 / 2100",
		injection: "faketime `@1970-…`",
		holds: "refuses cron catch-up storm; warns",
	},
	{
		id: "D4",
		what: "DST forward/back New York, London, Santiago (midnight gap), Casablanca, Lord Howe (30 min), Troll (2 h)",
		injection: "simulated clock in a year scan of all zones × 6 expressions",
		holds: "I14; monotone; see 6.9 bug",
	},
	{
		id: "D5",
		what: "cron 29 Feb, 31st, `0 0 30 2 *`, DOM+DOW OR rule, `L`, `#`, `@daily`, `H`, blank, 3 fields, 7 fields, unknown zone, 10k-char input",
		injection: "property tests against a brute-force minute scanner (2026–2032)",
		holds: "accepted ⇔ documented; next() = oracle; ≤ 5 ms",
	},
	{
		id: "D6",
		what: "downtime of 3 min / 3 d with every-minute cron, each misfire policy",
		injection: "stop, faketime, start",
		holds: "I14, ≤ 1 / 0 / ≤ 100 runs",
	},
	{
		id: "D7",
		what: "kill -9 exactly at slot; two boots in the same second",
		injection: "failpoint",
		holds: "I14",
	},
	{
		id: "D8",
		what: "`tzdata` change: schedule re-computed after upgrade",
		injection: "swap ICU zone version by Node versions",
		holds: "no dup slot",
	},
	{
		id: "D9",
		what: "retry back-off: cap, jitter, 2^31 ms overflow of setTimeout",
		injection: "due in 40 days (setTimeout > 24.8 d fires at once)",
		holds: "not early",
	},
];
