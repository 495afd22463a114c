/** What the operations cases share: deploys of the test functions, batches, and a daemon's resources. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Daemon } from "../../support/daemon.ts";
import { waitFor } from "../../support/wait-for.ts";

const FUNCTIONS = join(import.meta.dirname, "../../functions");
const BATCH = 1_000;

/** Deploys tests/functions/{file}.ts under `name`. */
export async function deploy(
	{ client }: Daemon,
	file: string,
	name: string,
	overrides: Record<string, unknown> = {},
): Promise<void> {
	await client.call("functions.deploy", {
		function: name,
		path: join(FUNCTIONS, `${file}.ts`),
		build: true,
		register: true,
	});
	if (Object.keys(overrides).length > 0) await client.call("functions.configure", { function: name, overrides });
}

/** Enqueues `count` in all, in turn over `functions`, in batches of 1,000; returns the ids in order of acceptance. */
export async function enqueueMany(
	{ client }: Daemon,
	functions: readonly string[],
	count: number,
	body: unknown = {},
): Promise<string[]> {
	const bytes = Buffer.from(JSON.stringify(body)).toString("base64");
	const ids: string[] = [];
	let next = 0;
	const send = async (): Promise<void> => {
		while (next < count) {
			const from = next;
			next = Math.min(count, next + BATCH);
			const requests = Array.from({ length: next - from }, (_, index) => ({
				function_id: functions[(from + index) % functions.length],
				method: "POST",
				path: "/",
				body: bytes,
			}));
			const { results } = (await client.call("invocations.enqueue_batch", { requests })) as {
				results: { invocation_id?: string }[];
			};
			for (const { invocation_id: id } of results) {
				if (id === undefined) throw new Error("one of a batch was refused");
				ids.push(id);
			}
		}
	};
	await Promise.all([send(), send()]);
	return ids;
}

export interface Counts {
	readonly queued: number;
	readonly running: number;
	readonly log_lines_dropped: number;
}

export async function counts({ client }: Daemon): Promise<Counts> {
	return (await client.call("stats.get", {})) as unknown as Counts;
}

/** Until nothing is queued and nothing runs. */
export async function drained(daemon: Daemon, withinMs = 30_000): Promise<void> {
	await waitFor(
		"the end of all work",
		async () => {
			const { queued, running } = await counts(daemon);
			return queued === 0 && running === 0;
		},
		withinMs,
	);
}

export function residentMb(pid: number): number {
	const line = /VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
	return Number(line?.[1] ?? 0) / 1024;
}

export function openDescriptors(pid: number): number {
	return readdirSync(`/proc/${pid}/fd`).length;
}
