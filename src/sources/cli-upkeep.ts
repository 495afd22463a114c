/** `doctor`, `backup`, `restore`: whether the data is whole, a copy of it, and back. */
import { resolve } from "node:path";
import type { Command } from "commander";
import type { BackupProgress } from "../core/contracts.ts";
import { exitCodeOf, worstOf, type Diagnosis, type Severity } from "../core/diagnosis.ts";
import { ERROR_KINDS, EXIT } from "../core/errors.ts";
import { Exit, failureOf } from "./cli-errors.ts";
import type { FolderFlags } from "./cli-flags.ts";
import type { Run } from "./cli-group.ts";
import { bytesText, durationText, oneLine, painter, type Style } from "./cli-output.ts";
import { array, number, text, type Session, type Wire } from "./cli-session.ts";
import { wireBackup } from "./wire.ts";

/** How often a terminal is told how far it is. */
const PROGRESS_MS = 200;

interface DoctorOptions extends FolderFlags {
	readonly full?: boolean;
	readonly fix?: boolean;
}

interface BackupOptions extends FolderFlags {
	readonly damaged?: boolean;
}

export function addUpkeepCommands(program: Command, run: Run): void {
	program
		.command("doctor")
		.summary("is everything all right, and what helps")
		.description(
			"Look at this machine, the data folder and the daemon, and say what is wrong and which command helps.\n" +
				"It changes nothing. Exit code: 0 healthy, 1 warnings, 65 bad data, 78 something is missing.",
		)
		.option("--data-dir <folder>", "default: that of the daemon on the socket, else ./data")
		.option("--config <file>", "the daemon's configuration file, for its folder and socket")
		.option("--full", "also every index, and every request and result against its checksum")
		.option("--fix", "put right modes, a stale socket, leftovers and torn log lines; never a row")
		.action(run(doctor));
	program
		.command("backup")
		.summary("a checked copy of all data")
		.description(
			"Copy everything that a restore needs into a new folder, and check the copy, while the daemon goes on or without\n" +
				"one. The daemon writes it, as its own user. Logs are not in it. Values of variables are: keep it as you keep secrets.",
		)
		.argument("[folder]", "does not exist yet, or is empty (default ./bunbase-backup-TIME)")
		.option("--data-dir <folder>", "back up this folder, whose daemon does not run")
		.option("--damaged", "also of data that the checks find damaged")
		.action(run(backup));
	program
		.command("restore")
		.summary("make a data folder of a backup")
		.description("Check a backup and make a data folder of it, for a daemon to start on.")
		.argument("<backup>", "a folder that `bunbase backup` has made")
		.requiredOption("--data-dir <folder>", "does not exist yet, or is empty")
		.option("--damaged", "also a backup that was made of damaged data")
		.action(run(restore));
}

/** Without the global options, which commander puts among a command's own. */
function flagsOf(session: Session, { config, dataDir }: FolderFlags): FolderFlags {
	return {
		...(config === undefined ? {} : { config }),
		...(dataDir === undefined ? {} : { dataDir }),
		...session.socketFlag,
	};
}

const MARK: Readonly<Record<Severity, readonly [mark: string, style: Style]>> = {
	ok: ["ok", "green"],
	note: ["note", "cyan"],
	warning: ["warning", "yellow"],
	error: ["error", "red"],
};

async function doctor(session: Session, options: DoctorOptions): Promise<void> {
	const { full = false, fix = false } = options;
	const { dataDir, findings, done } = await session.host.doctor({ ...flagsOf(session, options), full, fix });
	const exitCode = exitCodeOf(findings, (code) => ERROR_KINDS[code].exit);
	await session.print(
		{
			data_dir: dataDir,
			healthy: exitCode === EXIT.ok,
			exit_code: exitCode,
			findings: findings.map(wireFinding),
			fixed: done,
		},
		() => {
			const lines = [
				...done.map((what) => `fixed    ${oneLine(what)}\n`),
				...findings.map((one) => findingText(session, one)),
			];
			return lines.join("");
		},
	);
	await session.tell(`${verdict(findings)}\n`);
	if (exitCode !== EXIT.ok) throw new Exit(exitCode);
}

function wireFinding({ check, severity, message, advice, code }: Diagnosis): Wire {
	return { check, severity, message, advice: advice ?? null, code: code ?? null };
}

function findingText(session: Session, { check, severity, message, advice, code }: Diagnosis): string {
	const [mark, style] = MARK[severity];
	const line = `${painter(session.host.stdout)(style, mark.padEnd(7))}  ${check}: ${oneLine(message)}${code === undefined ? "" : ` (${code})`}\n`;
	return advice === undefined ? line : `${line}         try: ${oneLine(advice)}\n`;
}

