/**
 * The stricter twin of a power cut: every write, truncation, fsync, creation, rename and removal of a program is recorded
 * by strace, and from the record the disk is made as a cut at any moment could have left it.
 *
 * What is on the disk then: of each file what was written before its last fsync, and of what came after any part in
 * any combination, torn at sectors; of creations, renames and removals a prefix in their order, at least up to the
 * last one whose folder was fsynced. That is weaker than what ext4 promises (there an fsync of a file takes all of the
 * journal along), so what survives here survives there. The WAL index (-shm) is never on the disk: it is memory.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

/** What the recorded program tells, at the moment when a caller is told. */
export type Told =
	| {
			readonly what: "accepted";
			readonly id: string;
			readonly bytes: number;
			readonly crc: number;
			readonly at: number;
	  }
	| { readonly what: "ended"; readonly id: string; readonly state: string }
	/** What ended before its retention, counted from `now`, may be gone. */
	| { readonly what: "pruning"; readonly now: number }
	| { readonly what: "deployed"; readonly version: string; readonly sha256: string };

type Step =
	| { readonly kind: "write"; readonly file: number; readonly offset: number; readonly data: Buffer }
	| { readonly kind: "truncate"; readonly file: number; readonly size: number }
	/** Of the steps before `begun`: what was written while a sync was under way may have missed it. */
	| { readonly kind: "sync"; readonly file: number; readonly begun: number }
	| { readonly kind: "name"; readonly change: NameChange }
	| { readonly kind: "syncFolder"; readonly path: string }
	| { readonly kind: "told"; readonly told: Told };

type NameChange =
	| { readonly to: string; readonly file: number | "folder" }
	| { readonly from: string; readonly to: string }
	| { readonly from: string };

export interface Recording {
	readonly steps: readonly Step[];
	/** How often it asked the disk to keep something. */
	readonly syncs: number;
}

const CALLS = [
	"openat,pwrite64,write,ftruncate,fsync,fdatasync,rename,renameat,renameat2",
	"unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,pwritev,writev,fallocate,truncate,copy_file_range,sendfile",
].join(",");

/** Runs `program` on the empty folder `dataDir` and records what it does in it. */
export function record(
	program: readonly string[],
	at: { readonly dataDir: string; readonly acks: string; readonly trace: string; readonly env: Record<string, string> },
): Recording {
	writeFileSync(at.acks, "");
	const run = spawnSync(
		"strace",
		[
			"-f",
			"--seccomp-bpf",
			"-qq",
			"-y",
			"-xx",
			"-s",
			"16777216",
			"-e",
			`trace=${CALLS}`,
			"-e",
			"signal=none",
			"-o",
			at.trace,
			...program,
		],
		// A compile cache would be written as well, and is none of the record.
		{ env: { ...process.env, NODE_DISABLE_COMPILE_CACHE: "1", ...at.env }, encoding: "utf8", maxBuffer: 1 << 26 },
	);
	assert.equal(run.status, 0, run.stderr);
	const recording = parse(readFileSync(at.trace, "latin1"), at.dataDir, at.acks);
	rmSync(at.trace);
	return recording;
}

const TEXT = String.raw`"((?:\\x[0-9a-f]{2})*)"`;
const FD = String.raw`(-?\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)>`;
const AT = String.raw`(?:${FD}, )?`;
const PATTERNS = {
	open: new RegExp(`^openat\\(${FD}, ${TEXT}, ([A-Z_|]+)(?:, \\d+)?\\) = (\\d+)<`),
	pwrite: new RegExp(`^pwrite64\\(${FD}, ${TEXT}, \\d+, (\\d+)\\) = (\\d+)$`),
	write: new RegExp(`^write\\(${FD}, ${TEXT}, \\d+\\) = (\\d+)$`),
	truncate: new RegExp(`^ftruncate\\(${FD}, (\\d+)\\) = 0$`),
	sync: new RegExp(`^f(?:data)?sync\\(${FD}\\) = 0$`),
	rename: new RegExp(`^rename(?:at2?)?\\(${AT}${TEXT}, ${AT}${TEXT}(?:, [A-Z_0|]+)?\\) = 0$`),
	unlink: new RegExp(`^(?:unlink(?:at)?|rmdir)\\(${AT}${TEXT}(?:, [A-Z_0|]+)?\\) = 0$`),
	mkdir: new RegExp(`^mkdir(?:at)?\\(${AT}${TEXT}, \\d+\\) = 0$`),
	other: new RegExp(`^(\\w+)\\(.*= (-?\\d+)`),
};

