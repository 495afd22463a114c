/** Bodies: what the argument of `invoke` becomes on the wire, and how a response body is shown. */
import { isUtf8 } from "node:buffer";
import { readFile } from "node:fs/promises";
import { messageOf } from "../core/errors.ts";
import { parseJson, Usage } from "./cli-parse.ts";
import { object, text, type Session, type Wire } from "./cli-session.ts";

export interface RequestBody {
	readonly bytes: Uint8Array;
	/** Undefined where there is no body. */
	readonly contentType: string | undefined;
}

/** `{"a":1}` is JSON as typed, `@file` a file's bytes, `-` standard input. */
export async function readBody(session: Session, argument: string | undefined): Promise<RequestBody> {
	if (argument === undefined) return { bytes: new Uint8Array(0), contentType: undefined };
	if (argument === "-") return guess(await session.host.readStdin());
	if (argument.startsWith("@")) {
		const path = argument.slice(1);
		try {
			return guess(await readFile(path));
		} catch (cause) {
			throw new Usage(`cannot read the body from ${path}: ${messageOf(cause)}`);
		}
	}
	parseJson("the body", argument);
	return { bytes: Buffer.from(argument, "utf8"), contentType: "application/json" };
}

function guess(bytes: Uint8Array): RequestBody {
	if (!isUtf8(bytes)) return { bytes, contentType: "application/octet-stream" };
	try {
		JSON.parse(Buffer.from(bytes).toString("utf8"));
		return { bytes, contentType: "application/json" };
	} catch {
		return { bytes, contentType: "text/plain; charset=utf-8" };
	}
}

/** The bytes of a `result` as it comes over the wire. */
export function resultBytes(result: Wire): Buffer {
	return Buffer.from(text(result["body"]), "base64");
}

/** The record as --json shows it: its body as text where it is UTF-8. */
export function withReadableBody(record: Wire): Wire {
	if (typeof record["result"] !== "object" || record["result"] === null) return record;
	const result = object(record["result"]);
	if (typeof result["body"] !== "string") return record;
	const bytes = resultBytes(result);
	const utf8 = isUtf8(bytes);
	return {
		...record,
		result: {
			...result,
			body: utf8 ? bytes.toString("utf8") : result["body"],
			body_encoding: utf8 ? "utf8" : "base64",
		},
	};
}

/** Raw bytes into a pipe; on a terminal harmless text with a line end, and no binary. */
export async function writeBody(session: Session, result: Wire): Promise<void> {
	const { stdout } = session.host;
	const bytes = resultBytes(result);
	if (!stdout.isTTY) {
		if (bytes.byteLength > 0) await stdout.write(bytes);
		return;
	}
	if (!isUtf8(bytes)) {
		await session.tell(`(${bytes.byteLength} bytes that are no text; write them to a file with > FILE)\n`);
		return;
	}
	const shown = session.safe(bytes.toString("utf8"));
	if (shown !== "") await stdout.write(shown.endsWith("\n") ? shown : `${shown}\n`);
}
