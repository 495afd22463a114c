/** E1: broken frames against the real decoder and connection, without a daemon around them, for numbers. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import type { Environment, Logger } from "../../../src/core/environment.ts";
import { silentLogger, silentProbe } from "../../../src/core/environment.ts";
import { FrameDecoder } from "../../../src/protocol/index.ts";
import { Connection } from "../../../src/sources/socket-connection.ts";
import { createFakeClock } from "../../support/fake-clock.ts";
import { echo, FakeEngine } from "../../support/fake-engine.ts";
import { fc } from "../../support/seed.ts";
import { fault } from "../fault.ts";
import { bytesOf, checkAnswers, chunksOf, framesOf, readingOf, streams } from "./frame-fuzz.ts";

/** An engine forgets nothing that it was asked for; a new one each so many streams. */
const STREAMS_PER_ENGINE = 200;

/** What a client would see of its end of the socket. */
class FarEnd extends Duplex {
	readonly written: Buffer[] = [];

	constructor() {
		super({ allowHalfOpen: true });
	}

	override _read(): void {
		// Pushed by the test.
	}

	override _write(chunk: Buffer, _encoding: string, done: () => void): void {
		this.written.push(chunk);
		done();
	}
}

fault(
	"E1",
	"whatever bytes come: no crash, one answer for each whole frame, and memory only for what has arrived",
	async (f) => {
		let engine = new FakeEngine();
		let ran = 0;
		let frames = 0;
		let broken = 0;
		const logged: string[] = [];
		const logger: Logger = { ...silentLogger, error: (fields) => void logged.push(JSON.stringify(fields)) };
		const clock = createFakeClock();
		const environment: Environment = { clock, random: { next: () => 0 }, probe: silentProbe, logger };

		await fc.assert(
			fc.asyncProperty(streams, async (stream) => {
				if (ran % STREAMS_PER_ENGINE === 0) {
					engine = new FakeEngine();
					engine.define("echo", echo);
				}
				ran += 1;
				frames += framesOf(stream);
				const bytes = bytesOf(stream);
				const chunks = chunksOf(stream, bytes);
				keepsNoMoreThanArrived(chunks);

				const far = new FarEnd();
				let closed = 0;
				const connection = new Connection({
					socket: far as unknown as Socket,
					engine,
					environment,
					closed: () => (closed += 1),
					tooSlow: () => assert.fail("nothing piles up"),
				});
				for (const chunk of chunks) far.push(chunk);
				// A client that broke the framing waits for the daemon to close; any other ends its side.
				if (readingOf(bytes).broken) broken += 1;
				far.push(null);
				if (!far.writableFinished) await once(far, "finish");
				checkAnswers(bytes, Buffer.concat(far.written));
				connection.destroy();
				if (!far.closed) await once(far, "close");
				assert.equal(closed, 1);
				assert.equal(clock.pending, 0, "a closed connection leaves no timer");
				assert.deepEqual(logged, []);
			}),
			{ seed: f.seed, numRuns: f.runs(700, 36_000), endOnFailure: true },
		);
		f.ran(frames - ran);
		f.record(`${frames} frames in ${ran} streams, ${broken} of them broken: no crash, no wrong answer`);
	},
);

/** F1: at most twice what has arrived of the unfinished frame, or 1 KiB, whatever its length claims. */
function keepsNoMoreThanArrived(chunks: readonly Buffer[]): void {
	const decoder = new FrameDecoder(() => undefined);
	let arrived = 0;
	for (const chunk of chunks) {
		arrived += chunk.length;
		decoder.push(chunk);
		assert.ok(decoder.allocatedBytes <= Math.max(1024, 2 * arrived), `${decoder.allocatedBytes} for ${arrived}`);
	}
}
