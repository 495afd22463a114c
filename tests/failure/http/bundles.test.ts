/**
 * F6: what a deployment may be given as a path. There are no archives, so nothing is unpacked: a path names one file or
 * a folder with an index file, and whatever else it turns out to be is refused, within bounds.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, readdirSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { fault } from "../fault.ts";
import { program } from "../needs.ts";
import { memoryOf, scene } from "./scene.ts";

const s = scene();
const GOOD = 'export default () => new Response("good");\n';

interface Deployed {
	readonly status: number;
	readonly code: string | undefined;
	readonly detail: string;
}

async function deploy(path: string, build?: boolean): Promise<Deployed> {
	const body = { path, register: true, ...(build !== undefined && { build }) };
	const { status, text } = await s.call("POST", "/v1/functions/odd/deployments", { body });
	const answer = JSON.parse(text) as { code?: string; detail?: string };
	return { status, code: answer.code, detail: answer.detail ?? "" };
}

/** Nothing of a refused deployment is left: no version, no bundle, no file in tmp but the workers' own folders. */
async function nothingStored(): Promise<void> {
	const { functions } = JSON.parse((await s.call("GET", "/v1/functions")).text) as {
		functions: { name: string; versions?: unknown[]; active_version: string | null }[];
	};
	assert.equal(functions.find(({ name }) => name === "odd")?.active_version ?? null, null);
	const left = readdirSync(join(s.dataDir, "tmp")).filter((name) => !name.startsWith("worker-"));
	assert.deepEqual(left, []);
}

/** Names of what is made in a folder of the test, and with what the path shall be refused. */
const ODD: Readonly<Record<string, { readonly make: (path: string) => void; readonly says: RegExp }>> = {
	"a pipe that nobody writes": {
		make: (path) => assert.equal(spawnSync("mkfifo", [path]).status, 0),
		says: /regular file|no file/,
	},
	"a link to a device without end": { make: (path) => symlinkSync("/dev/zero", path), says: /regular file|no file/ },
	"a link to a terminal": { make: (path) => symlinkSync("/dev/tty", path), says: /regular file|no file/ },
	"a link to itself": { make: (path) => symlinkSync(path, path), says: /ELOOP/ },
	"a link to nothing": { make: (path) => symlinkSync(`${path}.gone`, path), says: /no file/ },
	"a sparse file of 10 GB": {
		make: (path) => {
			writeFileSync(path, "");
			truncateSync(path, 10 * 2 ** 30);
		},
		says: /10737418240 bytes/,
	},
	"a folder with the name of a file": { make: (path) => mkdirSync(path), says: /has none of|no file/ },
};

for (const [title, { make, says }] of Object.entries(ODD)) {
	fault("F6", `refused with 422 and without reading it: ${title}`, { needs: [program("mkfifo")] }, async (f) => {
		const folder = join(s.folder, `odd-${title.replaceAll(" ", "-")}`);
		mkdirSync(join(folder, "inside"), { recursive: true });
		make(join(folder, "odd.ts"));
		make(join(folder, "inside/index.ts"));
		const from = performance.now();
		for (const [path, build] of [
			[join(folder, "odd.ts"), true],
			[join(folder, "odd.ts"), false],
		] as const) {
			const { status, code, detail } = await deploy(path, build);
			assert.deepEqual([status, code], [422, "BAD_BUNDLE"], detail);
			assert.match(detail, says);
		}
		// In a folder, what is no file is no entry.
		const { status, code, detail } = await deploy(join(folder, "inside"), true);
		assert.deepEqual([status, code], [422, "BAD_BUNDLE"], detail);
		await nothingStored();
		f.ran(3);
		f.record(`${title}: ${(performance.now() - from).toFixed(0)} ms for three`);
	});
}

fault("F6", "a socket as a path is refused", async () => {
	const path = join(s.folder, "socket.ts");
	const server = createServer();
	await new Promise<void>((resolve) => server.listen(path, resolve));
	try {
		assert.equal((await deploy(path)).code, "BAD_BUNDLE");
	} finally {
		await new Promise((resolve) => server.close(resolve));
	}
});

