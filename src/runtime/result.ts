/**
 * A Response as bytes, or why it cannot be one. A body that is whole in memory is taken at once, without a turn of
 * the microtask queue; a stream is read piece by piece and stopped at the limit, so that an endless one stays bounded.
 */
import type { ChannelPairs, RuntimeLimits } from "../protocol/index.ts";
import {
	bytesLength,
	bytesSet,
	headersForEach,
	ownApply,
	OwnResponse,
	OwnUint8Array,
	readerCancel,
	readerRead,
	responseBody,
	responseBodyUsed,
	responseHeaders,
	responseStatus,
	signalAborted,
	streamGetReader,
} from "./intrinsics.ts";
import { describeThrown, describeValue } from "./text.ts";
import type { ReadWhole } from "./whole-body.ts";

export type Result =
	| { readonly ok: true; readonly status: number; readonly headers: ChannelPairs; readonly body: Uint8Array }
	| { readonly ok: false; readonly code: string; readonly message: string };

const NOTHING = new OwnUint8Array(0);

function unusable(code: string, message: string): Result {
	return { ok: false, code, message };
}

export interface ReadOptions {
	readonly limits: RuntimeLimits;
	readonly readWhole: ReadWhole;
	/** Asked between pieces: nobody wants the rest then. */
	readonly signal: AbortSignal;
}

/** `given` is what the handler returned. */
export function readResult(given: unknown, options: ReadOptions): Result | Promise<Result> {
	const status = statusOf(given);
	if (status === undefined) {
		const what = given instanceof OwnResponse ? "something that only inherits from Response" : describeValue(given);
		return unusable(
			"RESULT_NOT_RESPONSE",
			`the handler returned ${what}; return a Response, e.g. new Response("text") or Response.json(value)`,
		);
	}
	const response = given as Response;
	const { limits } = options;
	if (status < 200 || status > 599) {
		return unusable("RESULT_UNREADABLE", `the Response has the status ${status}; a final answer has 200 to 599`);
	}
	if (ownApply(responseBodyUsed, response, [])) {
		return unusable("RESULT_UNREADABLE", "the body of the Response was read already; return it unread, or a clone()");
	}
	const headers: (readonly [string, string])[] = [];
	let headerBytes = 0;
	// 0.5 µs less than its iterator; both give each Set-Cookie by itself.
	const take = (value: string, name: string): void => {
		headerBytes += name.length + value.length + 6;
		headers[headers.length] = [name, value];
	};
	ownApply(headersForEach, ownApply(responseHeaders, response, []), [take]);
	if (headerBytes > limits.headersBytesMax) {
		return unusable(
			"RESULT_TOO_LARGE",
			`the headers of the Response have ${headerBytes} bytes; at most ${limits.headersBytesMax} are possible`,
		);
	}
	const whole = options.readWhole(response);
	if (whole instanceof OwnUint8Array) return bounded(status, headers, whole, limits);
	return readLater(whole ?? readStream(response, options), status, headers, limits);
}

/** Undefined where it is no Response. What a property of it says instead of its inside is not believed. */
function statusOf(given: unknown): number | undefined {
	try {
		return ownApply(responseStatus, given as Response, []);
	} catch {
		return undefined;
	}
}

function bounded(
	status: number,
	headers: ChannelPairs,
	body: Uint8Array | undefined,
	{ bodyBytesMax }: RuntimeLimits,
): Result {
	if (body !== undefined && ownApply(bytesLength, body, []) <= bodyBytesMax) return { ok: true, status, headers, body };
	return unusable(
		"RESULT_TOO_LARGE",
		`the body of the Response has more than ${bodyBytesMax} bytes; raise maxBodyBytes, or answer with less`,
	);
}

async function readLater(
	reading: Promise<Uint8Array | undefined>,
	status: number,
	headers: ChannelPairs,
	limits: RuntimeLimits,
): Promise<Result> {
	try {
		return bounded(status, headers, await reading, limits);
	} catch (thrown) {
		const { message } = describeThrown(thrown, limits.errorTextBytesMax);
		return unusable("RESULT_UNREADABLE", `the body of the Response could not be read: ${message}`);
	}
}

/** Undefined where it is over the limit; its stream is cancelled then. */
async function readStream(
	response: Response,
	{ limits: { bodyBytesMax }, signal }: ReadOptions,
): Promise<Uint8Array | undefined> {
	// bytes() would be cheaper, but cannot be stopped at the limit.
	const stream = ownApply(responseBody, response, []);
	if (stream === null) return NOTHING;
	const reader = ownApply(streamGetReader, stream, []) as ReadableStreamDefaultReader<unknown>;
	const parts: Uint8Array[] = [];
	let bytes = 0;
	for (;;) {
		const { done, value } = await ownApply(readerRead, reader, []);
		if (done) break;
		if (!(value instanceof OwnUint8Array))
			throw new TypeError(`its stream gave ${describeValue(value)}, no Uint8Array`);
		bytes += ownApply(bytesLength, value, []);
		if (bytes > bodyBytesMax || ownApply(signalAborted, signal, [])) {
			// A source that never ends its cancel() must not hold the answer up.
			void giveUp(reader);
			return bytes > bodyBytesMax ? undefined : NOTHING;
		}
		parts[parts.length] = value;
	}
	if (parts.length === 1) return parts[0];
	const whole = new OwnUint8Array(bytes);
	let at = 0;
	for (let i = 0; i < parts.length; i += 1) {
		const part = parts[i] ?? NOTHING;
		ownApply(bytesSet, whole, [part, at]);
		at += ownApply(bytesLength, part, []);
	}
	return whole;
}

async function giveUp(reader: ReadableStreamDefaultReader<unknown>): Promise<void> {
	try {
		await ownApply(readerCancel, reader, []);
	} catch {
		// Whoever made the stream knows.
	}
}
