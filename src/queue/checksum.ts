/**
 * The checksums of a row: over everything of the request that runs, and everything of the result that is answered.
 *
 * SQLite has none of its own: a flipped byte in a value is found by no check of it (measured), and would be run, or be
 * answered, as if it had been accepted so. CRC-32: 0.27 µs for a request with 64 bytes, 2.8 µs for 4 KiB.
 *
 * Rows of the first schema have one over the body alone, and are as good as they were. Only they are held to that, because
 * zeros are whole by it: an empty body whose checksum is 0, which is what a lost sector reads as (seen in a fault test).
 */
import { crc32 } from "node:zlib";

/** The mark that says from which seq on. */
export const WHOLE_CHECKSUMS_MARK = "whole_checksums_from";

/** The parts of a request that are not its body; headers and query as they are stored. */
export interface RequestHead {
	readonly method: string;
	readonly path: string;
	readonly headers: string;
	readonly query: string;
}

export interface ResultHead {
	readonly status: number;
	readonly headers: string;
}

export function requestChecksum({ method, path, headers, query }: RequestHead, body: Uint8Array): number {
	return checksum(`${method} ${path}\n${headers}\n${query}`, body);
}

export function resultChecksum({ status, headers }: ResultHead, body: Uint8Array): number {
	return checksum(`${status}\n${headers}`, body);
}

/** Tells whether what is stored of a row is what was written. */
export class Checksums {
	/** Rows from here on have checksums over all of request and result. */
	readonly #wholeFrom: number;

	/** `wholeFrom` is the value of the mark; undefined in a database of the first schema. */
	constructor(wholeFrom: number | undefined) {
		this.#wholeFrom = wholeFrom ?? Number.POSITIVE_INFINITY;
	}

	isRequestWhole(seq: number, head: RequestHead, body: Uint8Array, stored: number): boolean {
		return requestChecksum(head, body) === stored || this.#isOld(seq, body, stored);
	}

	isResultWhole(seq: number, head: ResultHead, body: Uint8Array, stored: number | null): boolean {
		return resultChecksum(head, body) === stored || this.#isOld(seq, body, stored);
	}

	#isOld(seq: number, body: Uint8Array, stored: number | null): boolean {
		return seq < this.#wholeFrom && bodyChecksum(body) === stored;
	}
}

function checksum(text: string, body: Uint8Array): number {
	const head = crc32(text);
	return body.byteLength === 0 ? head : crc32(body, head);
}

function bodyChecksum(body: Uint8Array): number {
	return body.byteLength === 0 ? 0 : crc32(body);
}
