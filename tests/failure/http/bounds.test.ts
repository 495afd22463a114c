/** F4: everything that a client may send has a bound, and reaching it costs the daemon no memory. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { gzipSync } from "node:zlib";
import { fault } from "../fault.ts";
import { waitFor } from "../../support/wait-for.ts";
import { CLOSE, HOST, memoryOf, scene, statuses, type Line } from "./scene.ts";

const s = scene();
const MiB = 1024 * 1024;
const POST = `POST /functions/web HTTP/1.1\r\n${HOST}`;

/** What the daemon grew by at its most while `act` ran, in MiB. */
async function growth(act: () => Promise<void>): Promise<number> {
	const { pid } = s.daemon;
	const before = memoryOf(pid).now;
	let most = before;
	const look = setInterval(() => (most = Math.max(most, memoryOf(pid).now)), 20);
	try {
		await act();
	} finally {
		clearInterval(look);
	}
	return Math.max(most, memoryOf(pid).now) - before;
}

/** Writes at the pace of the other side; ends quietly when that closes. */
async function pour(line: Line, bytes: Buffer, times: number): Promise<number> {
	let written = 0;
	for (let left = times; left > 0 && !line.socket.closed && line.socket.writable; left--) {
		written += bytes.length;
		if (!line.socket.write(bytes)) await Promise.race([once(line.socket, "drain").catch(() => undefined), line.closed]);
	}
	return written;
}

for (const [title, head] of [
	["a header of 20 KB", `X-A: ${"a".repeat(20_000)}\r\n`],
	["2,001 headers", "a:1\r\n".repeat(2001)],
	["1,100 headers of 6 KB in all", "a:1\r\n".repeat(1100)],
	["a header's name of 20 KB", `${"a".repeat(20_000)}: 1\r\n`],
] as const) {
	fault("F4", `${title} is 431, and nothing runs`, async () => {
		const before = await s.accepted();
		assert.deepEqual(statuses(await s.raw(`${POST}${head}Content-Length: 0\r\n\r\n`)), [431]);
		assert.equal(await s.accepted(), before);
	});
}

fault("F4", "a target of 20 KB is 431; one of 9 KB is no path that a function has", async () => {
	const get = (path: string): string => `GET /functions/web/${path} HTTP/1.1\r\n${HOST}${CLOSE}\r\n`;
	assert.deepEqual(statuses(await s.raw(get("a".repeat(20_000)))), [431]);
	assert.deepEqual(statuses(await s.raw(get("a".repeat(9000)))), [400]);
});

fault("F4", "100 MB of body without a length: 413 at the limit, and the daemon keeps nothing of it", async (f) => {
	const before = await s.accepted();
	let sent = 0;
	const grew = await growth(async () => {
		await using line = await s.open();
		line.write(`${POST}Transfer-Encoding: chunked\r\n\r\n`);
		const chunk = Buffer.concat([Buffer.from("100000\r\n"), Buffer.alloc(MiB, 120), Buffer.from("\r\n")]);
		sent = await pour(line, chunk, 100);
		await line.closed;
		assert.deepEqual(statuses(line.text), [413]);
	});
	assert.ok(grew < 64, `the daemon grew by ${grew.toFixed(0)} MiB`);
	assert.equal(await s.accepted(), before);
	f.record(`took ${(sent / MiB).toFixed(0)} MB of 100 before it closed, grew by ${grew.toFixed(0)} MiB`);
});

fault("F4", "a body of one-byte chunks costs what it holds, not a buffer for each byte", async (f) => {
	const bytes = f.long ? 2_000_000 : 600_000;
	f.ran(1);
	const grew = await growth(async () => {
		await using line = await s.open();
		line.write(`${POST}${CLOSE}Transfer-Encoding: chunked\r\n\r\n`);
		await pour(line, Buffer.from("1\r\nx\r\n".repeat(20_000)), bytes / 20_000);
		line.write("0\r\n\r\n");
		await line.closed;
		assert.match(line.text, new RegExp(`"bytes":${bytes}`));
	});
	// Kept apart, 6,000,000 cost 2,470 MiB and 600,000 cost 250.
	assert.ok(grew < (f.long ? 100 : 80), `the daemon grew by ${grew.toFixed(0)} MiB`);
	f.record(`${bytes.toLocaleString("en")} chunks of one byte: grew by ${grew.toFixed(0)} MiB`);
});

