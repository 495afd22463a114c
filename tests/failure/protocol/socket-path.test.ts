/** E6: what stands where the socket should be. Nothing but a dead daemon's socket is ever removed. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
	chmodSync,
	chownSync,
	existsSync,
	lstatSync,
	mkdirSync,
	readFileSync,
	readlinkSync,
	statSync,
	symlinkSync,
	writeFileSync,
} from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { EngineError } from "../../../src/core/errors.ts";
import { socketSource } from "../../../src/sources/index.ts";
import { startDaemon } from "../../support/daemon.ts";
import { FakeEngine } from "../../support/fake-engine.ts";
import { realEnvironment } from "../../support/real-environment.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { fault } from "../fault.ts";
import { root } from "../needs.ts";

const MAIN = join(import.meta.dirname, "../../../src/main.ts");
const NOBODY = 65_534;

interface Refusal {
	readonly status: number | null;
	readonly stderr: string;
}

function serve(dataDir: string, socket: string, uid?: number): Refusal {
	const args = [MAIN, "serve", "--data-dir", dataDir, "--socket", socket, "--http-port", "0"];
	const { status, stderr } = spawnSync(process.execPath, args, {
		encoding: "utf8",
		timeout: 20_000,
		...(uid === undefined ? {} : { uid, gid: uid }),
	});
	return { status, stderr };
}

async function listenAt(path: string): Promise<Server> {
	const server = createServer();
	await new Promise<void>((resolve) => server.listen(path, resolve));
	return server;
}

fault("E6", "a dead daemon's socket is replaced, and the new one is for its owner only", async (f) => {
	using folder = tempFolder();
	const path = join(folder.path, "s.sock");
	await (await startDaemon(join(folder.path, "data"), { socketPath: path })).kill();
	assert.ok(lstatSync(path).isSocket(), "left behind");
	const next = await startDaemon(join(folder.path, "data"), { socketPath: path });
	try {
		assert.equal(statSync(path).mode & 0o777, 0o600);
		await next.client.call("stats.get", {});
	} finally {
		assert.equal(await next.stop(), 0);
	}
	assert.equal(existsSync(path), false, "a clean stop removes its socket");
	f.ran(1);
});

interface Obstacle {
	readonly what: string;
	readonly status: number;
	readonly says: RegExp;
	/** Returns the path to listen on, and what must be as before afterwards. */
	readonly make: (folder: string) => Promise<{ path: string; kept: () => void; server?: Server }>;
}

const OBSTACLES: readonly Obstacle[] = [
	{
		what: "a regular file",
		status: 78,
		says: /a regular file/,
		async make(folder) {
			const path = join(folder, "s.sock");
			writeFileSync(path, "precious");
			return { path, kept: () => assert.equal(readFileSync(path, "utf8"), "precious") };
		},
	},
	{
		what: "a folder",
		status: 78,
		says: /a folder/,
		async make(folder) {
			const path = join(folder, "s.sock");
			mkdirSync(path);
			return { path, kept: () => assert.ok(lstatSync(path).isDirectory()) };
		},
	},
	{
		what: "a symbolic link to a file",
		status: 78,
		says: /a symbolic link/,
		async make(folder) {
			const [path, target] = [join(folder, "s.sock"), join(folder, "target")];
			writeFileSync(target, "precious");
			symlinkSync(target, path);
			return {
				path,
				kept() {
					assert.equal(readlinkSync(path), target);
					assert.equal(readFileSync(target, "utf8"), "precious");
				},
			};
		},
	},
	{
		what: "a symbolic link to nowhere",
		status: 78,
		says: /a symbolic link/,
		async make(folder) {
			const path = join(folder, "s.sock");
			symlinkSync(join(folder, "nowhere"), path);
			return { path, kept: () => assert.equal(existsSync(join(folder, "nowhere")), false) };
		},
	},
	{
		what: "a symbolic link to another program's live socket",
		status: 78,
		says: /a symbolic link/,
		async make(folder) {
			const [path, target] = [join(folder, "s.sock"), join(folder, "live.sock")];
			const server = await listenAt(target);
			symlinkSync(target, path);
			return { path, server, kept: () => assert.ok(lstatSync(target).isSocket()) };
		},
	},
	{
		what: "another program's live socket",
		status: 69,
		says: /a daemon answers/,
		async make(folder) {
			const path = join(folder, "s.sock");
			const server = await listenAt(path);
			return { path, server, kept: () => assert.ok(lstatSync(path).isSocket()) };
		},
	},
	{
		what: "a path of 108 bytes",
		status: 78,
		says: /107/,
		async make(folder) {
			const path = join(folder, "s".repeat(107 - Buffer.byteLength(folder)));
			return { path, kept: () => assert.equal(existsSync(path), false) };
		},
	},
	{
		what: "a folder that is not there",
		status: 78,
		says: /is no folder/,
		async make(folder) {
			const path = join(folder, "nowhere", "s.sock");
			return { path, kept: () => assert.equal(existsSync(join(folder, "nowhere")), false) };
		},
	},
	{
		what: "a file where its folder should be",
		status: 78,
		says: /is no folder/,
		async make(folder) {
			writeFileSync(join(folder, "file"), "precious");
			return {
				path: join(folder, "file", "s.sock"),
				kept: () => assert.equal(readFileSync(join(folder, "file"), "utf8"), "precious"),
			};
		},
	},
	{
		what: "a folder in which anybody may replace files",
		status: 78,
		says: /anybody may replace files/,
		async make(folder) {
			const open = join(folder, "open");
			mkdirSync(open);
			chmodSync(open, 0o777);
			return { path: join(open, "s.sock"), kept: () => assert.equal(existsSync(join(open, "s.sock")), false) };
		},
	},
];

