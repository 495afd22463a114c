/**
 * The whole engine in twenty seconds: deploys functions from TypeScript, calls them in every way, watches a retry and a
 * timeout, kills the daemon with work queued, and shows that every acknowledged invocation finished.
 *
 * `npm run demo`. Works in a temp folder and leaves nothing behind; exits 1 if anything is not as promised.
 */
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify, styleText } from "node:util";
import { createClient, type Client } from "../src/sources/client.ts";

const MAIN = join(import.meta.dirname, "../src/main.ts");
const FUNCTIONS = join(import.meta.dirname, "functions");
const SLOW_CALLS = 12;
const INVOICES = 200;
const run = promisify(execFile);

interface Daemon {
	readonly child: ChildProcess;
	readonly http: string;
	readonly readyMs: number;
}

interface Shown {
	readonly what: string;
	readonly how: string;
	readonly id: string;
}

const folder = mkdtempSync(join(tmpdir(), "bunbase-demo-"));
const dataDir = join(folder, "data");
const socket = join(folder, "functions.sock");
const started = performance.now();
const shown: Shown[] = [];
let daemon: Daemon | undefined;
let client: Client | undefined;
const workerPids = new Set<number>();

function say(text: string): void {
	const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(5);
	process.stdout.write(`${styleText("gray", `${seconds} s`)}  ${text}\n`);
}

function title(text: string): void {
	process.stdout.write(`\n${styleText("bold", text)}\n`);
}

function promise(holds: boolean, what: string): void {
	if (!holds) throw new Error(`not as promised: ${what}`);
	say(`${styleText("green", "✓")} ${what}`);
}

async function startDaemon(): Promise<Daemon> {
	const from = performance.now();
	const args = [MAIN, "serve", "--data-dir", dataDir, "--socket", socket, "--http-port", "0"];
	const child = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "pipe"] });
	const lines: string[] = [];
	const http = await new Promise<string>((resolve, reject) => {
		createInterface({ input: child.stderr }).on("line", (line) => {
			lines.push(line);
			if (line.includes('"msg":"ready"')) resolve((JSON.parse(line) as { http: string }).http);
		});
		child.once("exit", (code) => reject(new Error(`the daemon did not start (exit ${code}):\n${lines.join("\n")}`)));
	});
	return { child, http, readyMs: performance.now() - from };
}

/** The `bunbase` command, as typed in a terminal. */
async function bunbase(...args: string[]): Promise<string> {
	const { stdout } = await run(process.execPath, [MAIN, ...args, "--socket", socket]);
	return stdout.trim();
}

async function until<T>(what: string, look: () => Promise<T | undefined>): Promise<T> {
	const deadline = performance.now() + 20_000;
	for (;;) {
		const seen = await look();
		if (seen !== undefined) return seen;
		if (performance.now() > deadline) throw new Error(`waited 20 s for ${what}`);
		await new Promise((resolve) => setTimeout(resolve, 50));
	}
}

interface WireInvocation {
	invocation_id: string;
	function_name: string;
	source: string;
	state: string;
	attempt: number;
	queue_wait_ms?: number | null;
	run_ms?: number | null;
}

async function list(filter: Record<string, unknown>): Promise<WireInvocation[]> {
	const answer = await connected().call("invocations.list", { limit: 1000, ...filter });
	return answer["invocations"] as WireInvocation[];
}

function connected(): Client {
	if (client === undefined) throw new Error("no client");
	return client;
}

async function rememberWorkers(): Promise<void> {
	const { workers } = (await connected().call("workers.list", {})) as { workers: { pid: number | null }[] };
	for (const { pid } of workers) if (pid !== null) workerPids.add(pid);
}