fault("F4", "chunk extensions and trailers without end are refused", async () => {
	const chunked = `${POST}Transfer-Encoding: chunked\r\n\r\n`;
	assert.deepEqual(statuses(await s.raw(`${chunked}1;${"e".repeat(40_000)}\r\nx\r\n0\r\n\r\n`)), [413]);
	const trailers = await s.raw(`${chunked}1\r\nx\r\n0\r\n${"X-A: a\r\n".repeat(20_000)}\r\n`);
	assert.ok([400, 431].includes(statuses(trailers)[0] ?? 0), trailers.slice(0, 200));
});

fault("F4", "a gzip bomb stays as small as it came: bodies are never unpacked here", async (f) => {
	const packed = gzipSync(Buffer.alloc((f.long ? 1024 : 128) * MiB), { level: 9 });
	let text = "";
	const grew = await growth(async () => {
		const answer = await s.call("POST", "/functions/web", { headers: { "content-encoding": "gzip" }, body: packed });
		text = answer.text;
	});
	assert.equal((JSON.parse(text) as { bytes: number }).bytes, packed.length);
	assert.ok(grew < 64, `the daemon grew by ${grew.toFixed(0)} MiB`);
	const api = await s.call("POST", "/v1/functions", { headers: { "content-encoding": "gzip" }, body: packed });
	assert.ok([400, 413].includes(api.status), api.text);
});

fault("F4", "after a 413 what follows on the connection is no request", async () => {
	const before = await s.accepted();
	const hidden = `POST /functions/web/hidden HTTP/1.1\r\n${HOST}Content-Length: 0\r\n\r\n`;
	const answer = await s.raw(`${POST}Content-Length: ${7 * MiB}\r\n\r\n${hidden.repeat(100)}`);
	assert.deepEqual(statuses(answer), [413]);
	assert.equal(await s.accepted(), before);
});

fault("F4", "a body over 1 MiB to the API is 413, whatever its length says", async () => {
	const json = `{"name":"${"a".repeat(MiB)}"}`;
	assert.equal((await s.call("POST", "/v1/functions", { body: json })).status, 413);
	const chunked = `Transfer-Encoding: chunked\r\n\r\n${json.length.toString(16)}\r\n${json}\r\n0\r\n\r\n`;
	assert.deepEqual(statuses(await s.raw(`POST /v1/functions HTTP/1.1\r\n${HOST}${chunked}`)), [413]);
});

fault("F4", "pipelined requests are answered all and in their order", async (f) => {
	const count = f.runs(200, 1000);
	const one = (index: number): string =>
		`GET /functions/web/${index} HTTP/1.1\r\n${HOST}${index === count - 1 ? CLOSE : ""}\r\n`;
	const answer = await s.raw(Array.from({ length: count }, (_, index) => one(index)).join(""));
	assert.equal(statuses(answer).length, count);
	const order = [...answer.matchAll(/"path":"\/(\d+)"/g)].map((match) => Number(match[1]));
	assert.deepEqual(order, [...Array(count).keys()]);
});

fault(
	"F4",
	"a client that pipelines without end and reads nothing is read no further, and costs no memory",
	async (f) => {
		const sent = f.long ? 200_000 : 40_000;
		f.ran(sent);
		const before = await s.accepted();
		const grew = await growth(async () => {
			await using line = await s.open();
			line.socket.pause();
			line.write(`GET /functions/web/hold?ms=100 HTTP/1.1\r\n${HOST}\r\n`.repeat(sent));
			// By the tenth answer it has long read what it is going to read.
			await waitFor("ten of them to begin", async () => (await s.accepted()) - before >= 10);
		});
		f.record(
			`${sent.toLocaleString("en")} sent, ${(await s.accepted()) - before} begun, grew by ${grew.toFixed(0)} MiB`,
		);
		// Read to their end they cost 7 KB each.
		assert.ok(grew < 64, `the daemon grew by ${grew.toFixed(0)} MiB`);
		assert.equal(statuses(await s.raw(`GET /functions/web/fine HTTP/1.1\r\n${HOST}${CLOSE}\r\n`))[0], 200);
	},
);
