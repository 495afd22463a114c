/** An invocation's record for people and programs on HTTP: the response body as JSON, text or base64, and which of them. */
import { isUtf8 } from "node:buffer";
import type { InvocationRecord, InvocationResult } from "../core/contracts.ts";
import { base64Of, wireInvocation, wireResult } from "./wire.ts";

type Encoding = "json" | "text" | "base64";

const TEXTUAL = /^(?:text\/|application\/(?:[\w.+-]*\+)?(?:xml|javascript|x-www-form-urlencoded|x-ndjson)(?:;|$))/i;
const JSON_TYPE = /^application\/(?:[\w.+-]*\+)?json(?:;|$)/i;

/** JSON only where its type says so and it parses; text only where it is UTF-8; the exact bytes are at `…/response`. */
function shownBody(result: InvocationResult): { body: unknown; encoding: Encoding } {
	const { body: bytes } = result;
	const type = result.headers.find(([name]) => name.toLowerCase() === "content-type")?.[1].trim() ?? "";
	const isJson = JSON_TYPE.test(type);
	if ((isJson || type === "" || TEXTUAL.test(type)) && isUtf8(bytes)) {
		const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
		if (isJson) {
			try {
				return { body: JSON.parse(text) as unknown, encoding: "json" };
			} catch {
				// Its type lied; it is shown as the text that it is.
			}
		}
		return { body: text, encoding: "text" };
	}
	return { body: base64Of(bytes), encoding: "base64" };
}

export function shownInvocation(record: InvocationRecord, withBody: boolean): Record<string, unknown> {
	const wire = wireInvocation(record, false);
	if (record.result === undefined || !withBody) return wire;
	return { ...wire, result: { ...wireResult(record.result, false), ...shownBody(record.result) } };
}
