/** C8: answers that cannot be kept end with a documented code, answers that only look odd arrive; the worker survives. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { httpSource } from "../../../src/index.ts";
import type { ErrorCode } from "../../../src/core/errors.ts";
import { realEnvironment } from "../../support/real-environment.ts";
import { fault } from "../fault.ts";
import { ALONE, cameTo, startLab, textOf } from "./lab.ts";

/** What cannot be kept: the code, and what its message says. */
const REFUSED: Readonly<Record<string, readonly [ErrorCode, RegExp]>> = {
	"/cycle": ["HANDLER_ERROR", /cyclic/],
	"/bigint": ["HANDLER_ERROR", /BigInt/],
	"/deep": ["HANDLER_ERROR", /call stack/],
	"/json-function": ["HANDLER_ERROR", /not JSON serializable/],
	"/json-symbol": ["HANDLER_ERROR", /not JSON serializable/],
	"/json-undefined": ["HANDLER_ERROR", /not JSON serializable/],
	"/json-throws": ["HANDLER_ERROR", /not as JSON/],
	"/undefined": ["RESULT_NOT_RESPONSE", /returned undefined/],
	"/null": ["RESULT_NOT_RESPONSE", /returned null/],
	"/number": ["RESULT_NOT_RESPONSE", /the number NaN/],
	"/bigint-value": ["RESULT_NOT_RESPONSE", /the bigint 10/],
	"/symbol": ["RESULT_NOT_RESPONSE", /Symbol\(answer\)/],
	"/function": ["RESULT_NOT_RESPONSE", /a function/],
	"/class": ["RESULT_NOT_RESPONSE", /a function/],
	"/request": ["RESULT_NOT_RESPONSE", /an instance of Request/],
	"/array": ["RESULT_NOT_RESPONSE", /an array of 1/],
	"/same-shape": ["RESULT_NOT_RESPONSE", /an object with status/],
	"/inherits": ["RESULT_NOT_RESPONSE", /only inherits from Response/],
	"/hollow": ["RESULT_NOT_RESPONSE", /only inherits from Response/],
	"/proxy": ["RESULT_NOT_RESPONSE", /only inherits from Response/],
	"/revoked": ["HANDLER_ERROR", /revoked/],
	"/thenable-throws": ["HANDLER_ERROR", /then threw/],
	"/error-value": ["RESULT_NOT_RESPONSE", /an instance of Error/],
	"/status-error": ["RESULT_UNREADABLE", /status 0/],
	"/status-99": ["HANDLER_ERROR", /99/],
	"/status-999": ["HANDLER_ERROR", /999/],
	"/status-101": ["RESULT_UNREADABLE", /status 101/],
	"/header-newline": ["HANDLER_ERROR", /x-a/],
	"/header-name": ["HANDLER_ERROR", /x a/],
	"/headers-large": ["RESULT_TOO_LARGE", /headers/],
	"/headers-many": ["RESULT_TOO_LARGE", /headers/],
	"/large": ["RESULT_TOO_LARGE", /maxBodyBytes/],
	"/large-stream": ["RESULT_TOO_LARGE", /maxBodyBytes/],
	"/stream-throws": ["RESULT_UNREADABLE", /half way/],
	"/generator-throws": ["RESULT_UNREADABLE", /half way/],
	"/stream-text": ["RESULT_UNREADABLE", /a string of 4/],
	"/stream-numbers": ["RESULT_UNREADABLE", /the number 1/],
	"/stream-objects": ["RESULT_UNREADABLE", /an object with a/],
	"/stream-null": ["RESULT_UNREADABLE", /gave null/],
	"/stream-buffer": ["RESULT_UNREADABLE", /ArrayBuffer/],
	"/stream-views": ["RESULT_UNREADABLE", /Uint16Array/],
	"/stream-error-now": ["RESULT_UNREADABLE", /dead on arrival/],
	"/used": ["RESULT_UNREADABLE", /read already/],
	"/locked": ["RESULT_UNREADABLE", /read already/],
	"/locked-stream": ["RESULT_UNREADABLE", /locked/],
	"/cancelled": ["RESULT_UNREADABLE", /read already/],
	"/file-missing": ["RESULT_UNREADABLE", /ENOENT/],
};

