/** E9: many who wait for one invocation, over a restart, for one that is gone; and those who go away while they wait. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { silentLogger, silentProbe, type Clock } from "../../../src/core/environment.ts";
import { LIMITS } from "../../../src/core/limits.ts";
import { createEngine, socketSource } from "../../../src/index.ts";
import { createClient, type Client } from "../../../src/sources/client.ts";
import { startDaemon } from "../../support/daemon.ts";
import { RawClient } from "../../support/raw-client.ts";
import { realEnvironment } from "../../support/real-environment.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { COMMAND, rssOf, withEcho } from "./rig.ts";

const MiB = 1024 * 1024;
const DAY = 86_400_000;

const waiters = async (client: Client): Promise<number> => Number((await client.call("stats.get", {}))["waiters"]);

/** Works until it is told: until then it is waited for. */
async function enqueueSleeping(client: Client, ms: number): Promise<string> {
	return (await client.enqueue("echo", { body: "the one answer", headers: { "x-sleep": `${ms}` } })).invocationId;
}

fault(
	"E9",
	"thousands who wait for one invocation are all told the same end, before, at and after it; none is left",
	async (f) => {
		await withEcho(async ({ daemon }) => {
			const { client, socketPath } = daemon;
			await client.invoke("echo", { body: "warm" });
			const count = f.runs(500, 5_000);
			const id = await enqueueSleeping(client, f.long ? 8_000 : 2_500);
			const wait = JSON.stringify({ invocation_id: id, timeout_ms: 60_000 });
			const connections = await Promise.all(Array.from({ length: 10 }, () => RawClient.connect(socketPath)));
			try {
				// Half before, on ten connections; some come while it ends and some after, one after another.
				for (let each = 0; each < count / 2; each += 1) {
					connections[each % 10]?.socket.write(RawClient.frame(BigInt(each), COMMAND.AWAIT, wait));
				}
				await waitFor("them to wait", async () => (await waiters(client)) >= count / 2);
				for (let each = count / 2; each < count; each += 1) {
					connections[each % 10]?.socket.write(RawClient.frame(BigInt(each), COMMAND.AWAIT, wait));
					if (each % 50 === 0) await sleep(f.long ? 80 : 300);
				}
				const ends = new Set<string>();
				for (let each = 0; each < count; each += 1) {
					const { status, payload } = (await connections[each % 10]?.answer(BigInt(each))) ?? {
						status: -1,
						payload: "",
					};
					assert.equal(status, 0, String(payload));
					ends.add(String(payload));
				}
				assert.equal(ends.size, 1, "word for word the same");
				const [end] = ends;
				const { state, result } = JSON.parse(end ?? "{}") as { state: string; result: { body: string } };
				assert.equal(state, "succeeded");
				assert.equal(Buffer.from(result.body, "base64").toString(), "the one answer");
				assert.equal(await waiters(client), 0);
				f.record(`${count} waited for one invocation; all were told the same`);
			} finally {
				for (const connection of connections) await connection[Symbol.asyncDispose]();
			}
		});
	},
);

fault("E9", "those who go away, or whose wait runs out, leave nothing behind", async (f) => {
	await withEcho(async ({ daemon }) => {
		const { client, socketPath } = daemon;
		await client.invoke("echo", { body: "warm" });
		const id = await enqueueSleeping(client, 300_000);
		const count = f.runs(500, 5_000);
		// V8 lets its heap grow before it looks closely: from 187 to 310 MiB in the first eight rounds, to 357 in the next thirty.
		const warmUp = f.long ? 8 : 0;
		const rounds = warmUp + (f.long ? 16 : 2);
		let before = 0;
		for (let round = 0; round < rounds; round += 1) {
			const connections = await Promise.all(Array.from({ length: 5 }, () => RawClient.connect(socketPath)));
			// Four of five for long, one of five for 100 ms.
			for (let each = 0; each < count; each += 1) {
				const wait = JSON.stringify({ invocation_id: id, timeout_ms: each % 5 === 0 ? 100 : 3_600_000 });
				connections[each % 5]?.socket.write(RawClient.frame(BigInt(each), COMMAND.AWAIT, wait));
			}
			await waitFor("the short waits to run out", () => connections[0]?.frames.length === count / 5);
			for (const { json } of connections[0]?.frames ?? []) assert.equal(json["timed_out_waiting"], true);
			await waitFor("the long ones to wait", async () => (await waiters(client)) === count - count / 5);
			for (const [index, connection] of connections.entries()) {
				// Gone at once, or with an end.
				if (index % 2 === 0) connection.socket.destroy();
				else connection.socket.end();
				if (!connection.socket.closed) await once(connection.socket, "close");
			}
			await waitFor("nobody to wait", async () => (await waiters(client)) === 0);
			if (round === warmUp) before = rssOf(daemon.pid);
		}
		const grown = (rssOf(daemon.pid) - before) / MiB;
		assert.ok(grown < 100, `it grew by ${grown.toFixed(0)} MiB over ${(rounds - warmUp - 1) * count} waits`);
		// The invocation that they left does not care.
		assert.equal((await client.getResult(id)).state, "running");
		assert.equal((await client.cancel(id)).invocationId, id);
		f.record(`${rounds * count} waits abandoned or run out: none left, ${grown.toFixed(1)} MiB more`);
	});
});

