/** E2: clients that say nothing, speak a byte at a time, or never read. They hurt only themselves. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "../../../src/sources/client.ts";
import { RawClient } from "../../support/raw-client.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { COMMAND, connectMany, connectPatiently, invokePayload, percentile, rssOf, withEcho } from "./rig.ts";

const MiB = 1024 * 1024;

fault(
	"E2",
	"connections that say nothing or a byte at a time are waited for, cost little, and hold up no stop",
	async (f) => {
		await withEcho(async ({ daemon }) => {
			const { socketPath, client } = daemon;
			await client.invoke("echo", { body: "warm" });
			const before = rssOf(daemon.pid);
			const silent = await connectMany(socketPath, f.runs(100, 1_000));
			// Half of a head, and then nothing.
			const stuck = await connectMany(socketPath, f.runs(50, 500));
			for (const socket of stuck) socket.write(RawClient.frame(1n, COMMAND.INVOKE, "{}").subarray(0, 9));
			const slow = await Promise.all(Array.from({ length: 20 }, () => RawClient.connect(socketPath)));
			const frame = RawClient.frame(7n, COMMAND.INVOKE, JSON.stringify(invokePayload("slow")));
			const byteMs = f.long ? 1_000 : 5;
			for (let at = 0; at < frame.length; at += 1) {
				for (const { socket } of slow) socket.write(frame.subarray(at, at + 1));
				await sleep(byteMs);
				assert.equal((await client.invoke("echo", { body: `${at}` })).text(), `${at}`, "others are served");
			}
			for (const each of slow) assert.equal((await each.answer(7n)).json["success"], true);
			const grown = (rssOf(daemon.pid) - before) / MiB;
			assert.ok(grown < 64, `it grew by ${grown.toFixed(1)} MiB`);
			f.record(
				`${silent.length + stuck.length} silent connections and 20 at a byte each ${byteMs} ms: ${grown.toFixed(1)} MiB more`,
			);
			// They are still there when the daemon stops, which `withEcho` does; it must not wait for them.
			const begun = performance.now();
			assert.equal(await daemon.stop(), 0);
			const stopMs = performance.now() - begun;
			assert.ok(stopMs < 10_000, `the stop took ${stopMs} ms`);
			for (const socket of [...silent, ...stuck]) socket.destroy();
			for (const each of slow) await each[Symbol.asyncDispose]();
		});
	},
);

fault(
	"E2",
	"a client that never reads is disconnected at 64 MiB of answers; its work is done, others are answered",
	async (f) => {
		await withEcho(async ({ daemon }) => {
			const { socketPath, client } = daemon;
			const others = otherCalls(client);
			await others.quiet(50);
			const before = rssOf(daemon.pid);
			let highest = before;
			const readers = f.runs(1, 10);
			for (let reader = 0; reader < readers; reader += 1) {
				const socket = await connectPatiently(socketPath);
				socket.pause();
				let isClosed = false;
				socket.on("error", () => undefined);
				void once(socket, "close").then(() => (isClosed = true));
				// Every answer is a megabyte, so that the bound is reached soon.
				const megabyte = { headers: { "x-size": `${MiB}` }, idempotency_key: `mine${reader}` };
				for (let id = 0; id < 100; id += 1) {
					const payload = invokePayload("", { ...megabyte, idempotency_key: `${reader}/${id}` });
					socket.write(RawClient.frame(BigInt(id), COMMAND.INVOKE, JSON.stringify(payload)));
				}
				await waitFor("it to be disconnected", async () => {
					highest = Math.max(highest, rssOf(daemon.pid));
					await others.measure();
					return daemon.lines.filter((line) => line.includes("did not read its answers")).length > reader;
				});
				// What the kernel has for it is read, then the end comes.
				socket.resume();
				await waitFor("its end", () => isClosed);
				// It may come again, and finds what it submitted done.
				await using again = await RawClient.connect(socketPath);
				for (const id of [0n, 99n]) {
					const payload = invokePayload("", { ...megabyte, idempotency_key: `${reader}/${id}` });
					const { json } = await again.ask(id, COMMAND.INVOKE, payload);
					assert.deepEqual([json["success"], String(json["body"]).length], [true, Math.ceil(MiB / 3) * 4]);
				}
			}
			const { accepted } = await client.call("stats.get", {});
			assert.equal(Number(accepted), others.count + readers * 100, "a key's work is done once");
			const grown = (highest - before) / MiB;
			// The bound, what is being made of the next answer, and what the collector has not taken yet.
			assert.ok(grown < 400, `it grew by ${grown.toFixed(0)} MiB`);
			f.record(`${readers} that did not read: at most ${grown.toFixed(0)} MiB more; ${others.told()}`);
		});
	},
);

fault("E2", "one write full of requests to read large results costs neither the memory nor the loop", async (f) => {
	await withEcho(async ({ daemon }) => {
		const { socketPath, client } = daemon;
		const { invocationId } = await client.enqueue("echo", { headers: { "x-size": `${6 * MiB}` } });
		assert.equal((await client.waitForResult(invocationId)).state, "succeeded");
		const others = otherCalls(client);
		await others.quiet(50);
		const before = rssOf(daemon.pid);
		let highest = before;
		for (let round = 0; round < f.runs(1, 10); round += 1) {
			const socket = await connectPatiently(socketPath);
			socket.pause();
			// 64 KiB that ask for 7 GiB.
			const get = JSON.stringify({ invocation_id: invocationId });
			const frames = Array.from({ length: 900 }, (_, id) => RawClient.frame(BigInt(id), COMMAND.GET, get));
			socket.write(Buffer.concat(frames));
			for (let count = 0; count < 50; count += 1) {
				await others.measure();
				highest = Math.max(highest, rssOf(daemon.pid));
			}
			socket.destroy();
			await once(socket, "close");
		}
		const grown = (highest - before) / MiB;
		assert.ok(grown < 400, `it grew by ${grown.toFixed(0)} MiB`);
		f.record(`900 requests for 6 MiB in one write: at most ${grown.toFixed(0)} MiB more; ${others.told()}`);
	});
});

interface OtherCalls {
	readonly count: number;
	/** Before the trouble begins. */
	quiet(count: number): Promise<void>;
	/** One call, which has to be answered. */
	measure(): Promise<void>;
	told(): string;
}

function otherCalls(client: Client): OtherCalls {
	const quiet: number[] = [];
	const beside: number[] = [];
	const measure = async (into: number[]): Promise<void> => {
		const begun = performance.now();
		assert.equal((await client.invoke("echo", { body: "other" })).text(), "other");
		into.push(performance.now() - begun);
	};
	return {
		get count() {
			return quiet.length + beside.length;
		},
		async quiet(count) {
			for (let call = 0; call < count; call += 1) await measure(quiet);
		},
		measure: () => measure(beside),
		told: () =>
			`calls of others p99 ${percentile(beside, 0.99).toFixed(1)} ms, before ${percentile(quiet, 0.99).toFixed(1)} ms`,
	};
}
