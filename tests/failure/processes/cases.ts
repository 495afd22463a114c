/** The processes cases of the fault catalogue: what is broken, how, and what must hold then. */
import type { FaultCase } from "../fault-case.ts";

export const PROCESSES: readonly FaultCase[] = [
	{
		id: "A1",
		what: "kill -9 of the daemon at random moments",
		injection:
			"200 kills, 50 to 2,000 ms after each start, and 90 a second apart; 8 clients over socket and HTTP submit to five functions (at-least-once, at-most-once, one at a time, lane keys, retries), a ledger of the functions' own, an offline checker",
		holds: "I1–I7, I9, I11–I13; every start is over within 3 s",
		bugs: [
			"the working folders of killed workers stayed in data/tmp for ever, 43 after six kills: fixed in “Engine: what workers left in tmp is removed”",
		],
	},
	{
		id: "A2",
		what: "kill before the n-th system call",
		injection:
			"strace kills the process before each write, sync, truncation, rename, removal and new folder of its main thread (about 700 points) and of the thread that writes bundles (about 180), on a program with the real store and queue; and a whole daemon under load before random calls",
		holds: "I1–I7, I13; databases whole, bundles whole, the same program completes afterwards",
		notCovered: ["a run takes a random half of the points; all of them with RUNS=1000"],
	},
	{
		id: "A3",
		what: "kill between commit and acknowledgement",
		injection: "the daemon kills itself at that point: once for one request, and again and again under load",
		holds: "I1–I3, I13: the same key answers with the invocation that was committed",
	},
	{
		id: "A4",
		what: "kill around the claim, the dispatch, the answer and the end",
		injection: "the daemon kills itself at four points, for both delivery modes; and at five points under load",
		holds: "at-least-once runs to its end and is not charged; at-most-once starts at most once and ends lost",
	},
	{
		id: "A5",
		what: "a crash loop: kill in the recovery from a kill",
		injection:
			"150 lives that end while the daemon loads, recovers, or within 200 ms after it is ready, under load; and a death at each named point of a start",
		holds:
			"I1, I3, I4: recovery is idempotent, no attempt is recorded twice, work that was running in ten dead daemons in a row ends crashed",
	},
	{
		id: "A6",
		what: "kill in a migration",
		injection:
			"strace kills it before each of its 44 system calls that change the disk; the old and the new version start after",
		holds: "schema and rows whole; the old version starts or refuses the newer schema; the backup is there",
	},
	{
		id: "A7",
		what: "kill in a deploy, and while bundles without a row are removed",
		injection:
			"at three named points; strace before a call of the two threads that a deploy uses, 60 times; strace at boot before a rename or removal of four orphaned bundles",
		holds: "the old or the new version serves, never none; bundles equal rows; the deploy can be done again",
		notCovered: ["a power cut in a deploy is case B4"],
	},
	{
		id: "A8",
		what: "workers die mid-run, idle, and while they answer",
		injection:
			"SIGKILL, SIGSEGV, SIGABRT, SIGTERM from outside, also at random moments under load; a true segmentation fault, exit(0), exit(3), abort() by the function's own code; SIGKILL to the spare that nobody has taken",
		holds: "I3–I5, I7: charged where it was alone, nobody where there were several, lost at most once",
		notCovered: [
			"an idle worker that dies in the very moment in which it is given an attempt: that attempt is charged, because nobody can tell whether it began",
		],
	},
	{
		id: "A9",
		what: "a worker ends while its answer leaves it",
		injection: "a function that ends its process 0 to 40 ms after it answered with 100 KB or 2 MB; 100 times each",
		holds: "a whole answer succeeded, a part of one crashed; never both, never a part",
	},
	{
		id: "A10",
		what: "kill -9 of the daemon while a worker spins, or runs an at-most-once invocation",
		injection: "for(;;){} and SIGKILL",
		holds: "I9: the worker is gone within 1 s; the work runs again uncharged, or is lost",
	},
	{
		id: "A11",
		what: "a function started processes, and its worker, its time or the daemon ends",
		injection:
			"a child, a detached child, a shell with a child of its own, Bun.spawn, and a daemonised process in a session and with an environment of its own",
		holds: "I9: all end with the worker; the daemonised one with the daemon's clean stop, or at its next start",
		bugs: [
			"a process that a function had daemonised outlived a clean stop of the engine: fixed in “Engine: a clean stop ends what functions daemonised”",
			"a grandchild, or a child with another environment, could survive kill -9 of the daemon for ever, because only the environment was looked at: fixed in “Pool: what functions started is found by its folder”",
		],
		notCovered: ["a daemonised process that leaves its worker's folder as well is not found"],
	},
	{
		id: "A12",
		what: "signals to the daemon",
		injection:
			"SIGTERM with running, queued, spinning and stopped (SIGSTOP) work and a waiting caller; a second signal, of each pair; SIGHUP; a signal at any moment of a start; clean stops under load",
		holds:
			"over within the drain time, exit 0; at once with 128 + the signal after a second; nothing lost, nobody charged",
		bugs: [
			"SIGHUP, as a closed terminal sends it, ended the daemon at once: fixed in “CLI: SIGHUP drains like SIGTERM”",
		],
	},
	{
		id: "A13",
		what: "the daemon is frozen and goes on",
		injection:
			"SIGSTOP for 10 s and SIGCONT, with attempts that end meanwhile, that do not, and that become due; for up to 1 s again and again under load",
		holds: "what ended in time succeeded; what did not is timed out, not early; each starts once",
	},
	{
		id: "A14",
		what: "a poison pill: it kills its worker each time",
		injection:
			"process.kill(process.pid, 'SIGKILL'), 20 attempts allowed; alone in its lane, and among neighbours in one worker",
		holds: "crashed after three deaths, its neighbours succeed uncharged, the lane goes on",
	},
	{
		id: "A15",
		what: "a function that cannot load any more, with work queued",
		injection: "a throw at the top level, an import that never ends; a bundle that does not load at its deploy",
		holds:
			"a breaker with growing pauses that says why; other functions unharmed; nothing charged; it comes back when mended",
		bugs: [
			"after the variable that it lacked was set, a function waited up to 60 s for its breaker: fixed in “Pool: a changed environment closes the breaker”",
		],
	},
];