/** What arrives as it was made: status and body. */
const KEPT: Readonly<Record<string, readonly [status: number, body: string]>> = {
	"/nan": [200, '{"nan":null,"infinite":null}'],
	"/proto": [200, '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}'],
	"/deep-text": [200, `${"[".repeat(100_000)}${"]".repeat(100_000)}`],
	"/lone-surrogate": [200, '"\\ud800 alone"'],
	"/nul": [200, "a\0b"],
	"/status-599": [599, "x"],
	"/status-204-body": [204, "body after 204"],
	"/status-304-body": [304, "body after 304"],
	"/header-latin": [200, "x"],
	"/hop-headers": [200, "x"],
	"/stream-empty": [200, "x"],
	"/stream-many": [200, "x".repeat(300)],
	"/generator": [200, "one two"],
	"/params": [200, "a=1"],
	"/redirect": [302, ""],
	// The Response itself is kept, whatever a property of it says.
	"/lies-status-99": [200, "truth"],
	"/lies-status-fraction": [200, "truth"],
	"/lies-status-nan": [200, "truth"],
	"/lies-status-text": [200, "truth"],
	"/lies-status-object": [200, "truth"],
	"/lies-headers-numbers": [200, "truth"],
	"/lies-headers-newline": [200, "truth"],
	"/lies-headers-none": [200, "truth"],
	"/lies-body-used": [200, "truth"],
	"/lies-body": [200, "truth"],
	"/lies-bytes": [200, "truth"],
};

fault("C8", "every answer ends as documented, and the same worker takes the next call", async (f) => {
	await using lab = await startLab();
	await lab.deploy("answers", "faults/answers.ts", ALONE);
	const pid = textOf(await lab.call("answers", "/pid"));
	for (let round = f.runs(1, 5); round > 0; round -= 1) {
		for (const [path, [code, message]] of Object.entries(REFUSED)) {
			const record = await lab.call("answers", path);
			assert.equal(cameTo(record), `failed ${code} charged 1`, path);
			assert.match(record.error?.message ?? "", message, path);
			assert.ok(JSON.stringify(record.error).length < 40_000, path);
		}
		for (const [path, [status, body]] of Object.entries(KEPT)) {
			const record = await lab.call("answers", path);
			assert.equal(textOf(record), body, path);
			assert.equal(record.result?.status, status, path);
			for (const [, value] of record.result?.headers ?? []) assert.doesNotMatch(value, /[\r\n]/, path);
		}
		assert.equal(textOf(await lab.call("answers", "/pid")), pid, "the worker was replaced");
	}
	f.record(`${Object.keys(REFUSED).length} refused, ${Object.keys(KEPT).length} kept, one worker`);
});

fault(
	"C8",
	"a body of exactly the limit arrives whole; one Response given twice is refused the second time",
	async () => {
		await using lab = await startLab();
		await lab.deploy("answers", "faults/answers.ts", ALONE);
		const { result } = await lab.call("answers", "/exactly");
		const sha = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
		assert.equal(sha(result?.body ?? new Uint8Array()), sha(Buffer.alloc(6 << 20, "x")));
		assert.equal(textOf(await lab.call("answers", "/shared")), "only once");
		assert.equal(cameTo(await lab.call("answers", "/shared")), "failed RESULT_UNREADABLE charged 1");
	},
);

fault("C8", "a stream that stands still runs into the time limit, and the next call works", async () => {
	await using lab = await startLab();
	await lab.deploy("answers", "faults/answers.ts", { ...ALONE, timeoutMs: 200 });
	assert.equal(cameTo(await lab.call("answers", "/stream-hangs")), "timed_out TIMED_OUT charged 1");
	assert.match(textOf(await lab.call("answers", "/pid")), /^\d+$/);
});

fault("C8", "over HTTP odd answers leave the connection whole: lengths true, no body after 204 and 304", async () => {
	const http = httpSource({ port: 0, environment: realEnvironment });
	await using lab = await startLab({ sources: [http] });
	await lab.deploy("answers", "faults/answers.ts", ALONE);
	const ask = (path: string) => fetch(`${http.address().url}/functions/answers${path}`, { redirect: "manual" });
	for (const [path, status, body] of [
		["/status-204-body", 204, ""],
		["/status-304-body", 304, ""],
		["/hop-headers", 200, "x"],
		["/lies-headers-newline", 200, "truth"],
		["/status-599", 599, "x"],
	] as const) {
		const answer = await ask(path);
		assert.deepEqual([answer.status, await answer.text()], [status, body], path);
		for (const name of ["upgrade", "transfer-encoding", "set-cookie"]) assert.equal(answer.headers.get(name), null);
	}
	assert.equal((await ask("/header-latin")).headers.get("x-a"), "gr\u00fc\u00dfe");
	const refused = await ask("/status-error");
	assert.equal(refused.status, 500);
	assert.equal(((await refused.json()) as { code: string }).code, "RESULT_UNREADABLE");
});
