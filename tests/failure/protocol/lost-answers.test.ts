/** E3: clients that send and are gone before the answer. Sent again under its key, nothing is done twice. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import Database from "better-sqlite3";
import { RawClient } from "../../support/raw-client.ts";
import { seededRandom } from "../../support/seed.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { COMMAND, connectPatiently, invokePayload, withEcho } from "./rig.ts";

const AT_ONCE = 16;

fault(
	"E3",
	"gone after sending, before the answer: one invocation for each key, and none for half a frame",
	async (f) => {
		const tries = f.runs(300, 10_000);
		await withEcho(async ({ daemon, dataDir }) => {
			const { socketPath } = daemon;
			const random = seededRandom(f.seed);
			const cutShort = new Set<string>();
			let next = 0;
			const vanish = async (): Promise<void> => {
				while (next < tries) {
					const key = `k${next}`;
					next += 1;
					const command = random.next() < 0.5 ? COMMAND.ENQUEUE : COMMAND.INVOKE;
					const frame = RawClient.frame(1n, command, JSON.stringify(invokePayload(key, { idempotency_key: key })));
					const socket = await connectPatiently(socketPath);
					socket.on("error", () => undefined);
					const how = random.next();
					if (how < 0.2) {
						cutShort.add(key);
						socket.end(frame.subarray(0, 1 + Math.floor(random.next() * (frame.length - 1))));
					} else if (how < 0.6) socket.end(frame);
					else socket.write(frame, () => socket.destroy());
					// At some time between the write and the answer.
					if (random.next() < 0.5) socket.destroySoon();
					else setTimeout(() => socket.destroy(), random.next() * 5);
					await once(socket, "close");
				}
			};
			await Promise.all(Array.from({ length: AT_ONCE }, vanish));
			// Every client comes back, with the same key.
			await using client = await RawClient.connect(socketPath);
			const ids = new Map<string, string>();
			let replayed = 0;
			for (let index = 0; index < tries; index += 1) {
				const key = `k${index}`;
				const { status, json, payload } = await client.ask(
					BigInt(index),
					COMMAND.ENQUEUE,
					invokePayload(key, { idempotency_key: key }),
				);
				assert.equal(status, 0, payload.toString());
				ids.set(key, String(json["invocation_id"]));
				if (json["replayed"] === true) {
					replayed += 1;
					assert.ok(!cutShort.has(key), `${key} was cut short and is known`);
				}
				client.frames.length = 0;
			}
			assert.equal(new Set(ids.values()).size, tries, "a key has its own invocation");
			assert.ok(replayed > 0 && replayed <= tries - cutShort.size, `${replayed} had been accepted`);
			await waitFor("everything to end", async () => {
				const { queued, running, accepted } = await daemon.client.call("stats.get", {});
				return queued === 0 && running === 0 && accepted === tries;
			});
			await waitFor(
				"every connection to be gone",
				async () => (await daemon.client.call("stats.get", {}))["waiters"] === 0,
			);
			const db = new Database(join(dataDir, "queue.db"), { readonly: true });
			const rows = db
				.prepare(
					"SELECT COUNT(*) AS count, COUNT(DISTINCT idempotency_key) AS keys, MIN(state) AS lowest, MAX(attempt) AS attempts FROM invocation",
				)
				.get() as Record<string, number>;
			db.close();
			f.record(
				`${tries} gone before the answer, ${replayed} of them accepted; sent again, one invocation for each key`,
			);
			assert.deepEqual([rows["count"], rows["keys"], rows["attempts"]], [tries, tries, 1], "each ran once");
		});
	},
);