function parse(trace: string, root: string, acks: string): Recording {
	const steps: Step[] = [];
	const fileAt = new Map<string, number>();
	const sizes: number[] = [];
	const positions = new Map<string, number>();
	const unfinished = new Map<string, { readonly text: string; readonly begun: number }>();
	let syncs = 0;
	/** Relative to the folder, or undefined where it is not in it. */
	const inside = (escaped: string, folder?: string): string | undefined => {
		const path = unescape(escaped).toString();
		const found = relative(root, path.startsWith("/") ? path : join(unescape(folder ?? "").toString(), path));
		return found.startsWith("..") || found.endsWith("-shm") ? undefined : found;
	};
	const write = (path: string, offset: number, data: Buffer): void => {
		const file = fileAt.get(path);
		assert.ok(file !== undefined, `${path} was opened before it was written`);
		sizes[file] = Math.max(sizes[file] ?? 0, offset + data.byteLength);
		steps.push({ kind: "write", file, offset, data });
	};
	const call = (line: string, begun = steps.length): void => {
		let found: RegExpExecArray | null;
		if ((found = PATTERNS.pwrite.exec(line)) !== null) {
			const path = inside(found[2] ?? "");
			if (path !== undefined) write(path, Number(found[4]), unescape(found[3] ?? "").subarray(0, Number(found[5])));
		} else if ((found = PATTERNS.write.exec(line)) !== null) {
			const whole = unescape(found[2] ?? "").toString();
			const data = unescape(found[3] ?? "").subarray(0, Number(found[4]));
			const path = inside(found[2] ?? "");
			if (whole === acks) {
				for (const text of data.toString().trim().split("\n")) {
					steps.push({ kind: "told", told: JSON.parse(text) as Told });
				}
			} else if (path !== undefined) {
				const offset = positions.get(path) ?? 0;
				positions.set(path, offset + data.byteLength);
				write(path, offset, data);
			}
		} else if ((found = PATTERNS.sync.exec(line)) !== null) {
			const path = inside(found[2] ?? "");
			if (path === undefined) return;
			syncs += 1;
			const file = fileAt.get(path);
			steps.push(file === undefined ? { kind: "syncFolder", path } : { kind: "sync", file, begun });
		} else if ((found = PATTERNS.open.exec(line)) !== null) {
			const path = inside(found[3] ?? "", found[2]);
			const flags = (found[4] ?? "").split("|");
			if (path === undefined || (!flags.includes("O_CREAT") && !fileAt.has(path))) return;
			let file = fileAt.get(path);
			if (file === undefined) {
				file = sizes.push(0) - 1;
				fileAt.set(path, file);
				steps.push({ kind: "name", change: { to: path, file } });
			} else if (flags.includes("O_TRUNC")) {
				steps.push({ kind: "truncate", file, size: 0 });
				sizes[file] = 0;
			}
			positions.set(path, flags.includes("O_APPEND") ? (sizes[file] ?? 0) : 0);
		} else if ((found = PATTERNS.truncate.exec(line)) !== null) {
			const path = inside(found[2] ?? "");
			const file = path === undefined ? undefined : fileAt.get(path);
			if (file === undefined) return;
			sizes[file] = Number(found[3]);
			steps.push({ kind: "truncate", file, size: Number(found[3]) });
		} else if ((found = PATTERNS.rename.exec(line)) !== null) {
			const from = inside(found[3] ?? "", found[2]);
			const to = inside(found[6] ?? "", found[5]);
			assert.ok(from !== undefined && to !== undefined, `a rename across the folder's border: ${line.slice(0, 300)}`);
			for (const [path, file] of new Map(fileAt)) {
				if (path !== from && !path.startsWith(`${from}/`)) continue;
				fileAt.delete(path);
				fileAt.set(to + path.slice(from.length), file);
			}
			steps.push({ kind: "name", change: { from, to } });
		} else if ((found = PATTERNS.unlink.exec(line)) !== null) {
			const from = inside(found[3] ?? "", found[2]);
			if (from === undefined) return;
			fileAt.delete(from);
			steps.push({ kind: "name", change: { from } });
		} else if ((found = PATTERNS.mkdir.exec(line)) !== null) {
			const to = inside(found[3] ?? "", found[2]);
			if (to !== undefined) steps.push({ kind: "name", change: { to, file: "folder" } });
		} else {
			// What failed changed nothing; what is not modelled must not happen in the folder.
			const [, name = line.slice(0, 80), result] = PATTERNS.other.exec(line) ?? [];
			const touches = line.includes(escape(root)) && Number(result) >= 0 && !line.startsWith("openat(");
			assert.ok(!touches, `the recorder does not know ${name}: ${line.slice(0, 300)}`);
		}
	};
	for (const line of trace.split("\n")) {
		const space = line.indexOf(" ");
		const thread = line.slice(0, space);
		const text = line.slice(space + 1).trimStart();
		const cut = text.indexOf(" <unfinished ...>");
		if (cut >= 0) unfinished.set(thread, { text: text.slice(0, cut), begun: steps.length });
		else if (text.startsWith("<... ")) {
			const first = unfinished.get(thread);
			// strace pads the result of a call that was interrupted by another thread's.
			const rest = text.slice(text.indexOf(" resumed>") + 9).replace(/\)\s+= /, ") = ");
			call((first?.text ?? "") + rest, first?.begun);
		} else if (text !== "") call(text);
	}
	return { steps, syncs };
}

