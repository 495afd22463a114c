/**
 * Tells a Response whose body is whole in memory from one whose body is a stream, and reads the first kind at once.
 *
 * A stream has to be read piece by piece, because it may never end; the stream, its reader, two reads and the garbage
 * of all that are a quarter of what a short call costs. The standard has no way to ask: `response.body` makes a
 * stream of every body. Bun's estimate of an object's size does tell, in 20 ns: it counts a whole body and nothing of
 * a stream. The few other things that it counts (a URL, a status text, properties) are ruled out one by one, so what
 * is not surely whole is taken for a stream; so is everything where the estimate is not what it is in Bun 1.4.5.
 */
import {
	ownApply,
	ownKeysOf,
	ownPrototypeOf,
	OwnResponse,
	OwnUint8Array,
	responseBytes,
	responseStatusText,
	responseUrl,
} from "./intrinsics.ts";

/** Bun's own means, given by main.ts. */
export interface BodyInsight {
	/** Bytes of an object without those it refers to. */
	readonly sizeOf: (value: object) => number;
	/** What a promise has come to, or the promise where it is open. */
	readonly peek: (promise: Promise<Uint8Array>) => unknown;
}

/** The body, where it is whole; undefined where it has to be read as a stream. */
export type ReadWhole = (response: Response) => Uint8Array | Promise<Uint8Array> | undefined;

export function createReadWhole({ sizeOf, peek }: BodyInsight): ReadWhole {
	const prototype: unknown = OwnResponse.prototype;
	const bare = sizeOf(new OwnResponse(null));
	if (sizeOf(new OwnResponse("12345678")) !== bare + 8) return () => undefined;
	return (response) => {
		if (sizeOf(response) <= bare) return undefined;
		if (ownPrototypeOf(response) !== prototype || ownKeysOf(response).length > 0) return undefined;
		if (ownApply(responseUrl, response, []) !== "" || ownApply(responseStatusText, response, []) !== "")
			return undefined;
		const bytes = ownApply(responseBytes, response, []);
		const now = peek(bytes);
		return now instanceof OwnUint8Array ? now : bytes;
	};
}
