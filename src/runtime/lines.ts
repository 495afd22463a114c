/**
 * Log lines on their way out: each within a bound, all of one attempt within a budget. What is over the budget is
 * counted and reported once, when the attempt ends.
 */
import type { ChannelLogLevel, LogMessage, RuntimeLimits } from "../protocol/index.ts";
import {
	ownApply,
	ownMin,
	ownMonotonic,
	ownNow,
	ownParse,
	ownStringify,
	stringIndexOf,
	stringSlice,
	stringStartsWith,
} from "./intrinsics.ts";
import { cutText } from "./text.ts";

/** Lines outside of any call share one budget, which fills up again at this pace. */
const REFILL_BYTES_PER_MS = 64;

export interface LineSink {
	line(level: ChannelLogLevel, text: string, metadata?: unknown): void;
	/** A piece of text as stdout and stderr get it; lines are cut at line feeds. */
	write(level: ChannelLogLevel, text: string): void;
	/** Sends what is left: the last unfinished line, and how much was dropped. */
	end(): void;
}

export interface LineSinkOptions {
	readonly call: number | undefined;
	readonly limits: RuntimeLimits;
	readonly send: (message: LogMessage) => void;
}

export function createLineSink({ call, limits, send }: LineSinkOptions): LineSink {
	let left = limits.logBytesPerAttemptMax;
	let filledAt = ownMonotonic();
	let droppedLines = 0;
	let ended = false;
	const unfinished = { debug: "", info: "", warn: "", error: "" };

	function post(level: ChannelLogLevel, message: string, metadata: Record<string, unknown> | undefined): void {
		send({ type: "log", call, level, message, metadata, at: ownNow() });
	}

	function reportDropped(): void {
		if (droppedLines === 0) return;
		post(
			"warn",
			`${droppedLines} more log lines were dropped: ${limits.logBytesPerAttemptMax} bytes are kept`,
			undefined,
		);
		droppedLines = 0;
	}

	function line(level: ChannelLogLevel, text: string, metadata?: unknown): void {
		if (call === undefined) {
			const now = ownMonotonic();
			left = ownMin(limits.logBytesPerAttemptMax, left + (now - filledAt) * REFILL_BYTES_PER_MS);
			filledAt = now;
		}
		if (left <= 0) {
			// Lines printed after the end (timers, waitUntil) have no later moment at which they could be counted.
			if (!ended) droppedLines += 1;
			return;
		}
		if (call === undefined) reportDropped();
		const message = cutText(text, limits.logLineBytesMax);
		const extra = metadata === undefined ? undefined : readMetadata(metadata, limits.logLineBytesMax);
		left -= message.length + (extra?.bytes ?? 0) + 64;
		post(level, message, extra?.value);
	}

	function write(level: ChannelLogLevel, text: string): void {
		const all = unfinished[level] + text;
		let from = 0;
		for (let to = feedIn(all, from); to >= 0; to = feedIn(all, from)) {
			line(level, ownApply(stringSlice, all, [from, to]));
			from = to + 1;
		}
		const last = ownApply(stringSlice, all, [from]);
		// Outside of a call nobody ends the sink, so nothing is held back there.
		const keep = call !== undefined && !ended && last.length < limits.logLineBytesMax;
		unfinished[level] = keep ? last : "";
		if (!keep && last !== "") line(level, last);
	}

	function endLine(level: ChannelLogLevel): void {
		if (unfinished[level] !== "") line(level, unfinished[level]);
		unfinished[level] = "";
	}

	return {
		line,
		write,
		end() {
			endLine("info");
			endLine("error");
			reportDropped();
			ended = true;
		},
	};
}

function feedIn(text: string, from: number): number {
	return ownApply(stringIndexOf, text, ["\n", from]);
}

/** Metadata as a plain object whose JSON text is within the bound; what cannot be JSON is said so. */
function readMetadata(
	metadata: unknown,
	bytesMax: number,
): { readonly value: Record<string, unknown>; readonly bytes: number } {
	try {
		const text = ownStringify(metadata) as string | undefined;
		if (text === undefined || text === "null") return { value: {}, bytes: 0 };
		if (text.length > bytesMax) return { value: { metadataDropped: `${text.length} characters` }, bytes: 32 };
		// A snapshot: the object may change, or answer differently, before it is sent.
		const value = ownParse(text) as unknown;
		return {
			value: ownApply(stringStartsWith, text, ["{"]) ? (value as Record<string, unknown>) : { value },
			bytes: text.length,
		};
	} catch {
		return { value: { metadataDropped: "it cannot be written as JSON" }, bytes: 48 };
	}
}
