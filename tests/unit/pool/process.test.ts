/** Pipes of a process: what floods them is slowed down by its bytes, whatever pieces they come in. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Clock } from "../../../src/core/environment.ts";
import { systemClock } from "../../../src/engine/system.ts";
import { createSpawner, type Exit } from "../../../src/pool/process.ts";
import { tempFolder } from "../../support/temp-folder.ts";

const LINES = 20_000;
const LINE = "a line of output";
/** What a pipe brings between two rests. */
const BETWEEN_RESTS = 65_536;

for (const keeps of [true, false]) {
	test(`a pipe that brings small lines rests ${keeps ? "never where they are kept" : "once for each 64 KiB of which nothing is kept"}`, async () => {
		using folder = tempFolder();
		const program = join(folder.path, "prints");
		const loop = `i=0; while [ $i -lt ${LINES} ]; do echo '${LINE}'; i=$((i + 1)); done`;
		writeFileSync(program, `#!/bin/sh\n${loop}\n`, { mode: 0o755 });
		let rests = 0;
		const clock: Clock = {
			...systemClock,
			setTimer(delayMs, fire) {
				if (delayMs === 1) rests += 1;
				return systemClock.setTimer(delayMs, fire);
			},
		};
		const spawn = createSpawner({
			bunPath: program,
			instanceId: "ins_test",
			tempDir: folder.path,
			hostVariables: process.env,
			clock,
		});
		let [bytes, pieces] = [0, 0];
		const { promise, resolve } = Promise.withResolvers<Exit>();
		spawn(
			{ env: {} },
			{
				data: () => undefined,
				output(_stream, chunk) {
					bytes += chunk.byteLength;
					pieces += 1;
					return keeps;
				},
				channelClosed: () => undefined,
				gone: resolve,
			},
		);
		assert.deepEqual(await promise, { code: 0, signal: null });
		assert.equal(bytes, LINES * (LINE.length + 1), "all of it was read");
		if (keeps) {
			assert.equal(rests, 0);
			return;
		}
		assert.ok(pieces > bytes / BETWEEN_RESTS, `${pieces} pieces: they are smaller than what is between rests`);
		assert.ok(rests > 0 && rests <= bytes / BETWEEN_RESTS, `${rests} rests for ${bytes} bytes in ${pieces} pieces`);
	});
}
