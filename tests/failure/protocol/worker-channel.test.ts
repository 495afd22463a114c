/** E10: a worker that says broken, impossible or somebody else's things on its channel. Only it and its attempts pay. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { isErrorCode } from "../../../src/core/errors.ts";
import { startDaemon } from "../../support/daemon.ts";
import { settled } from "../../support/fake-clock.ts";
import { createPoolHarness, spec } from "../../support/pool-harness.ts";
import { isGone } from "../../support/processes.ts";
import { fc, seededRandom } from "../../support/seed.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";

/** Types of a worker's messages: ready, start_failed, response, failed, ended, log, tainted, pong. */
const FIRST_TYPE = 64;
const TYPES = 8;
const FRAME_MAX = 16 * 1024 * 1024;

interface Said {
	readonly kind: "sound" | "odd" | "garbage" | "flipped" | "length" | "head length" | "type" | "host type";
	readonly salt: number;
}

const said: fc.Arbitrary<Said> = fc.record({
	kind: fc.oneof(
		{ weight: 6, arbitrary: fc.constant("sound" as const) },
		{ weight: 3, arbitrary: fc.constant("odd" as const) },
		{
			weight: 1,
			arbitrary: fc.constantFrom<Said["kind"][]>("garbage", "flipped", "length", "head length", "type", "host type"),
		},
	),
	salt: fc.nat(),
});

function frame(type: number, head: Buffer, body: Buffer): Buffer {
	const fixed = Buffer.alloc(9);
	fixed.writeUInt32LE(5 + head.length + body.length, 0);
	fixed.writeUInt8(type, 4);
	fixed.writeUInt32LE(head.length, 5);
	return Buffer.concat([fixed, head, body]);
}

/** The bytes of one thing that it says; `calls` are those aboard. */
function bytesOf({ kind, salt }: Said, calls: readonly number[]): Buffer {
	const random = seededRandom(salt);
	const pick = <T>(list: readonly T[]): T => list[Math.floor(random.next() * list.length)] as T;
	const call = random.next() < 0.95 ? pick(calls) : pick([0, 99, 0xffff_ffff]);
	// Seldom what ends it at once: ready, start_failed and tainted.
	const type = pick([2, 3, 4, 5, 5, 5, 7, 7, ...(random.next() < 0.1 ? [0, 1, 6] : [])]);
	const heads: Record<string, unknown>[] = [
		{ protocol: pick([1, 1, 2, 0]), config: pick([undefined, null, {}, { timeoutMs: -1 }, "x"]) },
		{ message: "no", stack: "at nowhere" },
		{ call, status: pick([100, 200, 204, 304, 500, 599]), headers: pick([[], [["a", "b"]], [["set-cookie", "x=1"]]]) },
		{ call, code: pick(["HANDLER_ERROR", "RESULT_TOO_LARGE", "INTERNAL", ""]), message: "m", name: "E", stack: "s" },
		{ call },
		{ call: pick([call, undefined]), level: pick(["info", "error"]), message: "line", at: 1 },
		{ message: "late" },
		{},
	];
	const head = heads[type] ?? {};
	if (kind === "odd") {
		const field = pick([...Object.keys(head), "call", "message", "__proto__"]);
		Object.defineProperty(head, field, {
			value: pick([null, -1, 1.5, 2 ** 33, "x", "", [], {}, [["a"]], [[1, 2]], true, 99, 600]),
			enumerable: true,
			configurable: true,
		});
	}
	const text = JSON.stringify(head);
	// A response says whose it is, so that one that reaches another attempt is seen.
	const body = type === 2 ? Buffer.from(`call ${call}`) : Buffer.alloc(0);
	const whole = frame(FIRST_TYPE + type, Buffer.from(text), body);
	switch (kind) {
		case "sound":
		case "odd":
			return whole;
		case "garbage":
			return Buffer.from(
				Array.from({ length: 1 + Math.floor(random.next() * 40) }, () => Math.floor(random.next() * 256)),
			);
		case "flipped": {
			const bit = Math.floor(random.next() * whole.length * 8);
			whole[bit >> 3] = (whole[bit >> 3] ?? 0) ^ (1 << (bit & 7));
			return whole;
		}
		case "length":
			whole.writeUInt32LE(pick([0, 4, FRAME_MAX + 1, 0xffff_ffff]), 0);
			return whole;
		case "head length":
			whole.writeUInt32LE(pick([Buffer.byteLength(text) + body.length + 1, 0xffff_ffff]), 5);
			return whole;
		case "type":
			whole.writeUInt8(pick([FIRST_TYPE + TYPES, 255]), 4);
			return whole;
		case "host type":
			whole.writeUInt8(Math.floor(random.next() * 6), 4);
			return whole;
	}
}

