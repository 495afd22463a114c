/**
 * A thread that completes one backup: everything that reads all of it again, away from the loop that serves. It opens
 * files of the copy only, never those that the engine has open. Answers the manifest, or the error as its parts.
 */
import { parentPort, workerData } from "node:worker_threads";
import { EngineError, messageOf } from "../core/errors.ts";
import { highestSeq, inspectRows } from "../queue/index.ts";
import { completeBackup, type CompleteBackupOptions, type Manifest } from "../store/index.ts";

export type BackupWork = Omit<CompleteBackupOptions, "rows" | "seqOf">;
export type BackupAnswer =
	| { readonly manifest: Manifest }
	| { readonly code: EngineError["code"]; readonly message: string };

async function complete(work: BackupWork): Promise<BackupAnswer> {
	try {
		const now = work.takenAt;
		const manifest = await completeBackup({
			...work,
			rows: (queue, metadata) => inspectRows(queue, metadata, { now, running: true, full: false }),
			seqOf: highestSeq,
		});
		return { manifest };
	} catch (error) {
		if (error instanceof EngineError) return { code: error.code, message: error.message };
		return { code: "INTERNAL", message: messageOf(error) };
	}
}

// oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread has no origin
parentPort?.postMessage(await complete(workerData as BackupWork));
