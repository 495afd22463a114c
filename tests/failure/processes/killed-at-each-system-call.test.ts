/**
 * SIGKILL before the n-th system call that changes the disk, for every n: between any two of them a machine that is
 * mean enough can stop. Afterwards the same program completes on the same folder, and the checker judges both lives.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync, type SpawnSyncReturns } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import BetterSqlite3 from "better-sqlite3";
import { ledgerFile } from "../../support/ledger.ts";
import { seededRandom } from "../../support/seed.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { fault, type Fault } from "../fault.ts";
import { check, report } from "../harness/checker.ts";
import { loadHistory, type HeaderLine, type Line } from "../harness/history.ts";
import { between, pick, standardPlans } from "../harness/plans.ts";
import { faultRun, type Scene } from "../harness/run.ts";
import { COMPILE_CACHE } from "../harness/subject.ts";
import { strace } from "../needs.ts";
import { PLANS } from "./scenario-facts.ts";

const SCENARIO = join(import.meta.dirname, "scenario.ts");
/** Everything that changes what a later start finds. Node's own start uses none of them. */
const CALLS = "pwrite64,fsync,fdatasync,ftruncate,rename,unlink,mkdir,rmdir";

/** Before the n-th call of this name: strace counts each name for itself. */
interface Point {
	readonly call: string;
	readonly n: number;
}

const env = { ...process.env, NODE_COMPILE_CACHE: COMPILE_CACHE, UV_THREADPOOL_SIZE: "1" };

interface Place extends Disposable {
	readonly dataDir: string;
	readonly ledger: string;
}

function place(): Place {
	const stack = new DisposableStack();
	const dataDir = join(stack.use(tempFolder()).path, "data");
	return { dataDir, ledger: stack.use(ledgerFile()).path, [Symbol.dispose]: () => stack.dispose() };
}

function live({ dataDir, ledger }: Place, trace: readonly string[], ...mode: string[]): SpawnSyncReturns<string> {
	const [command = process.execPath, ...args] = [...trace, process.execPath, SCENARIO, dataDir, ledger, ...mode];
	return spawnSync(command, args, { encoding: "utf8", env });
}

