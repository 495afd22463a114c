/**
 * Looks at a data folder from outside its databases: owner, modes, disk, marker, leftovers, JSONL files. It reads no
 * database and no lock file, changes nothing, and tells what it sees as values.
 */
import { closeSync, fstatSync, lstatSync, openSync, readdirSync, readSync, statfsSync, type Stats } from "node:fs";
import { join } from "node:path";
import { damage, note, ok, warning, type Diagnosis } from "../core/diagnosis.ts";
import { EngineError, messageOf } from "../core/errors.ts";
import { LIMITS } from "../core/limits.ts";
import { isNetworkFileSystem, RESTORE_PARTIAL } from "./data-folder.ts";
import { RESTORE_ADVICE } from "./inspect-database.ts";
import { readMarker, type InstanceMarker } from "./instance-marker.ts";

const MIB = 1024 * 1024;
/** Below this a burst of work fills the disk before anybody looks. */
const FREE_BYTES_MIN = 64 * MIB;
const FREE_INODES_MIN = 1000;
const NEWLINE = 10;
/** A torn line is looked for in the last part of a file only: a line has at most 16 KiB of text, written as JSON. */
const TAIL_BYTES = 256 * 1024;

export interface FolderLook {
	readonly findings: readonly Diagnosis[];
	readonly marker: InstanceMarker | undefined;
}

/** `running`: a daemon has it open, so what it is writing just now is no leftover. */
export function inspectFolder(root: string, running: boolean): FolderLook {
	const stats = look(root);
	if (stats === undefined || !stats.isDirectory()) {
		const what = stats === undefined ? "does not exist" : "is no folder";
		const advice = "name the folder that `bunbase serve` uses with --data-dir";
		return { findings: [damage("data folder", "DATA_MISSING", `${root} ${what}`, advice)], marker: undefined };
	}
	const findings: Diagnosis[] = [];
	let marker: InstanceMarker | undefined;
	try {
		marker = readMarker(root);
		const names = readdirSync(root);
		if (marker === undefined && !names.some((name) => name.endsWith(".db"))) {
			findings.push(note("data folder", `${root} has no data yet; the first start of a daemon makes it`));
		} else if (marker === undefined) {
			const advice = `put instance.json back from a backup, or ${RESTORE_ADVICE}`;
			findings.push(damage("data folder", "DATA_FOREIGN", "instance.json is missing beside databases", advice));
		} else {
			findings.push(ok("data folder", `${root} of instance ${marker.instanceId}`));
		}
	} catch (error) {
		findings.push(fromError("data folder", error));
	}
	if (look(join(root, RESTORE_PARTIAL)) !== undefined && !running) {
		findings.push(
			damage(
				"data folder",
				"DATA_MISSING",
				"a restore into this folder was cut short",
				"run the same `bunbase restore` again; it begins anew",
			),
		);
	}
	findings.push(...modesOf(root, stats), ...diskOf(root), ...jsonlOf(join(root, "logs"), running));
	if (!running) findings.push(...leftoversOf(root));
	return { findings, marker };
}

function modesOf(root: string, rootStats: Stats): Diagnosis[] {
	const findings: Diagnosis[] = [];
	const check = "modes";
	const lookAt = (path: string, stats: Stats): void => {
		if (stats.isSymbolicLink()) {
			findings.push(note(check, `${path} is a symbolic link; backup and restore need a folder of plain files`));
			return;
		}
		const expected = stats.isDirectory() ? 0o700 : 0o600;
		const mode = stats.mode & 0o777;
		if ((mode & 0o077) !== 0) {
			const message = `${path} has mode ${mode.toString(8)}: other users can read what functions were sent, and their variables`;
			const repair = { kind: "mode", path, mode: mode & expected } as const;
			findings.push(warning(check, message, `chmod ${expected.toString(8)}, or \`bunbase doctor --fix\``, repair));
		}
		if (stats.uid !== rootStats.uid) {
			const message = `${path} belongs to user ${stats.uid}, the folder to ${rootStats.uid}: the daemon may not be able to use it`;
			findings.push(warning(check, message, `chown it to user ${rootStats.uid}, after the daemon was stopped`));
		}
	};
	lookAt(root, rootStats);
	for (const name of readdirSync(root)) {
		const path = join(root, name);
		const stats = look(path);
		if (stats !== undefined && OURS.test(name)) lookAt(path, stats);
	}
	if (findings.length === 0) findings.push(ok(check, "owner only"));
	return findings;
}

