import assert from "node:assert/strict";
import { connect } from "node:net";
import { join } from "node:path";
import { startDaemon, type Daemon } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { deploy, enqueueMany, residentMb } from "./rig.ts";

const PAGE = 200;

/** Every id of the list, newest first, by HTTP, page by page. */
async function everyPage(daemon: Daemon): Promise<string[]> {
	const ids: string[] = [];
	for (let before = ""; ; before = ids.at(-1) ?? "") {
		const url = `${daemon.httpUrl}/v1/invocations?function=held&limit=${PAGE}${before && `&before=${before}`}`;
		const response = await fetch(url);
		assert.equal(response.status, 200, url);
		const { invocations } = (await response.json()) as { invocations: { invocation_id: string }[] };
		ids.push(...invocations.map(({ invocation_id: id }) => id));
		if (invocations.length < PAGE) return ids;
	}
}

fault("G5", "many readers page through a long list while work is accepted: no row twice, none missed", async (f) => {
	using folder = tempFolder();
	await using daemon = await startDaemon(join(folder.path, "data"));
	await deploy(daemon, "ledger", "held");
	await deploy(daemon, "ledger", "live");
	await daemon.client.call("lanes.pause", { function: "held", paused: true });
	const count = f.runs(2_000, 100_000);
	const ids = await enqueueMany(daemon, ["held"], count);
	const done = new AbortController();
	let calls = 0;
	const live = (async () => {
		while (!done.signal.aborted) {
			assert.equal((await daemon.client.invoke("live", { method: "POST", body: "{}" })).status, 200);
			await daemon.client.enqueue("held", { method: "POST", body: "{}" });
			calls += 1;
		}
	})();
	const readers = f.long ? 10 : 5;
	const read = await Promise.all(Array.from({ length: readers }, () => everyPage(daemon)));
	done.abort();
	await live;
	for (const seen of read) {
		assert.equal(new Set(seen).size, seen.length, "no row twice");
		const found = new Set(seen);
		assert.ok(
			ids.every((id) => found.has(id)),
			"none missed",
		);
	}
	f.record(`${readers} readers of ${count.toLocaleString("en")} rows beside ${calls} calls`);
	assert.equal(await daemon.stop(), 0);
});

fault("G5", "readers that never read take bounded memory, and others are served", async (f) => {
	using folder = tempFolder();
	await using daemon = await startDaemon(join(folder.path, "data"));
	await deploy(daemon, "chatter", "chatter", { maxBodyBytes: 4_000_000 });
	const { hostname, port } = new URL(daemon.httpUrl);
	const before = residentMb(daemon.pid);
	const sockets = Array.from({ length: f.runs(10, 50) }, () => {
		const socket = connect(Number(port), hostname);
		socket.on("error", () => undefined);
		socket.pause();
		// 100 pipelined answers of 4 MB each would be 20 GB.
		const request = `GET /functions/chatter/big?bytes=4000000 HTTP/1.1\r\nHost: ${hostname}:${port}\r\n\r\n`;
		socket.write(request.repeat(100));
		return socket;
	});
	try {
		let most = 0;
		for (let call = 0; call < 100; call += 1) {
			const answer = await daemon.client.invoke("chatter", { method: "POST", path: "/" });
			assert.equal(answer.status, 200);
			most = Math.max(most, residentMb(daemon.pid));
		}
		f.record(`${sockets.length} sockets that never read: daemon +${Math.round(most - before)} MB`);
		// One answer of 4 MB in flight for each, held a few times on its way, not the hundred that were asked for.
		assert.ok(most - before < 100 + sockets.length * 20, `the daemon grew by ${Math.round(most - before)} MB`);
	} finally {
		for (const socket of sockets) socket.destroy();
	}
	await waitFor("the daemon to be alone", async () => {
		const stats = await daemon.client.call("stats.get", {});
		return stats["running"] === 0 && stats["queued"] === 0;
	});
	assert.equal(await daemon.stop(), 0);
});
