/**
 * Bytes of the files change while nobody runs: a start refuses, a read says that it is damaged, or the answer is the
 * right one. What was submitted and what was answered is never another than it was; nothing starts empty.
 */
import assert from "node:assert/strict";
import { cpSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { EngineError } from "../../../src/core/errors.ts";
import { queueOnFile, type QueueOnFile } from "../../support/queue-on-file.ts";
import { seededRandom } from "../../support/seed.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { fault } from "../fault.ts";
import { assertWhole } from "./fsck.ts";
import { assertAllThere, assertServes, drained, exitOf, prepare, work, type Accepted, type Prepared } from "./work.ts";

interface Used {
	readonly dataDir: string;
	readonly accepted: readonly Accepted[];
}

/** A closed folder with work in it that has ended. */
async function used(prepared: Prepared, path: string, seed: number, atMost: number): Promise<Used> {
	const dataDir = prepared.copyTo(path, { ballast: false });
	const daemon = await prepared.start(dataDir);
	const { accepted } = await work(daemon, { seed, atMost }).done;
	await drained(daemon.client);
	assert.equal(await daemon.stop(), 0);
	rmSync(join(dataDir, "ballast"));
	return { dataDir, accepted };
}

/** What a caller gets of an invocation: what it asked for, and what was answered. */
function contents(harness: QueueOnFile, id: string): string {
	const { result } = harness.queue.read.record(id);
	const { method, path, headers, query, body } = harness.queue.read.request(id).request;
	const bytes = (value: Uint8Array | undefined): string => Buffer.from(value ?? []).toString("base64");
	return JSON.stringify([
		method,
		path,
		headers,
		query,
		bytes(body),
		result?.status,
		result?.headers,
		bytes(result?.body),
	]);
}

const REFUSED = new Set(["DATA_CORRUPT", "DATA_FOREIGN", "DATA_NEWER", "DATA_MISSING", "DATA_ROLLED_BACK", "IO_ERROR"]);

function isTold(error: unknown): boolean {
	if (error instanceof EngineError) return REFUSED.has(error.code) || error.code === "INVOCATION_NOT_FOUND";
	// Of SQLite itself, at a start: the daemon ends with it.
	return (
		error instanceof Error &&
		/^SQLITE_(CORRUPT|NOTADB|ERROR|CONSTRAINT)/.test(String((error as { code?: string }).code))
	);
}

fault("B16", "a changed byte of queue.db: refused, said, or harmless; never another content", async (f) => {
	const prepared = await prepare();
	using folder = tempFolder();
	const { dataDir, accepted } = await used(prepared, join(folder.path, "used"), f.seed, f.long ? 400 : 60);
	const random = seededRandom(f.seed);
	const image = join(folder.path, "image");
	const open = (): QueueOnFile => queueOnFile({ dataDir: image, lanes: [{}], now: Date.now() });
	cpSync(dataDir, image, { recursive: true });
	const right = new Map<string, string>();
	{
		using harness = open();
		for (const { id } of accepted) right.set(id, contents(harness, id));
	}
	const bytes = readFileSync(join(dataDir, "queue.db"));
	const counts = { refused: 0, told: 0, "not found": 0, harmless: 0 };
	const runs = f.runs(15, 1500);
	for (let run = 0; run < runs; run += 1) {
		rmSync(image, { recursive: true });
		cpSync(dataDir, image, { recursive: true });
		// A quarter of them in the first page and in the headers of pages, which decide about all the rest.
		const anywhere = Math.floor(random.next() * bytes.byteLength);
		const dice = random.next();
		const at =
			dice < 0.12 ? Math.floor(random.next() * 100) : dice < 0.25 ? (anywhere & ~4095) + (anywhere % 12) : anywhere;
		const changed = Buffer.from(bytes);
		if (random.next() < 0.5) changed[at] = (changed[at] ?? 0) ^ (1 << Math.floor(random.next() * 8));
		else changed.fill(Math.floor(random.next() * 256), at & ~511, (at & ~511) + 512);
		writeFileSync(join(image, "queue.db"), changed);
		const where = `byte ${at}`;
		let harness: QueueOnFile;
		try {
			harness = open();
		} catch (error) {
			assert.ok(isTold(error), `${where}: ${String(error)}`);
			counts.refused += 1;
			continue;
		}
		using opened = harness;
		let worst: keyof typeof counts = "harmless";
		for (const [id, expected] of right) {
			try {
				assert.equal(contents(opened, id), expected, `${where}: ${id} is as it was`);
			} catch (error) {
				if (!isTold(error)) throw error;
				const isMissing = error instanceof EngineError && error.code === "INVOCATION_NOT_FOUND";
				if (worst !== "told") worst = isMissing ? "not found" : "told";
			}
		}
		counts[worst] += 1;
	}
	f.record(
		Object.entries(counts)
			.map(([what, count]) => `${what} ${count}`)
			.join(", "),
	);
});

fault("B16", "a damaged file and a real start: exit 65 with the file's name, or it serves what is whole", async (f) => {
	const prepared = await prepare();
	using folder = tempFolder();
	const { dataDir, accepted } = await used(prepared, join(folder.path, "used"), f.seed, 60);
	const random = seededRandom(f.seed);
	const image = join(folder.path, "image");
	const files = ["queue.db", "metadata.db", "instance.json", "high-water.json", "logs.db"];
	let refused = 0;
	let served = 0;
	for (let run = 0; run < f.runs(3, 60); run += 1) {
		cpSync(dataDir, image, { recursive: true });
		const file = files[run % files.length] ?? "queue.db";
		const path = join(image, file);
		const { size } = statSync(path);
		const bytes = readFileSync(path);
		if (run % 3 === 0) truncateSync(path, Math.floor(size / 2));
		else if (run % 3 === 1) writeFileSync(path, bytes.fill(0, Math.floor(random.next() * (size - 10))));
		else {
			const from = Math.floor(random.next() * size);
			for (let at = from; at < Math.min(size, from + 4096); at += 1) bytes[at] = Math.floor(random.next() * 256);
			writeFileSync(path, bytes);
		}
		const what = `${file}, damage ${run % 3}`;
		try {
			const daemon = await prepared.start(image);
			// It has no reason to serve anything that is not right.
			for (const { id, echo } of accepted) {
				const answer = await daemon.client.getResult(id).then(
					({ response }) => (response?.json() as { echo: string } | undefined)?.echo,
					(error: { code: string }) => {
						assert.ok(
							["DATA_CORRUPT", "IO_ERROR", "DAEMON_UNREACHABLE"].includes(error.code),
							`${what}: ${error.code}`,
						);
						return echo;
					},
				);
				assert.equal(answer, echo, what);
			}
			await daemon.kill();
			served += 1;
		} catch (error) {
			if (!(error instanceof Error && error.message.includes("the daemon exited with"))) throw error;
			assert.match(error.message, /exited with (65|74)/, what);
			assert.ok(error.message.includes(file) || error.message.includes("queue.db"), `${what}: ${error.message}`);
			refused += 1;
		}
		rmSync(image, { recursive: true });
	}
	f.record(`${refused} starts refused, ${served} served, 0 wrong answers`);
});

fault("B16", "a damaged bundle is never run", async () => {
	const prepared = await prepare();
	using folder = tempFolder();
	const { dataDir } = await used(prepared, join(folder.path, "used"), 1, 5);
	const bundles = join(dataDir, "bundles");
	const [functionId = ""] = readdirSync(bundles);
	const path = join(bundles, functionId, "v1/bundle.js");
	const bytes = readFileSync(path);
	rmSync(path);
	writeFileSync(path, bytes.toString().replace("echo", "ohce"));
	const daemon = await prepared.start(dataDir);
	await assert.rejects(daemon.client.call("functions.rollback", { function: "ledger", version: "v1" }), {
		code: "DATA_CORRUPT",
	});
	await daemon.kill();
});

fault("B18", "garbage in the WAL index after a kill: it is made anew, and nothing is lost", async (f) => {
	const prepared = await prepare();
	using folder = tempFolder();
	const dataDir = prepared.copyTo(join(folder.path, "data"));
	const accepted: Accepted[] = [];
	const random = seededRandom(f.seed);
	const ways: readonly ((path: string, size: number) => void)[] = [
		(path, size) => writeFileSync(path, Buffer.from(Array.from({ length: size }, () => random.next() * 256))),
		(path, size) => writeFileSync(path, Buffer.alloc(size)),
		(path, size) => truncateSync(path, Math.floor(size / 3)),
		(path) => truncateSync(path, 0),
		(path) => rmSync(path),
	];
	for (let run = 0; run < f.runs(2, 15); run += 1) {
		const daemon = await prepared.start(dataDir);
		const done = await work(daemon, { seed: f.seed + run, atMost: 40 }).done;
		accepted.push(...done.accepted);
		daemon.process.kill("SIGKILL");
		await exitOf(daemon);
		for (const file of ["queue.db-shm", "metadata.db-shm", "logs.db-shm"]) {
			const path = join(dataDir, file);
			ways[run % ways.length]?.(path, statSync(path).size);
		}
	}
	const next = await prepared.start(dataDir);
	await assertAllThere(next.client, accepted);
	await assertServes(next.client);
	await drained(next.client);
	assert.equal(await next.stop(), 0);
	assertWhole(dataDir, { drained: true });
	f.record(`acknowledged ${accepted.length}, lost 0`);
});
