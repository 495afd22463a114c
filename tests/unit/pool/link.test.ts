/** When what is posted to a worker leaves. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { AttemptSpec } from "../../../src/pool/index.ts";
import { Link } from "../../../src/pool/link.ts";
import { FrameReader } from "../../../src/protocol/index.ts";
import { createFakeClock } from "../../support/fake-clock.ts";

const ATTEMPT: AttemptSpec = {
	invocationId: "inv_a",
	attempt: 1,
	method: "POST",
	path: "/",
	headersJson: "[]",
	queryJson: "[]",
	body: new Uint8Array(64),
	timeoutMs: 1_000,
	timeoutCode: "TIMED_OUT",
};

test("what is posted in one go, as the claims of one commit are, leaves in one write, in the next microtask", async () => {
	const writes: number[] = [];
	const link = new Link(createFakeClock(), {
		message: () => undefined,
		broken: () => undefined,
		printed: () => undefined,
		closed: () => undefined,
		gone: () => undefined,
	});
	link.launch(
		() => ({
			pid: 1,
			kill: () => undefined,
			send(chunks) {
				let frames = 0;
				const reader = new FrameReader(() => void (frames += 1));
				for (const chunk of chunks) assert.equal(reader.push(chunk), undefined);
				writes.push(frames);
			},
		}),
		{ env: {} },
	);
	for (let call = 0; call < 100; call += 1) link.invoke(call, ATTEMPT, 0);
	link.host({ type: "ping" });
	assert.deepEqual(writes, [], "not one by one");
	await Promise.resolve();
	assert.deepEqual(writes, [101]);
	link.host({ type: "ping" });
	await Promise.resolve();
	assert.deepEqual(writes, [101, 1], "what comes later has a write of its own");
});
