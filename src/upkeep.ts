/**
 * `doctor`, `backup` without a daemon, and `restore`: what needs the store but not a running engine. It decides which
 * folder and which daemon are meant; everything else is the engine's.
 */
import { realpathSync } from "node:fs";
import { resolveSettings, type Settings } from "./config.ts";
import type { BackupProgress, BackupRecord, BackupRequest } from "./core/contracts.ts";
import { silentLogger } from "./core/environment.ts";
import { EngineError, messageOf } from "./core/errors.ts";
import { systemEnvironment } from "./engine/index.ts";
import { backupOffline, examine, fix, restore, type ExamineOptions } from "./engine/upkeep.ts";
import type { ProcessHost } from "./host.ts";
import { createClient } from "./sources/client.ts";
import type { FolderFlags } from "./sources/cli-flags.ts";
import type { Examined, RestoredFolder, RestoreRequest } from "./sources/cli-host.ts";
import { freeSocketPath, inspectSocketPath } from "./sources/index.ts";

const environment = systemEnvironment(silentLogger);

export async function doctor(
	flags: FolderFlags & { readonly full: boolean; readonly fix: boolean },
	host: Pick<ProcessHost, "env">,
): Promise<Examined> {
	const { full, fix: fixes, ...named } = flags;
	const settings = resolveSettings(named, host.env);
	const client = createClient(settings.socket, { source: "cli" });
	try {
		const dataDir = realOf(await folderOf(named, settings, host, () => client.call("stats.get")));
		const options: ExamineOptions = {
			dataDir,
			full,
			now: environment.clock.now(),
			bunPath: settings.engine.bunPath,
			ask: (operation) => client.call(operation),
		};
		const look = async (): Promise<Examined["findings"]> => {
			const findings = await examine(options);
			const running = findings.some(({ check, severity }) => check === "daemon" && severity === "ok");
			return [...findings, await inspectSocketPath(settings.socket, running, environment.clock)];
		};
		const findings = await look();
		if (!fixes) return { dataDir, findings, done: [] };
		const done = await fix(dataDir, findings, async (path) => {
			await freeSocketPath(path, environment.clock);
			return `removed ${path}`;
		});
		return { dataDir, findings: await look(), done };
	} finally {
		client.close();
	}
}

/** The one that was named; else that of the daemon on the socket; else the one that a daemon would use. */
async function folderOf(
	flags: FolderFlags,
	settings: Settings,
	host: Pick<ProcessHost, "env">,
	stats: () => Promise<Record<string, unknown>>,
): Promise<string> {
	const named = flags.dataDir ?? flags.config ?? (host.env["BUNBASE_DATA_DIR"] || host.env["BUNBASE_CONFIG"]);
	if (named !== undefined && named !== "") return settings.engine.dataDir;
	try {
		return String((await stats())["data_dir"]);
	} catch {
		return settings.engine.dataDir;
	}
}

export async function backup(
	flags: FolderFlags,
	request: BackupRequest,
	progress: (at: BackupProgress) => void,
	host: ProcessHost,
): Promise<BackupRecord> {
	const { dataDir } = resolveSettings(flags, host.env).engine;
	try {
		return await backupOffline(dataDir, request, { environment, signal: host.interrupted, progress });
	} catch (error) {
		if (!(error instanceof EngineError) || error.code !== "SECOND_DAEMON") throw error;
		throw new EngineError(
			"SECOND_DAEMON",
			`${messageOf(error)}; or let that daemon make it: name its socket with --socket`,
			{
				cause: error,
			},
		);
	}
}

export function restoreFolder(
	request: RestoreRequest,
	progress: (done: number, total: number) => void,
	host: ProcessHost,
): Promise<RestoredFolder> {
	return restore({ ...request, environment, signal: host.interrupted, progress });
}

function realOf(path: string): string {
	try {
		return realpathSync(path);
	} catch {
		return path;
	}
}
