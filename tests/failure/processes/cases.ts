/** The processes cases of the fault catalogue: what is broken, how, and what must hold then. */
import type { FaultCase } from "../fault-case.ts";

export const PROCESSES: readonly FaultCase[] = [
	{
		id: "A1",
		what: "daemon SIGKILL at random moments, loop ≥ 200",
		injection: "nemesis `kill -9`, 50–2000 ms apart, restart, 8 clients, external ledger",
		holds: "I1–I7, I11",
	},
	{
		id: "A2",
		what: "kill at the n-th syscall, every n",
		injection:
			"`strace -f -e inject=pwrite64,fsync,ftruncate,rename,unlink,sendto:signal=KILL:when=N` over a fixed scenario (works: 161 points in a 12-row script)",
		holds: "I1–I4",
	},
	{
		id: "A3",
		what: "kill between commit and ack",
		injection: "BUGGIFY delay before ack + SIGKILL",
		holds: "I1 (recovered ≥ 0), I13",
	},
	{
		id: "A4",
		what: "kill between claim commit and dispatch / after dispatch / after result received before terminal commit",
		injection: "three failpoints `process.kill(process.pid,'SIGKILL')`",
		holds: "I3, I4 per delivery mode",
	},
	{
		id: "A5",
		what: "kill during boot recovery, repeatedly (crash loop)",
		injection: "A1 with 20–200 ms life",
		holds: "I1, I3, recovery idempotent",
	},
	{
		id: "A6",
		what: "kill during migration",
		injection: "failpoint inside each migration; start old and new binary after",
		holds: "schema whole, backup present",
	},
	{
		id: "A7",
		what: "kill during deploy (bundle write, switch, GC)",
		injection: "A2 on deploy; also power cut",
		holds: "old or new version, never none",
	},
	{
		id: "A8",
		what: "worker SIGKILL / SIGSEGV / `process.exit(0)` / `abort()` mid-run, idle, and while writing a result",
		injection: "test functions + nemesis",
		holds: "I3–I5, I7",
	},
	{
		id: "A9",
		what: "worker exits right after writing 100 KB / 2 MB result",
		injection: "function writes and exits",
		holds: "complete frame wins; partial ⇒ crashed; never both",
	},
	{
		id: "A10",
		what: "daemon killed with a spinning worker",
		injection: "`for(;;){}` + kill -9 daemon",
		holds: "I9",
	},
	{
		id: "A11",
		what: "worker spawned children (also detached) then is killed",
		injection: "",
		holds: "I9",
	},
	{
		id: "A12",
		what: "SIGTERM with running, queued, spinning, SIGSTOPped workers; second SIGTERM; SIGINT ×2; SIGHUP",
		injection: "signals",
		holds: "drain bounded, exit code",
	},
	{
		id: "A13",
		what: "SIGSTOP daemon 10 s, then SIGCONT",
		injection: "signals",
		holds: "timeouts fire late not early; no double run",
	},
	{
		id: "A14",
		what: "poison pill: kills its worker each time",
		injection: "function `process.kill(pid,9)`",
		holds: "ends `crashed` after 3, lane goes on",
	},
	{
		id: "A15",
		what: "crash loop at load (top-level throw / import never resolves)",
		injection: "bad function",
		holds: "restart intensity breaker, back-off, clear status; other functions unharmed",
	},
];
