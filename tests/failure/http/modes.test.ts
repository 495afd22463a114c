/** F13: everything that the daemon makes is its user's alone, whatever the umask says; what it does not own it leaves alone. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, globSync, lstatSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fault } from "../fault.ts";
import { program, root } from "../needs.ts";
import { startDaemon, type Daemon } from "../../support/daemon.ts";
import { tempFolder, type TempFolder } from "../../support/temp-folder.ts";
import { waitFor } from "../../support/wait-for.ts";
import { FUNCTIONS } from "./scene.ts";

const NOBODY = "65534";

/** A daemon started with the umask that is worst, in a folder that everybody may enter; work of every kind done. */
async function used(folder: TempFolder): Promise<Daemon> {
	// As /tmp is; without the sticky bit the socket is refused there (E6).
	chmodSync(folder.path, 0o1777);
	const before = process.umask(0);
	let daemon: Daemon;
	try {
		daemon = await startDaemon(join(folder.path, "data"));
	} finally {
		process.umask(before);
	}
	const { client } = daemon;
	await client.call("functions.deploy", {
		function: "web",
		path: join(FUNCTIONS, "web.ts"),
		register: true,
		build: true,
	});
	await client.call("env.set", { function: "web", values: { API_KEY: "secret" } });
	await client.invoke("web", { method: "GET", path: "/log", query: [["message", "hello"]] });
	await client.enqueue("web", { method: "POST", path: "/", body: new Uint8Array(100_000) });
	await waitFor("the log on disk", () => globSync(join(folder.path, "data/logs/*.jsonl")).length > 0);
	return daemon;
}

/** Mode of everything under the data folder, and of the socket. */
function modes(folder: string): readonly (readonly [path: string, mode: number, isFolder: boolean])[] {
	const paths = ["data", "data.sock", ...globSync("data/**/*", { cwd: folder })];
	return paths.flatMap((name) => {
		const stat = lstatSync(join(folder, name), { throwIfNoEntry: false });
		return stat === undefined ? [] : [[name, stat.mode & 0o7777, stat.isDirectory()] as const];
	});
}

