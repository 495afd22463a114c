/** kill -9 of the daemon while it deploys or removes bundles: the old or the new version serves, never none. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { seededRandom } from "../../support/seed.ts";
import { waitFor } from "../../support/wait-for.ts";
import { fault } from "../fault.ts";
import { between, pick } from "../harness/plans.ts";
import { COMPILE_CACHE, Subject } from "../harness/subject.ts";
import { strace } from "../needs.ts";

const ROOT = join(import.meta.dirname, "../../..");
const DYING = join(ROOT, "tests/support/dying-daemon.ts");

/** A bundle that answers with its number; as JavaScript, so that no build takes the time of a kill. */
function bundle(folder: string, number: number): string {
	const path = join(folder, `bundle-${number}.js`);
	writeFileSync(path, `export default () => new Response("${number}");\n`);
	return path;
}

async function deploy(subject: Subject, number: number): Promise<unknown> {
	return subject.daemon.client.call("functions.deploy", {
		function: "subject",
		path: bundle(join(subject.dataDir, ".."), number),
		register: true,
	});
}

async function serves(subject: Subject): Promise<number> {
	const answer = await subject.daemon.client.invoke("subject", {});
	assert.equal(answer.success, true, answer.error?.message);
	return Number(answer.text());
}

/** Folders below bundles/, whose rows the API lists. */
async function bundlesEqualVersions(subject: Subject): Promise<void> {
	const { versions } = (await subject.daemon.client.call("functions.versions", { function: "subject" })) as {
		versions: { version: string }[];
	};
	const root = join(subject.dataDir, "bundles");
	const folders = readdirSync(root).flatMap((functionId) => readdirSync(join(root, functionId)));
	assert.deepEqual(folders.toSorted(), versions.map(({ version }) => version).toSorted());
}

for (const point of ["deploy.bundle_stored", "deploy.version_committed", "deploy.switched"]) {
	fault("A7", `kill in a deploy at ${point}: a version serves, and the deploy can be done again`, async (f) => {
		await using subject = new Subject();
		const dying = await subject.start({ program: DYING, env: { DIE_AT: point, DIE_ARMED: "1" } });
		await deploy(subject, 1);
		dying.process.kill("SIGUSR2");
		await waitFor("it is armed", () => dying.lines.some((line) => line.includes('"armed"')));
		await assert.rejects(deploy(subject, 2));
		await waitFor("the daemon's death", () => dying.process.signalCode === "SIGKILL");
		dying.client.close();

		await subject.start();
		assert.equal(await serves(subject), point === "deploy.switched" ? 2 : 1);
		await bundlesEqualVersions(subject);
		// Whatever was left half done does not stand in the way of doing it again.
		await deploy(subject, 2);
		assert.equal(await serves(subject), 2);
		await subject.daemon.client.call("functions.rollback", { function: "subject" });
		assert.equal(await serves(subject), 1);
		f.ran(1);
	});
}

function threadOf(pid: number, name: string): number {
	const found = readdirSync(`/proc/${pid}/task`).find(
		(tid) => readFileSync(`/proc/${pid}/task/${tid}/comm`, "utf8").trim() === name,
	);
	assert.ok(found, `a thread called ${name}`);
	return Number(found);
}

/** Of a deploy: what changes the disk, by the main thread (databases) and by the one that writes files. */
const CALLS = "pwrite64,fsync,mkdir,write,writev,sendmsg,rename,rmdir,unlink";

/** Watches the two threads alone: with -f it would be the daemon's worker that dies, as often as not. */
async function traced(subject: Subject, options: readonly string[]): Promise<{ end(): Promise<void> }> {
	const { pid } = subject.daemon;
	const threads = [pid, threadOf(pid, "libuv-worker")].flatMap((tid) => ["-p", String(tid)]);
	const tracer = spawn("strace", [...threads, ...options], { stdio: ["ignore", "ignore", "pipe"] });
	const gone = once(tracer, "exit");
	let attached = 0;
	createInterface({ input: tracer.stderr }).on("line", (line) => (attached += Number(line.includes("attached"))));
	await waitFor("strace to attach", () => attached === 2);
	return {
		async end() {
			tracer.kill("SIGINT");
			await gone;
		},
	};
}

