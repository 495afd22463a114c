/** The power goes while versions are deployed: every deploy that was acknowledged is whole and can be run. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "../../../src/sources/client.ts";
import { seededRandom } from "../../support/seed.ts";
import { fault } from "../fault.ts";
import { powerCut } from "../needs.ts";
import { loopDisk, powerCutWith } from "./disks.ts";
import { assertWhole } from "./fsck.ts";
import { prepare } from "./work.ts";

const source = (version: string): string => `export default () => new Response(${JSON.stringify(version)});
// ${"x".repeat(20_000)}
`;

fault("B4", "power cut while deploying: old or new version, whole, never none", { needs: [powerCut] }, async (f) => {
	const prepared = await prepare();
	const random = seededRandom(f.seed);
	const bundles = join(prepared.folder.path, "bundles");
	mkdirSync(bundles, { recursive: true });
	let acknowledged = 0;
	for (let run = 0; run < f.runs(1, 25); run += 1) {
		using disk = loopDisk();
		const daemon = await prepared.start(prepared.copyTo(join(disk.path, "data")));
		// Functions take turns, so that every cut meets new functions, new versions and switches.
		const nameOf = (index: number): string => `deployed-${index % 3}`;
		const deploy = async (client: Client, index: number): Promise<string> => {
			const version = `r${run}-${index}`;
			const path = join(bundles, `${version}.js`);
			writeFileSync(path, source(version));
			await client.call("functions.deploy", { function: nameOf(index), version, path, register: true });
			return version;
		};
		/** Newest acknowledged version by name. */
		const newest = new Map<string, string>();
		const deployed: string[] = [];
		const deploying = assert.rejects(async () => {
			for (;;) {
				const index = deployed.length;
				const version = await deploy(daemon.client, index);
				newest.set(nameOf(index), version);
				deployed.push(version);
			}
		});
		// Any moment of a deploy: each takes 60 ms to 120 ms.
		await sleep(random.next() * 600);
		powerCutWith(disk, [daemon.process]);
		await deploying;
		daemon.client.close();
		acknowledged += deployed.length;

		using found = disk.afterPowerCut();
		const dataDir = join(found.path, "data");
		const next = await prepared.start(dataDir);
		for (const [index, version] of deployed.entries()) {
			const { versions } = await next.client.call("functions.versions", { function: nameOf(index) });
			const known = (versions as { version: string }[]).map((row) => row.version);
			assert.ok(known.includes(version), `${version} was acknowledged, there are ${known.join(", ")}`);
		}
		const unanswered = `r${run}-${deployed.length}`;
		for (const [name, version] of newest) {
			const runs = Buffer.from((await next.client.invoke(name, { method: "GET", path: "/" })).body).toString();
			const may = name === nameOf(deployed.length) ? [version, unanswered] : [version];
			assert.ok(may.includes(runs), `${name} runs ${runs} instead of ${may.join(" or ")}`);
		}
		// What was cut short does not stand in the way of the same deploy.
		assert.equal(await deploy(next.client, deployed.length), unanswered);
		const answer = await next.client.invoke(nameOf(deployed.length), { method: "GET", path: "/" });
		assert.equal(Buffer.from(answer.body).toString(), unanswered);
		assert.equal(await next.stop(), 0);
		assertWhole(dataDir);
	}
	f.record(`acknowledged deploys ${acknowledged}, lost or damaged 0`);
});