function verdict(findings: readonly Diagnosis[]): string {
	const count = (severity: Severity): number => findings.filter((finding) => finding.severity === severity).length;
	switch (worstOf(findings)) {
		case "error":
			return `${count("error")} errors, ${count("warning")} warnings`;
		case "warning":
			return `works, with ${count("warning")} warnings`;
		case "note":
		case "ok":
			return "healthy";
	}
}

async function backup(session: Session, folder: string | undefined, options: BackupOptions): Promise<void> {
	const { damaged = false } = options;
	const flags = flagsOf(session, options);
	const at = new Date(session.now()).toISOString().slice(0, 19).replaceAll(/[-:]/g, "").replace("T", "-");
	const path = resolve(folder ?? `bunbase-backup-${at}`);
	const record = (await byDaemon(session, path, damaged, flags)) ?? (await byHand(session, path, damaged, flags));
	await session.print(record, `${text(record["path"])}\n`);
	const seconds = durationText(number(record["ms"]) ?? 0);
	await session.tell(
		`backed up ${number(record["files"])} files, ${bytesText(number(record["bytes"]))}, checked, in ${seconds}; ` +
			`restore it with \`bunbase restore ${text(record["path"])} --data-dir NEW\`\n`,
	);
	for (const damage of array(record["damage"])) await session.tell(`damaged: ${oneLine(text(damage))}\n`);
}

/** Undefined where no daemon answers, or where another folder than its own is meant. */
async function byDaemon(
	session: Session,
	path: string,
	damaged: boolean,
	flags: FolderFlags,
): Promise<Wire | undefined> {
	try {
		const stats = await session.call("stats.get", {});
		if (flags.dataDir !== undefined && resolve(flags.dataDir) !== stats["data_dir"]) return undefined;
	} catch (error) {
		if (failureOf(error).code !== "DAEMON_UNREACHABLE") throw error;
		return undefined;
	}
	const shown = new Progress(session);
	const made = session.call("backup.create", { path, damaged }, "given up; nothing is left of it");
	const settled = made.then(
		() => true,
		() => true,
	);
	try {
		while (shown.wanted && !(await Promise.race([settled, session.pause(PROGRESS_MS).then(() => false)]))) {
			const { phase, done, total } = await session.call("backup.progress", {});
			if (phase !== null) shown.tell({ phase: text(phase), done: number(done) ?? 0, total: number(total) ?? 0 });
		}
		return await made;
	} finally {
		await shown.clear();
	}
}

async function byHand(session: Session, path: string, damaged: boolean, flags: FolderFlags): Promise<Wire> {
	const shown = new Progress(session);
	try {
		return wireBackup(await session.host.backup(flags, { path, damaged }, (at) => shown.tell(at)));
	} finally {
		await shown.clear();
	}
}

async function restore(session: Session, from: string, options: { dataDir: string; damaged?: boolean }): Promise<void> {
	const shown = new Progress(session);
	const request = { from: resolve(from), dataDir: resolve(options.dataDir), damaged: options.damaged === true };
	const restored = await session.host.restore(request, (done, total) => shown.tell({ phase: "files", done, total }));
	await shown.clear();
	const { dataDir, instanceId, createdAt, seq, files, bytes } = restored;
	await session.print(
		{ data_dir: dataDir, instance_id: instanceId, backup_created_at: createdAt, seq, files, bytes },
		`${dataDir}\n`,
	);
	await session.tell(
		[
			`restored ${files} files, ${bytesText(bytes)}, checked: all that was acknowledged up to ${new Date(createdAt).toISOString()}`,
			`start it with \`bunbase serve --data-dir ${dataDir}\`. Then:`,
			"- what was queued in the backup runs, also if it has run since; what ran runs again, at-most-once work ends as lost",
			"- cron times since the backup follow the misfire policy of each schedule",
			"- ids that were given out after the backup are not found; logs begin anew",
			"",
		].join("\n"),
	);
}

/** One line on a terminal that is written over. */
class Progress {
	readonly #session: Session;
	#length = 0;

	constructor(session: Session) {
		this.#session = session;
	}

	get wanted(): boolean {
		return this.#session.host.stderr.isTTY && !this.#session.json;
	}

	tell({ phase, done, total }: BackupProgress): void {
		if (!this.wanted) return;
		const far = total === 0 ? "" : ` ${Math.floor((done / total) * 100)} % of ${bytesText(total)}`;
		const line = `${phase}${far}`;
		void this.#session.host.stderr.write(`\r${line.padEnd(this.#length)}`);
		this.#length = line.length;
	}

	async clear(): Promise<void> {
		if (this.#length > 0) await this.#session.host.stderr.write(`\r${" ".repeat(this.#length)}\r`);
		this.#length = 0;
	}
}
