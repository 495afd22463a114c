/** F10 and F14: who may call when nobody is asked who they are, and what does not exist yet. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { chmodSync, globSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { resolveSettings } from "../../../src/config.ts";
import { fault } from "../fault.ts";
import { startDaemon } from "../../support/daemon.ts";
import { tempFolder } from "../../support/temp-folder.ts";
import { FUNCTIONS } from "./scene.ts";

const ELSEWHERE = ["0.0.0.0", "::", "example.com", "", "192.0.2.1", "127.0.0.1.example.com", "0", "128.0.0.1", "[::]"];

fault(
	"F10",
	"without authentication it listens on loopback only: another address ends the start with 78",
	async (f) => {
		using folder = tempFolder();
		for (const host of ELSEWHERE.slice(0, f.runs(2, ELSEWHERE.length))) {
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

/** Made for a test; the file is private, as it must be. */
function tokenFile(folder: string, text: string, mode = 0o600): string {
	const path = join(folder, `tokens-${randomBytes(4).toString("hex")}`);
	writeFileSync(path, text);
	chmodSync(path, mode);
	return path;
}

const [TOKEN, SECOND] = [randomBytes(24).toString("hex"), `tok:${randomBytes(24).toString("base64")}`];

fault("F10", "with tokens nothing but health answers without one, on loopback too", async (f) => {
	using folder = tempFolder();
	const path = tokenFile(folder.path, `# two of them\n\n${TOKEN}\n  ${SECOND}  \n`);
	const args = ["--http-token-file", path, "--log-level", "debug"];
	const daemon = await startDaemon(join(folder.path, "data"), { args });
	try {
		const deploy = { function: "web", path: join(FUNCTIONS, "web.ts"), build: true, register: true };
		await daemon.client.call("functions.deploy", deploy);
		const send = (method: string, path: string, headers: Record<string, string>): Promise<Response> =>
			fetch(daemon.httpUrl + path, { method, headers });
		const paths = [
			"/",
			"/metrics",
			"/openapi.json",
			"/v1/stats",
			"/v1/logs",
			"/functions/web",
			"/nonsense",
			"/healthz/",
			"/healthz?x",
			"//healthz",
		];
		const wrong: readonly Record<string, string>[] = [
			{},
			{ authorization: "Bearer" },
			{ authorization: "Bearer " },
			{ authorization: TOKEN },
			{ authorization: `Basic ${Buffer.from(`:${TOKEN}`).toString("base64")}` },
			{ authorization: `Bearer ${TOKEN.slice(0, -1)}` },
			{ authorization: `Bearer ${TOKEN}0` },
			{ authorization: `Bearer ${TOKEN.toUpperCase()}` },
			{ authorization: `Bearer ${TOKEN} ${TOKEN}` },
			{ authorization: `Bearer ${TOKEN},${SECOND}` },
			{ authorization: "Bearer # two of them" },
			{ "x-bunbase-token": "" },
			{ "x-bunbase-token": `Bearer ${TOKEN}` },
			{ "x-bunbase-token": "wrong", authorization: `Bearer ${TOKEN}` },
			{ cookie: `token=${TOKEN}` },
			{ "proxy-authorization": `Bearer ${TOKEN}` },
		];
		for (const headers of wrong) {
			for (const path of paths) {
				const answer = await send("GET", path, headers);
				assert.equal(answer.status, 401, `${path} with ${JSON.stringify(headers)}`);
				assert.match(answer.headers.get("www-authenticate") ?? "", /^Bearer/);
				const text = await answer.text();
				assert.match(text, /"UNAUTHORIZED"/);
				assert.ok(!text.includes(TOKEN) && !text.includes(SECOND));
			}
		}
		assert.equal((await send("GET", `/v1/stats?token=${TOKEN}&access_token=${TOKEN}`, {})).status, 401);
		assert.equal(Number((await daemon.client.call("stats.get", {}))["accepted"]), 0);
		for (const path of ["/healthz", "/readyz"]) assert.equal((await send("GET", path, {})).status, 200);
		f.ran(wrong.length * paths.length);
		// Either token, in either place; the handler sees neither, and its own Authorization stays.
		const own = "Basic dTpw";
		for (const headers of [
			{ authorization: `Bearer ${TOKEN}` },
			{ Authorization: `bearer   ${SECOND}` },
			{ "X-BunBase-Token": TOKEN, authorization: own },
		] as Record<string, string>[]) {
			assert.equal((await send("GET", "/v1/stats", headers)).status, 200, JSON.stringify(headers));
			const seen = await (await send("POST", "/functions/web", headers)).text();
			assert.ok(!seen.includes(TOKEN) && !seen.includes(SECOND), seen);
			assert.equal(seen.includes(own), headers["authorization"] === own);
		}
		// The guards stand before it: a token makes no other name or site ours.
		assert.equal(
			(await send("POST", "/functions/web", { authorization: `Bearer ${TOKEN}`, origin: "https://evil.example" }))
				.status,
			403,
		);
		assert.doesNotMatch(daemon.lines.join("\n"), new RegExp(TOKEN));
		for (const name of globSync("**/*", { cwd: join(folder.path, "data") })) {
			const file = join(folder.path, "data", name);
			if (!statSync(file).isFile()) continue;
			const bytes = readFileSync(file);
			assert.ok(!bytes.includes(TOKEN) && !bytes.includes(SECOND), `a token is in ${name}`);
		}
	} finally {
		assert.equal(await daemon.stop(), 0);
	}
});

