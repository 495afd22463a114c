/** The records of all invocations, as the public API tells them, oldest first. */
import { crc32 } from "node:zlib";
import type { State } from "../../../src/core/invocation.ts";
import type { Client } from "../../../src/sources/client.ts";
import type { RowLine } from "./history.ts";

interface WireRecord {
	readonly invocation_id: string;
	readonly function_name: string;
	readonly state: State;
	readonly attempt: number;
	readonly charged: number;
	readonly max_attempts: number;
	readonly lane_key: string;
	readonly finished_at: number | null;
	readonly idempotency_key: string | null;
	readonly tags: readonly string[];
	readonly attempts: readonly { attempt: number; outcome: string }[];
	readonly result: { readonly body?: string } | null;
	readonly error: { readonly code: string } | null;
}

/** Requests under way at once. */
const AT_ONCE = 100;

export async function fetchRows(client: Client): Promise<RowLine[]> {
	const ids: string[] = [];
	for (let before: string | undefined; ;) {
		const page = (await client.call("invocations.list", { limit: 1000, ...(before && { before }) })) as {
			invocations: { invocation_id: string }[];
			next_before: string | null;
		};
		ids.push(...page.invocations.map(({ invocation_id }) => invocation_id));
		if (page.next_before === null) break;
		before = page.next_before;
	}
	ids.reverse();
	const rows: RowLine[] = [];
	for (let from = 0; from < ids.length; from += AT_ONCE) {
		const asked = ids
			.slice(from, from + AT_ONCE)
			.map((invocation_id) => client.call("invocations.get", { invocation_id, with_body: true }));
		for (const record of await Promise.all(asked)) rows.push(rowOf(record as unknown as WireRecord, rows.length));
	}
	return rows;
}

function rowOf(record: WireRecord, order: number): RowLine {
	const body = record.result === null ? undefined : Buffer.from(record.result.body ?? "", "base64");
	return {
		kind: "row",
		order,
		id: record.invocation_id,
		function: record.function_name,
		element: record.tags[0],
		key: record.idempotency_key ?? undefined,
		laneKey: record.lane_key,
		state: record.state,
		attempt: record.attempt,
		charged: record.charged,
		maxAttempts: record.max_attempts,
		finishedAt: record.finished_at ?? undefined,
		code: record.error?.code,
		attempts: record.attempts.map(({ attempt, outcome }) => ({ attempt, outcome })),
		answer: body === undefined ? undefined : answerOf(body),
		digest: body === undefined || body.byteLength === 0 ? 0 : crc32(body),
	};
}

function answerOf(body: Buffer): RowLine["answer"] {
	try {
		const { echo, sum, pattern } = JSON.parse(body.toString()) as { echo: unknown; sum: number; pattern: string };
		return { echo, sum, patternSum: crc32(pattern) };
	} catch {
		return { echo: `no answer of the ledger function: ${body.toString().slice(0, 80)}`, sum: 0, patternSum: 0 };
	}
}
