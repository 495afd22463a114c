/**
 * What README.md and docs/ say about codes, keys, flags, commands and metrics is what the source says, and nothing is
 * left out of their tables; their links lead somewhere.
 */
import assert from "node:assert/strict";
import { cpSync, existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { resolveSettings } from "../../src/config.ts";
import { ERROR_KINDS, EngineError, EXIT, isErrorCode } from "../../src/core/errors.ts";
import { BUILT_IN, functionConfigSchema, scheduleConfigSchema } from "../../src/core/function-config.ts";
import { engineOptionsSchema } from "../../src/core/options.ts";
import { cli } from "../support/cli-harness.ts";
import { startDaemon } from "../support/daemon.ts";
import { documents, linksOf, readDocument, ROOT, rowsOf } from "../support/docs.ts";
import { tempFolder } from "../support/temp-folder.ts";

const code = (cell: string | undefined): string[] =>
	[...(cell ?? "").matchAll(/`([^`]+)`/g)].map(([, word]) => word ?? "");

describe("tables say what the source says", () => {
	it("docs/errors.md has every code with its HTTP status and exit code", () => {
		const documented = new Map<string, { http: number; exit: number }>();
		for (const [first, http, exit] of rowsOf("docs/errors.md")) {
			const [name] = code(first);
			if (name !== undefined && isErrorCode(name)) documented.set(name, { http: Number(http), exit: Number(exit) });
		}
		const real = Object.entries(ERROR_KINDS).map(([name, { http, exit }]) => [name, { http, exit }] as const);
		assert.deepEqual(Object.fromEntries(documented), Object.fromEntries(real));
	});

	it("docs/http.md puts each code beside its status", () => {
		let seen = 0;
		for (const [statuses, codes] of rowsOf("docs/http.md")) {
			if (!/^\d{3}(, \d{3})*$/.test(statuses ?? "")) continue;
			for (const name of code(codes).filter(isErrorCode)) {
				seen += 1;
				assert.ok(statuses?.includes(String(ERROR_KINDS[name].http)), `${name} is ${ERROR_KINDS[name].http}`);
			}
		}
		assert.ok(seen > 30);
	});

	it("docs/cli.md has every exit code, docs/operations.md every one of the daemon", () => {
		const codesIn = (file: string): string =>
			rowsOf(file)
				.map(([first]) => ` ${first} `)
				.join();
		for (const exit of Object.values(EXIT)) assert.match(codesIn("docs/cli.md"), new RegExp(` ${exit} `));
		for (const exit of [EXIT.badData, EXIT.secondDaemon, EXIT.io, EXIT.unreachable, EXIT.config]) {
			assert.match(codesIn("docs/operations.md"), new RegExp(` ${exit} `));
		}
	});

	it("docs/functions.md has every key of a function's configuration with its default", () => {
		const rows = new Map<string, string>();
		for (const [keys, fallback] of rowsOf("docs/functions.md")) {
			const names = code(keys);
			const values = (fallback ?? "").replaceAll("`", "").split(", ");
			names.forEach((name, index) => rows.set(name, values[index] ?? values[0] ?? ""));
		}
		const { retry, ...limits } = BUILT_IN;
		const built: Record<string, unknown> = { ...limits, schedules: [], events: [] };
		for (const [key, value] of Object.entries(retry)) built[`retry.${key}`] = value;
		const known = Object.keys(functionConfigSchema.shape).filter((key) => key !== "retry");
		assert.deepEqual(
			Object.keys(built)
				.filter((key) => !key.startsWith("retry."))
				.sort(),
			known.sort(),
		);
		for (const [key, value] of Object.entries(built)) {
			const said = rows.get(key);
			assert.ok(said !== undefined, `${key} is not in the table`);
			assert.equal(said.split(" ")[0], JSON.stringify(value), `the default of ${key}`);
		}
		const schedule =
			rowsOf("docs/functions.md")
				.find(([key]) => key === "`schedules`")
				?.join(" ") ?? "";
		for (const key of Object.keys(scheduleConfigSchema.shape)) assert.ok(code(schedule).includes(key), key);
	});

	it("docs/configuration.md has every key, flag and variable of the daemon, and none beside them", async () => {
		const rows = rowsOf("docs/configuration.md").filter((row) => row.length === 4);
		const column = (index: number): string[] => rows.flatMap((row) => code(row[index]));
		const keys = knownSettings();
		assert.ok(keys.length > Object.keys(engineOptionsSchema.shape).length);
		assert.deepEqual(column(0).sort(), keys.sort());
		const described = rowsOf("docs/configuration.md").filter((row) => row.length === 3);
		assert.deepEqual(described.flatMap((row) => code(row[0])).sort(), keys.sort());

		const { out: help } = await cli(["serve", "--help"]);
		const flags = [...help.matchAll(/^ +(?:-\w, )?(--[\w-]+)/gm)].map(([, flag]) => flag ?? "");
		const others = ["--help", "--json", "--verbose"];
		assert.deepEqual(column(1).sort(), flags.filter((flag) => !others.includes(flag)).sort());

		const source = readFileSync(join(ROOT, "src/config.ts"), "utf8");
		const variables = new Set([...source.matchAll(/\bBUNBASE_[A-Z_]+\b/g)].map(([name]) => name));
		assert.deepEqual(column(2).sort(), [...variables].sort());
	});

	it("docs/cli.md has every command and every option of each", async () => {
		const text = readDocument("docs/cli.md");
		const everywhere = ["--help", "--json", "--verbose", "--socket", "--version"];
		const lookAt = async (command: string): Promise<void> => {
			const { out } = await cli([...command.split(" "), "--help"].filter((word) => word !== ""));
			for (const [, flag = ""] of out.matchAll(/^ +(?:-\w, )?(--[\w-]+)/gm)) {
				if (!everywhere.includes(flag)) assert.ok(text.includes(flag), `${command} ${flag}`);
			}
			const inner = /\nCommands:\n([\s\S]*)$/.exec(out)?.[1] ?? "";
			const lists = command === "" ? out : inner;
			for (const [, name = ""] of lists.matchAll(/^ {2}([a-z]+)(?:\|\w+)? (?:\[|<|  )/gm)) {
				if (name === "help" || command.includes(" ") || name === "bunbase") continue;
				assert.match(text, new RegExp(`\\b${name}\\b`), `${command} ${name}`);
				await lookAt(`${command} ${name}`.trim());
			}
		};
		await lookAt("");
	});

	it("docs/operations.md has every metric, and every file of the data folder", async () => {
		using folder = tempFolder();
		const dataDir = join(folder.path, "data");
		const daemon = await startDaemon(dataDir);
		try {
			const metrics = await (await fetch(`${daemon.httpUrl}/metrics`)).text();
			const real = [...metrics.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name, type]) => `${name} ${type}`);
			const rows = rowsOf("docs/operations.md");
			const told = rows.flatMap((row) =>
				code(row[0])
					.filter((name) => name.startsWith("bunbase_"))
					.map((name) => `${name} ${row[1]}`),
			);
			assert.deepEqual(told.sort(), real.sort());
			const files = rows.map(([first]) => first ?? "").join("\n");
			for (const name of ["metadata.db", "queue.db", "logs.db", "instance.json", "daemon.lock", "ballast"]) {
				assert.ok(existsSync(join(dataDir, name)) && files.includes(name), name);
			}
			assert.ok(existsSync(join(dataDir, "daemon.json")));
		} finally {
			await daemon.stop();
		}
	});
});