for (const { what, status, says, make } of OBSTACLES) {
	fault("E6", `${what}: refused with exit ${status} and in words, and what was there stays`, async (f) => {
		using folder = tempFolder();
		const { path, kept, server } = await make(folder.path);
		try {
			const source = socketSource({ path, environment: realEnvironment });
			await assert.rejects(source.start(new FakeEngine()), (error) => {
				assert.ok(error instanceof EngineError);
				assert.equal(error.exitCode, status, error.message);
				assert.match(error.message, says);
				return true;
			});
			await source.stop();
			kept();
			if (f.long) {
				const refusal = serve(join(folder.path, "data"), path);
				assert.equal(refusal.status, status, refusal.stderr);
				assert.match(refusal.stderr, says);
				kept();
			}
		} finally {
			server?.close();
		}
		if (f.long) {
			// The data folder is free again.
			const daemon = await startDaemon(join(folder.path, "data"), { socketPath: join(folder.path, "ok.sock") });
			assert.equal(await daemon.stop(), 0);
		}
		f.runs(1, 2);
	});
}

fault("E6", "a folder like /tmp, writable for all but sticky, is taken; and a path of 107 bytes", async (f) => {
	using folder = tempFolder();
	const sticky = join(folder.path, "sticky");
	mkdirSync(sticky);
	chmodSync(sticky, 0o1777);
	const longest = join(folder.path, "s".repeat(106 - Buffer.byteLength(folder.path)));
	assert.equal(Buffer.byteLength(longest), 107);
	for (const path of [join(sticky, "s.sock"), longest]) {
		const source = socketSource({ path, environment: realEnvironment });
		await source.start(new FakeEngine());
		assert.equal(statSync(path).mode & 0o777, 0o600);
		await source.stop();
	}
	f.ran(2);
});

fault(
	"E6",
	"somebody else's socket, live or stale, is refused to a user who may not open it, and stays",
	{ needs: [root] },
	async (f) => {
		using folder = tempFolder();
		chmodSync(folder.path, 0o755);
		const mine = join(folder.path, "nobody");
		mkdirSync(mine);
		chownSync(mine, NOBODY, NOBODY);
		const theirs = join(folder.path, "theirs");
		mkdirSync(theirs);
		chmodSync(theirs, 0o1777);
		const path = join(theirs, "s.sock");
		const server = await listenAt(path);
		chmodSync(path, 0o600);
		const live = serve(join(mine, "data"), path, NOBODY);
		assert.equal(live.status, 78, live.stderr);
		assert.match(live.stderr, /a socket of another user/);
		assert.ok(lstatSync(path).isSocket());
		await new Promise<void>((resolve) => server.close(() => resolve()));

		const daemon = await startDaemon(join(folder.path, "data"), { socketPath: path });
		await daemon.kill();
		const stale = serve(join(mine, "data"), path, NOBODY);
		assert.equal(stale.status, 78, stale.stderr);
		assert.ok(lstatSync(path).isSocket(), "a stale one of somebody else stays");
		// One of its own, where it may listen, is taken.
		const { status, stderr } = serve(join(mine, "data"), join(folder.path, "s.sock"), NOBODY);
		assert.equal(status, 78, stderr);
		assert.match(stderr, /EACCES/);
		f.ran(3);
	},
);
