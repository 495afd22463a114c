/**
 * What the CLI gets from the process it runs in. Commands see the outside world through this alone, so a test
 * runs them with a fake terminal, and the engine reaches `serve` and `dev` without an import from here.
 */
import type { Clock } from "../core/environment.ts";
import type { BackupProgress, BackupRecord, BackupRequest } from "../core/contracts.ts";
import type { Diagnosis } from "../core/diagnosis.ts";
import type { FolderFlags, ServeFlags } from "./cli-flags.ts";

/** What `doctor` found. */
export interface Examined {
	/** Absolute. */
	readonly dataDir: string;
	readonly findings: readonly Diagnosis[];
	/** What --fix did. */
	readonly done: readonly string[];
}

export interface RestoreRequest {
	/** The backup's folder. */
	readonly from: string;
	readonly dataDir: string;
	readonly damaged: boolean;
}

export interface RestoredFolder {
	readonly dataDir: string;
	readonly instanceId: string;
	readonly createdAt: number;
	readonly seq: number;
	readonly files: number;
	readonly bytes: number;
}

export interface Output {
	/** The promise resolves when the operating system has taken the bytes. */
	write(data: string | Uint8Array): Promise<void>;
	readonly isTTY: boolean;
	readonly colour: boolean;
	/** Width of the terminal; undefined where there is none. */
	readonly columns: number | undefined;
}

export interface CliHost {
	/** Data. */
	readonly stdout: Output;
	/** Talk. */
	readonly stderr: Output;
	/** Everything on standard input, to its end. */
	readStdin(): Promise<Uint8Array>;
	readonly env: Readonly<Record<string, string | undefined>>;
	readonly clock: Clock;
	/** Of this package. */
	readonly version: string;
	/** Aborts at SIGINT, SIGTERM or SIGHUP; the reason is the signal's name. */
	readonly interrupted: AbortSignal;
	/** Runs the daemon until it is told to stop; resolves with the exit code. */
	serve(flags: ServeFlags): Promise<number>;
	/** Runs an engine in this process that deploys what it finds under `paths` and watches it. */
	dev(paths: readonly string[], flags: ServeFlags): Promise<number>;
	/** Looks at machine, data folder and daemon; with `fix` puts right what touches no row, and looks again. */
	doctor(flags: FolderFlags & { readonly full: boolean; readonly fix: boolean }): Promise<Examined>;
	/** Of a folder whose daemon does not run. */
	backup(flags: FolderFlags, request: BackupRequest, progress: (at: BackupProgress) => void): Promise<BackupRecord>;
	restore(request: RestoreRequest, progress: (done: number, total: number) => void): Promise<RestoredFolder>;
}
