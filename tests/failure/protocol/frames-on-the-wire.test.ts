/** E1: the same broken frames against a real daemon over its socket, and what a length field alone may cost it. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { startDaemon, type Daemon } from "../../support/daemon.ts";
import { RawClient } from "../../support/raw-client.ts";
import { fc } from "../../support/seed.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { fault } from "../fault.ts";
import { bytesOf, checkAnswers, chunksOf, framesOf, readingOf, streams, type Stream } from "./frame-fuzz.ts";

const MiB = 1024 * 1024;
const INVOKE = 0x01;
const AT_ONCE = 20;

/** Resident bytes of a process. */
function rssOf(pid: number): number {
	return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]) * 1024;
}

async function withEcho(run: (daemon: Daemon) => Promise<void>): Promise<void> {
	using folder = tempFolder();
	const path = join(folder.path, "echo.js");
	writeFileSync(path, "export default async (req) => new Response(await req.arrayBuffer());");
	const daemon = await startDaemon(join(folder.path, "data"));
	try {
		await daemon.client.call("functions.deploy", { function: "echo", path, register: true });
		await run(daemon);
	} finally {
		assert.equal(await daemon.stop(), 0);
	}
}

/** Sends a stream on a connection of its own, ends it, and returns all that came back. */
async function converse(path: string, stream: Stream, bytes: Buffer): Promise<Buffer> {
	const socket = connect({ path, allowHalfOpen: true });
	await once(socket, "connect");
	const answers: Buffer[] = [];
	socket.on("data", (chunk: Buffer) => answers.push(chunk));
	const closed = once(socket, "end");
	// A daemon that has closed its side resets what is sent on: no fault of it.
	socket.on("error", () => undefined);
	socket.setNoDelay(true);
	for (const chunk of chunksOf(stream, bytes)) socket.write(chunk);
	if (!readingOf(bytes).broken) socket.end();
	await closed;
	socket.destroy();
	return Buffer.concat(answers);
}

fault(
	"E1",
	"a real daemon closes only the connection that broke the framing, and answers everybody else",
	async (f) => {
		await withEcho(async (daemon) => {
			const { socketPath } = daemon;
			await using bystander = await RawClient.connect(socketPath);
			const call = { function_id: "echo", method: "POST", path: "/", body: Buffer.from("hello").toString("base64") };
			assert.equal((await bystander.ask(1n, INVOKE, call)).json["success"], true);
			const rssBefore = rssOf(daemon.pid);
			let frames = 0;
			let asked = 1n;
			const numRuns = f.runs(100, 1_000);
			const sample = fc.sample(streams, { seed: f.seed, numRuns });
			const worker = async (): Promise<void> => {
				for (let stream = sample.pop(); stream !== undefined; stream = sample.pop()) {
					const bytes = bytesOf(stream);
					checkAnswers(bytes, await converse(socketPath, stream, bytes));
					frames += framesOf(stream);
					asked += 1n;
					const answer = await bystander.ask(asked, INVOKE, call);
					assert.equal(answer.json["body"], call.body, "somebody else's connection is served all the while");
				}
			};
			await Promise.all(Array.from({ length: AT_ONCE }, worker));
			assert.equal((await daemon.client.invoke("echo", { body: "x" })).success, true);
			const defects = daemon.lines.filter((line) => line.includes("a socket command failed"));
			assert.deepEqual(defects, []);
			const grown = Math.round((rssOf(daemon.pid) - rssBefore) / MiB);
			assert.ok(grown < 250, `the daemon has grown by ${grown} MiB`);
			f.ran(frames - numRuns);
			f.record(`${frames} frames over ${numRuns} connections of a real daemon; it grew by ${grown} MiB`);
		});
	},
);

fault("E1", "lengths that claim 16 MiB, or 4 GiB, cost the daemon no memory until their bytes come", async (f) => {
	await withEcho(async (daemon) => {
		const { socketPath } = daemon;
		await daemon.client.invoke("echo", { body: "x" });
		const rssBefore = rssOf(daemon.pid);
		const claims = f.runs(200, 1_000);
		const head = Buffer.alloc(17);
		head.writeUInt8(INVOKE, 12);
		const open = await Promise.all(
			Array.from({ length: claims }, async (_, index) => {
				const client = await RawClient.connect(socketPath);
				const length = index % 2 === 0 ? 16 * MiB : 0xffff_ffff;
				head.writeUInt32LE(length, 0);
				head.writeBigUInt64LE(BigInt(index), 4);
				head.writeUInt32LE(index % 2 === 0 ? 16 * MiB - 13 : 0, 13);
				client.socket.write(Buffer.from(head));
				return { client, index };
			}),
		);
		try {
			for (const { client, index } of open) {
				if (index % 2 === 0) continue;
				await client.end();
				assert.equal(client.frames[0]?.json["code"], "BAD_FRAME");
			}
			const grown = (rssOf(daemon.pid) - rssBefore) / MiB;
			// Half of them would be 8 MiB each if a length were believed.
			assert.ok(grown < 64, `${claims} claims made the daemon grow by ${grown.toFixed(0)} MiB`);
			f.record(`${claims} connections that claim 16 MiB or 4 GiB: ${grown.toFixed(1)} MiB more`);
			assert.equal((await daemon.client.invoke("echo", { body: "x" })).success, true);
		} finally {
			for (const { client } of open) await client[Symbol.asyncDispose]();
		}
	});
});
