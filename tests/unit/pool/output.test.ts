import assert from "node:assert/strict";
import { test } from "node:test";
import { LIMITS } from "../../../src/core/limits.ts";
import { OutputReader } from "../../../src/pool/output.ts";
import { createFakeClock } from "../../support/fake-clock.ts";

function read(): { lines: string[]; reader: OutputReader; clock: ReturnType<typeof createFakeClock> } {
	const lines: string[] = [];
	const clock = createFakeClock();
	return { lines, clock, reader: new OutputReader(clock, (line) => lines.push(line)) };
}

test("lines are cut at line feeds, wherever the chunks are cut", () => {
	const { lines, reader } = read();
	for (const part of ["one\ntw", "o\r\n", "\nthr", "ee"]) reader.push(Buffer.from(part));
	assert.deepEqual(lines, ["one", "two", ""]);
	reader.end();
	assert.deepEqual(lines, ["one", "two", "", "three"]);
});

test("a character that is split between chunks stays whole", () => {
	const { lines, reader } = read();
	const bytes = Buffer.from("äöü\n");
	for (const byte of bytes) reader.push(Uint8Array.of(byte));
	assert.deepEqual(lines, ["äöü"]);
});

test("a line over 16 KiB is cut and marked once, and the next line is whole", () => {
	const { lines, reader } = read();
	const piece = Buffer.alloc(10_000, "x");
	for (let i = 0; i < 5; i += 1) reader.push(piece);
	reader.push(Buffer.from("\nnext\n"));
	assert.equal(lines.length, 2);
	assert.ok(lines[0]?.startsWith("xxx"));
	assert.ok(lines[0]?.endsWith("[cut]"));
	assert.ok(Buffer.byteLength(lines[0] ?? "") <= LIMITS.logLineBytesMax, "with its mark it is over the bound");
	assert.equal(lines[1], "next");
});

test("a flood is dropped and counted, and later lines come through again", async () => {
	const { lines, reader, clock } = read();
	const chunk = Buffer.from(`${"y".repeat(99)}\n`.repeat(600));
	for (let i = 0; i < 1_000; i += 1) reader.push(chunk);
	const kept = lines.join("").length;
	assert.ok(kept <= LIMITS.logBytesPerAttemptMax, `${kept} bytes kept of 60 MB`);
	await clock.advance(10_000);
	reader.push(Buffer.from("after\n"));
	assert.match(lines.at(-2) ?? "", /^\d{8} bytes of output were dropped/);
	assert.equal(lines.at(-1), "after");
});

test("tells of each chunk whether anything of it was kept: its pipe rests after one of which nothing was", async () => {
	const { reader, clock } = read();
	const large = Buffer.alloc(65_536, "x");
	assert.equal(reader.push(Buffer.from("begun")), true);
	assert.equal(reader.push(large), true, "up to the cut");
	assert.equal(reader.push(large), false, "the rest of a line that was cut");
	assert.equal(reader.push(Buffer.concat([large, Buffer.from("\n")])), true, "its end");
	const lines = Buffer.from("a line\n".repeat(9_000));
	let pushed = 0;
	while (reader.push(lines)) assert.ok((pushed += 1) < 1_000, "it comes too fast at some time");
	await clock.advance(1_000);
	assert.equal(reader.push(lines), true);
});
