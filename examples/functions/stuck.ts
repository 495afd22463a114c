/**
 * Never comes back, and cannot be asked to: its loop hears no signal. The engine ends it at `timeoutMs` + `graceMs` by
 * killing the worker: `bunbase invoke stuck` answers `timed_out`, and the next call has a fresh worker.
 */
export const config = { timeoutMs: 500, graceMs: 250, retry: { maxAttempts: 1 } };

export default function handler(req: Request): Response {
	if (new URL(req.url).searchParams.get("loop") === "no") return new Response("not this time\n");
	for (;;) {
		// As `while (true)` with a forgotten break does.
	}
}
