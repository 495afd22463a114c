/** F18: what the command line writes: to a terminal nothing that moves it, to a pipe the bytes, and to nobody in peace. */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fault } from "../fault.ts";
import { program } from "../needs.ts";
import { cli } from "../../support/cli-harness.ts";
import { scene } from "./scene.ts";

const s = scene();
const MAIN = join(import.meta.dirname, "../../../src/main.ts");

/** What a function may write to take over the terminal of who looks: each with what of it may be seen. */
const HOSTILE: Readonly<Record<string, string>> = {
	colours: "\x1b[31mred\x1b[0m",
	"a cleared screen": "\x1b[2J\x1b[1;1Hcleared",
	"a title": "\x1b]0;title\x07after",
	"a link": "\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\",
	"the clipboard": "\x1b]52;c;ZXZpbA==\x07after",
	"a question that the terminal answers into the shell": '\x1b[6n\x1b[c\x1bP$q"p\x1b\\after',
	"C1 characters": "\u009b31mred\u009d0;title\u009c\u0090x\u009c",
	"a bell and backspaces": "good\b\b\b\b\x07bad",
	"a carriage return over a line": "shown\rhidden",
	"text that turns around": "user\u202e\u2066nimda\u2069",
	"a half sequence": "\x1b",
	"NUL and DEL": "a\0b\x7fc",
};

interface Ran {
	readonly code: number | null;
	readonly out: string;
	readonly err: string;
}

/** The command in a pseudo terminal, as `script` makes one; its two streams come as one. */
function onTerminal(args: readonly string[], env: Record<string, string> = {}): Ran {
	const command = [process.execPath, MAIN, ...args, "--socket", s.daemon.socketPath].map(quoted).join(" ");
	const { status, stdout, stderr } = spawnSync("script", ["-qec", command, "/dev/null"], {
		env: { PATH: process.env["PATH"] ?? "", TERM: "xterm-256color", ...env },
		input: "",
		timeout: 30_000,
	});
	return { code: status, out: stdout.toString(), err: stderr.toString() };
}

/** A line of bash with pipes; `bunbase` is ours. Its output ends with the exit codes of the pipe. */
function inShell(line: string, env: Record<string, string> = {}): Ran & { readonly codes: readonly number[] } {
	const script = `bunbase() { ${quoted(process.execPath)} ${quoted(MAIN)} --socket ${quoted(s.daemon.socketPath)} "$@"; }; ${line}; codes=("\${PIPESTATUS[@]}"); echo; echo "codes \${codes[@]}"`;
	const { status, stdout, stderr } = spawnSync("bash", ["--norc", "--noprofile", "-c", script], {
		env: { PATH: process.env["PATH"] ?? "", ...env },
		input: "",
		timeout: 30_000,
		maxBuffer: 64 * 1024 * 1024,
	});
	const text = stdout.toString();
	const at = text.lastIndexOf("\ncodes ");
	const codes = text
		.slice(at + 7)
		.trim()
		.split(" ")
		.map(Number);
	return { code: status, out: text.slice(0, at), err: stderr.toString(), codes };
}

