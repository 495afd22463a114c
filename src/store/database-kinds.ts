/** Which kinds of database files there are, and how each is told from any other file. */
import { LOGS_MIGRATIONS } from "./logs-schema.ts";
import { METADATA_MIGRATIONS } from "./metadata-schema.ts";
import { QUEUE_MIGRATIONS } from "./queue-schema.ts";

/** `PRAGMA application_id`: "BBm1", "BBq1", "BBl1", "BBk1" in ASCII. */
export const APPLICATION_IDS = {
	metadata: 0x42426d31,
	queue: 0x42427131,
	logs: 0x42426c31,
	lock: 0x42426b31,
} as const;

export interface DatabaseKind {
	readonly file: string;
	readonly applicationId: number;
	/** Ordered; `PRAGMA user_version` counts how many have run. */
	readonly migrations: readonly string[];
	/** False: it can be made anew from nothing, and is where it is missing. */
	readonly required: boolean;
	/** What is removed from it is overwritten: without, a variable that was unset years ago could be read in the file. */
	readonly secret: boolean;
}

export const METADATA: DatabaseKind = {
	file: "metadata.db",
	applicationId: APPLICATION_IDS.metadata,
	migrations: METADATA_MIGRATIONS,
	required: true,
	secret: true,
};

export const QUEUE: DatabaseKind = {
	file: "queue.db",
	applicationId: APPLICATION_IDS.queue,
	migrations: QUEUE_MIGRATIONS,
	required: true,
	secret: false,
};

/** Not part of a backup. */
export const LOGS: DatabaseKind = {
	file: "logs.db",
	applicationId: APPLICATION_IDS.logs,
	migrations: LOGS_MIGRATIONS,
	required: false,
	secret: false,
};
