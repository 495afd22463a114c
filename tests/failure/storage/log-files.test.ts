/**
 * The readable copy of the log after deaths and oversizes: every line is whole or is the one that a death tore, and a
 * writer never joins its line to a torn one.
 */
import assert from "node:assert/strict";
import { appendFileSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { seededRandom } from "../../support/seed.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { exitOf, prepare } from "./work.ts";

const CHATTY = `export default async (req) => {
	for (let line = 0; line < 50; line += 1) console.log(await req.clone().text(), line, "x".repeat(Math.random() * 300));
	return new Response("ok");
};
`;

function linesOf(folder: string): { whole: Record<string, unknown>[]; torn: number } {
	const whole: Record<string, unknown>[] = [];
	let torn = 0;
	for (const file of readdirSync(folder)) {
		if (statSync(join(folder, file)).size > 1 << 30) continue;
		for (const line of readFileSync(join(folder, file), "utf8").split("\n")) {
			if (line === "") continue;
			try {
				whole.push(JSON.parse(line) as Record<string, unknown>);
			} catch {
				torn += 1;
			}
		}
	}
	return { whole, torn };
}

fault("B25", "kill -9 while functions log: at most one torn line for each death, and none is joined", async (f) => {
	const prepared = await prepare();
	const dataDir = prepared.copyTo(join(prepared.folder.path, "logs-killed"));
	const logs = join(dataDir, "logs");
	const random = seededRandom(f.seed);
	const path = join(prepared.folder.path, "chatty.js");
	writeFileSync(path, CHATTY);
	const runs = f.runs(2, 25);
	let tearings = 0;
	for (let run = 0; run < runs; run += 1) {
		const daemon = await prepared.start(dataDir);
		if (run === 0) await daemon.client.call("functions.deploy", { function: "chatty", path, register: true });
		const before = linesOf(logs).whole.length;
		const callers = Promise.allSettled(
			Array.from({ length: 200 }, (_, index) =>
				daemon.client.invoke("chatty", { method: "POST", path: "/", body: `run ${run} call ${index}` }),
			),
		);
		const enough = before + 1 + Math.floor(random.next() * 400);
		await waitFor("some lines", () => linesOf(logs).whole.length >= enough, 20_000);
		daemon.process.kill("SIGKILL");
		await exitOf(daemon);
		await callers;
		// As a power cut leaves it: in the middle of a line.
		if (random.next() < 0.5) {
			const [file = ""] = readdirSync(logs).toSorted();
			const { size } = statSync(join(logs, file));
			truncateSync(join(logs, file), size - 1 - Math.floor(random.next() * 50));
			tearings += 1;
		}
	}
	const daemon = await prepared.start(dataDir);
	const last = await daemon.client.invoke("chatty", { method: "POST", path: "/", body: "the last run" });
	assert.equal(last.status, 200);
	assert.equal(await daemon.stop(), 0);
	const { whole, torn } = linesOf(logs);
	assert.ok(torn <= runs, `${torn} torn lines after ${runs} deaths`);
	for (const line of whole) assert.equal(typeof line["message"], "string");
	const ofLast = whole.filter(({ message }) => String(message).startsWith("the last run"));
	assert.equal(ofLast.length, 50, "lines after a torn one are whole");
	f.record(`${runs} deaths, ${tearings} torn by hand, ${whole.length} whole lines, ${torn} torn`);
});

fault("B25", "a file of 2 GB in the place of today's is continued in the next", async () => {
	const prepared = await prepare();
	const dataDir = prepared.copyTo(join(prepared.folder.path, "logs-large"));
	const logs = join(dataDir, "logs");
	const today = (): string => new Date().toISOString().slice(0, 10);
	const large = join(logs, `${today()}.jsonl`);
	appendFileSync(large, "{}\n");
	truncateSync(large, 2 ** 31 + 1);
	const path = join(prepared.folder.path, "chatty-large.js");
	writeFileSync(path, CHATTY);
	const daemon = await prepared.start(dataDir);
	await daemon.client.call("functions.deploy", { function: "chatty", path, register: true });
	await daemon.client.invoke("chatty", { method: "POST", path: "/", body: "said" });
	assert.equal(await daemon.stop(), 0);
	assert.equal(statSync(large).size, 2 ** 31 + 1, "it is not written to");
	assert.equal(linesOf(logs).whole.filter(({ message }) => String(message).startsWith("said")).length, 50);
});
