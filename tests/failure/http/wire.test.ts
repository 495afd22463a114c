/** F1 and F2: requests that two parsers could read differently. A real daemon, raw sockets, and what was queued. */
import assert from "node:assert/strict";
import { fault } from "../fault.ts";
import { seededRandom } from "../../support/seed.ts";
import { CLOSE, HOST, scene, statuses } from "./scene.ts";

const s = scene();
const POST = `POST /functions/web HTTP/1.1\r\n${HOST}`;
/** What would run if somebody took part of a body, or what follows a refusal, for a request. */
const HIDDEN = `POST /functions/web/hidden HTTP/1.1\r\n${HOST}${CLOSE}Content-Length: 0\r\n\r\n`;

/** Each is followed by HIDDEN on the same connection, which must never run. */
const SMUGGLING: Readonly<Record<string, string>> = {
	"Content-Length beside Transfer-Encoding": `${POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
	"Transfer-Encoding beside Content-Length": `${POST}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n`,
	"two Content-Lengths that differ": `${POST}Content-Length: 0\r\nContent-Length: 6\r\n\r\n`,
	"two Content-Lengths that agree": `${POST}Content-Length: 0\r\nContent-Length: 0\r\n\r\n`,
	"a list as Content-Length": `${POST}Content-Length: 0, 0\r\n\r\n`,
	"Content-Length: +0": `${POST}Content-Length: +0\r\n\r\n`,
	"Content-Length: +5": `${POST}Content-Length: +5\r\n\r\nhello`,
	"Content-Length: 0x5": `${POST}Content-Length: 0x5\r\n\r\nhello`,
	"Content-Length: -1": `${POST}Content-Length: -1\r\n\r\n`,
	"Content-Length: 5 5": `${POST}Content-Length: 5 5\r\n\r\nhello`,
	"Content-Length past 64 bits": `${POST}Content-Length: 18446744073709551621\r\n\r\nhello`,
	"an empty Content-Length": `${POST}Content-Length:\r\n\r\n`,
	"Transfer-Encoding: xchunked": `${POST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`,
	"Transfer-Encoding: chunked, identity": `${POST}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`,
	"Transfer-Encoding: identity": `${POST}Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n`,
	'Transfer-Encoding: "chunked"': `${POST}Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n`,
	"Transfer-Encoding with a vertical tab": `${POST}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n`,
	"a space before the colon": `${POST}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`,
	"a tab in a header's name": `${POST}Transfer\tEncoding: chunked\r\n\r\n0\r\n\r\n`,
	"LF alone after the request line": `POST /functions/web HTTP/1.1\n${HOST}Content-Length: 0\r\n\r\n`,
	"LF alone after a header": `POST /functions/web HTTP/1.1\r\nHost: localhost\nContent-Length: 0\r\n\r\n`,
	"CR alone in a header": `${POST}X-A: a\rTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n`,
	"a folded header line": `${POST}X-A: 1\r\n  2\r\nContent-Length: 0\r\n\r\n`,
	"a folded Transfer-Encoding": `${POST}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n`,
	"a header line before the request line": `X-A: 1\r\n${POST}Content-Length: 0\r\n\r\n`,
	"NUL in a header's value": `${POST}X-A: a\0b\r\nContent-Length: 0\r\n\r\n`,
	"NUL in a header's name": `${POST}X-\0A: b\r\nContent-Length: 0\r\n\r\n`,
	"a chunk size that overflows": `${POST}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nx\r\n0\r\n\r\n`,
	"a chunk size that is no number": `${POST}Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n`,
	"a negative chunk size": `${POST}Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n`,
	"a chunk size with 0x": `${POST}Transfer-Encoding: chunked\r\n\r\n0x1\r\nx\r\n0\r\n\r\n`,
	"a chunk size that ends in LF alone": `${POST}Transfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n`,
	"a chunk longer than its size": `${POST}Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n`,
};

for (const [title, bytes] of Object.entries(SMUGGLING)) {
	fault("F1", `400 or nothing, and nothing runs: ${title}`, async () => {
		const before = await s.accepted();
		const answer = await s.raw(bytes + HIDDEN);
		assert.deepEqual(statuses(answer), [400], answer);
		assert.equal(await s.accepted(), before);
	});
}

fault("F1", "what is declared as body is body: a request inside it does not run", async () => {
	const before = await s.accepted();
	const answer = await s.raw(`${POST}${CLOSE}Content-Length: ${HIDDEN.length}\r\n\r\n${HIDDEN}`);
	assert.deepEqual(statuses(answer), [200]);
	assert.match(answer, /"path":"\/"/);
	assert.equal(await s.accepted(), before + 1);
});

fault("F1", "after an answer without a body for HEAD, 204 and 304, the next answer is the next request's", async () => {
	const next = `GET /healthz HTTP/1.1\r\n${HOST}${CLOSE}\r\n`;
	const answer = await s.raw(`HEAD /functions/web/x HTTP/1.1\r\n${HOST}\r\n${next}`);
	assert.deepEqual(statuses(answer), [200, 200]);
	assert.match(answer, /alive\n$/);
	assert.doesNotMatch(answer, /"method"/);
});

fault("F1", "broken bytes behind a whole request never answer for it: its own answer comes first", async () => {
	const before = await s.accepted();
	const answer = await s.raw(`${POST}Content-Length: 0\r\n\r\nNO HTTP\0\r\n\r\n`);
	assert.deepEqual(statuses(answer), [200, 400], answer);
	assert.equal(await s.accepted(), before + 1);
});

fault("F1", "behind an answer that closes the connection nothing runs, also what was read already", async () => {
	const before = await s.accepted();
	const refused = `POST /functions/nobody HTTP/1.1\r\n${HOST}Transfer-Encoding: chunked\r\n\r\n`;
	await using line = await s.open();
	line.write(refused);
	await line.until(/ 404 [^]*FUNCTION_NOT_FOUND/);
	line.write(`5\r\nabcde\r\n0\r\n\r\n${HIDDEN}`);
	await line.closed;
	assert.deepEqual(statuses(line.text), [404]);
	assert.equal(await s.accepted(), before);
});

fault(
	"F1",
	"a mutated request is refused, or it is exactly one request: its neighbour is never read as part of it",
	async (f) => {
		const random = seededRandom(f.seed);
		const pick = <T>(list: readonly T[]): T => list[Math.floor(random.next() * list.length)] as T;
		const noise = [
			"\r",
			"\n",
			"\0",
			" ",
			"\t",
			":",
			",",
			"chunked",
			"0",
			"\r\n",
			"\x0b",
			"\x85",
			"\xa0",
			";",
			'"',
			"\r\n ",
		];
		const seen: Record<string, number> = {};
		for (let run = f.runs(150, 6000); run > 0; run--) {
			const body = "abcde";
			const whole = pick([
				`${POST}Content-Length: ${body.length}\r\n\r\n${body}`,
				`${POST}Transfer-Encoding: chunked\r\n\r\n5\r\n${body}\r\n0\r\n\r\n`,
			]);
			const at = Math.floor(random.next() * whole.length);
			const mutated = whole.slice(0, at) + pick(noise) + whole.slice(at + Math.floor(random.next() * 2));
			const before = await s.accepted();
			// What is not whole by then is filled up with bytes that are wrong wherever a request, a header or a chunk is.
			const text = await s.raw(`${mutated}${HIDDEN}${"\0".repeat(200)}`);
			const ran = (await s.accepted()) - before;
			const answers = statuses(text);
			const shown = JSON.stringify([mutated, text]);
			assert.ok(
				answers.every((status) => [200, 400, 404, 405, 413, 421, 431, 500].includes(status)),
				shown,
			);
			assert.ok(!answers.includes(500), shown);
			// Each answer stands for its own request: what ran was answered with 200, what was refused did not run.
			assert.equal(ran, answers.filter((status) => status === 200).length, shown);
			if (/"path":"\/hidden"/.test(text)) assert.equal(answers.length, 2, shown);
			const key = answers.join("+") || "closed";
			seen[key] = (seen[key] ?? 0) + 1;
		}
		f.record(
			`answers: ${Object.entries(seen)
				.map(([key, count]) => `${key} ${count}`)
				.join(", ")}`,
		);
	},
);

/** Node's own parser lets each of these through. */
const LET_THROUGH: Readonly<Record<string, string>> = {
	"two Host headers": `GET /functions/web HTTP/1.1\r\n${HOST}${HOST}${CLOSE}\r\n`,
	"two Host headers, the second another": `GET /functions/web HTTP/1.1\r\n${HOST}hOsT: evil.example\r\n${CLOSE}\r\n`,
	"no Host header": `GET /functions/web HTTP/1.1\r\n${CLOSE}\r\n`,
	"an empty Host header": `GET /functions/web HTTP/1.1\r\nHost:\r\n${CLOSE}\r\n`,
	"no version (HTTP/0.9)": `GET /functions/web\r\n\r\n`,
	"HTTP/1.0": `GET /functions/web HTTP/1.0\r\n${HOST}${CLOSE}\r\n`,
	"HTTP/1.0 with keep-alive": `GET /functions/web HTTP/1.0\r\n${HOST}Connection: keep-alive\r\n\r\n`,
	"HTTP/2.0": `GET /functions/web HTTP/2.0\r\n${HOST}${CLOSE}\r\n`,
	"the preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"an absolute target": `GET http://localhost/functions/web HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
	"an absolute target of another site": `GET http://evil.example/functions/web HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
	"an asterisk target": `OPTIONS * HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
	"a target without a slash": `GET functions/web HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
	"a fragment": `GET /functions/web#x HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
	"%00 in the path": `GET /functions/web/a%00b HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
	"bytes over ASCII in the target": `GET /functions/web/caf\xe9 HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
	"NUL in the target": `GET /functions/web/\0 HTTP/1.1\r\n${HOST}${CLOSE}\r\n`,
	"a body with GET": `GET /functions/web HTTP/1.1\r\n${HOST}${CLOSE}Content-Length: 1\r\n\r\nx`,
	"a chunked body with HEAD": `HEAD /functions/web HTTP/1.1\r\n${HOST}${CLOSE}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
};

for (const [title, bytes] of Object.entries(LET_THROUGH)) {
	fault("F2", `refused with 400, and nothing runs: ${title}`, async () => {
		const before = await s.accepted();
		assert.deepEqual(statuses(await s.raw(bytes)), [400]);
		assert.equal(await s.accepted(), before);
	});
}

for (const upgrade of ["h2c", "websocket", "TLS/1.0"]) {
	fault("F2", `an Upgrade to ${upgrade} is ignored: one answer, no other protocol`, async () => {
		const wants = `Connection: close, Upgrade, HTTP2-Settings\r\nUpgrade: ${upgrade}\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n`;
		const answer = await s.raw(`GET /functions/web HTTP/1.1\r\n${HOST}${wants}\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`);
		assert.deepEqual(statuses(answer), [200]);
		// What Connection names stops here.
		assert.doesNotMatch(answer, /http2-settings|"upgrade"/i);
	});
}

fault("F2", "CONNECT gets no tunnel", async () => {
	assert.deepEqual(statuses(await s.raw(`CONNECT 127.0.0.1:22 HTTP/1.1\r\n${HOST}\r\n`)), []);
});

for (const [target, seen] of [
	["/functions/web/../other", "/../other"],
	["/functions/web/a/%2e%2e/%2e%2e/b", "/a/%2e%2e/%2e%2e/b"],
	["/functions/web//etc//passwd", "//etc//passwd"],
	["/functions/web/%2f%5c", "/%2f%5c"],
	["/functions/web/%zz", "/%zz"],
] as const) {
	fault("F2", `the raw path goes to the function that the first segment names, as it came: ${target}`, async () => {
		const answer = await s.raw(`GET ${target} HTTP/1.1\r\n${HOST}${CLOSE}\r\n`);
		assert.deepEqual(statuses(answer), [200]);
		const id = /x-invocation-id: (\S+)/i.exec(answer)?.[1] ?? "";
		const record = await s.daemon.client.call("invocations.get", { invocation_id: id });
		assert.equal(record["function_name"], "web");
		assert.equal((record["request"] as { path: string }).path, seen);
	});
}
