/** The operations cases of the fault catalogue: what is broken, how, and what must hold then. */
import type { FaultCase } from "../fault-case.ts";

export const OPERATIONS: readonly FaultCase[] = [
	{
		id: "G1",
		what: "a million invocations queued over 100 lanes",
		injection: "batches into paused lanes, 64 attempts running, kill -9, restart",
		holds: "I1, I8; boot within 3 s, daemon under 300 MB, a lane among them still starts its work in order",
		notCovered: ["the latency of a claim is measured by the bench `claims`, not here"],
	},
	{
		id: "G2",
		what: "a long soak with every fault at a low rate",
		injection: "the driver's clients, and the nemesis kills the daemon and workers and stops them, by seed",
		holds: "I1–I13; descriptors and resident memory do not grow",
		notCovered: ["hours of real time: `SOAK_MINUTES=120 npm run test:soak`, not part of a usual run"],
	},
	{
		id: "G3",
		what: "retention removes a large past while the daemon serves",
		injection: "many ended invocations, then a daemon whose retention is over for them, under calls",
		holds: "I8, I10: every old record goes, every young one stays, calls go on between the steps",
		notCovered: ["5 million rows: 200,000 are removed, in steps whose size does not depend on the number"],
	},
	{
		id: "G4",
		what: "a storm of log lines",
		injection: "a function that logs as fast as it can, beside calls of another",
		holds: "I10: the daemon's memory stays bounded, what is dropped is counted, the other function answers",
	},
	{
		id: "G5",
		what: "readers of a long list: pages to the end, many at once, one that never reads",
		injection: "50 HTTP readers page through the list while work is accepted; sockets that stop reading",
		holds: "each page is read by its key, no row twice and none missed, calls go on",
		notCovered: ["the dashboard and server-sent events: there are none"],
	},
	{
		id: "G6",
		what: "an upgrade with queued, running and delayed work; a downgrade",
		injection: "a data folder kept from each release, taken by kill -9; a folder whose schema is newer",
		holds: "I1, I3, I13: all of it ends under the new program, old results are read; the downgrade is refused",
	},
	{
		id: "G7",
		what: "an installation in odd places",
		injection:
			"the packed tarball installed globally under a prefix with spaces and Unicode, with a home that cannot be written",
		holds: "the command starts, deploys and invokes",
		notCovered: [
			"musl and other versions of Node: one Node per machine here; `npm run test:pack` tries a Node that is too old",
		],
	},
	{
		id: "G8",
		what: "disk use over time",
		injection: "calls with large bodies, logs and deploys under a retention of seconds",
		holds: "I10: queue.db, its WAL and the logs stop growing; bundles that nothing refers to go",
	},
	{
		id: "G9",
		what: "metrics under fault",
		injection: "scrapes while functions fail and workers die, with odd names; then kill -9 and a scrape again",
		holds: "counters never fall within one run, the text is well formed, series are bounded by functions and states",
	},
];
