/** Ends its own process in the way that `how` says, `afterMs` after its answer, or at once where that is not set. */
import { read, type Pointer } from "bun:ffi";
import { appendFileSync } from "node:fs";

interface Context {
	readonly invocationId: string;
	readonly attempt: number;
}

interface Payload {
	readonly how?: "SIGKILL" | "SIGSEGV" | "segfault" | "exit 0" | "exit 3" | "abort" | "none";
	readonly afterMs?: number;
	/** Of the answer. */
	readonly bytes?: number;
	/** Only in attempts up to this one. */
	readonly until?: number;
}

function die(how: Payload["how"]): void {
	switch (how) {
		case "SIGKILL":
		case "SIGSEGV":
			process.kill(process.pid, how);
			return;
		case "segfault":
			// Reads where nothing is mapped, as broken native code does.
			read.u8(8 as Pointer);
			return;
		case "exit 0":
			return process.exit(0);
		case "exit 3":
			return process.exit(3);
		case "abort":
			return process.abort();
		case "none":
		case undefined:
			return;
	}
}

export default async function handler(req: Request, ctx: Context): Promise<Response> {
	const { how, afterMs, bytes = 0, until = Infinity } = (await req.json()) as Payload;
	const path = process.env["LEDGER"];
	if (path !== undefined) {
		const line = { what: "start", id: ctx.invocationId, attempt: ctx.attempt, pid: process.pid, born: 0, at: 0 };
		appendFileSync(path, `${JSON.stringify(line)}\n`);
	}
	if (ctx.attempt <= until && afterMs === undefined && how !== "none") {
		die(how);
		return new Promise<Response>(() => undefined);
	}
	if (ctx.attempt <= until && afterMs !== undefined) {
		const from = performance.now();
		// Fractions of a millisecond are waited out in the loop's way: the answer may be half written then.
		const wait = (): void => {
			if (performance.now() - from < afterMs) setImmediate(wait);
			else die(how);
		};
		setImmediate(wait);
	}
	return new Response("r".repeat(bytes));
}