async function deployAndCall(): Promise<void> {
	title("1  Start the daemon and deploy functions from TypeScript");
	daemon = await startDaemon();
	client = createClient(socket);
	say(`daemon ready in ${Math.round(daemon.readyMs)} ms, HTTP on ${daemon.http}`);
	for (const name of ["hello", "invoice", "flaky", "slow", "stuck", "order-created"]) {
		say(await bunbase("deploy", join(FUNCTIONS, `${name}.ts`)));
	}

	title("2  Call them in every way");
	const invoice = { currency: "EUR", taxRate: 0.19, lines: [{ text: "Desk", quantity: 2, unitCents: 14950 }] };
	const bySocket = await client.invoke("invoice", { method: "POST", path: "/", body: JSON.stringify(invoice) });
	shown.push({ what: "invoice", how: "socket client", id: bySocket.invocationId });
	say(`socket client  ${bySocket.status} ${bySocket.text()}`);

	const byHttp = await fetch(`${daemon.http}/functions/hello`, { method: "POST", body: '{"name":"Ada"}' });
	shown.push({ what: "hello", how: "HTTP", id: byHttp.headers.get("x-invocation-id") ?? "" });
	say(`HTTP           ${byHttp.status} ${await byHttp.text()}`);

	const accepted = await fetch(`${daemon.http}/functions/hello`, {
		method: "POST",
		headers: { prefer: "respond-async" },
		body: '{"name":"Grace"}',
	});
	const { invocation_id: asyncId } = (await accepted.json()) as { invocation_id: string };
	shown.push({ what: "hello", how: "HTTP, respond-async", id: asyncId });
	const response = await fetch(`${daemon.http}${accepted.headers.get("location")}?wait=5s`);
	const { state } = (await response.json()) as { state: string };
	say(`HTTP async     ${accepted.status}, then polled by id: ${state}`);

	say(`CLI            ${await bunbase("invoke", "hello", '{"name":"Linus"}')}`);
	const byCli = (await list({ function: "hello", limit: 1 }))[0];
	shown.push({ what: "hello", how: "CLI", id: byCli?.invocation_id ?? "" });

	await bunbase("events", "emit", "order.created", '{"orderId":"A-17","totalCents":29900}');
	const byEvent = await until(
		"the event's invocation",
		async () => (await list({ function: "order-created", state: "succeeded" }))[0],
	);
	shown.push({ what: "order-created", how: "event order.created", id: byEvent.invocation_id });
	say("event          order.created ran order-created");

	await bunbase("schedules", "put", "hello", "*/2 * * * * *", "--name", "every-two-seconds");
	const byCron = await until("the schedule's first slot", async () =>
		(await list({ function: "hello", state: "succeeded" })).find(({ source }) => source === "cron"),
	);
	shown.push({ what: "hello", how: "cron */2 * * * * *", id: byCron.invocation_id });
	say("cron           */2 * * * * * fired");
	const schedules = (await client.call("schedules.list", {})) as { schedules: { schedule_id: string }[] };
	for (const { schedule_id } of schedules.schedules) await client.call("schedules.delete", { schedule_id });
}

async function retryAndTimeout(): Promise<void> {
	title("3  A retry that succeeds, and a loop without end that is killed");
	const flaky = await connected().enqueue("flaky", { method: "POST", path: "/" });
	const retried = await connected().waitForResult(flaky.invocationId, { timeoutMs: 10_000 });
	shown.push({ what: "flaky", how: "socket client, enqueue", id: flaky.invocationId });
	promise(
		retried.state === "succeeded" && retried.attempt === 2,
		`flaky failed once and succeeded on attempt ${retried.attempt}`,
	);

	const from = performance.now();
	const stuck = await connected().enqueue("stuck", { method: "POST", path: "/" });
	const killed = await connected().waitForResult(stuck.invocationId, { timeoutMs: 10_000 });
	shown.push({ what: "stuck", how: "socket client, enqueue", id: stuck.invocationId });
	promise(
		killed.state === "timed_out",
		`for(;;){} with a limit of 500 ms is timed_out after ${Math.round(performance.now() - from)} ms`,
	);
	const next = await connected().invoke("stuck", { method: "GET", path: "/", query: { loop: "no" } });
	promise(next.status === 200, "the next call of the same function works, on a fresh worker");
}

