/** F12: where a secret may be and where not. Canaries go in by every door, everything goes wrong, then all is searched. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { globSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fault } from "../fault.ts";
import { cli } from "../../support/cli-harness.ts";
import { waitFor } from "../../support/wait-for.ts";
import { FUNCTIONS, HOST, scene } from "./scene.ts";

const canary = (where: string): string => `canary-${where}-${randomBytes(8).toString("hex")}`;
/** In the daemon's own environment, as a shell or a unit file would have it. */
const DAEMON_ENV = canary("daemon");
const s = scene({
	env: { SECRET_OF_THE_SHELL: DAEMON_ENV, DATABASE_URL: `postgres://u:${DAEMON_ENV}@h/d` },
	args: ["--log-level", "debug"],
});

/** Everything that the data folder holds, its WAL and temporary files too, by path. */
function filesWith(text: string): string[] {
	const needle = Buffer.from(text);
	return globSync("**/*", { cwd: s.dataDir })
		.map((name) => join(s.dataDir, name))
		.filter(
			(path) => statSync(path, { throwIfNoEntry: false })?.isFile() === true && readFileSync(path).includes(needle),
		)
		.map((path) => relative(s.dataDir, path))
		.toSorted();
}

function procfs(pid: number, file: string): string {
	return readFileSync(`/proc/${pid}/${file}`, "latin1");
}

interface WorkerRow {
	readonly pid: number;
	readonly function_name: string;
}

async function workers(): Promise<readonly WorkerRow[]> {
	return (await s.daemon.client.call("workers.list", {}))["workers"] as WorkerRow[];
}

/** Everything that any face tells about the engine and its functions. */
async function everythingTold(): Promise<string> {
	const paths = [
		"/metrics",
		"/openapi.json",
		"/v1/stats",
		"/v1/workers",
		"/v1/lanes",
		"/v1/functions",
		"/v1/functions/web",
		"/v1/functions/web/env",
		"/v1/functions/web/versions",
		"/v1/functions/web/deployments",
		"/v1/functions/web/metrics",
		"/v1/schedules",
		"/v1/events",
		"/v1/invocations?limit=1000",
		"/v1/logs?limit=1000",
	];
	const told = await Promise.all(paths.map(async (path) => (await s.call("GET", path)).text));
	const commands = [
		"functions",
		"workers",
		"stats",
		"lanes list",
		"invocations",
		"logs",
		"env list web",
		"versions web",
		"configure web",
	];
	for (const command of commands) {
		const { out, err } = await cli(["--socket", s.daemon.socketPath, ...command.split(" ")]);
		const json = await cli(["--socket", s.daemon.socketPath, "--json", ...command.split(" ")]);
		told.push(out, err, json.out, json.err);
	}
	return told.join("\n");
}

