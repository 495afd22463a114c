/** The workers cases of the fault catalogue: what is broken, how, and what must hold then. */
import type { FaultCase } from "../fault-case.ts";

export const WORKERS: readonly FaultCase[] = [
	{
		id: "C1",
		what: "sync infinite loop; regex catastrophe; `Atomics.wait`; `Bun.sleepSync`",
		injection: "functions",
		holds: "timed_out ≤ deadline + grace + 100 ms",
	},
	{
		id: "C2",
		what: "SIGSTOP worker (idle, running)",
		injection: "signal",
		holds: "timed_out, slot freed only after exit",
	},
	{
		id: "C3",
		what: "memory hog: heap, Buffers, strings; slow leak over 10k calls",
		injection: "functions",
		holds: "killed at limit ± one sample; recycled",
	},
	{
		id: "C4",
		what: "host OOM killer",
		injection: "cgroup v1 `memory.limit_in_bytes` around daemon+workers; workers `oom_score_adj=900`",
		holds: "worker dies, daemon lives",
	},
	{
		id: "C5",
		what: "cgroup limit on one worker",
		injection: "v1 group (",
		holds: "reported as memory",
	},
	{
		id: "C6",
		what: "fd leak / 10k sockets in a function; fork bomb (`prlimit --nproc`)",
		injection: "functions",
		holds: "worker recycled; daemon lives",
	},
	{
		id: "C7",
		what: "stdout/stderr flood 1 GB, no newline, binary, ANSI, huge line",
		injection: "functions",
		holds: "bounded buffers, log truncated with marker, no deadlock of the pipe",
	},
	{
		id: "C8",
		what: "result too large, not serializable (cycle, BigInt, function, Symbol), `undefined`, NaN, deep nesting 100k (",
		injection: "functions",
		holds: "`failed: RESULT_*`, worker survives",
	},
	{
		id: "C9",
		what: "throws non-Error, null, Error with getter that throws, huge stack, AggregateError, rejects later, unhandled rejection after return",
		injection: "functions",
		holds: "recorded; late rejection ⇒ worker recycled, not next invocation blamed",
	},
	{
		id: "C10",
		what: "left-over timers/promises/sockets/listeners after return",
		injection: "functions",
		holds: "next invocation unaffected; leak counter; optional recycle",
	},
	{
		id: "C11",
		what: "function tampers with IPC: writes to fd, closes it, prints frames to stdout",
		injection: "`fs.writeSync(3..10)`",
		holds: "protocol error ⇒ worker killed; no cross-talk",
	},
	{
		id: "C12",
		what: "function overrides globals (`JSON`, `Promise`, `process.exit`, `Date`)",
		injection: "functions",
		holds: "runtime holds its own references",
	},
	{
		id: "C13",
		what: "worker never says ready; says ready twice; wrong protocol version; answers unknown id; answers twice",
		injection: "stub worker",
		holds: "killed, breaker",
	},
	{
		id: "C14",
		what: "cancel: queued, running async (AbortSignal), running sync, at completion instant, twice",
		injection: "10k races",
		holds: "one terminal, I3",
	},
	{
		id: "C15",
		what: "timeout race with completion",
		injection: "result at deadline ± 1 ms, 10k times",
		holds: "I3",
	},
	{
		id: "C16",
		what: "redeploy while running/queued/retrying; rollback; delete function with backlog",
		injection: "driver",
		holds: "each attempt pinned to its version by policy; no mixture",
	},
	{
		id: "C17",
		what: "200 functions × 1 call: pool smaller than functions, LRU eviction race with dispatch",
		injection: "driver",
		holds: "never dispatched to a dying worker",
	},
	{
		id: "C18",
		what: "lane starvation: 1 hot lane with 100k, 50 cold lanes with 1",
		injection: "driver",
		holds: "cold lane start ≤ 1 s",
	},
	{
		id: "C19",
		what: "recursion: function invokes itself and awaits, lane concurrency 1",
		injection: "function",
		holds: "detected/depth limit, no deadlock for ever",
	},
];
