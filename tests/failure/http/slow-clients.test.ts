/** F3: clients that open a request and never finish it cost others nothing, and are cut. */
import assert from "node:assert/strict";
import { fault } from "../fault.ts";
import { HOST, memoryOf, scene, type Line } from "./scene.ts";

const s = scene();
const POST = `POST /functions/web HTTP/1.1\r\n${HOST}`;

/** Where each of them stops; the next byte never comes. */
const STOPS: Readonly<Record<string, { readonly bytes: string; readonly status: number; readonly ms: number }>> = {
	nothing: { bytes: "", status: 408, ms: 10_000 },
	"half a request line": { bytes: "POST /func", status: 408, ms: 10_000 },
	"half a header": { bytes: `${POST}X-Slow: a`, status: 408, ms: 10_000 },
	"a head without its end": { bytes: `${POST}Content-Length: 10\r\n`, status: 408, ms: 10_000 },
	"half a body": { bytes: `${POST}Content-Length: 10\r\n\r\nhello`, status: 408, ms: 60_000 },
	"half a chunk": { bytes: `${POST}Transfer-Encoding: chunked\r\n\r\na\r\nhello`, status: 408, ms: 60_000 },
	"an answer, and then nothing": { bytes: `GET /healthz HTTP/1.1\r\n${HOST}\r\n`, status: 200, ms: 5000 },
};

/** How long callers that behave wait, in ms: the median and the slowest of a hundred. */
async function answerTimes(count: number): Promise<{ p50: number; p99: number }> {
	const times: number[] = [];
	for (let left = count; left > 0; left--) {
		const from = performance.now();
		assert.equal((await s.call("POST", "/functions/web", { body: "x" })).status, 200);
		times.push(performance.now() - from);
	}
	times.sort((a, b) => a - b);
	return { p50: times[Math.floor(count * 0.5)] ?? 0, p99: times[Math.floor(count * 0.99)] ?? 0 };
}

fault("F3", "clients that stop in the middle hold up nobody", { timeout: 120_000 }, async (f) => {
	const count = f.runs(200, 1000);
	const stops = Object.values(STOPS);
	await answerTimes(20);
	const alone = await answerTimes(100);
	const lines: Line[] = [];
	try {
		for (let index = 0; index < count; index++) {
			const line = await s.open();
			line.write(stops[index % stops.length]?.bytes ?? "");
			lines.push(line);
		}
		const beside = await answerTimes(100);
		const { now } = memoryOf(s.daemon.pid);
		f.record(
			`p50 ${alone.p50.toFixed(1)} → ${beside.p50.toFixed(1)} ms, p99 ${alone.p99.toFixed(1)} → ${beside.p99.toFixed(1)} ms beside ${count}; daemon ${now.toFixed(0)} MiB`,
		);
		// A stuck connection costs no turn of the loop; the factor is for the noise of a shared machine.
		assert.ok(beside.p50 < 10 * alone.p50 + 20, `p50 ${alone.p50} → ${beside.p50} ms`);
	} finally {
		for (const line of lines) await line[Symbol.asyncDispose]();
	}
});

fault(
	"F3",
	"each is cut when its time is over, with 408 where an answer is due",
	{ longOnly: true, timeout: 180_000 },
	async (f) => {
		const each = Math.ceil(f.runs(0, 1000) / Object.keys(STOPS).length);
		const before = await s.accepted();
		const cut = await Promise.all(
			Object.entries(STOPS).flatMap(([title, { bytes, status, ms }]) =>
				Array.from({ length: each }, async () => {
					await using line = await s.open();
					line.write(bytes);
					const from = performance.now();
					await line.closed;
					const took = performance.now() - from;
					assert.equal(
						Number(/^HTTP\/1\.1 (\d{3})/.exec(line.text)?.[1] ?? NaN),
						status ?? NaN,
						`${title}: ${line.text}`,
					);
					// Node looks once a second; the rest is for a machine that is busy with a thousand of them.
					assert.ok(took > ms - 1500 && took < ms + 5000, `${title} was cut after ${took} ms`);
					return [title, took] as const;
				}),
			),
		);
		for (const title of Object.keys(STOPS)) {
			const times = cut.filter(([of]) => of === title).map(([, took]) => took);
			f.record(`${title}: ${(Math.min(...times) / 1000).toFixed(1)}–${(Math.max(...times) / 1000).toFixed(1)} s`);
		}
		assert.equal(await s.accepted(), before);
	},
);

fault(
	"F3",
	"a client that sends a byte a second is cut by the time of the whole, not of the last byte",
	{ longOnly: true, timeout: 180_000 },
	async (f) => {
		const drip = async (head: string, bytes: string, ms: number): Promise<void> => {
			await using line = await s.open();
			line.write(head);
			let at = 0;
			const timer = setInterval(() => line.write(bytes[at++ % bytes.length] ?? ""), 1000);
			const from = performance.now();
			await line.closed;
			clearInterval(timer);
			const took = performance.now() - from;
			assert.match(line.text, /^HTTP\/1\.1 408 /);
			assert.ok(took < ms + 5000, `cut after ${took} ms`);
			f.record(`a byte a second: ${(took / 1000).toFixed(1)} s`);
		};
		await Promise.all([
			drip(`${POST}X-Slow: `, "a", 10_000),
			drip(`${POST}Content-Length: 100000\r\n\r\n`, "a", 60_000),
			drip(`${POST}Transfer-Encoding: chunked\r\n\r\n`, "1\r\nx\r\n", 60_000),
		]);
	},
);
