import assert from "node:assert/strict";
import { resolve } from "node:path";
import { describe, it } from "node:test";
import { damage, note, ok, warning, type Diagnosis } from "../../../src/core/diagnosis.ts";
import { EngineError } from "../../../src/core/errors.ts";
import type { RestoreRequest } from "../../../src/sources/cli-host.ts";
import { capture, cli, type Ran } from "../../support/cli-harness.ts";

const fine = ok("queue.db", "quick check passed");
const open = warning("modes", "queue.db has mode 644", "chmod 600");
const stray = note("leftovers", "tmp/worker-x");
const corrupt = damage("queue.db", "DATA_CORRUPT", "it is damaged", "restore a backup");
const noBun = damage("bun", "BAD_ENVIRONMENT", "not found", "npm install bun");

function look(findings: readonly Diagnosis[], ...argv: readonly string[]): Promise<Ran> {
	return cli(["doctor", ...argv], { doctor: () => Promise.resolve({ dataDir: "/d", findings, done: [] }) });
}

describe("doctor", () => {
	it("ends with 0 when healthy, 1 for warnings, 65 for bad data whatever else there is, 78 where something is missing", async () => {
		for (const [findings, code] of [
			[[fine], 0],
			[[fine, stray], 0],
			[[fine, stray, open], 1],
			[[open, noBun], 78],
			[[noBun, open, corrupt], 65],
		] as const) {
			assert.equal((await look(findings)).code, code);
			const { code: same, out } = await look(findings, "--json");
			assert.equal(same, code);
			assert.equal((JSON.parse(out) as { exit_code: number }).exit_code, code);
		}
	});

	it("says of each finding what it is, and of what is wrong what helps", async () => {
		const { out, err } = await look([fine, open, corrupt]);
		assert.match(
			out,
			/^ok +queue\.db: quick check passed\nwarning +modes: .*\n +try: chmod 600\nerror +queue\.db: .* \(DATA_CORRUPT\)\n/,
		);
		assert.match(err, /1 errors, 1 warnings/);
	});

	it("passes on what was asked for", async () => {
		let asked: unknown;
		await cli(["doctor", "--full", "--fix", "--data-dir", "x", "--socket", "/s"], {
			doctor: (flags) => {
				asked = flags;
				return Promise.resolve({ dataDir: "/d", findings: [], done: [] });
			},
		});
		assert.deepEqual(asked, { full: true, fix: true, dataDir: "x", socket: "/s" });
	});

	it("text of a file name cannot steer the terminal", async () => {
		const { out } = await look([warning("modes", "\u001b[2Jqueue.db\u0007", "chmod")]);
		assert.equal(out.includes("\u001b"), false);
	});
});

describe("backup and restore", () => {
	it("without a daemon the folder itself is backed up, to an absolute path", async () => {
		let asked: unknown;
		const { code, out } = await cli(["backup", "there", "--socket", "/nowhere/s", "--data-dir", "d", "--json"], {
			backup: (flags, request) => {
				asked = [flags, request];
				const record = {
					path: request.path,
					instanceId: "ins_1",
					createdAt: 1,
					seq: 2,
					files: 3,
					bytes: 4,
					damage: [],
					ms: 5,
				};
				return Promise.resolve(record);
			},
		});
		assert.equal(code, 0);
		const path = resolve("there");
		assert.deepEqual(asked, [
			{ dataDir: "d", socket: "/nowhere/s" },
			{ path, damaged: false },
		]);
		assert.equal((JSON.parse(out) as { path: string }).path, path);
	});

	it("a refusal ends with its own code, and a terminal's line of progress is gone by then", async () => {
		const stderr = capture({ isTTY: true });
		const { code, err } = await cli(["backup", "--socket", "/nowhere/s"], {
			stderr,
			backup: (_flags, _request, progress) => {
				progress({ phase: "queue.db", done: 512, total: 1024 });
				return Promise.reject(new EngineError("STORAGE_FULL", "no room"));
			},
		});
		assert.equal(code, 75);
		assert.match(err, /\rqueue\.db 50 % of 1\.0 KiB\r +\rerror: no room/);
	});

	it("a restore says what happens next, and needs to be told where to", async () => {
		let asked: RestoreRequest | undefined;
		const restored = { dataDir: "/new", instanceId: "ins_2", createdAt: 0, seq: 2, files: 3, bytes: 4 };
		const { code, out, err } = await cli(["restore", "b", "--data-dir", "/new"], {
			restore: (request) => {
				asked = request;
				return Promise.resolve(restored);
			},
		});
		assert.equal(code, 0);
		assert.deepEqual(asked, { from: resolve("b"), dataDir: "/new", damaged: false });
		assert.equal(out, "/new\n");
		for (const says of [/bunbase serve --data-dir \/new/, /misfire/, /lost/]) assert.match(err, says);
		assert.equal((await cli(["restore", "b"])).code, 2);
	});
});
