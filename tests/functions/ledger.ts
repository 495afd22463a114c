/**
 * Says in the file LEDGER when it starts and how it ends; takes `ms` milliseconds in between, throws while the attempt
 * is at most `fail`, and answers with what it was given: `echo`, the checksum of the body, and `bytes` of a pattern.
 */
import { dlopen, ptr } from "bun:ffi";
import { appendFileSync } from "node:fs";
import { crc32 } from "node:zlib";

interface Context {
	readonly invocationId: string;
	readonly attempt: number;
}

interface Payload {
	readonly ms?: number;
	readonly echo?: unknown;
	readonly fail?: number;
	readonly bytes?: number;
}

/** CLOCK_MONOTONIC in ms, the same for all processes: Bun's own monotonic clocks begin at 0 in each process. */
const libc = dlopen("libc.so.6", { clock_gettime: { args: ["i32", "ptr"], returns: "i32" } });
const timespec = new BigInt64Array(2);
const timespecPtr = ptr(timespec);

function monotonicMs(): number {
	libc.symbols.clock_gettime(1, timespecPtr);
	return Number(timespec[0]) * 1000 + Number(timespec[1]) / 1e6;
}

/** Tells this process from an earlier one with the same pid. */
const born = Math.round(monotonicMs());

function tell(what: string, ctx: Context): void {
	const path = process.env["LEDGER"];
	if (path === undefined) return;
	const { invocationId: id, attempt } = ctx;
	appendFileSync(path, `${JSON.stringify({ what, id, attempt, pid: process.pid, born, at: monotonicMs() })}\n`);
}

/** As patternOf in tests/support/ledger.ts. */
function patternOf(echo: unknown, bytes: number): string {
	const unit = `${JSON.stringify(echo)} `;
	return unit.repeat(Math.ceil(bytes / unit.length)).slice(0, bytes);
}

export default async function handler(req: Request, ctx: Context): Promise<Response> {
	const text = await req.text();
	const { ms = 0, echo = null, fail = 0, bytes = 0 } = JSON.parse(text) as Payload;
	tell("start", ctx);
	if (ms > 0) await Bun.sleep(ms);
	if (ctx.attempt <= fail) {
		tell("throw", ctx);
		throw new Error(`attempt ${ctx.attempt} of ${fail} that fail`);
	}
	tell("finish", ctx);
	return Response.json({ echo, attempt: ctx.attempt, sum: crc32(text), pattern: patternOf(echo, bytes) });
}
