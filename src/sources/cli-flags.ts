/** Flags that say which daemon or data folder is meant, as they were typed; config.ts at the root decides what they mean. */

export interface ServeFlags {
	readonly config?: string;
	readonly dataDir?: string;
	readonly socket?: string;
	/** False is `--no-http`. */
	readonly http?: boolean;
	readonly httpPort?: string;
	readonly httpHost?: string;
	readonly httpTokenFile?: string;
	readonly logLevel?: string;
	readonly durability?: string;
	/** Only `serve` has it. */
	readonly acceptRollback?: boolean;
}

/** Of commands that look at a folder instead of running it. */
export interface FolderFlags {
	readonly config?: string;
	readonly dataDir?: string;
	readonly socket?: string;
}
