/**
 * Which products are measured, in which settings, and what each promises when it answers. Words only: the adapters
 * need packages that are installed apart from the engine's (`npm ci` in this folder), this list does not.
 */
export interface Peer {
	/** In tables and for --only. */
	readonly name: string;
	/** adapters/{adapter}.ts */
	readonly adapter: string;
	/** Handed to the adapter. */
	readonly setting: string;
	/** In node_modules of this folder; undefined for the engine itself. */
	readonly package: string | undefined;
	/** What submitter and workers run in. */
	readonly runtime: "node" | "bun";
	/** A program beside it whose version belongs to the figures. */
	readonly server?: "redis-server" | "postgres";
	/** Whether accepted work and a result are on the disk before the submitter hears of them. */
	readonly synced: boolean;
	readonly durability: string;
	/** Which processes there are. */
	readonly processes: string;
	/** How the submitter learns the result. */
	readonly waiting: string;
}

export const ENGINE: Peer = {
	name: "bunbase",
	adapter: "bunbase",
	setting: "default",
	package: undefined,
	runtime: "node",
	synced: true,
	durability: "SQLite, WAL, synchronous=FULL, group commit",
	processes: "submitter, daemon, one Bun worker",
	waiting: "INVOKE on a socket",
};

export const PEERS: readonly Peer[] = [
	{
		name: "bunqueue",
		adapter: "bunqueue",
		setting: "durable",
		package: "bunqueue",
		runtime: "bun",
		synced: false,
		durability: "SQLite, WAL, synchronous=NORMAL, `durable: true`: written before it answers, not synced",
		processes: "submitter, server, one worker process",
		waiting: "job.waitUntilFinished",
	},
	{
		name: "plainjob",
		adapter: "plainjob",
		setting: "normal",
		package: "plainjob",
		runtime: "node",
		synced: false,
		durability: "SQLite, WAL, synchronous=NORMAL (its default): written before it answers, not synced",
		processes: "submitter, one worker process per core, no server",
		waiting: "polls a table that the handler writes, every millisecond",
	},
	{
		name: "plainjob-full",
		adapter: "plainjob",
		setting: "full",
		package: "plainjob",
		runtime: "node",
		synced: true,
		durability: "SQLite, WAL, synchronous=FULL, set after the library has set NORMAL",
		processes: "submitter, one worker process per core, no server",
		waiting: "polls a table that the handler writes, every millisecond",
	},
	{
		name: "bullmq-always",
		adapter: "bullmq",
		setting: "always",
		package: "bullmq",
		runtime: "node",
		server: "redis-server",
		synced: true,
		durability: "Redis, append-only file, appendfsync always",
		processes: "submitter, server, one worker process",
		waiting: "job.waitUntilFinished with QueueEvents",
	},
	{
		name: "bullmq-everysec",
		adapter: "bullmq",
		setting: "everysec",
		package: "bullmq",
		runtime: "node",
		server: "redis-server",
		synced: false,
		durability: "Redis, append-only file, appendfsync everysec: a second of answered work can be lost",
		processes: "submitter, server, one worker process",
		waiting: "job.waitUntilFinished with QueueEvents",
	},
	{
		name: "pg-boss",
		adapter: "pg-boss",
		setting: "default",
		package: "pg-boss",
		runtime: "node",
		server: "postgres",
		synced: true,
		durability: "PostgreSQL, fsync and synchronous_commit on",
		processes: "submitter, server, one worker process",
		waiting: "polls the jobs it waits for, all in one query, every 2 ms",
	},
	{
		name: "graphile-worker",
		adapter: "graphile-worker",
		setting: "default",
		package: "graphile-worker",
		runtime: "node",
		server: "postgres",
		synced: true,
		durability: "PostgreSQL, fsync and synchronous_commit on",
		processes: "submitter, server, one worker process",
		waiting: "LISTEN on a table that the handler writes",
	},
];
