/** E8: clients and daemons of different releases. What the first release said and heard is kept byte for byte. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { ClientError, createClient } from "../../../src/sources/client.ts";
import { startDaemon } from "../../support/daemon.ts";
import { FakeEngine, realEnvironment } from "../../support/fake-engine.ts";
import { RawClient } from "../../support/raw-client.ts";
import { socketSource } from "../../../src/sources/index.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { fault } from "../fault.ts";
import { broken, Exchange, makeFrame, meaning, openFrame, type Conversation } from "./conversation.ts";
import { BUNDLE, BUNDLE_TEXT } from "./record.ts";

const GOLDEN = join(import.meta.dirname, "golden");
const conversations = readdirSync(GOLDEN).map(
	(name) => JSON.parse(readFileSync(join(GOLDEN, name), "utf8")) as Conversation,
);
const KNOWN = [0x01, 0x02, 0x03, 0x04, 0x05, 0x10, 0x11, 0x12, 0x13, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25];

for (const { version, turns } of conversations) {
	fault("E8", `the bytes that a client of ${version} sent are answered as ${version} answered them`, async (f) => {
		using folder = tempFolder();
		const bundle = join(folder.path, "bundle.js");
		writeFileSync(bundle, BUNDLE_TEXT);
		const daemon = await startDaemon(join(folder.path, "data"));
		try {
			await using client = await RawClient.connect(daemon.socketPath);
			const received: Buffer[] = [];
			client.socket.on("data", (chunk: Buffer) => received.push(chunk));
			const exchange = new Exchange();
			exchange.set(BUNDLE, bundle);
			for (const { what, command, request, answer } of turns) {
				const recorded = Buffer.from(request, "hex");
				const { id, tag, payload } = openFrame(recorded);
				assert.deepEqual(makeFrame(id, tag, payload), recorded, `${what}: the recorded frame is whole`);
				received.length = 0;
				client.socket.write(exchange.apply(recorded));
				await client.answer(id);
				const [before, now] = [Buffer.from(answer, "hex"), Buffer.concat(received)];
				exchange.learn(before, now);
				assert.equal(broken(meaning(command, before), meaning(command, now)), undefined, what);
			}
			f.ran(turns.length);
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
	});

	fault("E8", `our client understands the bytes that a daemon of ${version} answered`, async (f) => {
		using folder = tempFolder();
		const path = join(folder.path, "old.sock");
		const answerOf = (what: string): Buffer => {
			const turn = turns.find((each) => each.what === what);
			assert.ok(turn !== undefined, `${what} was recorded`);
			return Buffer.from(turn.answer, "hex");
		};
		let next: string[] = [];
		const server = await oldDaemon(path, (command) => answerOf(command === 0x20 ? "hello" : (next.shift() ?? "")));
		const client = createClient(path);
		try {
			const said = async <T>(what: string, ask: () => Promise<T>): Promise<T> => {
				next = [what];
				f.ran(1);
				return ask();
			};
			const registered = await said("register", () => client.registerFunction("golden"));
			assert.deepEqual([registered.name, registered.status], ["golden", "REGISTERED"]);
			const deployed = await said("deploy", () => client.deployFunction("golden", "1.0", "/x.js"));
			assert.deepEqual(
				[deployed.version, deployed.status, deployed.functionId],
				["1.0", "deployed", registered.functionId],
			);
			const invoked = await said("invoke raw", () => client.invoke("golden"));
			assert.deepEqual([invoked.success, invoked.status, invoked.text()], [true, 201, "raw bytes"]);
			assert.deepEqual(invoked.headers.getSetCookie(), ["a=1", "b=2"]);
			const enqueued = await said("enqueue raw", () => client.enqueue("golden"));
			assert.equal(enqueued.replayed, false);
			const waited = await said("await raw", () => client.waitForResult(enqueued.invocationId));
			assert.deepEqual([waited.invocationId, waited.state, waited.ended], [enqueued.invocationId, "succeeded", true]);
			assert.equal(waited.response?.text(), "raw later");
			assert.equal((await said("get raw", () => client.getResult(enqueued.invocationId))).state, "succeeded");
			assert.equal((await said("cancel", () => client.cancel("inv_x"))).state, "cancelled");
			const { versions } = await said("call", () => client.call("functions.versions"));
			assert.equal((versions as unknown[]).length, 1);
			for (const [what, code] of [
				["an unknown function", "FUNCTION_NOT_FOUND"],
				["another request under the key", "IDEMPOTENCY_CONFLICT"],
				["an unknown operation", "UNKNOWN_COMMAND"],
				["an id that is none", "INVOCATION_NOT_FOUND"],
			] as const) {
				await assert.rejects(
					said(what, () => client.call("stats.get")),
					(error) => error instanceof ClientError && error.code === code,
				);
			}
		} finally {
			client.close();
			server.close();
		}
	});
}

/** A server that answers each frame with recorded bytes, under the id that was asked. */
async function oldDaemon(path: string, answerTo: (command: number) => Buffer): Promise<Server> {
	const server = createServer((socket: Socket) => {
		let bytes: Buffer = Buffer.alloc(0);
		socket.on("error", () => undefined);
		socket.on("data", (chunk: Buffer) => {
			bytes = Buffer.concat([bytes, chunk]);
			while (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32LE(0)) {
				const whole = 4 + bytes.readUInt32LE(0);
				const answer = Buffer.from(answerTo(bytes.readUInt8(12)));
				bytes.copy(answer, 4, 4, 12);
				bytes = bytes.subarray(whole);
				socket.write(answer);
			}
		});
	});
	server.listen(path);
	await once(server, "listening");
	return server;
}

