/**
 * What an error of SQLite or of the file system means to the engine. The only place that reads their codes.
 *
 * STORAGE_FULL and STORE_BUSY are states to wait out; IO_ERROR and DATA_CORRUPT end the daemon (fail-stop), because after them
 * nobody knows what is on the disk; everything else is STORE_ERROR.
 */
import { EngineError, messageOf, type ErrorCode } from "../core/errors.ts";

/** Seconds until a full disk is worth asking again. */
const FULL_RETRY_SECONDS = 10;
const BUSY_RETRY_SECONDS = 1;

/** `doing` names the scene, e.g. "opening /data/queue.db". An EngineError comes back as it is. */
export function mapStoreError(error: unknown, doing?: string): EngineError {
	if (error instanceof EngineError) return error;
	const code = errnoOf(error) ?? "";
	const kind = kindOf(code);
	const scene = doing === undefined ? "" : `${doing}: `;
	const text = messageOf(error);
	const detail = code === "" || text.includes(code) ? text : `${text} (${code})`;
	return new EngineError(kind, `${scene}${detail}; ${ADVICE[kind]}`, {
		cause: error,
		...(kind === "STORAGE_FULL" ? { retryAfterSeconds: FULL_RETRY_SECONDS } : {}),
		...(kind === "STORE_BUSY" ? { retryAfterSeconds: BUSY_RETRY_SECONDS } : {}),
	});
}

/** After it nobody knows what is on the disk, so the daemon ends. */
export function isFailStop({ code }: EngineError): boolean {
	return code === "IO_ERROR" || code === "DATA_CORRUPT";
}

/** A quota that is used up; libuv has no name for it. */
const EDQUOT = "Unknown system error -122";

/** The `code` of an error of SQLite or Node, e.g. "SQLITE_FULL" or "ENOENT". */
export function errnoOf(error: unknown): string | undefined {
	if (!(error instanceof Error) || !("code" in error)) return undefined;
	if (error.code === EDQUOT) return "EDQUOT";
	return typeof error.code === "string" ? error.code : undefined;
}

type StoreErrorCode = Extract<ErrorCode, "STORAGE_FULL" | "STORE_BUSY" | "IO_ERROR" | "DATA_CORRUPT" | "STORE_ERROR">;

const ADVICE: Readonly<Record<StoreErrorCode, string>> = {
	STORAGE_FULL: "free space on the disk that holds the data folder",
	STORE_BUSY: "another program has locked it (a database shell?), and nothing was written",
	IO_ERROR: "check the disk, and the owner and mode of the data folder",
	DATA_CORRUPT: "restore a backup",
	STORE_ERROR: "whether it was written is unknown",
};

function kindOf(code: string): StoreErrorCode {
	if (code.startsWith("SQLITE_IOERR") || code.startsWith("SQLITE_CANTOPEN") || code.startsWith("SQLITE_READONLY")) {
		return "IO_ERROR";
	}
	if (code.startsWith("SQLITE_BUSY")) return "STORE_BUSY";
	if (code.startsWith("SQLITE_CORRUPT") || code === "SQLITE_NOTADB") return "DATA_CORRUPT";
	switch (code) {
		case "SQLITE_FULL":
		case "ENOSPC":
		case "EDQUOT":
			return "STORAGE_FULL";
		case "EIO":
		case "EROFS":
		case "EACCES":
		case "EPERM":
			return "IO_ERROR";
		default:
			return "STORE_ERROR";
	}
}
