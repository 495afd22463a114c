/** C16: versions change while work is queued, running and between its attempts. Each attempt runs what it was pinned to. */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { seededRandom } from "../../support/seed.ts";
import { fault } from "../fault.ts";
import { startLab, textOf } from "./lab.ts";

const source = (version: string, ledger: string): string => `
import { appendFileSync } from "node:fs";
export default async (req, ctx) => {
	appendFileSync(${JSON.stringify(ledger)}, JSON.stringify({ id: ctx.invocationId, attempt: ctx.attempt, version: "${version}" }) + "\\n");
	const { ms, fails } = await req.json();
	await Bun.sleep(ms);
	if (ctx.attempt <= fails) throw new Error("try " + ctx.attempt);
	return new Response("${version}");
};`;

fault(
	"C16",
	"redeploy and rollback with work queued, running and retrying: every attempt runs its pinned version",
	async (f) => {
		await using lab = await startLab({ durability: "process" });
		const ledger = join(lab.folder, "ledger.jsonl");
		writeFileSync(ledger, "");
		const random = seededRandom(f.seed);
		const pick = (below: number): number => Math.floor(random.next() * below);
		const deploy = async (version: string): Promise<string> => {
			const path = join(lab.folder, `${version}.js`);
			writeFileSync(path, source(version, ledger));
			return (await lab.engine.deploy({ function: "pinned", path, register: true, version })).version;
		};
		let active = await deploy("v1");
		lab.engine.configureFunction("pinned", {
			concurrency: 6,
			workerConcurrency: 3,
			maxWorkers: 3,
			retry: { maxAttempts: 4, baseMs: 20 },
		});
		const pinned = new Map<string, readonly string[]>();
		const known = ["v1"];
		const rounds = f.runs(8, 120);
		for (let round = 0; round < rounds; round += 1) {
			const before = active;
			const switching =
				known.length < 3 || random.next() < 0.4
					? deploy(`v${known.length + 1}`)
					: lab.engine.rollback("pinned", known[pick(known.length)]).then(({ version }) => version);
			const accepted = async (allowed: readonly string[]): Promise<void> => {
				const body = Buffer.from(JSON.stringify({ ms: pick(40), fails: pick(3) }));
				const id = await lab.enqueue("pinned", "/", { body });
				pinned.set(id, allowed);
			};
			// While it switches, either version may be the active one.
			let done = false;
			void switching.then(() => (done = true));
			const during: [string, Promise<void>][] = [];
			for (let i = 0; i < 4; i += 1) {
				const slot: string[] = [before];
				const adding = (async () => {
					const body = Buffer.from(JSON.stringify({ ms: pick(40), fails: pick(3) }));
					const id = await lab.enqueue("pinned", "/", { body });
					pinned.set(id, slot);
				})();
				during.push([before, adding]);
				await new Promise((resolve) => setTimeout(resolve, pick(12)));
				void switching.then((version) => slot.push(version));
				if (done) break;
			}
			active = await switching;
			if (!known.includes(active)) known.push(active);
			await Promise.all(during.map(([, adding]) => adding));
			for (let i = pick(6); i >= 0; i -= 1) await accepted([active]);
		}
		for (const [id, allowed] of pinned) {
			const record = await lab.ended(id);
			assert.ok(
				allowed.includes(record.version),
				`pinned to ${record.version}, accepted while ${allowed.join(" or ")} was active`,
			);
			assert.equal(textOf(record), record.version);
		}
		const runs = readFileSync(ledger, "utf8")
			.trim()
			.split("\n")
			.map((line) => JSON.parse(line) as { id: string; attempt: number; version: string });
		for (const { id, attempt, version } of runs) {
			assert.equal(version, lab.engine.getInvocation(id).version, `attempt ${attempt} of ${id}`);
		}
		f.record(
			`${known.length} versions, ${rounds} switches, ${pinned.size} invocations, ${runs.length} attempts, none on another version`,
		);
	},
);

fault(
	"C16",
	"a function is deleted with a backlog",
	{ needs: [() => "functions are not deleted: a lane is paused, or its function deployed anew"] },
	() => undefined,
);