function quoted(text: string): string {
	return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** What is left when our own colours are taken away must not move a terminal. */
function assertHarmless(text: string, what: string): void {
	// eslint-disable-next-line no-control-regex -- our own: colours, and nothing else
	const rest = text.replaceAll(/\x1b\[(?:\d{1,2}(?:;\d{1,2})*)?m/g, "").replaceAll("\r\n", "\n");
	const bad = rest
		.split("")
		.find(
			(char) =>
				(char < " " && char !== "\n" && char !== "\t") || /[\u007f-\u009f\u202a-\u202e\u2066-\u2069]/.test(char),
		);
	assert.equal(bad, undefined, `${what}: ${JSON.stringify(rest)}`);
}

const pseudoTerminal = program("script");
const bash = program("bash");

fault(
	"F18",
	"on a terminal nothing that a function wrote moves it: its log, its answer, its error, lists, JSON",
	{ needs: [pseudoTerminal] },
	async (f) => {
		// Each alone takes ten programs; together they are as hostile.
		const together = Object.values(HOSTILE).join("\n");
		for (const text of f.long ? [together, ...Object.values(HOSTILE)] : [together]) {
			const said = `${text}\n end`;
			const page = await asked("/page", ["type", "text/plain"], ["body", said]);
			const thrown = await asked("/throw", ["message", said]);
			const logged = await asked("/log", ["message", said]);
			await s.daemon.client.call("events.emit", { type: "terminal", data: { text: said } });
			const commands = [
				["result", page],
				["result", thrown],
				["logs", logged],
				["logs", logged, "--json"],
				["result", thrown, "--json"],
				["invocations"],
				["events", "list"],
			];
			for (const args of commands) {
				const { out } = onTerminal(args);
				assertHarmless(out, args.join(" "));
				if (args[0] === "result" || args[0] === "logs") assert.match(out, / end/, `${args.join(" ")}: ${out}`);
			}
			f.ran(commands.length);
		}
	},
);

/** Over the socket, because NUL cannot stand in an argument. */
async function asked(path: string, ...query: [string, string][]): Promise<string> {
	const { invocationId } = await s.daemon.client.enqueue("web", { method: "POST", path, query, maxAttempts: 1 });
	await s.daemon.client.waitForResult(invocationId, { timeoutMs: 20_000 });
	return invocationId;
}

fault(
	"F18",
	"colours: on a terminal, not with NO_COLOR, not with TERM=dumb, not in a pipe unless they are asked for",
	{ needs: [pseudoTerminal, bash] },
	() => {
		const coloured = (text: string): boolean => text.includes("\u001b[");
		assert.equal(coloured(onTerminal(["functions"]).out), true);
		assert.equal(coloured(onTerminal(["functions"], { NO_COLOR: "1" }).out), false);
		assert.equal(coloured(onTerminal(["functions"], { NO_COLOR: "1", FORCE_COLOR: "1" }).out), false);
		assert.equal(coloured(onTerminal(["functions"], { TERM: "dumb" }).out), false);
		assert.equal(coloured(inShell("bunbase functions | cat").out), false);
		assert.equal(coloured(inShell("bunbase functions | cat", { FORCE_COLOR: "1" }).out), true);
		assert.equal(coloured(inShell("bunbase nonsense 2>&1 | cat").out), false);
	},
);

fault(
	"F18",
	"into a pipe an answer goes byte by byte, escape sequences and all, and talk goes to stderr",
	{ needs: [bash] },
	() => {
		const text = "\u001b[31mred\u001b[0m\u0007";
		const { out, err, codes } = inShell(
			`bunbase invoke web --path /page -q type=text/plain -q ${quoted(`body=${text}`)} | cat`,
		);
		assert.deepEqual([out, err, codes], [text, "", [0, 0]]);
		assert.equal(JSON.parse(inShell("bunbase --json functions | cat").out) instanceof Object, true);
	},
);

for (const [title, line] of [
	["a list", "bunbase invocations -n 1000"],
	["logs", "bunbase logs web -n 1000"],
	[
		"an answer of 2 MB",
		'head -c 2000000 /dev/zero | tr \'\\0\' a >"$HOME/body"; bunbase invoke web --path /echo @"$HOME/body"',
	],
	["help", "bunbase --help"],
	["JSON", "bunbase --json invocations -n 1000"],
] as const) {
	fault("F18", `${title} into a reader that goes away ends quietly with 0 or 141`, { needs: [bash] }, async (f) => {
		for (let run = f.runs(1, 20); run > 0; run--) {
			const { err, codes } = inShell(`${line} | head -c 1`, { HOME: s.folder });
			assert.ok(codes[0] === 0 || codes[0] === 141, `ended with ${codes[0]}: ${err}`);
			assert.equal(err, "");
		}
	});
}

fault("F18", "a follower whose reader has gone ends at the next line", { needs: [bash] }, async () => {
	await s.call("GET", "/functions/web/log?message=first");
	const child = spawn(process.execPath, [MAIN, "logs", "--follow", "--socket", s.daemon.socketPath], {
		stdio: ["ignore", "pipe", "pipe"],
	});
	try {
		const ended = new Promise<number | null>((resolve) => child.once("exit", resolve));
		await new Promise<void>((resolve) => child.stdout.once("data", () => resolve()));
		child.stdout.destroy();
		await s.call("GET", "/functions/web/log?message=second");
		const again = setInterval(() => void s.call("GET", "/functions/web/log?message=more"), 200);
		try {
			assert.equal(await ended, 0);
		} finally {
			clearInterval(again);
		}
	} finally {
		child.kill("SIGKILL");
	}
});

const devFull = (): string | undefined => (existsSync("/dev/full") ? undefined : "needs /dev/full");

fault(
	"F18",
	"output that the disk does not take is exit 74 and a sentence, never a 0",
	{ needs: [bash, devFull] },
	() => {
		for (const line of ["bunbase functions", "bunbase --json stats", "bunbase invoke web"]) {
			const { err, codes } = inShell(`${line} > /dev/full`);
			assert.deepEqual(codes, [74], line);
			assert.match(err, /^error: the output cannot be written: .*ENOSPC/m, line);
		}
		// Where the talk cannot be written, the exit code still tells.
		assert.deepEqual(inShell("bunbase nonsense 2> /dev/full").codes, [2]);
		assert.deepEqual(inShell("bunbase functions >&- 2>&-").codes, [0]);
	},
);

fault("F18", "behind -- nothing is an option, before it what is unknown is refused", async () => {
	for (const [args, code, says] of [
		[["invoke", "web", "--", '{"a":1}'], 0, /"bytes":7/],
		[["invoke", "--", "web", '{"a":1}'], 0, /"bytes":7/],
		[["invoke", "web", "--", "-1"], 0, /"bytes":2/],
		[["invoke", "web", "--", "--help"], 2, /to be JSON/],
		[["register", "--", "--version"], 2, /BAD_NAME/],
		[["fn", "register", "--", "fn"], 0, /fn is REGISTERED/],
		[["--nonsense", "functions"], 2, /unknown option/],
		[["functions", "extra"], 2, /too many arguments/],
		[["functions", "--", "--json"], 2, /too many arguments/],
	] as const) {
		const ran = await cli(["--socket", s.daemon.socketPath, ...args]);
		assert.equal(ran.code, code, `${args.join(" ")}: ${ran.out}${ran.err}`);
		assert.match(ran.out + ran.err, says, args.join(" "));
	}
});