fault("F12", "a variable's value is in its store and in its own function's process, and nowhere else", async (f) => {
	const [mine, other] = [canary("web"), canary("other")];
	const deploy = { path: join(FUNCTIONS, "web.ts"), register: true, build: true };
	await s.daemon.client.call("functions.deploy", { ...deploy, function: "other" });
	await s.daemon.client.call("env.set", { function: "web", values: { API_KEY: mine } });
	assert.equal((await s.call("PUT", "/v1/functions/other/env", { body: { API_KEY: other } })).status, 200);
	// All that can go wrong with a function that has a secret.
	const answers: string[] = [];
	const say = async (method: string, path: string, body?: unknown): Promise<void> => {
		answers.push((await s.call(method, path, body === undefined ? {} : { body })).text);
	};
	await say("POST", "/functions/web", "x");
	await say("POST", "/functions/other", "x");
	await say("GET", "/functions/web/throw");
	await say("GET", "/functions/web/log?message=hello");
	const broken = join(s.folder, "broken.ts");
	writeFileSync(broken, "export default (");
	await say("POST", "/v1/functions/web/deployments", { path: broken });
	writeFileSync(broken, "throw new Error('at load');");
	await say("POST", "/v1/functions/web/deployments", { path: broken });
	writeFileSync(broken, "export default () => process.exit(3);");
	await say("POST", "/v1/functions/dies/deployments", { path: broken, register: true });
	await s.daemon.client.call("env.set", { function: "dies", values: { API_KEY: mine } });
	await say("POST", "/functions/dies", "x");
	await say("PUT", "/v1/functions/web/env", { API_KEY: mine, "": mine });
	await say("PUT", "/v1/functions/web/env", { API_KEY: [mine] });
	await say("PUT", "/v1/functions/web/env", `{"API_KEY":"${mine}"`);
	await say("PUT", "/v1/functions/web/env", { API_KEY: mine, BIG: "x".repeat(70_000) });
	await say("PUT", "/v1/functions/nobody/env", { API_KEY: mine });
	await say("GET", "/functions/web?again");
	// The text of what could not be parsed goes back to who sent it, and to nobody else.
	for (const text of answers) assert.ok(!text.includes("canary-") || text.includes("BAD_JSON"), text);
	assert.doesNotMatch(s.daemon.lines.join("\n"), /canary-/);
	assert.doesNotMatch(await everythingTold(), /canary-/);
	// Files: the store of functions alone, private.
	for (const secret of [mine, other]) {
		const files = filesWith(secret);
		assert.ok(files.length > 0 && files.every((name) => /^metadata\.db(-wal)?$/.test(name)), files.join(", "));
		for (const name of files) assert.equal(statSync(join(s.dataDir, name)).mode & 0o777, 0o600, name);
	}
	// Processes: arguments never; environments of its own workers only.
	const running = await waitFor("workers of both", async () => {
		const list = await workers();
		return list.some((row) => row.function_name === "web") && list.some((row) => row.function_name === "other") && list;
	});
	for (const { pid, function_name: name } of running) {
		assert.doesNotMatch(procfs(pid, "cmdline"), /canary-/);
		const seen = procfs(pid, "environ");
		assert.equal(seen.includes(name === "web" ? other : mine), false, `${name} has another's`);
		assert.equal(seen.includes(DAEMON_ENV), false, `${name} has the daemon's`);
		assert.equal(statSync(`/proc/${pid}/environ`).mode & 0o077, 0);
	}
	assert.doesNotMatch(procfs(s.daemon.pid, "cmdline"), /canary-/);
	assert.equal(procfs(s.daemon.pid, "environ").includes(mine), false);
	f.record(
		`${running.length} workers, ${answers.length} answers, ${s.daemon.lines.length} lines of the daemon searched`,
	);
});

fault("F12", "what a caller sends is in the queue alone: no log, no metric, no list, no file name has it", async () => {
	const secret = canary("payload");
	const query = `?token=${secret}`;
	const headers = { authorization: `Bearer ${secret}`, cookie: `session=${secret}` };
	const before = s.daemon.lines.length;
	await s.call("POST", `/functions/web/in${query}`, { headers, body: secret });
	await s.call("POST", `/functions/web/throw?message=known&token=${secret}`, { headers, body: secret });
	await s.call("POST", `/functions/nobody${query}`, { headers, body: secret });
	await s.call("POST", "/functions/web", { headers: { ...headers, "x-bunbase-priority": "high" }, body: secret });
	await s.call("POST", `/v1/functions${query}`, { headers, body: `{"name":${secret}` });
	await s.call("POST", "/v1/events", { headers, body: { type: "order.created", data: { secret } } });
	await s.call("GET", `/v1/logs${query}`, { headers });
	// What breaks off, is refused by the parser, or stalls.
	await s.raw(
		`POST /functions/web${query} HTTP/1.1\r\n${HOST}Authorization: ${secret}\r\nContent-Length: x\r\n\r\n${secret}`,
	);
	{
		await using line = await s.open();
		line.write(
			`POST /functions/web${query} HTTP/1.1\r\n${HOST}Authorization: ${secret}\r\nContent-Length: 100\r\n\r\n${secret}`,
		);
	}
	assert.ok(!s.daemon.lines.slice(before).join("\n").includes(secret), "in the daemon's log");
	const events = (await s.call("GET", "/v1/events")).text;
	const told = (await everythingTold()).replaceAll(events, "");
	assert.ok(!told.includes(secret), "told by a list");
	const files = filesWith(secret);
	assert.ok(files.length > 0 && files.every((name) => /^queue\.db(-wal)?$/.test(name)), files.join(", "));
});

fault("F12", "a variable that was removed or replaced is gone from the disk when the daemon has stopped", async () => {
	const [removed, replaced, kept] = [canary("removed"), canary("replaced"), canary("kept")];
	const { client } = s.daemon;
	await client.call("env.set", { function: "web", values: { ONE: removed, TWO: replaced, THREE: kept } });
	await client.call("env.unset", { function: "web", names: ["ONE"] });
	await client.call("env.set", { function: "web", values: { TWO: "other" } });
	await s.restart();
	assert.deepEqual(filesWith(removed), []);
	assert.deepEqual(filesWith(replaced), []);
	assert.ok(filesWith(kept).length > 0);
});