async function killAndRecover(): Promise<void> {
	title("4  kill -9 with work queued");
	const acknowledged: string[] = [];
	for (let index = 0; index < SLOW_CALLS; index += 1) {
		acknowledged.push(
			(await connected().enqueue("slow", { method: "POST", path: "/", body: '{"seconds":1}' })).invocationId,
		);
	}
	const invoices = Array.from({ length: INVOICES }, (_, index) =>
		connected().enqueue("invoice", {
			method: "POST",
			path: "/",
			body: JSON.stringify({
				currency: "EUR",
				taxRate: 0.07,
				lines: [{ text: `Item ${index}`, quantity: 1, unitCents: 100 + index }],
			}),
			delayMs: 1500,
		}),
	);
	for (const { invocationId } of await Promise.all(invoices)) acknowledged.push(invocationId);
	const before = await until("running work", async () => {
		const running = await list({ function: "slow", state: "running" });
		return running.length > 0 ? running : undefined;
	});
	await rememberWorkers();
	say(`${acknowledged.length} invocations acknowledged, ${before.length} of them running; now kill -9`);
	const dying = daemon;
	if (dying === undefined) throw new Error("no daemon");
	connected().close();
	dying.child.kill("SIGKILL");
	await once(dying.child, "exit");
	await until("the end of its workers", async () => ([...workerPids].every(isGone) ? true : undefined));
	promise(true, "the daemon is dead, and so are its workers");

	daemon = await startDaemon();
	client = createClient(socket);
	say(`started again in ${Math.round(daemon.readyMs)} ms`);
	const from = performance.now();
	const ends = await Promise.all(acknowledged.map((id) => connected().waitForResult(id, { timeoutMs: 30_000 })));
	const succeeded = ends.filter(({ state }) => state === "succeeded").length;
	promise(
		succeeded === acknowledged.length,
		`all ${succeeded} acknowledged invocations finished, ${Math.round(performance.now() - from)} ms after the start`,
	);
	const again = ends.filter(({ attempt }) => attempt > 1).length;
	say(`${again} that ran when the daemon died were run again (at least once)`);
}

/** A zombie is dead too: it only waits for its parent to look. */
function isGone(pid: number): boolean {
	try {
		const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
		return stat[stat.lastIndexOf(")") + 2] === "Z";
	} catch {
		return true;
	}
}

async function table(): Promise<void> {
	title("5  What the records say");
	const all = await list({});
	const rows = [["function", "called by", "state", "attempts", "waited", "ran"]];
	const ms = (value: number | null | undefined): string =>
		value === null || value === undefined ? "–" : `${value} ms`;
	for (const { what, how, id } of shown) {
		const found = all.find(({ invocation_id }) => invocation_id === id);
		rows.push([
			what,
			how,
			found?.state ?? "?",
			String(found?.attempt ?? "?"),
			ms(found?.queue_wait_ms),
			ms(found?.run_ms),
		]);
	}
	for (const [name, count] of [
		["slow", SLOW_CALLS],
		["invoice", INVOICES],
	] as const) {
		const backlog = all.filter(
			({ function_name, invocation_id }) => function_name === name && !shown.some(({ id }) => id === invocation_id),
		);
		const done = backlog.filter(({ state }) => state === "succeeded").length;
		const attempts = backlog.map(({ attempt }) => attempt);
		rows.push([
			`${name} × ${count}`,
			"socket, across kill -9",
			`${done} succeeded`,
			`${Math.min(...attempts)} to ${Math.max(...attempts)}`,
			"",
			"",
		]);
	}
	const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
	rows.forEach((row, index) => {
		const line = row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ");
		process.stdout.write(`         ${index === 0 ? styleText("underline", line) : line}\n`);
	});
}

async function cleanUp(): Promise<void> {
	if (client !== undefined && daemon?.child.exitCode === null) await rememberWorkers().catch(() => undefined);
	client?.close();
	if (daemon !== undefined && daemon.child.exitCode === null && daemon.child.signalCode === null) {
		daemon.child.kill("SIGTERM");
		await once(daemon.child, "exit");
	}
	rmSync(folder, { recursive: true, force: true });
}

try {
	await deployAndCall();
	await retryAndTimeout();
	await killAndRecover();
	await table();
	await cleanUp();
	title("6  Nothing left behind");
	promise(!existsSync(folder), "the temp folder is gone");
	promise([...workerPids].every(isGone), "no process is left");
} catch (error) {
	process.stderr.write(
		`${styleText("red", "the demo failed")}: ${error instanceof Error ? error.stack : String(error)}\n`,
	);
	process.exitCode = 1;
	await cleanUp().catch(() => undefined);
}
