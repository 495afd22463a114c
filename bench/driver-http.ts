/** POST /functions/{name} over one raw keep-alive connection: one caller per connection, one request at a time. */
import type { Call, HttpDrive } from "./drive.ts";
import type { Loop } from "./driver-frames.ts";

export function httpRequest({ host, port }: HttpDrive, { functionId, bodyBytes }: Call): Buffer {
	const body = Buffer.alloc(bodyBytes, "x");
	const head =
		`POST /functions/${functionId} HTTP/1.1\r\nHost: ${host}:${port}\r\n` +
		`Content-Type: application/octet-stream\r\nContent-Length: ${body.length}\r\n\r\n`;
	return Buffer.concat([Buffer.from(head, "latin1"), body]);
}

/** Reads answers with a Content-Length, which is all that the engine sends for a body it holds whole. */
export function httpLoop(request: Buffer, caller: number, answered: (caller: number) => boolean): Loop {
	let held: Buffer | undefined;
	return {
		start: () => request,
		data(chunk) {
			const bytes = held === undefined ? chunk : Buffer.concat([held, chunk]);
			const headEnd = bytes.indexOf("\r\n\r\n");
			if (headEnd < 0) {
				held = bytes;
				return undefined;
			}
			const head = bytes.toString("latin1", 0, headEnd);
			const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
			if (!head.startsWith("HTTP/1.1 200") || length === undefined) {
				throw new Error(`expected 200 with a Content-Length, got:\n${bytes.toString("utf8", 0, 2000)}`);
			}
			const end = headEnd + 4 + Number(length);
			if (bytes.length < end) {
				held = bytes;
				return undefined;
			}
			held = undefined;
			return answered(caller) ? request : undefined;
		},
	};
}
