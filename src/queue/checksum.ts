/**
 * The checksums of a row: over everything of the request that runs, and everything of the result that is answered.
 *
 * SQLite has none of its own: a flipped byte in a value is found by no check of it (measured), and would be run, or be
 * answered, as if it had been accepted so. CRC-32: 0.3 µs for 64 bytes, 2.8 µs for 4 KiB.
 */
import { crc32 } from "node:zlib";

export function requestChecksum(
	method: string,
	path: string,
	headers: string,
	query: string,
	body: Uint8Array,
): number {
	return checksum(`${method} ${path}\n${headers}\n${query}`, body);
}

export function resultChecksum(status: number, headers: string, body: Uint8Array): number {
	return checksum(`${status}\n${headers}`, body);
}

function checksum(text: string, body: Uint8Array): number {
	const head = crc32(text);
	return body.byteLength === 0 ? head : crc32(body, head);
}
