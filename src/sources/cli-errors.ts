/**
 * How the CLI says that something went wrong: three lines (what, why, what to do) with the code, or one JSON object
 * with --json, always on standard error; and which exit code it ends with.
 */
import { ERROR_KINDS, EXIT, isErrorCode, messageOf, type ErrorCode } from "../core/errors.ts";
import type { Output } from "./cli-host.ts";
import { jsonText, painter, plain } from "./cli-output.ts";

/** SIGINT (2) as shells report it. */
export const EXIT_INTERRUPTED = 130;

/** Ends a command with a code when everything has been said already. */
export class Exit extends Error {
	override readonly name = "Exit";
	readonly exitCode: number;

	constructor(exitCode: number) {
		super(`exit ${exitCode}`);
		this.exitCode = exitCode;
	}
}

/** A Ctrl-C; `advice` says how to go on from here. */
export class Interrupted extends Error {
	override readonly name = "Interrupted";
	readonly advice: string | undefined;

	constructor(advice?: string) {
		super("interrupted");
		this.advice = advice;
	}
}

/** What to type next. Codes that are missing here have nothing better to say than their message. */
const ADVICE: Partial<Readonly<Record<ErrorCode, string>>> = {
	DAEMON_UNREACHABLE: "start a daemon with `bunbase serve`, or name its socket with --socket or BUNBASE_SOCKET",
	FUNCTION_NOT_FOUND: "see what there is with `bunbase functions`, or deploy it with `bunbase deploy FILE`",
	VERSION_NOT_FOUND: "see what there is with `bunbase versions NAME`",
	INVOCATION_NOT_FOUND: "see what there is with `bunbase invocations`",
	SCHEDULE_NOT_FOUND: "see what there is with `bunbase schedules list`",
	RESULT_PRUNED: "keep results longer with resultRetentionMs in the daemon's configuration file",
	NOT_DEPLOYED: "give it code with `bunbase deploy FILE --name NAME`",
	NO_RESPONSE: "wait for it with `bunbase result ID --wait 30s`",
	ALREADY_FINISHED: "see how it ended with `bunbase result ID`; run it again with `bunbase retry ID`",
	VERSION_CONFLICT: "leave --version away, and the next free one is taken",
	IDEMPOTENCY_CONFLICT: "use another --idempotency-key, or send the very same request",
	BUILD_FAILED: "mend the source; the active version has not changed",
	BAD_BUNDLE:
		"give a file, or a folder with index.ts, that exports a function: export default async function handler(req, ctx) { … }",
	BAD_SCHEDULE: "use five fields (or six with leading seconds) and an IANA time zone: '0 9 * * 1-5' Europe/Berlin",
	LANE_FULL: "try again later, or raise maxQueued with `bunbase configure NAME maxQueued=…`",
	STORAGE_FULL: "free disk space under the daemon's data folder; running work still records",
	STORE_BUSY: "end the transaction of the other program (a database shell?), or try again later",
	SHUTTING_DOWN: "try again when the daemon is back",
	WAIT_TIMEOUT: "go on waiting with `bunbase result ID --wait 30s`",
	STORE_ERROR: "see the daemon's log; with the same --idempotency-key it is safe to send again",
	SECOND_DAEMON: "stop the other daemon, or use another --data-dir and --socket",
	DATA_NEWER: "run the version that wrote it, or a newer one",
	DATA_FOREIGN: "check --data-dir and see `bunbase doctor`; restore whole backups, never single files",
	DATA_MISSING:
		"check --data-dir and see `bunbase doctor`; else `bunbase restore BACKUP --data-dir NEW`; nothing was changed",
	DATA_ROLLED_BACK:
		"see what is there with `bunbase doctor`, put a backup back with `bunbase restore`, or go on without: `bunbase serve --accept-rollback`",
	DATA_CORRUPT: "see `bunbase doctor --full`, then `bunbase restore BACKUP --data-dir NEW`; nothing was changed",
	IO_ERROR: "check the disk (dmesg, df), then start the daemon again",
};

export interface Failure {
	readonly code: string;
	readonly message: string;
	readonly why: string | undefined;
	readonly advice: string | undefined;
	readonly exitCode: number;
	readonly invocationId: string | undefined;
}

/** Anything thrown, as it is told. Errors of the client count by their `code`, whatever their class. */
export function failureOf(thrown: unknown): Failure {
	const code = codeOf(thrown);
	const invocationId = invocationIdOf(thrown);
	if (code === undefined) {
		return {
			code: "INTERNAL",
			message: messageOf(thrown),
			why: "This is a defect in bunbase itself.",
			advice: "run it again with --verbose and report what it prints",
			exitCode: EXIT.functionFailed,
			invocationId,
		};
	}
	const usage = thrown instanceof Error && thrown.name === "EngineError" && code === "BAD_REQUEST";
	return {
		code,
		message: messageOf(thrown),
		why: ERROR_KINDS[code].meaning,
		advice: adviceOf(code, invocationId) ?? (usage ? "see `bunbase COMMAND --help`" : undefined),
		exitCode: ERROR_KINDS[code].exit,
		invocationId,
	};
}

/** An id in an error is of an invocation that is durable: there is a way back to it. */
function adviceOf(code: ErrorCode, invocationId: string | undefined): string | undefined {
	if (invocationId === undefined) return ADVICE[code];
	if (code !== "DAEMON_UNREACHABLE" && code !== "SHUTTING_DOWN") return ADVICE[code]?.replace("ID", invocationId);
	return `come back to it with \`bunbase result ${invocationId} --wait 30s\` when the daemon is there`;
}

function invocationIdOf(thrown: unknown): string | undefined {
	if (typeof thrown !== "object" || thrown === null || !("invocationId" in thrown)) return undefined;
	return typeof thrown.invocationId === "string" ? thrown.invocationId : undefined;
}

function codeOf(thrown: unknown): ErrorCode | undefined {
	if (typeof thrown !== "object" || thrown === null || !("code" in thrown)) return undefined;
	return isErrorCode(thrown.code) ? thrown.code : undefined;
}

export function renderFailure(failure: Failure, output: Output, json: boolean): string {
	if (json) {
		const { code, message, why, advice, exitCode, invocationId } = failure;
		return `${jsonText({ error: { code, message, why, advice, exit_code: exitCode, invocation_id: invocationId } })}\n`;
	}
	const paint = painter(output);
	const lines = [`${paint(["red", "bold"], "error")}: ${plain(failure.message)}`];
	if (failure.why !== undefined) lines.push(`  why: ${failure.why} (${failure.code})`);
	if (failure.advice !== undefined) lines.push(`  try: ${failure.advice}`);
	return `${lines.join("\n")}\n`;
}
