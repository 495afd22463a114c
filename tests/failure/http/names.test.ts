/** F5: names and paths that are none, through every face that takes one: only what the rule for its kind allows gets in. */
import assert from "node:assert/strict";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { fault } from "../fault.ts";
import { fc, seeded } from "../../support/seed.ts";
import { cli } from "../../support/cli-harness.ts";
import { ClientError } from "../../../src/sources/client-error.ts";
import { CLOSE, FUNCTIONS, HOST, scene, statuses } from "./scene.ts";

const s = scene();
const FUNCTION = /^[a-z][a-z0-9_-]{0,127}$/;
const LABEL = /^(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const ID = /^(inv|fn|dep|sch|evt)_[0-9a-v]{12,}$/;

/** Names that have hurt somebody. */
const HOSTILE = [
	"..",
	".",
	"../../etc/passwd",
	"..%2f..%2fetc%2fpasswd",
	"%2e%2e%2f",
	"..\\..\\windows",
	"/etc/passwd",
	"a/b",
	"a\0b",
	"a\0",
	"CON",
	"nul.txt",
	"a:b",
	"a b",
	" a",
	"a\n",
	"a\r\nX-Injected: 1",
	"\u202eevil",
	"\u2066a",
	"ａｂｃ",
	"K", // KELVIN SIGN: lower case is k
	"ſ", // LONG S: upper case is S
	"é",
	"__proto__",
	"constructor",
	"toString",
	"hasOwnProperty",
	"<script>alert(1)</script>",
	"'; DROP TABLE function; --",
	"$(reboot)",
	"`id`",
	"-rf",
	"--help",
	"-",
	"_a",
	"0a",
	"A",
	"a".repeat(129),
	"a".repeat(300),
	"a".repeat(10_000),
	"inv_01k85log9n000000004vi",
	"fn_01k85lm0qj9vaadl3m",
	"\ud800",
	"",
];

const hostile = fc.constantFrom(...HOSTILE);
const anyName = fc.oneof(
	hostile,
	fc.string({ unit: "binary", maxLength: 140 }),
	fc.string({ unit: fc.constantFrom(...Array.from("ab09-_.AB/\\%\0 é")), maxLength: 140 }),
);

function allowedAsFunction(name: string): boolean {
	return FUNCTION.test(name) && !ID.test(name);
}

/** A code of the protocol, or undefined where it was taken. */
async function codeOf(work: Promise<unknown>): Promise<string | undefined> {
	try {
		await work;
		return undefined;
	} catch (error) {
		assert.ok(error instanceof ClientError, String(error));
		return error.code;
	}
}

/** Every file and folder in the data folder has a name that we made. */
function onlyOurNames(): void {
	const ours =
		/^(?:[a-z]+\.(?:db|db-wal|db-shm|lock|json)|ballast|bundles|logs|tmp|\d{4}-\d\d-\d\d\.jsonl|fn_[0-9a-v]+|bundle\.js(?:\.map)?|worker-\w+|[A-Za-z0-9][A-Za-z0-9._-]*)$/;
	for (const name of readdirSync(s.dataDir, { recursive: true }) as string[]) {
		for (const part of name.split("/")) assert.match(part, ours);
	}
	// The folders of functions are named by ids, whatever the functions are called.
	for (const name of readdirSync(join(s.dataDir, "bundles"))) assert.match(name, /^fn_[0-9a-v]+$/);
}

fault("F5", "a function's name is taken by socket and HTTP exactly where the rule allows it", async (f) => {
	let taken = 0;
	const runs = seeded(HOSTILE.length + f.runs(60, 3000));
	await fc.assert(
		fc.asyncProperty(anyName, async (name) => {
			const allowed = allowedAsFunction(name);
			const bySocket = await codeOf(s.daemon.client.call("functions.register", { name }));
			assert.equal(bySocket, allowed ? undefined : "BAD_NAME", JSON.stringify(name));
			const { status } = await s.call("POST", "/v1/functions", { body: { name } });
			assert.equal(status, allowed ? 200 : 400, JSON.stringify(name));
			if (allowed) taken++;
		}),
		{ ...runs, examples: HOSTILE.map((name) => [name]) },
	);
	f.record(`${taken} of the names were names`);
	onlyOurNames();
});

fault("F5", "the first segment of /functions/ and a segment of /v1 never reach another route or a file", async (f) => {
	const runs = seeded(HOSTILE.length + f.runs(60, 3000));
	await fc.assert(
		fc.asyncProperty(
			fc.oneof(hostile, fc.string({ unit: fc.constantFrom(...Array.from("ab/.%25e2fF0\\;?&=_")), maxLength: 60 })),
			async (given) => {
				// As bytes of a target: what cannot stand there is percent-encoded, the rest goes as it is.
				const segment = given.replaceAll(/[^\x21-\x7e]/gu, (char) =>
					encodeURIComponent(char.isWellFormed() ? char : "x"),
				);
				const before = await s.accepted();
				for (const [method, path] of [
					["POST", `/functions/${segment}`],
					["GET", `/v1/functions/${segment}`],
					["GET", `/v1/invocations/${segment}`],
					["DELETE", `/v1/schedules/${segment}`],
				] as const) {
					const [name = ""] = segment.split(/[/?]/, 1);
					if (name === "web" || (method === "GET" && path.startsWith("/v1/functions/") && FUNCTION.test(name)))
						continue;
					const answer = await s.raw(`${method} ${path} HTTP/1.1\r\n${HOST}${CLOSE}Content-Length: 0\r\n\r\n`);
					const [status = 0] = statuses(answer);
					assert.ok(
						[400, 404, 405, 409, 410, 421, 431].includes(status) || /^(?:\?.*)?$/.test(segment),
						`${method} ${path}: ${answer}`,
					);
					assert.doesNotMatch(answer, /root:|INTERNAL/);
				}
				assert.equal(await s.accepted(), before);
			},
		),
		{ ...runs, examples: HOSTILE.map((name) => [name]) },
	);
});

fault("F5", "versions, event types and schedules have one rule, through both faces", async (f) => {
	const path = join(FUNCTIONS, "web.ts");
	const runs = seeded(HOSTILE.length + f.runs(40, 1500));
	const bundle = (version: string): Record<string, unknown> => ({ function: "web", path, version });
	await fc.assert(
		fc.asyncProperty(anyName, async (name) => {
			const allowed = LABEL.test(name);
			const event = await codeOf(s.daemon.client.call("events.emit", { type: name, data: 1 }));
			assert.equal(event, allowed ? undefined : "BAD_NAME", `event ${JSON.stringify(name)}`);
			const byHttp = await s.call("POST", "/v1/events", { body: { type: name } });
			assert.equal(byHttp.status, allowed ? 202 : 400, byHttp.text);
			const schedule = { function: "web", name, cron: "0 0 1 1 *" };
			const made = await codeOf(s.daemon.client.call("schedules.put", schedule));
			assert.equal(made, allowed ? undefined : "BAD_NAME", `schedule ${JSON.stringify(name)}`);
			if (!allowed) {
				const version = await codeOf(s.daemon.client.call("functions.deploy", bundle(name)));
				assert.ok(
					version === "BAD_NAME" || (name === "" && version === "BAD_REQUEST"),
					`version ${JSON.stringify(name)}: ${version}`,
				);
			}
		}),
		{ ...runs, examples: HOSTILE.map((name) => [name]) },
	);
	onlyOurNames();
});

fault("F5", "a version that is allowed and looks odd has its own folder and no other", async () => {
	for (const version of ["CON", "nul.txt", "1.0.0-rc.1", "x.", "V1", "a".repeat(128), "constructor", "bundle.js"]) {
		const answer = await s.daemon.client.call("functions.deploy", {
			function: "odd",
			path: join(FUNCTIONS, "web.ts"),
			version,
			register: true,
		});
		const folder = join(s.dataDir, "bundles", String(answer["function_id"]), version);
		assert.ok(statSync(join(folder, "bundle.js")).isFile());
	}
	onlyOurNames();
});

fault("F5", "lane keys, tags and idempotency keys are values, never names of anything", async (f) => {
	const runs = seeded(HOSTILE.length + f.runs(40, 1500));
	await fc.assert(
		fc.asyncProperty(anyName, async (text) => {
			const code = await codeOf(
				s.daemon.client.enqueue("web", { method: "POST", path: "/", laneKey: text, tags: text === "" ? [] : [text] }),
			);
			const ok = text.length <= 128;
			assert.equal(code, ok ? undefined : "BAD_REQUEST", JSON.stringify(text));
			const keyed = await codeOf(s.daemon.client.enqueue("web", { method: "POST", path: "/", idempotencyKey: text }));
			const isKey = text === "" || (/^[\x21-\x7e]+$/.test(text) && text.length <= 255);
			assert.equal(keyed, isKey ? undefined : "BAD_REQUEST", JSON.stringify(text));
		}),
		{ ...runs, examples: HOSTILE.map((name) => [name]) },
	);
	onlyOurNames();
});

fault(
	"F5",
	"the command line passes names on as they are, or refuses them; it never takes one for an option",
	async () => {
		for (const name of HOSTILE.filter((name) => !name.includes("\0") && name.isWellFormed())) {
			const { code, out, err } = await cli(["--socket", s.daemon.socketPath, "register", "--", name]);
			const allowed = allowedAsFunction(name);
			assert.equal(code, allowed ? 0 : 2, `${JSON.stringify(name)}: ${out}${err}`);
			const called = await cli(["--socket", s.daemon.socketPath, "invoke", "--", name]);
			assert.ok([2, 3, 4].includes(called.code), `${JSON.stringify(name)}: ${called.code} ${called.err}`);
			const logs = await cli(["--socket", s.daemon.socketPath, "logs", "--", name]);
			assert.ok([0, 2, 3].includes(logs.code), `${JSON.stringify(name)}: ${logs.code} ${logs.err}`);
		}
		onlyOurNames();
	},
);

fault("F5", "names of variables are names of variables", async () => {
	for (const name of [...HOSTILE, "A=B", "PATH", "LD_PRELOAD", "a", "_", "a1"]) {
		// The key is none of a JSON document that we take, whatever it would mean.
		const allowed = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/.test(name) && name !== "__proto__";
		const values = Object.fromEntries([[name, "value"]]);
		const body = JSON.stringify(values);
		const byHttp = await s.call("PUT", "/v1/functions/web/env", { body });
		assert.equal(byHttp.status, allowed ? 200 : 400, `${JSON.stringify(name)}: ${byHttp.text}`);
		if (!allowed) continue;
		assert.match(byHttp.text, new RegExp(`"${name}"`), `${name} was taken and is not there`);
		assert.equal(await codeOf(s.daemon.client.call("env.unset", { function: "web", names: [name] })), undefined);
	}
});
