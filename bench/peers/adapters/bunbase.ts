/**
 * The engine, by its own client library and with the configuration of the project's other round trips: one worker with
 * 128 places, as every peer has one worker process.
 */
import { join } from "node:path";
import { createClient } from "../../../src/sources/client.ts";
import { startDaemon } from "../../processes.ts";
import { chunksOf, drained, payloadOf, RECORDED_MAX, type AdapterContext, type Running } from "../contract.ts";

const FUNCTION = join(import.meta.dirname, "../function.ts");
const ONE_WORKER = { maxWorkers: 1, workerConcurrency: 128, maxQueued: 1_000_000 };
const BATCH = 1000;

export async function start({ folder, main }: AdapterContext): Promise<Running> {
	const daemon = await startDaemon(join(folder, "data"), { main });
	const client = createClient(daemon.socketPath);
	for (const name of ["live", "backlog"]) {
		await client.registerFunction(name);
		await client.call("functions.configure", { function: name, overrides: ONE_WORKER });
		await client.call("functions.deploy", { function: name, path: FUNCTION });
	}
	let ids: string[] = [];
	return {
		async submit(payload) {
			const answer = await client.invoke("live", { body: JSON.stringify(payload) });
			if (!answer.success) throw new Error(answer.error?.message);
			return answer.json();
		},
		async fill(count) {
			await client.call("lanes.pause", { function: "backlog", paused: true });
			ids = [];
			for (const payloads of chunksOf(count, BATCH)) {
				const requests = payloads.map((payload) => ({
					function_id: "backlog",
					method: "POST",
					path: "/",
					headers: {},
					query: {},
					body: Buffer.from(JSON.stringify(payload)).toString("base64"),
				}));
				const { results } = (await client.call("invocations.enqueue_batch", { requests })) as {
					results: { invocation_id?: string }[];
				};
				for (const result of results) {
					if (result.invocation_id === undefined) throw new Error(`not accepted: ${JSON.stringify(result)}`);
					ids.push(result.invocation_id);
				}
			}
		},
		async drain() {
			await client.call("lanes.pause", { function: "backlog", paused: false });
			await drained(async () => {
				const { queued, running } = await client.call("stats.get");
				return queued === 0 && running === 0;
			});
		},
		recorded: () =>
			Promise.all(
				ids.slice(0, RECORDED_MAX).map(async (id, n) => {
					const { response } = await client.getResult(id);
					return { payload: payloadOf(n), answer: response?.json() };
				}),
			),
		async close() {
			client.close();
			await daemon[Symbol.asyncDispose]();
		},
	};
}
