/** The operations cases of the fault catalogue: what is broken, how, and what must hold then. */
import type { FaultCase } from "../fault-case.ts";

export const OPERATIONS: readonly FaultCase[] = [
	{
		id: "G1",
		what: "1 M queued, claim latency flat",
		injection: "bulk fill then claim",
		holds: "section 5",
	},
	{
		id: "G2",
		what: "24 h simulated soak; 2 h real soak nightly with all nemeses at low rate",
		injection: "sim clock; harness",
		holds: "all",
	},
	{
		id: "G3",
		what: "retention prune of 5 M rows while serving",
		injection: "driver",
		holds: "p99, I10, incremental deletes",
	},
	{
		id: "G4",
		what: "log storm 100k lines/s",
		injection: "functions",
		holds: "dropped counted, queue p99",
	},
	{
		id: "G5",
		what: "dashboard open with 1 M rows, 50 SSE clients, tab asleep",
		injection: "playwright + net",
		holds: "keyset paging; slow SSE dropped",
	},
	{
		id: "G6",
		what: "upgrade N−1 → N with queued + running; downgrade refused",
		injection: "golden data dirs per release",
		holds: "I1",
	},
	{
		id: "G7",
		what: "`npm i -g` on clean box Node 22/24/26, musl, no build tools, read-only home, spaces/unicode path",
		injection: "container-less: fresh prefix dirs",
		holds: "starts",
	},
	{
		id: "G8",
		what: "disk usage accounting: WAL, logs, results, bundles vs. configured caps",
		injection: "long run",
		holds: "I10",
	},
	{
		id: "G9",
		what: "metrics under fault: counters monotone across restart, cardinality bounded",
		injection: "scrape",
		holds: "lint with promtool rules",
	},
];
