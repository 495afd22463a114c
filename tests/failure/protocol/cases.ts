/** The protocol cases of the fault catalogue: what is broken, how, and what must hold then. */
import type { FaultCase } from "../fault-case.ts";

export const PROTOCOL: readonly FaultCase[] = [
	{
		id: "E1",
		what: "frame fuzz: random bytes, bit flips, truncated, every split point, coalesced, zero length, max, max+1, 0xFFFFFFFF length, wrong version/type, duplicated ids",
		injection: "fast-check, 1 M cases; memory stays < cap before auth/length check",
		holds: "no crash, close only that conn",
	},
	{
		id: "E2",
		what: "half-open: connect and say nothing; 1 byte per second; never read (slow reader)",
		injection: "net",
		holds: "header timeout; output cap ⇒ disconnect; others p99 unchanged",
	},
	{
		id: "E3",
		what: "disconnect after send before ack, ×10k",
		injection: "driver",
		holds: "I13 with keys; else recovered",
	},
	{
		id: "E4",
		what: "10k idle + 1k active connections",
		injection: "",
		holds: "I10, latency",
	},
	{
		id: "E5",
		what: "fd exhaustion",
		injection: "`prlimit --nofile=100 --pid`",
		holds: "daemon survives, recovers",
	},
	{
		id: "E6",
		what: "socket path: stale file, regular file, directory, symlink, too long (108), other user's, dir 0777",
		injection: "setup",
		holds: "safe refusal",
	},
	{
		id: "E7",
		what: "second daemon, 50 starts at once",
		injection: "spawn ×50",
		holds: "exactly one wins",
	},
	{
		id: "E8",
		what: "protocol version skew: old client/new daemon and reverse",
		injection: "keep golden clients per release",
		holds: "documented code",
	},
	{
		id: "E9",
		what: "awaiter storms: 5k waiters on one id; waiters whose id is pruned; await before/after terminal; await across daemon restart",
		injection: "driver",
		holds: "all get the same terminal; no leak",
	},
	{
		id: "E10",
		what: "worker IPC: same fuzz from the worker side",
		injection: "stub worker",
		holds: "C13",
	},
];