/** What a daemon makes in its folder. Other files there are not ours to judge. */
const OURS =
	/^(?:(?:queue|metadata|logs)\.db(?:-wal|-shm)?|instance\.json|high-water\.json|daemon\.(?:lock|json)|ballast|bundles|logs|tmp)$/;

function diskOf(root: string): Diagnosis[] {
	const check = "disk";
	const findings: Diagnosis[] = [];
	try {
		const { bavail, bsize, blocks, files, ffree, type } = statfsSync(root);
		const free = bavail * bsize;
		const shown = `${Math.floor(free / MIB)} MiB free`;
		if (free < Math.max(FREE_BYTES_MIN, Math.min(blocks * bsize * 0.01, 1024 * MIB))) {
			const advice = "free space; keep results and logs for a shorter time with resultRetentionMs and logRetentionMs";
			findings.push(warning(check, `${shown}: new work is refused when nothing is left`, advice));
		}
		// Some file systems have no fixed number of them, and say 0.
		if (files > 0 && ffree < FREE_INODES_MIN) {
			findings.push(warning(check, `${ffree} inodes free: new files cannot be made`, "remove files from this disk"));
		}
		if (isNetworkFileSystem(type)) {
			findings.push(
				warning(
					check,
					"the folder is on a network or FUSE file system, where locks and fsync may not hold",
					"move the data folder to a local disk",
				),
			);
		}
		if (findings.length === 0) findings.push(ok(check, shown));
	} catch (error) {
		findings.push(fromError(check, error));
	}
	return findings;
}

function jsonlOf(logs: string, running: boolean): Diagnosis[] {
	const names = list(logs)
		.filter((name) => name.endsWith(".jsonl"))
		.sort();
	// The newest may be in the middle of a write.
	const quiet = running ? names.slice(0, -1) : names;
	return quiet.flatMap((name): Diagnosis[] => {
		const path = join(logs, name);
		try {
			const torn = tornBytes(path);
			if (torn === undefined) return [];
			const message = `${path} ends in the middle of a line: the run that wrote it died; logs.db has the lines`;
			const advice = "`bunbase doctor --fix` cuts the torn line off";
			return [warning("logs", message, advice, { kind: "cut", path, bytes: torn })];
		} catch (error) {
			return [fromError("logs", error)];
		}
	});
}

/** How many bytes of whole lines the file has, or undefined where it ends with one. */
function tornBytes(path: string): number | undefined {
	const fd = openSync(path, "r");
	try {
		const { size } = fstatSync(fd);
		const tail = Buffer.alloc(Math.min(size, TAIL_BYTES));
		readSync(fd, tail, 0, tail.length, size - tail.length);
		if (size === 0 || tail.at(-1) === NEWLINE) return undefined;
		const last = tail.lastIndexOf(NEWLINE);
		if (last < 0 && tail.length < size) return undefined;
		return size - tail.length + last + 1;
	} finally {
		closeSync(fd);
	}
}

function leftoversOf(root: string): Diagnosis[] {
	const paths = [
		...list(join(root, "tmp")).map((name) => join(root, "tmp", name)),
		...["daemon.json.tmp", "instance.json.tmp", "high-water.json.tmp"]
			.map((name) => join(root, name))
			.filter((path) => look(path) !== undefined),
	];
	return paths.map((path) =>
		note("leftovers", `${path} is of a run that was cut short`, {
			advice: "`bunbase doctor --fix` removes it",
			repair: { kind: "remove", path },
		}),
	);
}

export function fromError(check: string, error: unknown): Diagnosis {
	if (error instanceof EngineError) {
		return damage(check, error.code, error.message, RESTORE_ADVICE);
	}
	const advice = "check the disk (dmesg), and the owner and mode of the folder";
	return damage(check, "IO_ERROR", `it cannot be read: ${messageOf(error)}`, advice);
}

function look(path: string): Stats | undefined {
	return lstatSync(path, { throwIfNoEntry: false });
}

function list(folder: string): string[] {
	try {
		return readdirSync(folder);
	} catch {
		return [];
	}
}

/** Of a daemon that runs. A WAL is cut back after a checkpoint; one that is not has a reader in its way. */
export function inspectWal(root: string): Diagnosis[] {
	return ["queue.db", "metadata.db", "logs.db"].flatMap((file) => {
		const size = look(join(root, `${file}-wal`))?.size ?? 0;
		if (size <= 2 * LIMITS.walBytesMax) return [];
		const message = `its WAL has ${Math.round(size / MIB)} MiB: something has held a read transaction for long`;
		return [warning(file, message, "end the database shell or the reader that is open on it")];
	});
}