/** Keys of the configuration file, as the daemon itself lists them. */
function knownSettings(): string[] {
	using folder = tempFolder();
	const config = join(folder.path, "bunbase.json");
	cpSync(join(ROOT, "package.json"), config);
	try {
		resolveSettings({ config }, {});
	} catch (error) {
		assert.ok(error instanceof EngineError);
		return /known are ([\w, ]+)/.exec(error.message)?.[1]?.split(", ") ?? [];
	}
	return assert.fail("unknown keys were taken");
}

describe("links and paths", () => {
	it("links lead to files and headings that exist", () => {
		const missing: string[] = [];
		for (const file of [...documents(), "ARCHITECTURE.md", "CHANGELOG.md"]) {
			for (const { path, anchor, line } of linksOf(file)) {
				const target = path === "" ? file : join(dirname(file), path);
				if (!existsSync(join(ROOT, target))) missing.push(`${file}:${line}: ${path}`);
				else if (anchor !== "" && !anchorsOf(target).has(anchor)) missing.push(`${file}:${line}: ${target}#${anchor}`);
			}
		}
		assert.deepEqual(missing, []);
	});

	it("every page of docs/ is linked from README.md", () => {
		const linked = linksOf("README.md").map(({ path }) => path);
		for (const page of documents().filter((file) => file !== "README.md")) assert.ok(linked.includes(page), page);
	});

	it("files that ARCHITECTURE.md names are there", () => {
		const text = readDocument("ARCHITECTURE.md");
		const named = [...text.matchAll(/\b(?:core|protocol|store|queue|pool|engine|sources|runtime)\/[\w-]+\.ts\b/g)];
		assert.ok(named.length > 10);
		for (const [path] of named) assert.ok(existsSync(join(ROOT, "src", path)), path);
	});
});

/** Headings as links name them: lower case, words joined by "-". */
function anchorsOf(file: string): Set<string> {
	const headings = [...readDocument(file).matchAll(/^#+ (.*)$/gm)].map(([, heading]) => heading ?? "");
	return new Set(
		headings.map((heading) =>
			heading
				.toLowerCase()
				.replaceAll(/[^\p{L}\p{N} _-]/gu, "")
				.replaceAll(" ", "-"),
		),
	);
}