fault("E9", "who waits for an invocation while the daemon dies and comes back is told its end", async (f) => {
	await withEcho(async ({ daemon, dataDir }) => {
		const count = f.runs(50, 500);
		// A client of its own each: they reconnect by themselves.
		const id = await enqueueSleeping(daemon.client, 1_500);
		const clients = Array.from({ length: 10 }, () => createClient(daemon.socketPath));
		try {
			const told = Promise.all(
				Array.from({ length: count }, async (_, each) => clients[each % 10]?.waitForResult(id, { timeoutMs: 60_000 })),
			);
			await waitFor("them to wait", async () => (await waiters(daemon.client)) === count);
			await daemon.kill();
			const next = await startDaemon(dataDir);
			try {
				const ends = await told;
				assert.ok(ends.every((end) => end?.state === "succeeded" && end.response?.text() === "the one answer"));
				// It ran in both lives, because the first was cut short, and ended once.
				const { attempt } = await next.client.call("invocations.get", { invocation_id: id });
				assert.equal(attempt, 2);
				assert.equal(await waiters(next.client), 0);
			} finally {
				assert.equal(await next.stop(), 0);
			}
		} finally {
			for (const client of clients) client.close();
		}
	});
});

fault(
	"E9",
	"a wait for an id past retention is told so, also where its record goes while it is asked for",
	async (f) => {
		using folder = tempFolder();
		const path = join(folder.path, "f.js");
		writeFileSync(path, "export default () => new Response('ran');");
		let ahead = 0;
		const clock: Clock = {
			...realEnvironment.clock,
			now: () => Date.now() + ahead,
			// Retention looks every ten seconds; here twenty times a second.
			setTimer: (ms, fire) => realEnvironment.clock.setTimer(ms === LIMITS.maintenanceMs ? 50 : ms, fire),
		};
		const environment = { ...realEnvironment, clock, probe: silentProbe, logger: silentLogger };
		const socketPath = join(folder.path, "s.sock");
		const sources = [socketSource({ path: socketPath, environment })];
		await using engine = createEngine({ dataDir: join(folder.path, "data"), environment, sources });
		await engine.start();
		await engine.deploy({ function: "f", path, register: true });
		await using client = await RawClient.connect(socketPath);
		const made: string[] = [];
		for (let each = 0; each < f.runs(3, 30); each += 1) {
			const { json } = await client.ask(BigInt(each), COMMAND.INVOKE, { function_id: "f", method: "POST", path: "/" });
			made.push(String(json["execution_id"]));
		}
		ahead = 8 * DAY;
		const last = made.at(-1) ?? "";
		let asked = 1_000n;
		const ask = async (id: string): Promise<string> => {
			asked += 1n;
			const { status, json } = await client.ask(asked, COMMAND.AWAIT, { invocation_id: id, timeout_ms: 60_000 });
			return status === 0 ? String(json["state"]) : String(json["code"]);
		};
		// Until retention has looked its record is there, and is the end.
		const seen = new Set<string>();
		await waitFor(
			"the record to leave",
			async () => {
				seen.add(await ask(last));
				return seen.has("RESULT_PRUNED");
			},
			30_000,
		);
		assert.ok(
			[...seen].every((state) => state === "succeeded" || state === "RESULT_PRUNED"),
			[...seen].join(" "),
		);
		for (const id of made) assert.equal(await ask(id), "RESULT_PRUNED");
		assert.equal(await ask("inv_00000000000000000zzzz"), "INVOCATION_NOT_FOUND");
		assert.equal(await ask("inv_0000000000vvvvvvvvvvv"), "INVOCATION_NOT_FOUND", "one that never was");
		assert.equal(engine.stats().waiters, 0);
	},
);
