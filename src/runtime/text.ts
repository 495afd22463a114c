/** Text of anything, within a bound: what was thrown, what was returned. Nothing here throws. */
import {
	encoderEncodeInto,
	ownApply,
	ownIsArray,
	ownKeys,
	ownPrototypeOf,
	ownString,
	OwnTextEncoder,
	OwnUint8Array,
	stringSlice,
} from "./intrinsics.ts";

const CUT_MARK = " … [cut]";
const encoder = new OwnTextEncoder();

/** Its UTF-8 bytes. Within the bound, or whoever bounds the text again would cut the mark. */
const CUT_MARK_BYTES = 10;

/** At most `bytesMax` bytes of UTF-8, the mark included. */
export function cutText(text: string, bytesMax: number): string {
	// One UTF-16 unit is at most three bytes, so most texts need no counting.
	if (text.length * 3 <= bytesMax) return text;
	if (unitsWithin(text, bytesMax) === text.length) return text;
	return ownApply(stringSlice, text, [0, unitsWithin(text, bytesMax - CUT_MARK_BYTES)]) + CUT_MARK;
}

/** How many UTF-16 units of it fit into so many bytes. */
function unitsWithin(text: string, bytes: number): number {
	return ownApply(encoderEncodeInto, encoder, [text, new OwnUint8Array(bytes)]).read;
}

export interface ThrownText {
	readonly name: string | undefined;
	readonly message: string;
	readonly stack: string | undefined;
}

/** Reads one property of something that may answer with an exception. */
function peek(value: object, key: string): unknown {
	try {
		return (value as Record<string, unknown>)[key];
	} catch {
		return undefined;
	}
}

/** Its text, whatever its toString does. */
export function textOf(value: unknown): string {
	try {
		return ownString(value);
	} catch {
		return "a value that has no text";
	}
}

/** What a handler threw, which may be anything, also an Error whose getters throw. */
export function describeThrown(thrown: unknown, bytesMax: number): ThrownText {
	if (typeof thrown !== "object" || thrown === null) {
		return { name: undefined, message: cutText(`thrown: ${textOf(thrown)}`, bytesMax), stack: undefined };
	}
	const name = peek(thrown, "name");
	const message = peek(thrown, "message");
	const stack = peek(thrown, "stack");
	const cause = peek(thrown, "cause");
	let trace = typeof stack === "string" ? stack : undefined;
	if (trace !== undefined && cause !== undefined && cause !== null) {
		const under = typeof cause === "object" ? (peek(cause, "stack") ?? peek(cause, "message")) : cause;
		trace += `\ncaused by: ${textOf(under)}`;
	}
	return {
		name: typeof name === "string" ? cutText(name, 256) : undefined,
		message: cutText(typeof message === "string" ? message : `thrown: ${describeValue(thrown)}`, bytesMax),
		stack: trace === undefined ? undefined : cutText(trace, bytesMax),
	};
}

/** What something is, in a few words: for "the handler returned …". */
export function describeValue(value: unknown): string {
	if (value === undefined) return "undefined";
	if (value === null) return "null";
	if (typeof value === "string") return `a string of ${value.length} characters`;
	if (typeof value === "function") return "a function";
	if (typeof value !== "object") return `the ${typeof value} ${textOf(value)}`;
	try {
		if (ownIsArray(value)) return `an array of ${value.length}`;
		const prototype = ownPrototypeOf(value) as { constructor?: { name?: unknown } } | null;
		const name = prototype?.constructor?.name;
		const kind = typeof name === "string" && name !== "Object" && name !== "" ? `an instance of ${name}` : "an object";
		const keys = ownKeys(value);
		let text = kind;
		for (let i = 0; i < keys.length && i < 5; i += 1) text += `${i === 0 ? " with " : ", "}${keys[i]}`;
		return cutText(text, 512);
	} catch {
		return "an object that cannot be read";
	}
}