/** The points of an unharmed life, from strace's log of it. */
function pointsOf(log: string): Point[] {
	const counts = new Map<string, number>();
	return readFileSync(log, "utf8")
		.split("\n")
		.flatMap((line) => {
			const call = /^(?:\d+ +)?(\w+)\(/.exec(line)?.[1];
			if (call === undefined) return [];
			const n = (counts.get(call) ?? 0) + 1;
			counts.set(call, n);
			return [{ call, n }];
		});
}

function nameOf({ call, n }: Point, points: readonly Point[]): string {
	return `${call} ${n} of ${points.filter((point) => point.call === call).length}`;
}

function mainPoints(): Point[] {
	using here = place();
	const log = join(here.dataDir, "../calls.txt");
	const counted = live(here, ["strace", "-qq", "-o", log, "-e", `trace=${CALLS}`]);
	assert.equal(counted.status, 0, counted.stderr);
	return pointsOf(log);
}

/** The second life on the folder of the first, and the judgement over both. Returns what the first had told. */
function completeAndJudge(here: Place, point: string): { deployed: number; acknowledged: number } {
	const before = told(here);
	const completed = live(here, [], "complete");
	assert.equal(completed.status, 0, `after ${point}: ${completed.stderr}`);
	const functions = Object.fromEntries(Object.entries(PLANS).map(([name, { facts }]) => [name, facts]));
	const header: HeaderLine = { kind: "header", title: point, seed: 0, functions };
	const leftovers = readdirSync(here.dataDir, { recursive: true, encoding: "utf8" }).filter((name) =>
		/-wal$|-shm$|-journal$|\.tmp$/.test(name),
	);
	const lines: Line[] = [header, ...told(here), { kind: "world", drainedMs: 0, freshMs: 0, leftovers, bootsMs: [] }];
	const verdict = check(lines);
	assert.equal(verdict.findings.length, 0, `after ${point}: ${report(lines, verdict)}`);
	assert.equal(verdict.classes.ok, 8, "the second life has all of them done");
	for (const file of ["queue.db", "metadata.db"]) {
		using database = disposable(new BetterSqlite3(join(here.dataDir, file), { readonly: true }));
		assert.equal(database.pragma("integrity_check", { simple: true }), "ok", `${file} after ${point}`);
		assert.deepEqual(database.pragma("foreign_key_check"), [], `${file} after ${point}`);
	}
	// A7: the active version is the one that was told last, or one later; its bundle was verified by the second life.
	return {
		deployed: before.filter((line) => line.kind === "fault").length,
		acknowledged: before.filter((line) => line.kind === "op" && line.type === "ok").length,
	};
}

function disposable(database: BetterSqlite3.Database): BetterSqlite3.Database & Disposable {
	return Object.assign(database, { [Symbol.dispose]: () => void database.close() });
}

/** A kill may leave half a line, of a call that was never finished: nobody was told. */
function told({ ledger }: Place): Line[] {
	try {
		return loadHistory(ledger);
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
		throw error;
	}
}

/** All points, or a seeded choice of them where there is time for few. */
function choose(f: Fault, points: readonly Point[], few: number, many: number): readonly Point[] {
	const count = f.runs(few, many);
	if (count >= points.length) return points;
	const random = seededRandom(f.seed);
	return points
		.map((point) => ({ point, by: random.next() }))
		.toSorted((a, b) => a.by - b.by)
		.slice(0, count)
		.map(({ point }) => point);
}

fault(
	"A2",
	"kill before the n-th system call of the main thread, every n: nothing told is lost, nothing is there twice",
	{ needs: [strace], timeout: 1_500_000 },
	(f) => {
		mainPoints(); // fills the cache, which would add calls of its own
		const points = mainPoints();
		let killed = 0;
		let acknowledged = 0;
		for (const point of choose(f, points, 3, 300)) {
			using here = place();
			const inject = `inject=${point.call}:signal=SIGKILL:when=${point.n}`;
			const life = live(here, ["strace", "-qq", "-o", "/dev/null", "-e", `trace=${point.call}`, "-e", inject]);
			if (life.signal === "SIGKILL") killed += 1;
			// A life of other luck with its timers may have a call less.
			else assert.equal(life.status, 0, life.stderr);
			acknowledged += completeAndJudge(here, nameOf(point, points)).acknowledged;
		}
		assert.ok(killed > 0);
		f.record(`${points.length} points, killed at ${killed}, acknowledged before a kill ${acknowledged}, lost 0`);
	},
);

/** The threads of a life that waits to be let go. */
async function attached(here: Place, thread: string, trace: readonly string[]): Promise<number> {
	mkdirSync(join(here.dataDir, ".."), { recursive: true });
	const life = spawn(process.execPath, [SCENARIO, here.dataDir, here.ledger, "wait"], {
		env,
		stdio: ["pipe", "pipe", "inherit"],
	});
	const gone = once(life, "exit");
	try {
		const [line] = (await once(createInterface({ input: life.stdout }), "line")) as [string];
		const threads = JSON.parse(line) as { tid: string; name: string }[];
		const tid = threads.find(({ name }) => name === thread)?.tid;
		assert.ok(tid, `a thread called ${thread} among ${line}`);
		const tracer = spawn("strace", ["-p", tid, ...trace], { stdio: ["ignore", "ignore", "pipe"] });
		const traced = once(tracer, "exit");
		await once(createInterface({ input: tracer.stderr }), "line"); // "Process … attached"
		tracer.stderr.resume();
		life.stdin.end("\n");
		const [code] = (await gone) as [number | null];
		await traced;
		return code ?? -1;
	} finally {
		life.kill("SIGKILL");
	}
}

fault(
	"A2",
	"kill before the n-th system call of the thread that writes bundles, every n: every version that is there is whole",
	{ needs: [strace] },
	async (f) => {
		let points: readonly Point[];
		{
			using here = place();
			const log = join(here.dataDir, "../calls.txt");
			assert.equal(await attached(here, "libuv-worker", ["-o", log, "-e", `trace=${CALLS},write`]), 0);
			points = pointsOf(log);
		}
		let killed = 0;
		for (const point of choose(f, points, 2, 60)) {
			using here = place();
			const inject = `inject=${point.call}:signal=SIGKILL:when=${point.n}`;
			const trace = ["-o", "/dev/null", "-e", `trace=${point.call}`, "-e", inject];
			if ((await attached(here, "libuv-worker", trace)) === -1) killed += 1;
			completeAndJudge(here, `${nameOf(point, points)} of the pool's thread`);
		}
		assert.ok(killed > 0);
		f.record(`${points.length} points of the bundle writer, killed at ${killed}`);
	},
);

/** What the main thread of a daemon under load does that others can see: the disk, the socket, the workers. */
const SEEN = ["pwrite64", "fsync", "write", "writev", "sendmsg", "read", "ftruncate", "unlink"] as const;

fault(
	"A2",
	"kill of a whole daemon under load before the n-th call of a kind: nothing acknowledged is lost",
	{ needs: [strace], longOnly: true, timeout: 600_000 },
	async (f) => {
		const count = f.runs(2, 40);
		const random = seededRandom(f.seed);
		const steps = async ({ subject, history }: Scene): Promise<void> => {
			for (let left = count; left > 0; left -= 1) {
				const call = pick(random, SEEN);
				const n = between(random, 1, 60);
				const { process: daemon, pid } = subject.daemon;
				const gone = once(daemon, "exit");
				history.fault(`kill of the daemon ${pid} before ${call} number ${n} from now on`);
				const inject = `inject=${call}:signal=SIGKILL:when=${n}`;
				const tracer = spawn("strace", [
					"-qq",
					"-o",
					"/dev/null",
					"-p",
					String(pid),
					"-e",
					`trace=${call}`,
					"-e",
					inject,
				]);
				const traced = once(tracer, "exit");
				// ftruncate and unlink are rare: after two seconds any moment will do.
				const patience = setTimeout(() => daemon.kill("SIGKILL"), 2_000);
				await gone;
				clearTimeout(patience);
				await traced;
				subject.daemon.client.close();
				await subject.start();
			}
		};
		await faultRun(f, { title: "A2", plans: standardPlans(), steps });
	},
);
