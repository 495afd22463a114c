/** A body that was read is held by whoever asked for it, and not by its request, which lives until the answer. */
import assert from "node:assert/strict";
import { IncomingMessage, ServerResponse } from "node:http";
import { Socket } from "node:net";
import { test } from "node:test";
import { readBody } from "../../../src/sources/http-body.ts";

test("nothing listens to a request any more when its body is whole, or was refused", async () => {
	for (const limit of [10, 2]) {
		const req = new IncomingMessage(new Socket());
		req.headers["transfer-encoding"] = "chunked";
		const before = req.listenerCount("close");
		const reading = readBody(req, new ServerResponse(req), limit).then(
			(body) => Buffer.from(body).toString(),
			(error: unknown) => (error as { code: string }).code,
		);
		assert.equal(req.listenerCount("data"), 1);
		req.push("abc");
		req.push(null);
		assert.equal(await reading, limit === 10 ? "abc" : "BODY_TOO_LARGE");
		assert.deepEqual(
			["data", "end", "close"].map((event) => req.listenerCount(event)),
			[0, 0, before],
		);
	}
});
