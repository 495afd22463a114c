/**
 * The checksums of a row: over everything of the request that runs, and everything of the result that is answered.
 *
 * SQLite has none of its own: a flipped byte in a value is found by no check of it (measured), and would be run, or be
 * answered, as if it had been accepted so. CRC-32: 0.27 µs for a request with 64 bytes, 2.8 µs for 4 KiB.
 *
 * Rows of 0.1.0 have one over the body alone, and are as good as they were. That weakens no other row: a damaged one would
 * have to have, by chance (1 in 4 billion), the checksum of its body alone.
 */
import { crc32 } from "node:zlib";

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

export function isRequestWhole(head: RequestHead, body: Uint8Array, stored: number): boolean {
	return requestChecksum(head, body) === stored || bodyChecksum(body) === stored;
}

export function isResultWhole(head: ResultHead, body: Uint8Array, stored: number | null): boolean {
	return resultChecksum(head, body) === stored || bodyChecksum(body) === stored;
}

function checksum(text: string, body: Uint8Array): number {
	const head = crc32(text);
	return body.byteLength === 0 ? head : crc32(body, head);
}

function bodyChecksum(body: Uint8Array): number {
	return body.byteLength === 0 ? 0 : crc32(body);
}
