/**
 * Logs as Server-Sent Events: each line is one event whose id is the line's, so a browser that reconnects goes on
 * where it was (`Last-Event-ID`).
 *
 *   S1  lines are fetched page by page and only when the client has taken the page before: a slow client costs one
 *       page of memory, and one that takes nothing for `STALL_MS` is disconnected
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { EngineError } from "../core/errors.ts";
import { whileWanted } from "./http-context.ts";
import type { HttpContext } from "./http-context.ts";
import { callOperation } from "./operations.ts";

/** At 16 KiB a line at most, a page is at most 4 MiB. */
const PAGE_LINES = 256;
/** Lines of the past that a stream without a cursor begins with. */
const BACKLOG_LINES = 100;
/** A comment goes out this often, so that proxies keep the connection and a dead client is noticed. */
const HEARTBEAT_MS = 15_000;
const STALL_MS = 30_000;

export function wantsStream(req: IncomingMessage): boolean {
	return (req.headers.accept ?? "").includes("text/event-stream");
}

function lastEventId(req: IncomingMessage): number | undefined {
	const given = req.headers["last-event-id"];
	if (given === undefined || given === "") return undefined;
	if (typeof given === "string" && /^[0-9]{1,16}$/.test(given)) return Number(given);
	throw new EngineError("BAD_REQUEST", "expected Last-Event-ID to be the id of a log line");
}

/** Streams until the client leaves or the source stops. `filter` are parameters of `logs.read`. */
export async function streamLogs(
	context: HttpContext,
	req: IncomingMessage,
	res: ServerResponse,
	filter: Readonly<Record<string, unknown>>,
): Promise<void> {
	const from = lastEventId(req) ?? filter["after"];
	await whileWanted(context, res, async (signal) => {
		let params: Record<string, unknown> =
			from === undefined
				? { limit: BACKLOG_LINES, ...filter, tail: true, wait_ms: 0 }
				: { ...filter, limit: PAGE_LINES, after: from, wait_ms: 0 };
		while (!signal.aborted) {
			const page = await callOperation(context.engine, "logs.read", params, {
				source: "http",
				signal,
				clock: context.environment.clock,
			});
			// The first page is read before the head is written, so that a bad filter is still answered as a problem.
			if (!res.headersSent) openStream(res);
			const lines = page["logs"] as readonly { readonly id: number }[];
			const chunk = lines.map((line) => `id: ${line.id}\nevent: log\ndata: ${JSON.stringify(line)}\n\n`).join("");
			await write(context, res, chunk === "" ? ": still here\n\n" : chunk, signal); // S1
			const { tail: _, offset: __, ...rest } = filter;
			params = { ...rest, limit: PAGE_LINES, after: page["next_after"], wait_ms: HEARTBEAT_MS };
		}
	});
	if (res.writableNeedDrain) res.destroy();
	else if (!res.destroyed) res.end();
}

function openStream(res: ServerResponse): void {
	res.shouldKeepAlive = false; // a stream is its connection's last answer, so that its end is the connection's
	res.writeHead(200, [
		"content-type",
		"text/event-stream",
		"cache-control",
		"no-store",
		"x-accel-buffering",
		"no",
		"x-content-type-options",
		"nosniff",
	]);
}

async function write(context: HttpContext, res: ServerResponse, chunk: string, signal: AbortSignal): Promise<void> {
	if (signal.aborted || res.destroyed || res.write(chunk)) return;
	await new Promise<void>((resolve) => {
		const finish = (): void => {
			timer.cancel();
			res.off("drain", finish);
			signal.removeEventListener("abort", finish);
			resolve();
		};
		const timer = context.environment.clock.setTimer(STALL_MS, () => {
			context.environment.logger.warn({ url: res.req.url }, "a log stream's client took nothing for 30 s; closing it");
			res.destroy();
			finish();
		});
		res.on("drain", finish);
		signal.addEventListener("abort", finish, { once: true });
	});
}
