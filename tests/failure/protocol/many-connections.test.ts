/** E4 and E5: connections by the thousand, and more than there are descriptors for. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { ClientError } from "../../../src/sources/client.ts";
import { RawClient } from "../../support/raw-client.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault, type Need } from "../fault.ts";
import { program } from "../needs.ts";
import {
	COMMAND,
	connectMany,
	connectPatiently,
	descriptorsMax,
	fdsOf,
	invokePayload,
	percentile,
	rssOf,
	withEcho,
} from "./rig.ts";

const IDLE = 10_000;
const ACTIVE = 1_000;
const KiB = 1024;
/** Here and in the daemon there is a descriptor for each, and some for everything else. */
const enoughDescriptors: Need = () =>
	descriptorsMax() >= IDLE + ACTIVE + 500
		? undefined
		: `needs ${IDLE + ACTIVE + 500} descriptors of a process (ulimit -Hn)`;

/** Every client asks `rounds` times, one after another; returns how long each took. */
async function busy(clients: readonly RawClient[], rounds: number): Promise<number[]> {
	const took: number[] = [];
	const payload = invokePayload("x");
	const each = clients.map(async (client) => {
		for (let round = 0; round < rounds; round += 1) {
			const begun = performance.now();
			const { json } = await client.ask(BigInt(round), COMMAND.INVOKE, payload);
			assert.equal(json["body"], payload["body"]);
			took.push(performance.now() - begun);
			client.frames.length = 0;
		}
	});
	await Promise.all(each);
	return took;
}

fault(
	"E4",
	"ten thousand idle connections cost some KB each, and the active ones do not notice them",
	{ needs: [enoughDescriptors] },
	async (f) => {
		const idle = f.long ? IDLE : 500;
		const active = f.long ? ACTIVE : 50;
		const rounds = f.long ? 20 : 5;
		await withEcho(async ({ daemon }) => {
			const { socketPath } = daemon;
			const sockets = await connectMany(socketPath, active);
			const clients = sockets.map((socket) => RawClient.of(socket));
			await busy(clients, rounds);
			const alone = await busy(clients, rounds);
			const before = rssOf(daemon.pid);
			const silent = await connectMany(socketPath, idle);
			// A connection is the daemon's when it was accepted.
			await waitFor("all to be accepted", () => fdsOf(daemon.pid) >= idle + active);
			const each = (rssOf(daemon.pid) - before) / idle / KiB;
			const beside = await busy(clients, rounds);
			f.ran(idle + active);
			const [p99Alone, p99Beside] = [percentile(alone, 0.99), percentile(beside, 0.99)];
			f.record(
				`${idle} idle connections: ${each.toFixed(1)} KiB each; p99 of ${active} active ${p99Beside.toFixed(0)} ms, without them ${p99Alone.toFixed(0)} ms`,
			);
			// 3 KiB are usual; in small a page of the heap counts for much.
			assert.ok(each < (f.long ? 16 : 64), `${each.toFixed(1)} KiB for each`);
			assert.ok(
				p99Beside < 4 * p99Alone + 250,
				`p99 ${p99Beside.toFixed(0)} ms, without them ${p99Alone.toFixed(0)} ms`,
			);
			// The last of the idle ones is served like the first.
			for (const socket of [silent.at(0), silent.at(-1)]) {
				assert.ok(socket !== undefined);
				assert.equal((await RawClient.of(socket).ask(1n, COMMAND.INVOKE, invokePayload("late"))).json["success"], true);
			}
			for (const socket of [...silent, ...sockets]) socket.destroy();
			await waitFor("every descriptor to be given back", () => fdsOf(daemon.pid) < 100, 20_000);
		});
	},
);

/** Sets how many descriptors a running process may have. */
function limitDescriptors(pid: number, count: number | string): void {
	const { status, stderr } = spawnSync("prlimit", [`--pid=${pid}`, `--nofile=${count}`], { encoding: "utf8" });
	assert.equal(status, 0, stderr);
}

fault(
	"E5",
	"out of descriptors the daemon serves whom it has, starts no worker, and recovers by itself",
	{ needs: [program("prlimit")] },
	async (f) => {
		// A spare has its descriptors already, and would serve `cold`.
		const without = { env: { BUNBASE_SPARE_WORKERS: "0" } };
		await withEcho(async ({ daemon, folder }) => {
			const { socketPath, client } = daemon;
			await client.invoke("echo", { body: "warm" });
			const [cold, source] = [`${folder}/echo.js`, `${folder}/other.ts`];
			writeFileSync(source, "export default () => new Response('other');");
			await client.call("functions.deploy", { function: "cold", path: cold, register: true });
			// Its worker of the deploy is gone, so that a call needs a new one.
			await client.call("functions.configure", { function: "cold", overrides: { idleTimeoutMs: 1_000 } });
			for (let round = 0; round < f.runs(1, 8); round += 1) {
				await waitFor("the worker of cold to be gone", async () => {
					const { workers } = (await client.call("workers.list", {})) as { workers: { function_name: string }[] };
					return workers.every(({ function_name: name }) => name !== "cold");
				});
				const held = fdsOf(daemon.pid);
				limitDescriptors(daemon.pid, `${held + 5}:${descriptorsMax()}`);
				const knocking: Socket[] = [];
				for (let count = 0; count < 40; count += 1) {
					const socket = connect(socketPath);
					socket.on("error", () => undefined);
					knocking.push(socket);
				}
				await waitFor("the last descriptor to be taken", () => fdsOf(daemon.pid) >= held + 4);
				// Whom it has: commits go on, results are read.
				for (let count = 0; count < 20; count += 1) {
					const { invocationId } = await client.enqueue("echo", { body: `${count}` });
					assert.equal((await client.waitForResult(invocationId)).state, "succeeded");
				}
				const { rss_bytes: rss } = await client.call("stats.get", {});
				assert.equal(typeof rss, "number", "samplers cope without a descriptor");
				// Who needs a process has to wait for one; it is not lost.
				const waiting = await client.enqueue("cold", { body: "later", maxAttempts: 1 });
				await sleep(300);
				assert.notEqual((await client.getResult(waiting.invocationId)).state, "succeeded");
				// Nor is there one for a build; the caller is told, with a code.
				const build = { function: "cold", path: source, build: true };
				await assert.rejects(client.call("functions.deploy", build), (error) => {
					assert.ok(error instanceof ClientError, String(error));
					assert.ok(
						error.code !== "DAEMON_UNREACHABLE" && error.code !== "INTERNAL",
						`${error.code}: ${error.message}`,
					);
					return true;
				});
				for (const socket of knocking) socket.destroy();
				limitDescriptors(daemon.pid, `${descriptorsMax()}:${descriptorsMax()}`);
				assert.equal((await client.waitForResult(waiting.invocationId, { timeoutMs: 60_000 })).state, "succeeded");
				const fresh = await connectPatiently(socketPath);
				assert.equal((await RawClient.of(fresh).ask(1n, COMMAND.INVOKE, invokePayload("new"))).json["success"], true);
				fresh.destroy();
				await once(fresh, "close");
				await waitFor("descriptors to be as before", () => fdsOf(daemon.pid) <= held + 10, 20_000);
			}
		}, without);
	},
);
