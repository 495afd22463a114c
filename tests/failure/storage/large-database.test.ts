/** A database beyond 1 GiB, where SQLite has its lock page: nothing that is written around it is lost or changed. */
import assert from "node:assert/strict";
import { statSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as endOfTurn } from "node:timers/promises";
import { crc32 } from "node:zlib";
import { OK, queueOnFile } from "../../support/queue-on-file.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { fault } from "../fault.ts";
import { assertWhole } from "./fsck.ts";

const MiB = 1024 * 1024;
/** SQLite never uses the page that holds this byte. */
const LOCK_BYTE = 0x40000000;

fault("B23", "a queue.db of more than 1 GiB is whole on both sides of its lock page", { longOnly: true }, async (f) => {
	using folder = tempFolder();
	const dataDir = join(folder.path, "data");
	const path = join(dataDir, "queue.db");
	const accepted: { readonly id: string; readonly sum: number }[] = [];
	const bodyOf = (index: number): Buffer => Buffer.alloc(5 * MiB + index * 1000, index % 251);
	{
		using harness = queueOnFile({ dataDir, durability: "power", lanes: [{}] });
		while (!(statSync(path).size > LOCK_BYTE + 64 * MiB)) {
			const body = bodyOf(accepted.length);
			const answer = harness.accept(harness.submission(0, { body }))[0];
			assert.ok(answer !== undefined && !(answer instanceof Error));
			accepted.push({ id: answer.invocationId, sum: crc32(body) });
			if (accepted.length % 8 === 0) harness.folder.queue.pragma("wal_checkpoint(TRUNCATE)");
		}
	}
	const size = statSync(path).size;
	{
		using harness = queueOnFile({ dataDir, durability: "power", lanes: [{}] });
		for (const { id, sum } of accepted) assert.equal(crc32(harness.queue.read.request(id).request.body), sum, id);
		while (harness.sent.length > 0 || !harness.queue.idle) {
			for (const claim of harness.sent.splice(0)) harness.settle(claim, OK);
			harness.turn();
			await endOfTurn();
		}
		for (const { id } of accepted) assert.equal(harness.state(id), "succeeded");
	}
	assertWhole(dataDir, { drained: true });
	f.record(`${accepted.length} bodies in ${(size / 1024 / MiB).toFixed(2)} GiB`);
});
