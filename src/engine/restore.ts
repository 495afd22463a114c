/** A restore with the checks of rows that only the queue knows, and what it came to. */
import { inspectRows } from "../queue/index.ts";
import { restoreBackup, type RestoreOptions } from "../store/index.ts";

export interface RestoreRecord {
	/** Absolute. */
	readonly dataDir: string;
	/** A new one: what was restored goes its own way from here. */
	readonly instanceId: string;
	readonly backupInstanceId: string;
	/** Of the backup. */
	readonly createdAt: number;
	readonly seq: number;
	readonly files: number;
	readonly bytes: number;
}

export async function restore(options: Omit<RestoreOptions, "rows">): Promise<RestoreRecord> {
	const now = options.environment.clock.now();
	const { manifest, root, instanceId } = await restoreBackup({
		...options,
		rows: (queue, metadata) => inspectRows(queue, metadata, { now, running: true, full: false }),
	});
	return {
		dataDir: root,
		instanceId,
		backupInstanceId: manifest.instance_id,
		createdAt: manifest.created_at,
		seq: manifest.seq,
		files: manifest.files.length,
		bytes: manifest.files.reduce((sum, { bytes }) => sum + bytes, 0),
	};
}
