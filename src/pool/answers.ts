/** What an answer of the runtime makes of an attempt. User code shares the worker's process, so nothing is taken on trust. */
import type { ErrorCode } from "../core/errors.ts";
import type { Outcome } from "../core/invocation.ts";
import { LIMITS } from "../core/limits.ts";
import type { WorkerMessage } from "../protocol/index.ts";
import type { Aboard } from "./aboard.ts";
import { timedOut } from "./verdict.ts";

export type Answer = Extract<WorkerMessage, { type: "response" | "failed" | "ended" }>;

/** What a worker may say of a failed call; anything else it says is taken as the first. */
const FAILURE_CODES: ReadonlySet<string> = new Set<ErrorCode>([
	"HANDLER_ERROR",
	"RESULT_NOT_RESPONSE",
	"RESULT_UNREADABLE",
	"RESULT_TOO_LARGE",
]);

/** Undefined where the answer contradicts what the attempt was told. */
export function outcomeOf(aboard: Aboard, answer: Answer, bodyBytesMax: number): Outcome | undefined {
	// Past its deadline every answer is late, also one that was under way when the abort was sent.
	if (aboard.phase === "timed_out") return timedOut(aboard.spec);
	switch (answer.type) {
		case "ended":
			return aboard.phase === "cancelled" ? { kind: "cancelled" } : undefined;
		case "failed": {
			const { name, stack, message } = answer;
			const code = (FAILURE_CODES.has(answer.code) ? answer.code : "HANDLER_ERROR") as ErrorCode;
			return {
				kind: "failed",
				error: {
					code,
					message: cut(message),
					...(name === undefined ? {} : { name: name.slice(0, 256) }),
					...(stack === undefined ? {} : { stack: cut(stack) }),
				},
			};
		}
		case "response": {
			const { status, headers, body } = answer;
			if (body.byteLength <= bodyBytesMax) return { kind: "succeeded", status, headers, body };
			const message = `the body of the Response has ${body.byteLength} bytes; at most ${bodyBytesMax} are allowed`;
			return { kind: "failed", error: { code: "RESULT_TOO_LARGE", message } };
		}
	}
}

/** The runtime has cut it already, with a mark. */
function cut(text: string): string {
	return text.slice(0, LIMITS.errorTextBytesMax + 32);
}