fault(
	"F10",
	"a token file that others may read, or without a token, ends the start with 78 and is not shown",
	async () => {
		using folder = tempFolder();
		const bad: readonly (readonly [path: string, says: RegExp])[] = [
			[tokenFile(folder.path, TOKEN, 0o640), /other users/],
			[tokenFile(folder.path, TOKEN, 0o604), /other users/],
			[tokenFile(folder.path, "\n# none\n"), /no token/],
			[tokenFile(folder.path, "short"), /is no token/],
			[tokenFile(folder.path, `${TOKEN}\n${TOKEN} with spaces`), /is no token/],
			[join(folder.path, "missing"), /cannot be read/],
			[folder.path, /other users|cannot be read/],
		];
		for (const [path, says] of bad) {
			assert.throws(
				() => resolveSettings({ httpTokenFile: path }, {}),
				(error: Error) => says.test(error.message) && !error.message.includes(TOKEN),
			);
		}
		const args = ["--http-token-file", bad[0]?.[0] ?? ""];
		await assert.rejects(startDaemon(join(folder.path, "data"), { args }), /exited with 78/);
	},
);

fault(
	"F10",
	"with a token it listens where it is told, for its allowed names and for who brings the token",
	async () => {
		using folder = tempFolder();
		const args = ["--http-host", "0.0.0.0", "--http-token-file", tokenFile(folder.path, TOKEN)];
		const env = { BUNBASE_ALLOWED_HOSTS: "functions.example.com" };
		const daemon = await startDaemon(join(folder.path, "data"), { args, env });
		try {
			const url = `http://127.0.0.1:${new URL(daemon.httpUrl).port}/v1/stats`;
			const status = async (headers: Record<string, string>): Promise<number> =>
				new Promise((resolve, reject) => {
					httpRequest(url, { headers, agent: false }, (answer) => {
						answer.resume();
						resolve(answer.statusCode ?? 0);
					})
						.once("error", reject)
						.end();
				});
			const authorization = `Bearer ${TOKEN}`;
			assert.equal(await status({ host: "functions.example.com", authorization }), 200);
			assert.equal(await status({ host: "functions.example.com" }), 401);
			assert.equal(await status({ host: "evil.example", authorization }), 421);
		} finally {
			assert.equal(await daemon.stop(), 0);
		}
	},
);

fault("F14", "webhooks: signatures, timestamps, replays", { needs: [() => "the engine has no webhooks"] }, () => {
	assert.fail("there is nothing to break");
});