function answerFrame(tag: number, payload: unknown): Buffer {
	return makeFrame(0n, tag, Buffer.from(JSON.stringify(payload)));
}

fault(
	"E8",
	"commands and versions that nobody knows are refused with their documented codes, and the connection stays",
	async (f) => {
		using folder = tempFolder();
		const path = join(folder.path, "s.sock");
		const source = socketSource({ path, environment: realEnvironment() });
		await source.start(new FakeEngine());
		try {
			await using client = await RawClient.connect(path);
			for (let command = 0; command < 256; command += 1) {
				if (KNOWN.includes(command)) continue;
				const { status, json } = await client.ask(BigInt(command), command, {});
				assert.deepEqual([status, json["code"]], [1, "UNKNOWN_COMMAND"], `command ${command}`);
				f.ran(1);
			}
			for (const protocol of [1, 2, 99, 2 ** 31]) {
				const { status, json } = await client.ask(1_000n + BigInt(protocol), 0x20, { protocol });
				assert.deepEqual([status, json["protocol"]], [0, 1], "the smaller of both");
			}
			for (const [index, hello] of [
				{ protocol: 0 },
				{ protocol: -1 },
				{ protocol: "1" },
				{ protocol: 1.5 },
				{ source: "http" },
			].entries()) {
				const { status, json } = await client.ask(BigInt(5_000 + index), 0x20, hello);
				assert.deepEqual([status, json["code"]], [1, "BAD_REQUEST"]);
			}
			// What a later client may send beside.
			const { status } = await client.ask(9_000n, 0x20, { protocol: 3, compression: "zstd", later: { a: [1] } });
			assert.equal(status, 0);
			assert.equal((await client.ask(9_001n, 0x04, { name: "fine", colour: "blue" })).status, 0);
		} finally {
			await source.stop();
		}
	},
);

fault(
	"E8",
	"our client tells a daemon that knows no HELLO, one from the future, and one that speaks something else apart",
	async (f) => {
		using folder = tempFolder();
		const scenes: [what: string, hello: Buffer, answer: Buffer, expected: string | undefined][] = [
			[
				"knows no HELLO",
				answerFrame(1, { error: "unknown command 0x20", code: "UNKNOWN_COMMAND" }),
				answerFrame(0, {}),
				"UNKNOWN_COMMAND",
			],
			[
				"from the future",
				answerFrame(0, {
					protocol: 1,
					version: "99.0",
					features: ["raw_bodies", "x"],
					raw_bodies: true,
					pairs: false,
					source: "socket",
					later: 1,
				}),
				answerFrame(0, { pid: 1, later: {} }),
				undefined,
			],
			[
				"refuses with a code of the future",
				answerFrame(0, { protocol: 1 }),
				answerFrame(1, { error: "no", code: "CODE_OF_THE_FUTURE" }),
				"CODE_OF_THE_FUTURE",
			],
			[
				"speaks HTTP",
				Buffer.from("HTTP/1.1 400 Bad Request\\r\\n\\r\\n".repeat(2)),
				answerFrame(0, {}),
				"DAEMON_UNREACHABLE",
			],
		];
		for (const [index, [what, hello, answer, expected]] of scenes.entries()) {
			const path = join(folder.path, `s${index}.sock`);
			const server = await oldDaemon(path, (command) => (command === 0x20 ? hello : answer));
			const client = createClient(path);
			try {
				const asked = client.call("stats.get");
				if (expected === undefined) assert.equal((await asked)["pid"], 1, what);
				else {
					await assert.rejects(asked, (error) => {
						assert.ok(error instanceof ClientError, what);
						assert.equal(error.code, expected, what);
						return true;
					});
				}
				f.ran(1);
			} finally {
				client.close();
				server.close();
			}
		}
	},
);
