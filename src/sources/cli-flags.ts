/** The flags of `serve` and `dev` as they were typed; config.ts at the root decides what they mean. */

export interface ServeFlags {
	readonly config?: string;
	readonly dataDir?: string;
	readonly socket?: string;
	/** False is `--no-http`. */
	readonly http?: boolean;
	readonly httpPort?: string;
	readonly httpHost?: string;
	readonly logLevel?: string;
	readonly durability?: string;
	/** Only `serve` has it. */
	readonly acceptRollback?: boolean;
}
