/**
 * Whether a request has a body, and its bytes.
 *
 *   B1  a body over the limit is refused before it is read where its length is declared, and at the first byte past
 *       the limit where it is not; what was read is never more than limit + one chunk, however small its pieces
 *   B2  `100 Continue` is sent only to a client whose body we want
 *   B3  a client that goes away in the middle of its body has asked for nothing
 *   B4  JSON nested over 256 deep is refused before it is parsed
 *
 * Bodies are never decompressed: `Content-Encoding` is the handler's business, so no small body becomes a large one.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { EngineError } from "../core/errors.ts";
import { ClientGone } from "./http-problem.ts";
import { parseDocument } from "./wire-request.ts";

/** Largest JSON body of the /v1 API. */
export const JSON_BODY_BYTES_MAX = 1024 * 1024;
/** Pieces of a body under this are copied together. */
const PIECE_BYTES = 16 * 1024;
const NO_BYTES = new Uint8Array(0);

/** Decided by the head alone (RFC 9112 §6.3); Node has refused a request with both headers already. */
export function hasBody(req: IncomingMessage): boolean {
	if (req.headers["transfer-encoding"] !== undefined) return true;
	const length = req.headers["content-length"];
	return length !== undefined && Number(length) > 0;
}

function tooLarge(limit: number, got: string): EngineError {
	return new EngineError("BODY_TOO_LARGE", `the body has ${got} bytes; at most ${limit} are taken here`);
}

export async function readBody(req: IncomingMessage, res: ServerResponse, limit: number): Promise<Uint8Array> {
	if (!hasBody(req)) return NO_BYTES;
	const declared = req.headers["content-length"];
	if (declared !== undefined && Number(declared) > limit) throw tooLarge(limit, declared); // B1
	if (req.headers.expect !== undefined) res.writeContinue(); // B2
	return await new Promise<Uint8Array>((resolve, reject) => {
		const body = new Gathered();
		// Also where it came whole: what listens keeps the body for as long as there is the request, and its handler may take long.
		const finish = (settle: () => void): void => {
			req.off("data", onData);
			req.off("end", onEnd);
			req.off("close", onClose);
			settle();
		};
		const onData = (chunk: Buffer): void => {
			if (body.bytes + chunk.length > limit) finish(() => reject(tooLarge(limit, `more than ${limit}`))); // B1
			else body.add(chunk);
		};
		const onEnd = (): void => finish(() => resolve(body.whole()));
		const onClose = (): void => finish(() => reject(new ClientGone("the client left before its body was whole"))); // B3
		req.on("error", () => undefined); // a close follows
		req.on("data", onData);
		req.on("end", onEnd);
		req.on("close", onClose);
	});
}

/**
 * The bytes so far. A piece is a Buffer of its own that keeps what the socket read around it: 6 MB sent as chunks of one
 * byte, pieces kept in a list, made the daemon 2.6 GB large. So small pieces are copied together as they come.
 */
class Gathered {
	bytes = 0;
	readonly #pieces: Buffer[] = [];
	#last: Buffer | undefined;
	#lastUsed = 0;

	add(chunk: Buffer): void {
		this.bytes += chunk.length;
		// The usual body: one piece, never copied.
		if (this.#pieces.length === 0 || chunk.length >= PIECE_BYTES) {
			this.#endLast();
			this.#pieces.push(chunk);
			return;
		}
		for (let from = 0; from < chunk.length;) {
			if (this.#last === undefined) this.#last = Buffer.allocUnsafeSlow(PIECE_BYTES);
			const copied = chunk.copy(this.#last, this.#lastUsed, from);
			from += copied;
			this.#lastUsed += copied;
			if (this.#lastUsed === PIECE_BYTES) this.#endLast();
		}
	}

	whole(): Uint8Array {
		this.#endLast();
		const [first] = this.#pieces;
		if (first === undefined) return NO_BYTES;
		return this.#pieces.length === 1 ? first : Buffer.concat(this.#pieces, this.bytes);
	}

	#endLast(): void {
		if (this.#last !== undefined) this.#pieces.push(this.#last.subarray(0, this.#lastUsed));
		this.#last = undefined;
		this.#lastUsed = 0;
	}
}

/** The body as JSON; `undefined` where there is none. */
export async function readJson(
	req: IncomingMessage,
	res: ServerResponse,
	limit = JSON_BODY_BYTES_MAX,
): Promise<unknown> {
	const bytes = await readBody(req, res, limit);
	return bytes.byteLength === 0 ? undefined : parseDocument(bytes);
}