for (const [title, path] of [
	["NUL", "/tmp/a\0b.ts"],
	["a name of 300 characters", `/tmp/${"x".repeat(300)}.ts`],
	["a path of 6,000 characters", `/${"y/".repeat(3000)}x.ts`],
	["a path through a file", "/etc/hostname/x.ts"],
	["the memory of the daemon", "/proc/self/mem"],
	["the root folder", "/"],
	["a lone surrogate", "/tmp/\ud800.ts"],
	["dots to somewhere else", "/tmp/../../../../etc/hostname"],
] as const) {
	fault("F6", `a path that is no source is 422, never a defect: ${title}`, async () => {
		for (const build of [true, false]) {
			const { status, code, detail } = await deploy(path, build);
			assert.ok(status === 422 && (code === "BAD_BUNDLE" || code === "BUILD_FAILED"), `${status} ${code} ${detail}`);
		}
		await nothingStored();
	});
}

fault("F6", "a relative path is refused, because it is the daemon's folder that it would start from", async () => {
	for (const path of ["x.ts", "../x.ts", "", "./x.ts", "file:///tmp/x.ts", "C:\\x.ts"])
		assert.equal((await deploy(path)).code, "BAD_REQUEST", path);
});

fault("F6", "a file that is not JavaScript is refused before it becomes a version", async () => {
	for (const [name, bytes] of [
		["archive.ts", Buffer.from("PK\x03\x04../../../../etc/cron.d/x", "latin1")],
		["binary.js", Buffer.from([0, 255, 254, 0, 1, 2, 3])],
		["half.ts", Buffer.from("export default () => {")],
		["empty.ts", Buffer.from("")],
		["value.ts", Buffer.from("export default 1")],
		["throws.ts", Buffer.from('throw new Error("at load")')],
	] as const) {
		const path = join(s.folder, name);
		writeFileSync(path, bytes);
		for (const build of [true, false]) {
			const { status, code } = await deploy(path, build);
			assert.equal(status, 422, `${name} ${code}`);
		}
	}
	for (const name of ["x.zip", "x.tar.gz", "x.json", "x"]) {
		writeFileSync(join(s.folder, name), GOOD);
		assert.equal((await deploy(join(s.folder, name), true)).code, "BAD_BUNDLE", name);
	}
	await nothingStored();
});

fault(
	"F6",
	"a source that imports a huge file ends with its bundler, within its memory",
	{ longOnly: true },
	async (f) => {
		const folder = join(s.folder, "imports");
		mkdirSync(folder);
		writeFileSync(join(folder, "huge.txt"), "");
		truncateSync(join(folder, "huge.txt"), 6 * 2 ** 30);
		writeFileSync(
			join(folder, "index.ts"),
			'import text from "./huge.txt" with { type: "text" };\nexport default () => new Response(text);\n',
		);
		const { code, detail } = await deploy(folder, true);
		assert.equal(code, "BUILD_FAILED");
		assert.match(detail, /2048 MiB/);
		await nothingStored();
		f.record(`the daemon: ${memoryOf(s.daemon.pid).most.toFixed(0)} MiB at its most`);
	},
);

fault("F6", "a folder of 10,000 files is its index file: the others are not read, copied or listed", async (f) => {
	const folder = join(s.folder, "many");
	mkdirSync(folder);
	// Not synchronously: our idle connection to the daemon ends meanwhile, and we must hear of it.
	for (let left = f.runs(2000, 10_000); left > 0; left -= 100) {
		const names = Array.from({ length: 100 }, (_, at) => join(folder, `f${left - at}.ts`));
		await Promise.all(names.map((name) => writeFile(name, "throw 1")));
	}
	symlinkSync("/", join(folder, "root"));
	writeFileSync(join(folder, "index.ts"), GOOD);
	const { status, text } = await s.call("POST", "/v1/functions/many/deployments", {
		body: { path: folder, build: true, register: true },
	});
	assert.equal(status, 201, text);
	const { function_id: id, version } = JSON.parse(text) as { function_id: string; version: string };
	const stored = readdirSync(join(s.dataDir, "bundles", id, version)).toSorted();
	assert.deepEqual(stored, ["bundle.js", "bundle.js.map"]);
});

fault("F6", "what was deployed by a link stays what it was when the link points elsewhere", async () => {
	const [one, other, link] = [join(s.folder, "one.ts"), join(s.folder, "other.ts"), join(s.folder, "link.ts")];
	writeFileSync(one, GOOD);
	writeFileSync(other, 'export default () => new Response("other");\n');
	symlinkSync(one, link);
	assert.equal(
		(await s.call("POST", "/v1/functions/linked/deployments", { body: { path: link, register: true } })).status,
		201,
	);
	writeFileSync(one, 'export default () => new Response("changed");\n');
	chmodSync(one, 0);
	assert.equal((await s.call("GET", "/functions/linked")).text, "good");
});