/** Every call of an unharmed deploy, as strace counts them: each name in each thread for itself. */
async function pointsOfADeploy(subject: Subject): Promise<{ call: string; n: number }[]> {
	const log = join(subject.dataDir, "../calls.txt");
	const tracer = await traced(subject, ["-o", log, "-e", `trace=${CALLS}`]);
	await deploy(subject, 0);
	await tracer.end();
	const counts = new Map<string, number>();
	return readFileSync(log, "utf8")
		.split("\n")
		.flatMap((line) => {
			const [, thread, call] = /^(\d+) +(\w+)\(/.exec(line) ?? [];
			if (call === undefined) return [];
			const n = (counts.get(`${thread} ${call}`) ?? 0) + 1;
			counts.set(`${thread} ${call}`, n);
			return [{ call, n }];
		});
}

fault(
	"A7",
	"kill before a system call of a deploy: the old or the new version serves, and no bundle is without its row",
	{ needs: [strace], timeout: 600_000 },
	async (f) => {
		await using subject = new Subject({ env: { UV_THREADPOOL_SIZE: "1" } });
		const random = seededRandom(f.seed);
		const count = f.runs(2, 60);
		await subject.start();
		const points = await pointsOfADeploy(subject);
		let serving = 0;
		const came = { old: 0, new: 0, unharmed: 0 };
		for (let number = 1; number <= count; number += 1) {
			const { daemon } = subject;
			const { call, n } = pick(random, points);
			const inject = `inject=${call}:signal=SIGKILL:when=${n}`;
			const tracer = await traced(subject, ["-o", "/dev/null", "-e", `trace=${call}`, "-e", inject]);
			const told = await deploy(subject, number).then(
				() => true,
				() => false,
			);
			if (told) {
				// Another thread made the call less often this time.
				came.unharmed += 1;
				await tracer.end();
				await daemon.kill();
			} else {
				await waitFor("the daemon's death", () => daemon.process.signalCode === "SIGKILL");
				daemon.client.close();
				await tracer.end();
			}
			await subject.start();
			const now = await serves(subject);
			const allowed = told ? [number] : [serving, number];
			assert.ok(allowed.includes(now), `${now} serves after a kill of the deploy of ${number} before ${call} ${n}`);
			if (!told) came[now === number ? "new" : "old"] += 1;
			serving = now;
			await bundlesEqualVersions(subject);
		}
		f.record(
			`${points.length} points, of which ${count}: ${came.old} times the old version, ${came.new} times the new one, ${came.unharmed} times through before`,
		);
	},
);

fault(
	"A7",
	"kill while bundles without a row are removed at boot: they are gone after the next, and those with a row are whole",
	{ needs: [strace] },
	async (f) => {
		await using subject = new Subject();
		await subject.start();
		await deploy(subject, 1);
		assert.equal(await subject.daemon.stop(), 0);
		const root = join(subject.dataDir, "bundles");
		const [functionId = ""] = readdirSync(root);
		for (let left = f.runs(3, 25); left > 0; left -= 1) {
			for (let orphan = 0; orphan < 4; orphan += 1) {
				const folder = join(root, functionId, `orphan-${orphan}`);
				mkdirSync(folder, { recursive: true });
				writeFileSync(join(folder, "bundle.js"), "");
			}
			// Each removal is a rename, an unlink and two rmdirs; 4 orphans make 16 calls.
			const random = seededRandom(f.seed + left);
			const inject = `inject=${pick(random, ["rename", "unlink", "rmdir"])}:signal=SIGKILL:when=${between(random, 1, 4)}`;
			const daemon = ["serve", "--data-dir", subject.dataDir, "--socket", subject.socketPath, "--http-port", "0"];
			const child = spawn(
				"strace",
				[
					"-f",
					"-qq",
					"-o",
					"/dev/null",
					"-e",
					"trace=rename,unlink,rmdir",
					"-e",
					inject,
					process.execPath,
					join(ROOT, "src/main.ts"),
					...daemon,
				],
				{ stdio: "ignore", env: { ...process.env, NODE_COMPILE_CACHE: COMPILE_CACHE, UV_THREADPOOL_SIZE: "1" } },
			);
			const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
			assert.equal(signal, "SIGKILL", `killed, got ${code}`);
			await subject.start();
			assert.equal(await serves(subject), 1);
			await bundlesEqualVersions(subject);
			assert.equal(await subject.daemon.stop(), 0);
			assert.deepEqual(subject.leftovers(), []);
		}
		assert.ok(existsSync(join(root, functionId, "v1", "bundle.js")));
	},
);
