/**
 * Payloads of the answers to INVOKE, GET and AWAIT, compatible and raw. INVOKE's is on the hot path and is put
 * together by hand: base64 and ids need no escaping.
 */
import type { Ended, InvocationRecord } from "../core/contracts.ts";
import type { Pairs } from "../core/request.ts";
import { base64Of, joinedPairs } from "./wire.ts";

/** A payload: JSON alone, or JSON with a raw body behind it. */
export type Answer = string | { readonly json: string; readonly body: Uint8Array };

/** What HELLO may change about answers. */
export interface AnswerStyle {
	/** Headers as `[[name, value], …]` instead of one joined string per name. */
	readonly pairs: boolean;
}

const EMPTY = new Uint8Array(0);

function headersJson(headers: Pairs, style: AnswerStyle): string {
	if (headers.length === 0) return style.pairs ? "[]" : "{}";
	return JSON.stringify(style.pairs ? headers : joinedPairs(headers));
}

/** INVOKE (0x01). A failed invocation is an answer with `success: false`. */
export function invokeAnswer(ended: Ended, style: AnswerStyle): string {
	const { result, error, invocationId } = ended;
	if (result === undefined) {
		return JSON.stringify({
			success: false,
			error: error?.message ?? `the invocation is ${ended.state}`,
			code: error?.code ?? "INTERNAL",
			execution_id: invocationId,
		});
	}
	return `{"success":true,"status":${result.status},"headers":${headersJson(result.headers, style)},"body":"${base64Of(
		result.body,
	)}","execution_time_ms":${Math.round(ended.executionMs)},"execution_id":"${invocationId}"}`;
}

/** INVOKE_RAW (0x22). */
export function invokeRawAnswer(ended: Ended): Answer {
	const { result, error, invocationId, state } = ended;
	if (result === undefined) {
		return {
			json: JSON.stringify({
				success: false,
				error: error?.message ?? `the invocation is ${state}`,
				code: error?.code ?? "INTERNAL",
				name: error?.name ?? null,
				stack: error?.stack ?? null,
				state,
				execution_time_ms: Math.round(ended.executionMs),
				execution_id: invocationId,
			}),
			body: EMPTY,
		};
	}
	const headers = result.headers.length === 0 ? "[]" : JSON.stringify(result.headers);
	return {
		json: `{"success":true,"status":${result.status},"headers":${headers},"state":"${state}","execution_time_ms":${Math.round(
			ended.executionMs,
		)},"execution_id":"${invocationId}"}`,
		body: result.body,
	};
}

function stateFields(record: InvocationRecord): Record<string, unknown> {
	return {
		invocation_id: record.invocationId,
		function_id: record.functionId,
		version: record.version,
		state: record.state,
		attempt: record.attempt,
		created_at: record.createdAt,
		started_at: record.startedAt ?? null,
		finished_at: record.finishedAt ?? null,
	};
}

/** GET_INVOCATION (0x11) and, with `extra`, AWAIT_INVOCATION (0x12). */
export function invocationAnswer(
	record: InvocationRecord,
	style: AnswerStyle,
	extra: Record<string, unknown> = {},
): string {
	const { result, error } = record;
	return JSON.stringify({
		...stateFields(record),
		...(result === undefined
			? {}
			: {
					result: {
						status: result.status,
						headers: style.pairs ? result.headers : joinedPairs(result.headers),
						body: base64Of(result.body),
						execution_time_ms: Math.round(record.runMs ?? 0),
						execution_id: record.invocationId,
					},
				}),
		...(error === undefined ? {} : { error: { code: error.code, message: error.message, stack: error.stack ?? "" } }),
		...extra,
	});
}

/** GET_RAW (0x24) and, with `extra`, AWAIT_RAW (0x25): the result's body follows the JSON. */
export function invocationRawAnswer(record: InvocationRecord, extra: Record<string, unknown> = {}): Answer {
	const { result, error } = record;
	return {
		json: JSON.stringify({
			...stateFields(record),
			function_name: record.functionName,
			result:
				result === undefined
					? null
					: {
							status: result.status,
							headers: result.headers,
							body_bytes: result.body.byteLength,
							execution_time_ms: Math.round(record.runMs ?? 0),
						},
			error:
				error === undefined
					? null
					: { code: error.code, message: error.message, name: error.name ?? null, stack: error.stack ?? null },
			...extra,
		}),
		body: result?.body ?? EMPTY,
	};
}
