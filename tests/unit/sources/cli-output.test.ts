import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as fc from "fast-check";
import { EngineError, ERROR_KINDS, type ErrorCode } from "../../../src/core/errors.ts";
import { failureOf, renderFailure } from "../../../src/sources/cli-errors.ts";
import type { Output } from "../../../src/sources/cli-host.ts";
import {
	bytesText,
	durationText,
	fields,
	oneLine,
	plain,
	relativeTime,
	table,
} from "../../../src/sources/cli-output.ts";

const pipe: Output = { isTTY: false, colour: false, columns: undefined, write: () => Promise.resolve() };
const terminal: Output = { ...pipe, isTTY: true, colour: true, columns: 30 };
// oxlint-disable-next-line no-control-regex -- these are exactly what must not reach a terminal
const CONTROL = /[\0-\x08\x0b-\x1f\x7f-\x9f]/;

describe("how things look", () => {
	it("text of a function brings no control character to a terminal, except newline and tab", () => {
		assert.equal(plain("\x1b[31mred\x1b[0m\x07 \x1b]0;title\x07a\tb\nc\r\x9b2Jd"), "red a\tb\ncd");
		fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => !CONTROL.test(plain(text))));
		assert.equal(oneLine("a\n\tb"), "a b");
	});

	it("a table lines up, shows what is empty, and is cut at the edge of a terminal only", () => {
		const rows = [
			["a", 1, undefined],
			["longer", 22, "x".repeat(40)],
		];
		assert.equal(
			table(pipe, ["NAME", "N", "TEXT"], rows),
			`NAME    N   TEXT\na       1   -\nlonger  22  ${"x".repeat(40)}\n`,
		);
		const shown = table({ ...terminal, colour: false }, ["NAME", "N", "TEXT"], rows).split("\n");
		assert.equal(shown[2], `longer  22  ${"x".repeat(17)}…`);
		assert.equal(table(terminal, ["NAME"], [["a"]]), "\x1b[1mNAME\x1b[22m\na\n");
		assert.equal(table(pipe, ["A"], [["\x1b[2Jx\ny"]]), "A\nx y\n");
	});

	it("fields line up", () => {
		assert.equal(
			fields(pipe, [
				["a", 1],
				["longer", undefined],
			]),
			"a       1\nlonger  -\n",
		);
	});

	it("durations, sizes and times are short", () => {
		const durations: [number, string][] = [
			[0, "0 ms"],
			[999, "999 ms"],
			[1200, "1.2 s"],
			[59_000, "59 s"],
			[200_000, "3m 20s"],
			[3_600_000, "1h"],
			[7_500_000, "2h 5m"],
			[356_400_000, "4d 3h"],
		];
		for (const [ms, text] of durations) assert.equal(durationText(ms), text);
		assert.equal(bytesText(1023), "1023 B");
		assert.equal(bytesText(1536), "1.5 KiB");
		assert.equal(bytesText(50 * 1024 * 1024), "50 MiB");
		const now = Date.UTC(2026, 10, 22, 12);
		assert.equal(relativeTime(now - 12_500, now), "12s ago");
		assert.equal(relativeTime(now + 300_000, now), "in 5m");
		assert.equal(relativeTime(now - 500, now), "now");
		assert.equal(relativeTime(now - 3 * 86_400_000, now), "3d ago");
		assert.equal(relativeTime(now - 30 * 86_400_000, now), "2026-10-23 12:00");
		assert.equal(relativeTime(undefined, now), undefined);
	});

	it("an error is three lines: what, why with its code, what to do", () => {
		const failure = failureOf(new EngineError("FUNCTION_NOT_FOUND", 'no function "nope\x1b[2J"'));
		assert.deepEqual(renderFailure(failure, pipe, false).split("\n"), [
			'error: no function "nope"',
			"  why: No function has this id or name. (FUNCTION_NOT_FOUND)",
			"  try: see what there is with `bunbase functions`, or deploy it with `bunbase deploy FILE`",
			"",
		]);
	});

	it("with --json an error is one object on one line, with its exit code", () => {
		const failure = failureOf(new EngineError("VERSION_CONFLICT", "v1 exists\nwith other bytes"));
		const text = renderFailure(failure, terminal, true);
		assert.equal(text.indexOf("\n"), text.length - 1);
		const { error } = JSON.parse(text) as { error: Record<string, unknown> };
		assert.equal(error["code"], "VERSION_CONFLICT");
		assert.equal(error["exit_code"], 4);
	});

	it("every code has the exit code of core, whatever class carries it; a defect is 1", () => {
		for (const code of Object.keys(ERROR_KINDS) as ErrorCode[]) {
			assert.equal(failureOf(Object.assign(new Error("x"), { code })).exitCode, ERROR_KINDS[code].exit);
		}
		assert.equal(failureOf(new TypeError("x is undefined")).exitCode, 1);
		assert.equal(failureOf("text").code, "INTERNAL");
	});
});
