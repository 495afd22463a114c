/**
 * The documents as programs: finds their code blocks, and runs shell lines as a reader types them, against a daemon of
 * their own in a temp folder. What a reader would see differently here (port, socket, ids) is put in place of what the
 * document says; nothing else of a line is changed.
 */
import { spawn, type ChildProcess } from "node:child_process";
import {
	copyFileSync,
	existsSync,
	mkdirSync,
	mkdtempSync,
	readdirSync,
	readFileSync,
	rmSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { pathToFileURL } from "node:url";
import { startDaemon, type Daemon } from "./daemon.ts";
import { waitFor } from "./wait-for.ts";

export const ROOT = join(import.meta.dirname, "../..");
const MAIN = join(ROOT, "src/main.ts");
/** Longer than anything a document runs that ends by itself. */
const RUN_MS_MAX = 60_000;

export interface Block {
	/** As in the repository: `docs/http.md`. */
	readonly file: string;
	/** Of its first line of code. */
	readonly line: number;
	/** What stands behind the fence; empty where nothing does. */
	readonly lang: string;
	/** `docs/http.md json 1`: the first block of that language in the file. */
	readonly key: string;
	readonly text: string;
}

/** README.md and every page of docs/. */
export function documents(): string[] {
	const pages = readdirSync(join(ROOT, "docs")).filter((name) => name.endsWith(".md"));
	return ["README.md", ...pages.sort().map((name) => `docs/${name}`)];
}

export function readDocument(file: string): string {
	return readFileSync(join(ROOT, file), "utf8");
}

export function blocksOf(file: string): Block[] {
	const blocks: Block[] = [];
	const counts = new Map<string, number>();
	let open: { lang: string; from: number; lines: string[] } | undefined;
	for (const [index, line] of readDocument(file).split("\n").entries()) {
		const fence = /^\s*```(.*)$/.exec(line);
		if (fence === null) {
			open?.lines.push(line);
			continue;
		}
		if (open === undefined) {
			open = { lang: (fence[1] ?? "").trim(), from: index + 2, lines: [] };
			continue;
		}
		const { lang, from, lines } = open;
		const count = (counts.get(lang) ?? 0) + 1;
		counts.set(lang, count);
		blocks.push({ file, line: from, lang, key: `${file} ${lang || "plain"} ${count}`, text: lines.join("\n") });
		open = undefined;
	}
	if (open !== undefined) throw new Error(`${file}:${open.from}: this block is never closed`);
	return blocks;
}

export interface Command {
	/** Of its first line in the document. */
	readonly line: number;
	/** Without its trailing comment; continued lines are joined. */
	readonly text: string;
	readonly comment: string;
}

/** The commands of a `sh` block: one a line, or more where a line ends with a backslash. */
export function commandsOf(block: Block): Command[] {
	const commands: Command[] = [];
	let held: { line: number; text: string } | undefined;
	for (const [index, line] of block.text.split("\n").entries()) {
		const from: { line: number; text: string } = held ?? { line: block.line + index, text: "" };
		if (line.endsWith("\\")) {
			held = { line: from.line, text: `${from.text}${line.slice(0, -1)}` };
			continue;
		}
		held = undefined;
		const whole = `${from.text}${line}`.trim();
		const comment = /(?:^|\s)#\s(.*)$/.exec(whole);
		const text = (comment === null ? whole : whole.slice(0, comment.index)).trim();
		if (text !== "") commands.push({ line: from.line, text, comment: comment?.[1] ?? "" });
	}
	return commands;
}

export interface Ran {
	readonly code: number | null;
	readonly out: string;
	readonly err: string;
}

export interface Running {
	readonly child: ChildProcess;
	readonly out: () => string;
	readonly err: () => string;
	readonly ended: Promise<number | null>;
}

/** One reader: a folder to work in, a daemon, and the ids seen so far. */
export class Reader implements AsyncDisposable {
	readonly folder: string;
	readonly daemon: Daemon;
	readonly #bin: string;
	readonly #running = new Set<ChildProcess>();
	readonly #seen = new Map<string, string>();
	#places = 0;

	private constructor(folder: string, daemon: Daemon) {
		this.folder = folder;
		this.daemon = daemon;
		this.#bin = join(folder, ".bin");
		mkdirSync(this.#bin);
		const shim = `#!/bin/sh\nexec '${process.execPath}' '${MAIN}' "$@"\n`;
		writeFileSync(join(this.#bin, "bunbase"), shim, { mode: 0o755 });
		// The body, then on standard error the status, which `statusOf` reads.
		writeFileSync(join(this.#bin, ".curlrc"), 'silent\nshow-error\nwrite-out = "%{stderr}HTTP %{http_code}\\n"\n');
		mkdirSync(join(folder, "functions"));
		for (const at of ["hello.ts", "functions/hello.ts"]) {
			copyFileSync(join(ROOT, "examples/functions/hello.ts"), join(folder, at));
		}
	}

	static async start(): Promise<Reader> {
		const folder = mkdtempSync(join(tmpdir(), "bunbase-docs-"));
		try {
			return new Reader(folder, await startDaemon(join(folder, "data"), { socketPath: join(folder, "s.sock") }));
		} catch (error) {
			rmSync(folder, { recursive: true, force: true });
			throw error;
		}
	}

	async [Symbol.asyncDispose](): Promise<void> {
		for (const child of this.#running) child.kill("SIGKILL");
		await this.daemon.stop();
		rmSync(this.folder, { recursive: true, force: true });
	}

	/** Writes a file of the reader's folder; absolute path. */
	write(name: string, text: string): string {
		const path = join(this.folder, name);
		writeFileSync(path, text);
		return path;
	}

	/** Builds and activates a function; a name that exists gets another version. */
	async deploy(name: string, path: string): Promise<void> {
		await this.daemon.client.call("functions.deploy", { function: name, register: true, build: true, path });
	}

	/** The id that a placeholder like `inv_…` stands for: the newest of its kind in any output so far. */
	remember(text: string): void {
		for (const [id, kind] of text.matchAll(/\b(inv|sch|evt)_[0-9a-v]{12,}\b/g)) this.#seen.set(kind ?? "", id);
	}

	/** The command as it is run here. */
	here(text: string): string {
		return text
			.replaceAll("npm run -s bunbase -- ", "bunbase ")
			.replaceAll("http://127.0.0.1:8080", this.daemon.httpUrl)
			.replaceAll("/tmp/functions.sock", this.daemon.socketPath)
			.replaceAll("/srv/app/", `${this.folder}/`)
			.replaceAll(/\b(inv|sch|evt)_…/g, (placeholder, kind: string) => this.#seen.get(kind) ?? placeholder);
	}

	/** Starts shell text. `apart`: in a folder of its own, for what starts another daemon. */
	begin(line: string, apart = false): Running {
		let cwd = this.folder;
		if (apart) {
			this.#places += 1;
			cwd = join(this.folder, `apart-${this.#places}`);
			mkdirSync(join(cwd, "functions"), { recursive: true });
			copyFileSync(join(ROOT, "examples/functions/hello.ts"), join(cwd, "functions/hello.ts"));
			const config = join(this.folder, "bunbase.json");
			if (existsSync(config)) copyFileSync(config, join(cwd, "bunbase.json"));
		}
		const { BUNBASE_CONFIG: _, ...inherited } = process.env;
		const child = spawn("/bin/sh", ["-c", line], {
			cwd,
			stdio: ["ignore", "pipe", "pipe"],
			env: {
				...inherited,
				PATH: [this.#bin, process.env["PATH"]].join(delimiter),
				CURL_HOME: this.#bin,
				BUNBASE_SOCKET: this.daemon.socketPath,
				D: this.daemon.httpUrl,
			},
		});
		this.#running.add(child);
		let out = "";
		let err = "";
		child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
		child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
		const ended = new Promise<number | null>((resolve) => {
			child.once("close", (code) => {
				this.#running.delete(child);
				resolve(code);
			});
		});
		return { child, out: () => out, err: () => err, ended };
	}

	/** Runs a line to its end. */
	async run(line: string): Promise<Ran> {
		const running = this.begin(this.here(line));
		const timer = setTimeout(() => running.child.kill("SIGKILL"), RUN_MS_MAX);
		const code = await running.ended;
		clearTimeout(timer);
		this.remember(running.out());
		return { code, out: running.out(), err: running.err() };
	}

	/** Runs what ends only when it is told to: waits until it has said `until`, then sends Ctrl-C. */
	async runUntil(line: string, until: RegExp, options: { apart?: boolean } = {}): Promise<Ran> {
		const running = this.begin(`exec ${this.here(line)}`, options.apart);
		const wrote = (): string => running.out() + running.err();
		try {
			await waitFor("its first words", () => until.test(wrote()) || running.child.exitCode !== null);
		} catch (cause) {
			throw new Error(`nothing like ${until} came from it, but: ${wrote()}`, { cause });
		} finally {
			running.child.kill("SIGINT");
		}
		return { code: await running.ended, out: running.out(), err: running.err() };
	}

	/** Runs a program that imports this package, as if it were installed; ends what it has opened. */
	async runProgram(name: string, text: string): Promise<Ran> {
		const source = this.here(text)
			.replaceAll('"bunbase-functions/client"', JSON.stringify(pathToFileURL(join(ROOT, "src/sources/client.ts")).href))
			.replaceAll('"bunbase-functions"', JSON.stringify(pathToFileURL(join(ROOT, "src/index.ts")).href))
			.replaceAll("port: 8080", "port: 0")
			.replaceAll('dataDir: "./data"', `dataDir: "./${name}-data"`)
			.replaceAll(/socketSource\(\{ path: "[^"]*"/g, `socketSource({ path: "./${name}.sock"`);
		const closes: string[] = [];
		if (/\bengine = /.test(source) && !source.includes("engine.stop(")) closes.push("await engine.stop();");
		if (/\bclient = /.test(source) && !source.includes("client.close(")) closes.push("client.close();");
		const path = this.write(`${name}.mts`, `${source}\n${closes.join("\n")}\n`);
		return this.run(`'${process.execPath}' '${path}'`);
	}
}

/** The HTTP status that a curl line ended with. */
export function statusOf(ran: Ran): number {
	return Number(/^HTTP (\d{3})$/m.exec(ran.err)?.[1] ?? 0);
}

export interface Link {
	/** Relative to the file that has it; empty for its own headings. */
	readonly path: string;
	/** Without "#". */
	readonly anchor: string;
	readonly line: number;
}

/** Links to files of the repository; not those to the web. */
export function linksOf(file: string): Link[] {
	const links: Link[] = [];
	for (const [index, line] of readDocument(file).split("\n").entries()) {
		for (const [, target = ""] of line.matchAll(/\]\(([^)\s]+)\)/g)) {
			if (/^[a-z]+:/.test(target)) continue;
			const [path = "", anchor = ""] = target.split("#");
			links.push({ path, anchor, line: index + 1 });
		}
	}
	return links;
}

/** Rows of all tables of a document, as trimmed cells. A `\|` inside a cell is a plain "|". */
export function rowsOf(file: string): string[][] {
	return readDocument(file)
		.split("\n")
		.filter((line) => /^\|.*\|$/.test(line) && !/^\|[\s|:-]+\|$/.test(line))
		.map((line) =>
			line
				.slice(1, -1)
				.split(/(?<!\\)\|/)
				.map((cell) => cell.trim().replaceAll("\\|", "|")),
		);
}