function unescape(text: string): Buffer {
	return Buffer.from(text.replaceAll("\\x", ""), "hex");
}

function escape(text: string): string {
	return [...Buffer.from(text)].map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
}

export interface CutOptions {
	/** The step that was the last one. */
	readonly after: number;
	readonly random: { next(): number };
	/** Chance of each write that was not synced to be on the disk, and of each sector of it. */
	readonly kept: number;
	readonly sectorBytes: 512 | 4096;
}

/** Writes the folder as it would be found, and answers what had been told by then. */
export function rebuild(recording: Recording, path: string, options: CutOptions): Told[] {
	const { after, random, kept, sectorBytes } = options;
	const told: Told[] = [];
	const contents = new Map<number, Content>();
	const contentOf = (file: number): Content => {
		const known = contents.get(file) ?? new Content();
		contents.set(file, known);
		return known;
	};
	const changes: NameChange[] = [];
	let sure = 0;
	for (const [index, step] of recording.steps.slice(0, after + 1).entries()) {
		switch (step.kind) {
			case "told":
				told.push(step.told);
				break;
			case "name":
				changes.push(step.change);
				break;
			case "syncFolder": {
				const last = changes.findLastIndex((change) => foldersOf(change).includes(step.path));
				sure = Math.max(sure, last + 1);
				break;
			}
			case "sync":
				contentOf(step.file).settle(() => true, sectorBytes, step.begun);
				break;
			case "write":
			case "truncate":
				contentOf(step.file).pending.push({ index, step });
				break;
		}
	}
	for (const content of contents.values()) content.settle(() => random.next() < kept, sectorBytes);
	const names = namesAfter(changes.slice(0, sure + Math.floor(random.next() * (changes.length - sure + 1))));
	mkdirSync(path, { recursive: true });
	for (const [name, file] of [...names].sort(([a], [b]) => (a < b ? -1 : 1))) {
		if (file === "folder") mkdirSync(join(path, name), { recursive: true });
		else writeFileSync(join(path, name), contents.get(file)?.bytes ?? "");
	}
	return told;
}

/** One file's bytes on the disk, and what was asked of it since its last fsync. */
class Content {
	#room: Buffer = Buffer.alloc(0);
	#size = 0;
	pending: {
		readonly index: number;
		readonly step: Extract<Step, { kind: "write" }> | Extract<Step, { kind: "truncate" }>;
	}[] = [];

	get bytes(): Buffer {
		return this.#room.subarray(0, this.#size);
	}

	/** What came before the step `until`. */
	settle(keep: () => boolean, sectorBytes: number, until = Number.POSITIVE_INFINITY): void {
		const settled = this.pending.filter(({ index }) => index < until);
		this.pending = this.pending.slice(settled.length);
		for (const { step } of settled) {
			if (!keep()) continue;
			if (step.kind === "truncate") this.#resize(step.size);
			else this.#write(step.offset, step.data, keep, sectorBytes);
		}
	}

	#write(offset: number, data: Buffer, keep: () => boolean, sectorBytes: number): void {
		for (let from = 0; from < data.byteLength;) {
			const until = Math.min(data.byteLength, from + sectorBytes - ((offset + from) % sectorBytes));
			if (keep()) {
				if (this.#size < offset + until) this.#resize(offset + until);
				data.copy(this.#room, offset + from, from, until);
			}
			from = until;
		}
	}

	#resize(size: number): void {
		if (size > this.#room.byteLength) {
			const larger = Buffer.alloc(Math.max(size, 2 * this.#room.byteLength));
			this.#room.copy(larger, 0, 0, this.#size);
			this.#room = larger;
		}
		// What was cut off is gone, also when the file grows again.
		if (size < this.#size) this.#room.fill(0, size, this.#size);
		this.#size = size;
	}
}

function foldersOf(change: NameChange): string[] {
	return [...("to" in change ? [change.to] : []), ...("from" in change ? [change.from] : [])].map((path) => {
		const folder = dirname(path);
		return folder === "." ? "" : folder;
	});
}

function namesAfter(changes: readonly NameChange[]): Map<string, number | "folder"> {
	const names = new Map<string, number | "folder">();
	for (const change of changes) {
		if ("file" in change) {
			names.set(change.to, change.file);
			continue;
		}
		for (const [name, file] of new Map(names)) {
			if (name !== change.from && !name.startsWith(`${change.from}/`)) continue;
			names.delete(name);
			if ("to" in change) names.set(change.to + name.slice(change.from.length), file);
		}
	}
	return names;
}
