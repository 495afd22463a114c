/** The workers cases of the fault catalogue: what is broken, how, and what must hold then. */
import type { FaultCase } from "../fault-case.ts";

export const WORKERS: readonly FaultCase[] = [
	{
		id: "C1",
		what: "code that does not come back: endless loop, endless microtasks, exploding regex, blocked system calls, a promise that never settles",
		injection: "functions, alone with the next invocation waiting behind them, and beside seven others",
		holds:
			"timed out at the deadline and the grace, never earlier, and ended soon after; the slot is free only when the process is gone; beside others only the guilty one is charged",
	},
	{
		id: "C2",
		what: "a stopped worker: while it runs one or eight, while it is idle, and one that goes on in time",
		injection: "SIGSTOP, SIGCONT",
		holds: "as C1; what ran with it in one worker is not charged; a short stop loses nothing",
	},
	{
		id: "C3",
		what: "memory: objects, Buffers, strings, maps, with and without letting go of the loop; alone and beside four others; a slow leak",
		injection: "functions that allocate 8 MB each 5 ms; 10,000 calls that keep 64 KB each",
		holds:
			"killed at memoryMb within a sample, recorded as WORKER_MEMORY; neighbours are not charged; with a leak every call succeeds",
		bugs: [
			"short calls with pauses were sampled each 2 s, not each 250 ms: each attempt began the pace anew; fixed in “Pool: a worker of short calls with pauses is sampled each 250 ms too”",
		],
		notCovered: ["what is allocated and freed between two samples"],
	},
	{
		id: "C4",
		what: "the kernel is out of memory",
		injection: "a memory cgroup (version 1) around the daemon and six workers that are smaller than it",
		holds: "the kernel takes workers, the daemon lives, every invocation ends",
		bugs: [
			"workers had the same oom_score_adj as the daemon, so that the kernel could choose it (the test fails without the score); fixed in “Pool: the kernel out of memory takes a worker, not the daemon”",
		],
		notCovered: ["cgroup version 2"],
	},
	{
		id: "C5",
		what: "a kernel limit on one worker",
		injection: "a memory cgroup (version 1) around it",
		holds: "crashed with WORKER_CRASHED, and the message says that a SIGKILL may be the kernel, out of memory",
		notCovered: ["the kernel does not tell why it killed, so the code is not WORKER_MEMORY"],
	},
	{
		id: "C6",
		what: "descriptors used up, 10,000 sockets left open, a fork bomb",
		injection: "functions under prlimit, and in a pids cgroup",
		holds:
			"the attempt fails or is timed out and says why; the daemon has none of the descriptors; all of it ends with the worker, to the last process",
		notCovered: [
			"a worker that leaks descriptors is not noticed by itself: set maxInvocations or maxAgeMs",
			"a process that leaves its group and its parent (a double fork with setsid) is not the worker's any more",
		],
	},
	{
		id: "C7",
		what: "floods on stdout, stderr, console and by a child: no newline, short and empty lines, ANSI, binary, NUL, broken UTF-8, lines of 8 MB",
		injection: "functions that print 1 GB each",
		holds: "the daemon's memory stays bounded, the log says what is gone, no pipe blocks for ever, the next call works",
		bugs: [
			"the mark of a cut line was cut itself when the line was stored: it came on top of the bound; fixed in “A cut line of output keeps its mark in the log store”",
			"what is dropped was read as fast as it came, at up to 0.9 GB/s, and its buffers became garbage faster than it was collected (145 MB); fixed in “A flood of output is read at 64 MB/s”",
		],
	},
	{
		id: "C8",
		what: "answers that cannot be kept, or only look so: not JSON, no Response, odd statuses and headers, bodies too large, read, locked, broken or endless",
		injection: "73 functions; five of the answers over HTTP as well",
		holds:
			"a documented code, or the answer as it was made; the same worker takes the next call; HTTP framing stays whole",
		bugs: [
			"a Response with another status or other headers put over it (200.5, NaN, numbers) cost the worker its life and made its neighbours suspects: the runtime read the properties; fixed in “Runtime reads the Response itself, not what its properties say”",
		],
	},
	{
		id: "C9",
		what: "whatever can be thrown: non-errors, hostile getters, proxies, 5 MB of text, cycles; and errors that come after the answer",
		injection: "27 functions that throw, six whose timers throw or reject",
		holds:
			"recorded as HANDLER_ERROR within bounds; an error after the answer is in the log, replaces the worker, and charges nobody",
		bugs: [
			"the mark of a cut error text was cut itself: it came on top of the bound; fixed in “A cut error text keeps its mark”",
		],
		notCovered: [
			"process.exit in a timer that an earlier call left: it is a crash of whoever is aboard, and charged if alone",
		],
	},
	{
		id: "C10",
		what: "left behind after the answer: timers, promises, listeners, servers, sockets, child processes, output, waitUntil",
		injection: "functions",
		holds:
			"the next call is not disturbed and its log has only its own lines; all of it ends with the worker; waitUntil holds a worker for its grace at most",
		notCovered: ["what is left is not counted: a worker is replaced for an error or its memory, not for left-overs"],
	},
	{
		id: "C11",
		what: "functions that reach for the channel: garbage, frames that nobody may send, half frames, a closed descriptor, frames on stdout",
		injection: "writes to descriptors 3 to 10, beside four others",
		holds: "the worker is killed, every other gets its own answer uncharged, only the guilty attempt is charged",
		notCovered: ["an answer forged for a neighbour in the same worker: they share a process and trust each other"],
	},
	{
		id: "C12",
		what: "replaced globals and methods of globals, each of 1,329, by one that throws and one that does nothing; properties given to all objects",
		injection: "a function that replaces one, during its call and after it",
		holds: "the calls after it in the same worker get their answers, and their log lines are kept",
		bugs: [
			"27 of them ended or failed later calls, which were charged, and one made garbage of an answer: the runtime called methods that user code had replaced; fixed in “Runtime stands on what it took before user code ran”",
		],
		notCovered: [
			"process._exiting, which Bun's tick queue reads, and a `then` on Object.prototype: with them the call itself cannot answer",
		],
	},
	{
		id: "C13",
		what: "false workers: never ready, ready twice, wrong version, garbage, gone before ready, answers for nobody, two answers, none",
		injection: "a program in place of Bun that speaks the channel",
		holds:
			"killed and proven gone; the start is refused with its reason, the attempt is recorded; of two answers the first stands; the breaker holds back the version and nobody else",
	},
	{
		id: "C14",
		what: "a cancel at any moment: queued, running, at the answer, twice; of handlers that heed it and that do not",
		injection: "10,000 races",
		holds: "one end, told the same to all, which never changes; a result exactly where it succeeded",
	},
	{
		id: "C15",
		what: "an answer at the moment of its time limit",
		injection: "10,000 answers from 10 ms before the limit to 1 ms behind it",
		holds: "succeeded or timed out, never both, never early",
	},
	{
		id: "C16",
		what: "versions that change, forwards and back, while work is queued, running and between its attempts",
		injection: "deployments and rollbacks among enqueues, with a ledger of every attempt",
		holds: "every attempt runs the version that was active when its invocation was accepted",
		notCovered: ["deleting a function: there is no such operation"],
	},
	{
		id: "C17",
		what: "many more functions than workers, deployed at once and called at once",
		injection: "200 functions on 3 workers",
		holds:
			"each gets its own answer at the first attempt: none is sent to a worker on its way out; one process over the limit at most",
		bugs: [
			"forty deployments at once were forty processes where four were allowed, and they stayed: each start that proves a version asked for no room; fixed in “Pool: deployments at once are one process over maxWorkersTotal, not one each”",
		],
	},
	{
		id: "C18",
		what: "a flooded lane beside cold ones",
		injection: "100,000 queued in one lane, 50 functions without a worker called beside it",
		holds: "each cold call starts within a second",
	},
	{
		id: "C19",
		what: "a function that calls itself over HTTP and waits, in a lane of one, three levels deep",
		injection: "function",
		holds:
			"its time limit ends it, every level comes to an end, the lane goes on; with room for every level it succeeds",
		notCovered: ["the depth is not limited and the cycle is not detected: the time limit is what ends it"],
	},
];
