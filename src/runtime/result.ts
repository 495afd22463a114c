/** A Response as bytes, or why it cannot be one. Reads its stream and stops at the limit. */
import type { ChannelPairs, RuntimeLimits } from "../protocol/index.ts";
import { OwnResponse, OwnUint8Array } from "./intrinsics.ts";
import { describeThrown, describeValue } from "./text.ts";

export type Result =
	| { readonly ok: true; readonly status: number; readonly headers: ChannelPairs; readonly body: Uint8Array }
	| { readonly ok: false; readonly code: string; readonly message: string };

const NOTHING = new OwnUint8Array(0);

function unusable(code: string, message: string): Result {
	return { ok: false, code, message };
}

/** `given` is what the handler returned. `aborted` is asked between chunks: nobody wants the rest then. */
export async function readResult(given: unknown, limits: RuntimeLimits, aborted: () => boolean): Promise<Result> {
	if (!(given instanceof OwnResponse)) {
		return unusable(
			"RESULT_NOT_RESPONSE",
			`the handler returned ${describeValue(given)}; return a Response, e.g. new Response("text") or Response.json(value)`,
		);
	}
	const { status } = given;
	if (status < 200 || status > 599) {
		return unusable("RESULT_UNREADABLE", `the Response has the status ${status}; a final answer has 200 to 599`);
	}
	if (given.bodyUsed) {
		return unusable("RESULT_UNREADABLE", "the body of the Response was read already; return it unread, or a clone()");
	}
	const headers: (readonly [string, string])[] = [];
	let headerBytes = 0;
	for (const [name, value] of given.headers) {
		headerBytes += name.length + value.length + 6;
		headers.push([name, value]);
	}
	if (headerBytes > limits.headersBytesMax) {
		return unusable(
			"RESULT_TOO_LARGE",
			`the headers of the Response have ${headerBytes} bytes; at most ${limits.headersBytesMax} are possible`,
		);
	}
	try {
		const body = await readBody(given, limits.bodyBytesMax, aborted);
		if (body !== undefined) return { ok: true, status, headers, body };
		return unusable(
			"RESULT_TOO_LARGE",
			`the body of the Response has more than ${limits.bodyBytesMax} bytes; raise maxBodyBytes, or answer with less`,
		);
	} catch (thrown) {
		const { message } = describeThrown(thrown, limits.errorTextBytesMax);
		return unusable("RESULT_UNREADABLE", `the body of the Response could not be read: ${message}`);
	}
}

/** Undefined where it is over the limit; its stream is cancelled then. */
async function readBody(response: Response, bytesMax: number, aborted: () => boolean): Promise<Uint8Array | undefined> {
	// Measured: a reader costs 2.8 µs, bytes() 0.5 µs, but bytes() cannot be stopped at the limit.
	const reader = response.body?.getReader() as ReadableStreamDefaultReader<unknown> | undefined;
	if (reader === undefined) return NOTHING;
	const parts: Uint8Array[] = [];
	let bytes = 0;
	for (;;) {
		const { done, value } = await reader.read();
		if (done) break;
		if (!(value instanceof OwnUint8Array))
			throw new TypeError(`its stream gave ${describeValue(value)}, no Uint8Array`);
		bytes += value.byteLength;
		if (bytes > bytesMax || aborted()) {
			// A source that never ends its cancel() must not hold the answer up.
			reader.cancel().catch(() => undefined);
			return bytes > bytesMax ? undefined : NOTHING;
		}
		parts.push(value);
	}
	if (parts.length === 1) return parts[0];
	const whole = new OwnUint8Array(bytes);
	let at = 0;
	for (const part of parts) {
		whole.set(part, at);
		at += part.byteLength;
	}
	return whole;
}