fault(
	"F13",
	"with umask 000 every file is 0600 or less and every folder 0700, WAL, socket, bundles and logs too",
	async (f) => {
		using folder = tempFolder();
		const daemon = await used(folder);
		try {
			const all = modes(folder.path);
			for (const [path, mode, isFolder] of all)
				assert.equal(mode & (isFolder ? 0o7077 : 0o7177), 0, `${path} has mode ${mode.toString(8)}`);
			const names = all.map(([path]) => path).join("\n");
			for (const part of [
				"queue.db-wal",
				"metadata.db-shm",
				"logs.db",
				"bundle.js",
				".jsonl",
				"daemon.lock",
				"instance.json",
				"ballast",
				"worker-",
				"data.sock",
			])
				assert.ok(names.includes(part), `there is no ${part} to look at:\n${names}`);
			assert.equal(statSync(globSync(join(folder.path, "data/bundles/*/*/bundle.js"))[0] ?? "").mode & 0o777, 0o400);
			f.record(`${all.length} files and folders`);
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
	},
);

const setpriv = program("setpriv");

fault(
	"F13",
	"another user can neither connect to the socket nor read anything",
	{ needs: [root, setpriv] },
	async (f) => {
		using folder = tempFolder();
		const daemon = await used(folder);
		try {
			const paths = modes(folder.path).map(([path]) => join(folder.path, path));
			const script = `
			const { readFileSync, readdirSync, writeFileSync, statSync } = require("node:fs");
			const paths = JSON.parse(process.argv[1]);
			const got = [];
			for (const path of paths) {
				for (const act of [() => readFileSync(path), () => readdirSync(path), () => writeFileSync(path + ".planted", "x")]) {
					try { act(); got.push(path); } catch (error) { if (!["EACCES", "EPERM", "ENOTDIR", "EISDIR", "ENXIO"].includes(error.code)) got.push(path + " " + error.code); }
				}
			}
			const socket = require("node:net").connect(process.argv[2]);
			socket.on("connect", () => { got.push("connected"); socket.destroy(); });
			socket.on("error", (error) => { if (error.code !== "EACCES") got.push("socket " + error.code); });
			socket.on("close", () => console.log(JSON.stringify(got)));`;
			const asNobody = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"];
			const args = [...asNobody, process.execPath, "-e", script, JSON.stringify(paths), daemon.socketPath];
			const { status, stdout, stderr } = spawnSync("setpriv", args, { encoding: "utf8", env: {} });
			// The folder above is everybody's, so that the modes under it are what is tried: beside them anybody may write.
			const got = (JSON.parse(stdout || "null") as string[] | null)?.filter(
				(path) => !/^[^ ]*\/data(\.sock)?$/.test(path),
			);
			assert.deepEqual([status, got], [0, []], stderr);
			for (const { pid } of (await daemon.client.call("workers.list", {}))["workers"] as { pid: number }[]) {
				const environ = spawnSync("setpriv", [...asNobody, "cat", `/proc/${pid}/environ`], { encoding: "utf8" });
				assert.equal(environ.stdout, "");
				assert.match(environ.stderr, /Permission denied/);
			}
			f.record(`${paths.length} paths tried`);
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
	},
);

fault("F13", "what was opened to others while the daemon was away is private again when it is back", async () => {
	using folder = tempFolder();
	assert.equal(await (await used(folder)).stop(), 0);
	const data = join(folder.path, "data");
	for (const name of ["queue.db", "metadata.db", "logs.db"]) chmodSync(join(data, name), 0o666);
	chmodSync(data, 0o777);
	const daemon = await startDaemon(data);
	try {
		for (const name of ["", "queue.db", "metadata.db", "logs.db", "queue.db-wal", "metadata.db-wal"])
			assert.equal(statSync(join(data, name)).mode & 0o077, 0, name || "the data folder");
	} finally {
		assert.equal(await daemon.stop(), 0);
	}
});

for (const [title, plant] of [
	["a link to a file", (path: string, victim: string) => symlinkSync(victim, path)],
	["a link to nothing", (path: string) => symlinkSync(`${path}.gone`, path)],
	["a folder", (path: string) => mkdirSync(path)],
	["a regular file", (path: string) => writeFileSync(path, "precious")],
] as const) {
	fault("F13", `${title} in the place of the socket is refused, and stays as it is`, async () => {
		using folder = tempFolder();
		const [path, victim] = [join(folder.path, "s.sock"), join(folder.path, "victim")];
		writeFileSync(victim, "precious");
		plant(path, victim);
		const before = lstatSync(path);
		await assert.rejects(startDaemon(join(folder.path, "data"), { socketPath: path }), /78/);
		assert.equal(lstatSync(path).ino, before.ino);
		assert.equal(readFileSync(victim, "utf8"), "precious");
		assert.equal(lstatSync(`${path}.gone`, { throwIfNoEntry: false }), undefined);
	});
}

for (const name of ["queue.db", "metadata.db", "logs.db"]) {
	fault("F13", `${name} that is a link to another file is refused; what the link names is not written`, async () => {
		using folder = tempFolder();
		const [data, victim] = [join(folder.path, "data"), join(folder.path, "victim")];
		mkdirSync(data, { mode: 0o700 });
		writeFileSync(victim, "precious and no database at all".repeat(300), { mode: 0o644 });
		const before = readFileSync(victim);
		symlinkSync(victim, join(data, name));
		await assert.rejects(startDaemon(data), /DATA_FOREIGN|DATA_CORRUPT/);
		assert.deepEqual(readFileSync(victim), before);
		assert.equal(statSync(victim).mode & 0o777, 0o644);
	});
}
