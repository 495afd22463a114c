/** F10 and F14: who may call when nobody is asked who they are, and what does not exist yet. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { fault } from "../fault.ts";
import { startDaemon } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";

const ELSEWHERE = ["0.0.0.0", "::", "example.com", "", "192.0.2.1", "127.0.0.1.example.com", "0", "128.0.0.1", "[::]"];

fault(
	"F10",
	"without authentication it listens on loopback only: another address ends the start with 78",
	async (f) => {
		using folder = tempFolder();
		for (const host of ELSEWHERE.slice(0, f.runs(3, ELSEWHERE.length))) {
			const args = [`--http-host=${host}`];
			await assert.rejects(startDaemon(join(folder.path, "data"), { args }), /exited with 78/, JSON.stringify(host));
		}
	},
);

fault("F10", "what it listens on is not reachable at this machine's other addresses", async (f) => {
	using folder = tempFolder();
	const daemon = await startDaemon(join(folder.path, "data"));
	try {
		const port = Number(new URL(daemon.httpUrl).port);
		const others = Object.values(networkInterfaces()).flatMap((list) =>
			(list ?? []).filter(({ internal }) => !internal),
		);
		for (const { address, family, scopeid } of others) {
			const host = family === "IPv6" && scopeid !== undefined && scopeid !== 0 ? `${address}%${scopeid}` : address;
			const code = await new Promise<string | undefined>((resolve) => {
				const socket = connect({ port, host, timeout: 2000 });
				socket.once("connect", () => resolve("connected"));
				socket.once("timeout", () => resolve("timeout"));
				socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code));
				// Nothing of it outlives the test.
				for (const event of ["connect", "timeout"]) socket.once(event, () => socket.destroy());
			});
			assert.notEqual(code, "connected", address);
		}
		f.record(`${others.length} other addresses tried`);
	} finally {
		assert.equal(await daemon.stop(), 0);
	}
});

fault("F14", "webhooks: signatures, timestamps, replays", { needs: [() => "the engine has no webhooks"] }, () => {
	assert.fail("there is nothing to break");
});