fault(
	"E10",
	"whatever a worker says: every attempt aboard ends once, with its own answer or none, and nobody else notices",
	async (f) => {
		let frames = 0;
		let killed = 0;
		let answered = 0;
		const runs = f.runs(300, 15_000);
		await fc.assert(
			fc.asyncProperty(
				fc.array(said, { minLength: 1, maxLength: 20, size: "max" }),
				fc.boolean(),
				fc.nat(1_000_000),
				async (things, isCut, cut) => {
					frames += things.length;
					const harness = createPoolHarness();
					const limits = { timeoutMs: 500, graceMs: 100 };
					const victims = [await harness.run(spec(limits, "bad"), "a"), await harness.run(spec(limits, "bad"), "b")];
					const other = await harness.run(spec({ timeoutMs: 3_600_000 }, "good"), "c");
					const [worker, neighbour] = [harness.worker((victims[0] ?? other).slot), harness.worker(other.slot)];
					const calls = [worker.callOf("a"), worker.callOf("b")];
					// A flipped bit may turn the number of one of its calls into that of the other, which nobody could notice.
					const isRelabelled = things.some(({ kind }) => kind === "flipped");
					const bytes = Buffer.concat(things.map((thing) => bytesOf(thing, calls)));
					const at = isCut ? Math.floor((cut / 1_000_001) * bytes.length) : 0;
					worker.raw(bytes.subarray(0, at), bytes.subarray(at));
					await settled();
					// What it did not answer ends by its limit.
					for (let step = 0; step < 20 && victims.some(({ runs: isRunning }) => isRunning); step += 1) {
						await harness.clock.advance(500);
					}
					if (worker.killed) killed += 1;
					victims.forEach(({ outcome }, index) => {
						assert.ok(outcome !== undefined, "it has ended");
						if (outcome.kind === "succeeded") {
							answered += 1;
							if (!isRelabelled) {
								assert.equal(Buffer.from(outcome.body).toString(), `call ${calls[index]}`, "its own answer");
							}
							assert.ok(Number.isInteger(outcome.status) && outcome.status >= 100 && outcome.status <= 599);
							for (const [name, value] of outcome.headers) assert.equal(typeof name + typeof value, "stringstring");
						} else if ("error" in outcome) {
							assert.ok(isErrorCode(outcome.error.code), outcome.error.code);
							assert.equal(typeof outcome.error.message, "string");
						}
					});
					assert.equal(other.outcome, undefined);
					assert.equal(neighbour.killed, false);
					neighbour.answers("c", "for c");
					await settled();
					const end = other.outcome as { kind: string; body: Uint8Array } | undefined;
					assert.equal(end?.kind, "succeeded");
					assert.equal(Buffer.from(end.body).toString(), "for c");
					await harness.end();
				},
			),
			{ seed: f.seed, numRuns: runs, endOnFailure: true },
		);
		f.ran(frames - runs);
		f.record(
			`${frames} messages of ${runs} workers: ${killed} were killed, ${answered} attempts kept their own answer`,
		);
	},
);

/** Writes what the request says to the channel, then goes on as if nothing were. */
const TAMPERS = `import { writeSync } from "node:fs";
export default async (req) => {
	const { bytes } = await req.json();
	try { writeSync(3, Buffer.from(bytes, "base64")); } catch {}
	return new Response("answered");
};`;

fault(
	"E10",
	"real workers that write into their channel are killed or run out of time; the daemon and other functions go on",
	async (f) => {
		using folder = tempFolder();
		const path = join(folder.path, "tampers.js");
		writeFileSync(path, TAMPERS);
		const echo = join(folder.path, "echo.js");
		writeFileSync(echo, "export default async (req) => new Response(await req.text());");
		const daemon = await startDaemon(join(folder.path, "data"));
		const pids = new Set<number>();
		try {
			const { client } = daemon;
			const limits = { timeoutMs: 1_000, graceMs: 100, concurrency: 4, workerConcurrency: 1, maxWorkers: 2 };
			await client.call("functions.deploy", { function: "tampers", path, register: true });
			await client.call("functions.configure", { function: "tampers", overrides: limits });
			await client.call("functions.deploy", { function: "echo", path: echo, register: true });
			const random = seededRandom(f.seed);
			const codes = new Map<string, number>();
			let left = f.runs(10, 250);
			const attack = async (): Promise<void> => {
				while (left > 0) {
					left -= 1;
					const kind =
						(["garbage", "flipped", "length", "head length", "type", "sound"] as const)[
							Math.floor(random.next() * 6)
						] ?? "garbage";
					const bytes = bytesOf({ kind, salt: Math.floor(random.next() * 2 ** 31) }, [1, 2]).toString("base64");
					const ended = await client.invoke("tampers", { body: JSON.stringify({ bytes }) });
					const code = ended.success ? "succeeded" : (ended.error?.code ?? "none");
					codes.set(code, (codes.get(code) ?? 0) + 1);
					const { workers } = (await client.call("workers.list", {})) as { workers: { pid: number | null }[] };
					for (const { pid } of workers) if (pid !== null) pids.add(pid);
					const body = `${left}`;
					assert.equal((await client.invoke("echo", { body })).text(), body);
				}
			};
			await Promise.all([attack(), attack()]);
			assert.ok([...codes.keys()].every((code) => code === "succeeded" || isErrorCode(code)));
			assert.ok((codes.get("WORKER_PROTOCOL") ?? 0) > 0, JSON.stringify([...codes]));
			assert.equal((await client.call("stats.get", {}))["running"], 0);
			f.record([...codes].map(([code, count]) => `${code} ${count}`).join(", "));
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
		await waitFor("every worker to be gone", () => [...pids].every(isGone));
	},
);
